//! Who a program is to the table: which permissions it needs, and where they are granted.

/// What a program does with the table. It changes nothing but what an error says where a permission is missing: which policy of
/// `infra/roles.yaml` grants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// A service that appends and loads.
    #[default]
    Writer,
    /// Whoever reads, all streams perhaps, and writes nothing.
    Reader,
    /// A relay that publishes what is pending.
    Relay,
    /// Whoever looks into the outbox, skips, replays, verifies.
    Operator,
}

impl Role {
    /// The policy of `infra/roles.yaml` that grants an action (`dynamodb:Query`, for instance) to this role; none where no
    /// policy does.
    #[must_use]
    pub fn policy(self, action: &str) -> Option<&'static str> {
        match (self, action) {
            // What a template does.
            (_, "dynamodb:CreateTable") => None,
            // A service that reads all streams does more than to append and load.
            (Self::Writer, "dynamodb:Scan") | (Self::Reader, _) => Some("ReaderPolicy"),
            (Self::Writer, _) => Some("WriterPolicy"),
            (Self::Relay, _) => Some("RelayPolicy"),
            (Self::Operator, _) => Some("OperatorPolicy"),
        }
    }
}

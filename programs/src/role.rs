//! Who a program is to the table, and which policy grants it what it needs.

/// What a program does with the table. If a permission is missing, the message names the policy of `infra/roles.yaml` that grants it
/// to this role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Appends and loads, as a service does.
    Writer,
    /// Reads, all streams perhaps, and writes nothing.
    Reader,
    /// Publishes what is pending.
    Relay,
    /// Looks into the outbox, skips, replays, verifies, creates and checks the table.
    Operator,
    /// Handles events with an inbox, and rebuilds.
    Consumer,
    /// Looks into an inbox, retries, skips, creates and checks its table.
    ConsumerOperator,
}

impl Role {
    /// Whether it works with the table of an inbox, too.
    pub(crate) fn has_an_inbox(self) -> bool {
        matches!(self, Self::Consumer | Self::ConsumerOperator)
    }

    /// The policy of `infra/roles.yaml` that grants an action (`dynamodb:Query`, for instance) to this role; `None` if no policy
    /// does.
    #[must_use]
    pub fn policy(self, action: &str) -> Option<&'static str> {
        match (self, action) {
            // What a template does.
            (_, "dynamodb:CreateTable") => None,
            // A service that reads all streams does more than append and load.
            (Self::Writer, "dynamodb:Scan") | (Self::Reader, _) => Some("ReaderPolicy"),
            (Self::Writer, _) => Some("WriterPolicy"),
            (Self::Relay, _) => Some("RelayPolicy"),
            (Self::Operator, _) => Some("OperatorPolicy"),
            (Self::Consumer, _) => Some("ConsumerPolicy"),
            (Self::ConsumerOperator, _) => Some("ConsumerOperatorPolicy"),
        }
    }
}

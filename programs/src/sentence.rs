//! Errors as people read them.

use std::{error::Error as StdError, fmt, iter};

use streambox::{Error, Misconfiguration, TableDefinition};

use crate::role::Role;

/// An error of the store as a program prints it: with its causes; if the configuration is wrong, with what to do here.
#[must_use]
pub fn sentence(error: &Error, role: Role) -> String {
    match error {
        Error::Configuration { problem, .. } => match advice(problem, role) {
            Some(advice) => format!("{error}; {advice}"),
            None => error.to_string(),
        },
        error => Chain(error).to_string(),
    }
}

/// What to do with this project's templates and programs, if they help. The error itself says what is wrong.
fn advice(problem: &Misconfiguration, role: Role) -> Option<String> {
    let advice = match problem {
        Misconfiguration::MissingPermission { action, is_explicitly_denied: false, .. }
            if !action.starts_with("kms:") =>
        {
            return Some(match role.policy(action) {
                Some(policy) => format!("attach {policy} of infra/roles.yaml to the role"),
                None => {
                    "no policy of infra/roles.yaml grants it, since infra/table.yaml and infra/inbox.yaml create the tables in the cloud"
                        .to_owned()
                }
            });
        }
        Misconfiguration::MissingTable { .. } if role.has_an_inbox() => {
            "infra/table.yaml creates that of the events in the cloud, infra/inbox.yaml that of an inbox; for development `streambox table \
             create` and `streambox-consumer inbox create`"
        }
        Misconfiguration::MissingIndex { index, .. } if index.name != TableDefinition::EVENTS.index.name => {
            "deploy infra/inbox.yaml; `streambox-consumer inbox check` lists every difference from the expected definition"
        }
        Misconfiguration::WrongKeySchema { keys, .. } if *keys != TableDefinition::EVENTS.keys => {
            "infra/inbox.yaml creates a table; `streambox-consumer inbox check` lists every difference from the expected definition"
        }
        Misconfiguration::MissingTable { .. } => {
            "infra/table.yaml creates it in the cloud, for development `streambox table create`"
        }
        Misconfiguration::MissingIndex { .. } => {
            "deploy infra/table.yaml; `streambox table check` lists every difference from the expected definition"
        }
        Misconfiguration::WrongKeySchema { .. } => {
            "infra/table.yaml creates a table; `streambox table check` lists every difference from the expected definition"
        }
        Misconfiguration::Refused { code, .. } if code.starts_with("Validation") => {
            "`streambox table check` compares the table with the expected definition"
        }
        _ => return None,
    };
    Some(advice.to_owned())
}

/// Shows an error with its causes, each behind a colon. A cause that the text before contains is left out.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn StdError);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        for cause in iter::successors(self.0.source(), |&error| error.source()).map(ToString::to_string) {
            if !text.contains(&cause) {
                text = text + ": " + &cause;
            }
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(problem: Misconfiguration, role: Role) -> String {
        let problem = Box::new(problem);
        let error =
            Error::Configuration { operation: "read", subject: "order-1".to_owned(), problem, source: "no".into() };
        sentence(&error, role)
    }

    fn missing(action: &str, is_explicitly_denied: bool) -> Misconfiguration {
        Misconfiguration::MissingPermission {
            principal: Some("ann".to_owned()),
            action: action.to_owned(),
            resource: "table/orders".to_owned(),
            is_explicitly_denied,
        }
    }

    #[test]
    fn the_policy_of_the_role_that_grants_a_missing_permission_is_named() {
        for (role, action, names) in [
            (Role::Writer, "dynamodb:PutItem", "WriterPolicy of infra/roles.yaml"),
            (Role::Writer, "dynamodb:Scan", "ReaderPolicy"),
            (Role::Reader, "dynamodb:Query", "ReaderPolicy"),
            (Role::Relay, "dynamodb:Scan", "RelayPolicy"),
            (Role::Operator, "dynamodb:DeleteItem", "OperatorPolicy"),
            (Role::Operator, "dynamodb:CreateTable", "infra/table.yaml"),
            (Role::Consumer, "dynamodb:UpdateItem", "ConsumerPolicy of infra/roles.yaml"),
            (Role::ConsumerOperator, "dynamodb:PutItem", "ConsumerOperatorPolicy"),
        ] {
            let said = said(missing(action, false), role);
            let lacks = format!("read of order-1: ann lacks the permission {action} on table/orders");
            assert!(said.starts_with(&lacks) && said.contains(names), "{said}");
        }
        for denied in [missing("dynamodb:Query", true), missing("kms:Decrypt", false)] {
            let said = said(denied, Role::Relay);
            assert!(!said.contains("RelayPolicy"), "{said}");
        }
    }

    #[test]
    fn a_table_that_does_not_fit_is_followed_by_the_template_and_the_command() {
        let (table, message, code) = ("orders".to_owned(), String::new(), "ValidationException".to_owned());
        for (problem, names) in [
            (Misconfiguration::MissingTable { table: table.clone(), region: None }, "streambox table create"),
            (
                Misconfiguration::MissingIndex { table: table.clone(), index: TableDefinition::EVENTS.index },
                "streambox table check",
            ),
            (
                Misconfiguration::WrongKeySchema { table, keys: ["stream_id", "entity"], message: message.clone() },
                "infra/table.yaml",
            ),
            (Misconfiguration::Refused { what: "the request".to_owned(), code, message }, "streambox table check"),
        ] {
            let said = said(problem, Role::Writer);
            assert!(said.contains(names), "{said}");
        }
        assert_eq!(said(Misconfiguration::NoRegion, Role::Writer), "read of order-1: no Region is set: set AWS_REGION");
    }
}

//! A permission that is missing: which one, whose, on what, and the policy that grants it, as IAM's message tells.

use crate::role::Role;

/// What IAM says: `User: ARN is not authorized to perform: ACTION on resource: ARN because …`.
#[derive(Debug, PartialEq, Eq)]
struct Denied<'a> {
    principal: Option<&'a str>,
    action: &'a str,
    resource: Option<&'a str>,
    is_explicit: bool,
}

impl<'a> Denied<'a> {
    fn parse(message: &'a str) -> Option<Self> {
        let word = |begin: &str| {
            let rest = message.split_once(begin)?.1;
            let word = rest.split_whitespace().next()?;
            Some(word.trim_end_matches(['.', ',', ';']))
        };
        Some(Self {
            principal: word("User: "),
            action: word("not authorized to perform: ")?,
            resource: word("on resource: ").map(|arn| arn.rsplit_once(':').map_or(arn, |(_, name)| name)),
            is_explicit: message.contains("explicit deny"),
        })
    }
}

/// What to do about an `AccessDeniedException`.
pub(super) fn advice(message: &str, role: Role, table: &str) -> String {
    let Some(denied) = Denied::parse(message) else {
        return format!("a permission is missing: grant it to this program's role ({message})");
    };
    let Denied { principal, action, resource, is_explicit } = denied;
    let (resource, principal) = (resource.unwrap_or(table), principal.unwrap_or("this program's role"));
    if is_explicit {
        return format!(
            "the permission {action} on {resource} is refused to {principal} by an explicit deny, which no policy of \
             infra/roles.yaml outweighs: take it out of the role's policies, its boundary, or the organization's"
        );
    }
    if action.starts_with("kms:") {
        return format!(
            "the permission {action} on the table's key ({resource}) is refused to {principal}: allow it in the key's own policy"
        );
    }
    match role.policy(action) {
        Some(policy) => format!(
            "the permission {action} on {resource} is missing to {principal}: attach {policy} of infra/roles.yaml to its role"
        ),
        None => format!(
            "the permission {action} on {resource} is missing to {principal}: no policy grants it, since in the cloud \
             infra/table.yaml creates the table"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE_ARN: &str = "arn:aws:dynamodb:eu-central-1:123456789012:table/orders";
    const USER: &str = "arn:aws:sts::123456789012:assumed-role/orders-service/i-1";

    fn message(action: &str, resource: &str, because: &str) -> String {
        format!("User: {USER} is not authorized to perform: {action} on resource: {resource} because {because}")
    }

    #[test]
    fn action_resource_principal_and_policy_are_named() {
        let missing = "no identity-based policy allows it";
        let said = |role, action, resource: &str| advice(&message(action, resource, missing), role, "orders");
        let append = said(Role::Writer, "dynamodb:PutItem", TABLE_ARN);
        for part in ["dynamodb:PutItem on table/orders", USER, "WriterPolicy of infra/roles.yaml"] {
            assert!(append.contains(part), "{part}: {append}");
        }
        let index = said(Role::Relay, "dynamodb:Scan", &format!("{TABLE_ARN}/index/outbox"));
        assert!(
            index.contains("dynamodb:Scan on table/orders/index/outbox") && index.contains("RelayPolicy"),
            "{index}"
        );
        assert!(said(Role::Operator, "dynamodb:DeleteItem", TABLE_ARN).contains("OperatorPolicy"));
        assert!(
            said(Role::Writer, "dynamodb:Scan", TABLE_ARN).contains("ReaderPolicy"),
            "a writer's policy has no Scan"
        );
        assert!(said(Role::Writer, "dynamodb:CreateTable", TABLE_ARN).contains("infra/table.yaml"));
    }

    #[test]
    fn what_no_policy_of_ours_would_mend_is_told_otherwise() {
        let denied = message("dynamodb:Query", TABLE_ARN, "of an explicit deny in a service control policy");
        let denied = advice(&denied, Role::Relay, "orders");
        assert!(denied.contains("explicit deny") && !denied.contains("RelayPolicy"), "{denied}");
        let key = "arn:aws:kms:eu-central-1:123456789012:key/77";
        let encrypted = format!(
            "KMS key access denied error: User: {USER} is not authorized to perform: kms:Decrypt on resource: {key}"
        );
        let encrypted = advice(&encrypted, Role::Writer, "orders");
        assert!(
            encrypted.contains("kms:Decrypt") && encrypted.contains("key/77") && encrypted.contains("key's own policy"),
            "{encrypted}"
        );
        let other = advice("no", Role::Writer, "orders");
        assert!(other.contains("a permission is missing") && other.ends_with("(no)"), "{other}");
    }
}

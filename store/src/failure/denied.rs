//! Which permission is missing, on what and to whom, as IAM's message says.

use crate::misconfiguration::Misconfiguration;

/// The missing permission. IAM says: `User: ARN is not authorized to perform: ACTION on resource: ARN because …`.
pub(super) fn permission(message: &str, table: &str) -> Misconfiguration {
    let word = |begin: &str| {
        let rest = message.split_once(begin)?.1;
        let word = rest.split_whitespace().next()?;
        Some(word.trim_end_matches(['.', ',', ';']))
    };
    let Some(action) = word("not authorized to perform: ") else {
        return Misconfiguration::UnnamedPermission { message: message.to_owned() };
    };
    let resource = word("on resource: ").map(|arn| arn.rsplit_once(':').map_or(arn, |(_, name)| name));
    Misconfiguration::MissingPermission {
        principal: word("User: ").map(str::to_owned),
        action: action.to_owned(),
        resource: resource.unwrap_or(table).to_owned(),
        is_explicitly_denied: message.contains("explicit deny"),
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
    fn action_resource_and_principal_are_named() {
        let missing = "no identity-based policy allows it";
        let index = permission(&message("dynamodb:Scan", &format!("{TABLE_ARN}/index/outbox"), missing), "orders");
        let expected = Misconfiguration::MissingPermission {
            principal: Some(USER.to_owned()),
            action: "dynamodb:Scan".to_owned(),
            resource: "table/orders/index/outbox".to_owned(),
            is_explicitly_denied: false,
        };
        assert_eq!(index, expected);
        let said = index.to_string();
        assert!(
            said.contains(&format!("{USER} lacks the permission dynamodb:Scan on table/orders/index/outbox")),
            "{said}"
        );
        let short = permission("not authorized to perform: dynamodb:Scan", "orders").to_string();
        assert!(short.contains("this program's role lacks the permission dynamodb:Scan on orders"), "{short}");
    }

    #[test]
    fn what_a_policy_of_the_role_does_not_grant_is_told_apart() {
        let denied = message("dynamodb:Query", TABLE_ARN, "of an explicit deny in a service control policy");
        let denied = permission(&denied, "orders");
        assert!(matches!(denied, Misconfiguration::MissingPermission { is_explicitly_denied: true, .. }), "{denied:?}");
        assert!(denied.to_string().contains("explicit deny"), "{denied}");
        let key = "arn:aws:kms:eu-central-1:123456789012:key/77";
        let encrypted = format!(
            "KMS key access denied error: User: {USER} is not authorized to perform: kms:Decrypt on resource: {key}"
        );
        let encrypted = permission(&encrypted, "orders").to_string();
        assert!(
            encrypted.contains("kms:Decrypt") && encrypted.contains("key/77") && encrypted.contains("key's policy"),
            "{encrypted}"
        );
        assert_eq!(permission("no", "orders"), Misconfiguration::UnnamedPermission { message: "no".to_owned() });
    }
}

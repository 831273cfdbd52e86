//! What is wrong with the configuration, as data.

use crate::table_definition::IndexDefinition;

/// Why a request can't be sent, or why DynamoDB refuses it for good: what has to be corrected before the same call can succeed.
///
/// As text it is a sentence that says what is wrong and what to do. `message` is what DynamoDB or the AWS SDK says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misconfiguration {
    /// No credentials were found.
    #[error(
        "there are no credentials: give the program a role (of its task, its pod or its instance), or set AWS_PROFILE, or \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY{}",
        if *.has_region { "" } else { "; set AWS_REGION, too: no Region is set" }
    )]
    NoCredentials {
        /// Whether a Region is set.
        has_region: bool,
    },
    /// The profile needs a login, which is missing or has expired.
    #[error(
        "the login of the profile is missing or has expired: log in (`aws sso login`, or `aws login`) with the same AWS_PROFILE \
         ({message})"
    )]
    LoginExpired {
        /// The SDK's words.
        message: String,
    },
    /// The profile's credentials need the feature `credentials` of this crate.
    #[error(
        "the program was built without support for the profile's kind of credentials: build it with the feature `credentials` of \
         the crate streambox, or use others (a role, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) ({message})"
    )]
    UnsupportedCredentials {
        /// The SDK's words.
        message: String,
    },
    /// The profile's `credential_process` returns no credentials.
    #[error("the `credential_process` of the profile returns no credentials: run it by hand to see why ({message})")]
    CredentialProcess {
        /// The SDK's words, with what the process wrote to standard error.
        message: String,
    },
    /// The credentials' configuration can't be used.
    #[error("the credentials can't be used: check AWS_PROFILE and its files ({message})")]
    InvalidCredentials {
        /// The SDK's words.
        message: String,
    },
    /// AWS does not accept the credentials: they are wrong or have expired.
    #[error("the credentials are not accepted: renew them, and check this machine's clock ({code}: {message})")]
    RejectedCredentials {
        /// The error's code.
        code: String,
        /// DynamoDB's words.
        message: String,
    },
    /// This machine's clock differs from that of AWS by more than some minutes.
    #[error(
        "this machine's clock is wrong, and AWS refuses a request whose time differs by more than some minutes: synchronize it by \
         NTP (on AWS: the Amazon Time Sync Service) ({code}: {message})"
    )]
    WrongClock {
        /// The error's code.
        code: String,
        /// DynamoDB's words.
        message: String,
    },
    /// No Region is set.
    #[error("no Region is set: set AWS_REGION")]
    NoRegion,
    /// The end point is not a URL with a scheme.
    #[error(
        "the end point can't be used: AWS_ENDPOINT_URL_DYNAMODB is a URL with its scheme, for example http://127.0.0.1:8000, or \
         not set ({message})"
    )]
    InvalidEndpoint {
        /// The SDK's words.
        message: String,
    },
    /// The system trusts no certificate authority, so that HTTPS can't be used.
    #[error(
        "the system has no certificates of authorities to trust, so HTTPS can't be used: install its package ca-certificates, or \
         name a file of them in SSL_CERT_FILE"
    )]
    NoAuthorities,
    /// The request could not be sent for another reason.
    #[error(
        "the request could not be sent: check region (AWS_REGION), credentials (AWS_PROFILE, a role, AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY) and end point (AWS_ENDPOINT_URL_DYNAMODB){}", in_brackets(.message)
    )]
    NotSent {
        /// The SDK's words, if it says anything.
        message: String,
    },
    /// IAM refuses a permission.
    #[error("{}", missing(.principal.as_deref(), .action, .resource, *.is_explicitly_denied))]
    MissingPermission {
        /// Who lacks it: the ARN of a user or an assumed role, if IAM names it.
        principal: Option<String>,
        /// The permission, for example `dynamodb:Query`.
        action: String,
        /// On what, without account and Region: for example `table/orders/index/outbox`.
        resource: String,
        /// Whether a policy denies it explicitly, which no other policy outweighs.
        is_explicitly_denied: bool,
    },
    /// A permission is missing, and DynamoDB does not say which.
    #[error("a permission is missing: grant it to this program's role ({message})")]
    UnnamedPermission {
        /// DynamoDB's words.
        message: String,
    },
    /// A permission on an item that the caller added to a transaction.
    #[error("a permission is missing for {items}: grant it to the program's role ({message})")]
    MissingPermissionOnItems {
        /// The items, by their positions, operations and tables.
        items: String,
        /// DynamoDB's words.
        message: String,
    },
    /// There is no such table.
    #[error("there is no table {table}{}: check its name and AWS_REGION, or create it", in_region(.region.as_deref()))]
    MissingTable {
        /// The table's name or ARN.
        table: String,
        /// The Region that was asked.
        region: Option<String>,
    },
    /// DynamoDB does not accept the table's name.
    #[error("DynamoDB does not accept {table:?} as a table's name: check it ({message})")]
    InvalidTableName {
        /// The name.
        table: String,
        /// DynamoDB's words.
        message: String,
    },
    /// The table has no such index.
    #[error("table {table} has no index `{}`, and without it {}: add it", .index.name, .index.without)]
    MissingIndex {
        /// The table.
        table: String,
        /// The index, as it has to be.
        index: IndexDefinition,
    },
    /// The table has another key schema.
    #[error(
        "table {table} has other keys than `{}` and `{}` (both S), and the keys of a table can't be changed: name \
         another table, or create one ({message})", .keys[0], .keys[1]
    )]
    WrongKeySchema {
        /// The table.
        table: String,
        /// The expected partition key and sort key.
        keys: [&'static str; 2],
        /// DynamoDB's words.
        message: String,
    },
    /// DynamoDB refuses the request for another reason.
    #[error("DynamoDB refuses {what} ({code}: {message})")]
    Refused {
        /// What it refuses: the request, or a part of a transaction.
        what: String,
        /// The error's code.
        code: String,
        /// DynamoDB's words.
        message: String,
    },
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

fn in_region(region: Option<&str>) -> String {
    region.map_or_else(String::new, |region| format!(" in Region {region}"))
}

fn missing(principal: Option<&str>, action: &str, resource: &str, is_explicitly_denied: bool) -> String {
    let principal = principal.unwrap_or("this program's role");
    if is_explicitly_denied {
        format!(
            "an explicit deny refuses {principal} the permission {action} on {resource}, and no policy outweighs it: remove it from \
             the role's policies, its permissions boundary, or the organization's policies"
        )
    } else if action.starts_with("kms:") {
        format!(
            "{principal} lacks the permission {action} on the table's key ({resource}): allow it in the key's policy"
        )
    } else {
        format!("{principal} lacks the permission {action} on {resource}: grant it")
    }
}

//! What a table may be called.

use crate::{error::Invalid, stream::excerpt};

/// Checks the name of a table as DynamoDB does: 3 to 255 letters, digits, `_`, `-` and `.`; or the table's ARN.
///
/// # Errors
/// [`Invalid::TableName`].
pub fn table_name(name: &str) -> Result<String, Invalid> {
    let is_allowed = |char: char| char.is_ascii_alphanumeric() || "_-.".contains(char);
    if name.starts_with("arn:") || ((3..=255).contains(&name.len()) && name.chars().all(is_allowed)) {
        return Ok(name.to_owned());
    }
    Err(Invalid::TableName { name: excerpt(name) })
}

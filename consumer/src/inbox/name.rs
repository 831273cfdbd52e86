//! What a consumer may be called.

use streambox::Invalid;

/// Most bytes of a consumer's name. It is part of keys and of the names of queues, which have at most 255.
pub const MAX_CONSUMER_NAME_BYTES: usize = 100;

/// Checks the name of a consumer: 1 to [`MAX_CONSUMER_NAME_BYTES`] letters, digits, `-`, `_` and `.`.
///
/// # Errors
/// [`Invalid::ConsumerName`].
pub fn consumer_name(name: &str) -> Result<&str, Invalid> {
    let is_allowed = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    let why = if name.is_empty() {
        "it is empty"
    } else if !name.chars().all(is_allowed) {
        "allowed are letters, digits, `-`, `_` and `.`"
    } else if name.len() > MAX_CONSUMER_NAME_BYTES {
        "it has more than 100 bytes"
    } else {
        return Ok(name);
    };
    Err(Invalid::ConsumerName { name: name.chars().take(80).collect(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_letters_digits_and_three_signs() {
        let longest = "a".repeat(MAX_CONSUMER_NAME_BYTES);
        for name in ["free-seats", "a", "A_1.b", &longest] {
            assert_eq!(consumer_name(name), Ok(name));
        }
        let too_long = "a".repeat(MAX_CONSUMER_NAME_BYTES + 1);
        for (name, why) in [
            ("", "it is empty"),
            ("free seats", "allowed are"),
            ("a@1", "allowed are"),
            ("a#b", "allowed are"),
            ("Plätze", "allowed are"),
            ("$a", "allowed are"),
            (&too_long, "more than 100 bytes"),
        ] {
            assert!(consumer_name(name).unwrap_err().to_string().contains(why), "{name:?}");
        }
    }
}

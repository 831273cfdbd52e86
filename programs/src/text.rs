//! How text is shown to people: characters that can't be seen are escaped.
//!
//! Stream ids are compared byte by byte, and two that look the same may differ: by a zero-width character, by a mark that changes
//! the direction of writing, by `é` as one character or as `e` and an accent. The programs print every text in this form.

use std::{borrow::Cow, fmt::Write as _};

/// Whether a character leaves no mark of its own, or changes how others look: control characters, zero-width and bidirectional
/// ones, fillers, tags, combining accents.
#[must_use]
pub fn is_unseen(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{300}'..='\u{36f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// The same text with what is unseen as JSON writes it (`\u200b`), so that a line of JSON stays what it is. In a log no control
/// character forges a line or drives a terminal.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, None)
}

/// As [`escaped`], but for one character: what colours begin with, for instance.
#[must_use]
pub fn escaped_but(text: &str, kept: Option<char>) -> Cow<'_, str> {
    let is_plain = |char: char| !is_unseen(char) || Some(char) == kept;
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        if is_plain(char) {
            escaped.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                // A text takes everything.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    Cow::Owned(escaped)
}

/// The same text as one line for people: line breaks and tabs are blanks, what is unseen is [`escaped`].
#[must_use]
pub fn one_line(text: &str) -> String {
    escaped(&text.replace(['\n', '\r', '\t'], " ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unseen_is_escaped_as_in_json() {
        assert_eq!(escaped("plain – text, Zoé, 日本語, 🦀"), "plain – text, Zoé, 日本語, 🦀");
        assert_eq!(escaped("a\u{1b}[2J\r\n\u{9b}b\u{7f}"), r"a\u001b[2J\u000d\u000a\u009bb\u007f");
        assert_eq!(escaped_but("\u{1b}[2mdim\n", Some('\u{1b}')), "\u{1b}[2mdim\\u000a");
        let odd = "a\u{9b}b\u{7f}\u{200b}\u{202e}\u{e0041}e\u{301}";
        let json = serde_json::to_string(odd).unwrap();
        assert_eq!(serde_json::from_str::<String>(&escaped(&json)).unwrap(), odd);
        assert!(escaped(&json).is_ascii());
        assert_eq!(one_line("a\u{1b}[31m\n\tb"), r"a\u001b[31m  b");
    }

    #[test]
    fn ids_that_look_the_same_are_shown_apart() {
        let ids = ["order-caf\u{e9}", "order-cafe\u{301}", "order-caf\u{200b}\u{e9}", "order-\u{202e}caf\u{e9}"];
        let shown = ids.map(escaped);
        assert_eq!(shown, ["order-café", r"order-cafe\u0301", r"order-caf\u200bé", r"order-\u202ecafé"]);
    }
}

//! How values look to people.

use std::time::Duration;

pub use streambox_programs::{
    iso_8601,
    text::{escaped, is_unseen, one_line},
};

/// A text shortened to a number of characters: a longer one loses its middle, since what tells two apart, or says what to do,
/// stands at the end as often as at the beginning.
#[must_use]
pub fn shortened(text: &str, most_chars: usize) -> String {
    let chars = text.chars().count();
    if chars <= most_chars {
        return text.to_owned();
    }
    let kept = most_chars.saturating_sub(1);
    let (head, tail) = (kept.div_ceil(2), kept / 2);
    text.chars().take(head).chain(['…']).chain(text.chars().skip(chars - tail)).collect()
}

/// The command that gives up on publishing an entry, ready for a shell but for the reason.
#[must_use]
pub fn skip_command(table: &str, stream: &str, version: u64) -> String {
    let version = if version == 0 { "VERSION".to_owned() } else { version.to_string() };
    let (stream, table) = (shell_word(stream), shell_word(table));
    format!("streambox-relay skip {stream} {version} --table {table} --reason 'WHY'")
}

/// A text as one word for a POSIX shell. What is invisible, moves a cursor or turns the direction of writing stands there as
/// bytes in `$'…'`, which bash, zsh and ksh read: what is seen is what is run.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "_./:@%+=,-".contains(char);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    if !text.chars().any(is_unseen) {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    let mut word = String::from("$'");
    for char in text.chars() {
        match char {
            '\'' | '\\' => word.extend(['\\', char]),
            char if is_unseen(char) => {
                let mut bytes = [0; 4];
                word.extend(char.encode_utf8(&mut bytes).bytes().map(|byte| format!("\\x{byte:02x}")));
            }
            char => word.push(char),
        }
    }
    word.push('\'');
    word
}

/// Those that share a reason, together; groups and what is in them in the order that they had.
pub fn by_reason<'a, T>(all: &'a [T], reason: impl Fn(&'a T) -> &'a str) -> Vec<(&'a str, Vec<&'a T>)> {
    let mut groups: Vec<(&str, Vec<&T>)> = Vec::new();
    for one in all {
        let reason = reason(one);
        match groups.iter_mut().find(|(of, _)| *of == reason) {
            Some((_, group)) => group.push(one),
            None => groups.push((reason, vec![one])),
        }
    }
    groups
}

/// About how long, in its two largest units.
#[must_use]
pub fn how_long(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_is_said_in_the_two_largest_units() {
        let long = |seconds| how_long(Duration::from_secs(seconds));
        assert_eq!([long(0), long(59), long(60), long(3_661)], ["0 ms", "59 s", "1 min 0 s", "1 h 1 min"]);
        assert_eq!(long(90_000), "1 d 1 h");
    }

    #[test]
    fn a_long_text_loses_its_middle() {
        assert_eq!(shortened("order-4711", 10), "order-4711");
        assert_eq!(shortened("order-47112", 10), "order…7112");
        assert_eq!(shortened("äöü-ßßßßß", 4), "äö…ß");
    }

    #[test]
    fn a_shell_reads_a_word_as_it_was() {
        for text in [
            "order-4711",
            "order-it's \"quoted\" $HOME `id` \\ * ; & | > #",
            "order-Zoë 日本語 🦀",
            "order-a\u{202e}b\u{200b}c'd\\e\u{7f}f",
            "",
            "-n",
        ] {
            let script = format!("printf %s {}", shell_word(text));
            let output = std::process::Command::new("bash").args(["-c", &script]).output().expect("a shell");
            assert_eq!(String::from_utf8_lossy(&output.stdout), text, "{script}");
        }
        assert_eq!(shell_word("order-4711"), "order-4711");
        assert_eq!(shell_word("order-it's"), r"'order-it'\''s'");
        assert_eq!(shell_word("order-\u{202e}x"), r"$'order-\xe2\x80\xaex'");
        assert_eq!(
            skip_command("orders", "order-a b", 7),
            "streambox-relay skip 'order-a b' 7 --table orders --reason 'WHY'"
        );
        assert!(skip_command("orders", "order-1", 0).contains(" order-1 VERSION "));
    }

    #[test]
    fn what_shares_a_reason_stands_together_in_the_order_it_came() {
        let all = [("a", "x"), ("b", "y"), ("c", "x")];
        let groups = by_reason(&all, |(_, reason)| reason);
        assert_eq!(groups, [("x", vec![&("a", "x"), &("c", "x")]), ("y", vec![&("b", "y")])]);
    }
}

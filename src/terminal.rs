//! What is printed for people: names and messages come from anybody, and must neither steer a terminal nor look like what
//! they are not.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` on one line, with everything in it that is not printable escaped as Rust does it, such as `\n` and `\u{202e}`:
/// control characters, what changes the direction of writing, what is invisible, and what combines with the character
/// before it.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !is_printable(c), |escaped, c| escaped.extend(c.escape_debug()))
}

/// `text` as [`one_line`] has it, but for its line breaks, behind which it is indented, so that no line of it looks like one
/// of ours.
pub fn indented(text: &str) -> String {
    text.lines().map(one_line).collect::<Vec<_>>().join("\n    ")
}

/// JSON as it is, but for what is not printable in its strings, which is escaped as JSON has it.
pub fn json(text: &str) -> Cow<'_, str> {
    // A line break can only stand between values.
    escaped(
        text,
        |c| c != '\n' && !is_printable(c),
        |escaped, c| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        },
    )
}

fn escaped(text: &str, unprintable: impl Fn(char) -> bool, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    // Most of it is, and is looked through quickly.
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) || !text.contains(&unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if unprintable(c) { escape(&mut escaped, c) } else { escaped.push(c) }
    }
    Cow::Owned(escaped)
}

/// What `escape_debug` leaves as it is; quotes and backslashes harm no terminal.
fn is_printable(c: char) -> bool {
    (' '..='~').contains(&c) || !c.is_ascii() && c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const HOSTILE: &str =
        "a\u{1b}]0;x\u{7}b\r\n\t\u{7f}\u{85}\u{9b}31m\u{200b}\u{202e}c\u{2066}\u{2028}\u{feff}\u{e0041}e\u{301}\0";

    #[test]
    fn what_is_printed_steers_nothing_and_hides_nothing() {
        let shown = one_line(HOSTILE);
        assert_eq!(
            shown,
            "a\\u{1b}]0;x\\u{7}b\\r\\n\\t\\u{7f}\\u{85}\\u{9b}31m\\u{200b}\\u{202e}c\\u{2066}\\u{2028}\\u{feff}\\u{e0041}e\\u{301}\\0"
        );
        for plain in ["", "queue/a b", "é 💌 漢字 \"quoted\" \\ it's"] {
            assert!(matches!(one_line(plain), Cow::Borrowed(same) if same == plain), "{plain}");
        }
    }

    #[test]
    fn lines_of_others_are_indented() {
        assert_eq!(indented("a\u{1b}\nb\r\n\nc"), "a\\u{1b}\n    b\n    \n    c");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({"name": HOSTILE, HOSTILE: [HOSTILE], "plain": "é 💌"});
        for text in [value.to_string(), format!("{value:#}")] {
            let shown = json(&text);
            assert!(shown.chars().all(|c| c == '\n' || is_printable(c)), "{shown}");
            assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
        }
        assert!(json("{\"plain\": \"é 💌\"}").contains("é 💌"));
    }
}

//! Text of messages: what comes from outside stands in it so that no character of it means anything.

use std::fmt::Write as _;

use crate::domain::words::number;

/// The longest subject, in code points, that Taskcluster's notify service takes.
const LONGEST_SUBJECT: usize = 255;

/// Adds a fact to a list.
pub(super) fn fact(facts: &mut String, name: &str, value: &str) {
    // Writing to a `String` does not fail.
    let _ = writeln!(facts, "* {name}: {value}");
}

/// `1 message`, `4,321 messages`.
pub(super) fn count(messages: u64) -> String {
    plural(messages, "message", "messages")
}

pub(super) fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// A subject around a name, which is shortened where the subject would be too long.
pub(super) fn subject(before: &str, name: &str, after: &str) -> String {
    let room = LONGEST_SUBJECT.saturating_sub(before.chars().count() + after.chars().count());
    format!("{before}{}{after}", shorten(&visible(name), room))
}

/// `text` in at most `room` code points: what is too much is taken from the middle, where an ellipsis says so.
pub(super) fn shorten(text: &str, room: usize) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let kept = room.saturating_sub(1);
    let tail = kept / 2;
    text.chars().take(kept - tail).chain(['…']).chain(text.chars().skip(length - tail)).collect()
}

/// `text` with every character escaped that can't be seen or that breaks lines or changes their direction: a queue may
/// have any name, and none may forge a line of ours.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                shown.extend(c.escape_unicode());
            }
            c if c.is_control() => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// `text` as a code span, in which no character means anything (CommonMark 0.31, section 6.1): its fence is longer than
/// any run of backticks in it.
pub(super) fn code(text: &str) -> String {
    let text = visible(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // One blank at either end is taken off again by the reader. It keeps the fence apart from backticks, and saves blanks.
    let apart = text.is_empty() || text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']);
    let blank = if apart { " " } else { "" };
    format!("{fence}{blank}{text}{blank}{fence}")
}

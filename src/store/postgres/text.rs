//! Text that PostgreSQL can't hold as it is.

use std::borrow::Cow;

/// What stands for NUL, which PostgreSQL's text can't hold, and for itself. The names of queues may have any character,
/// and one such name must not make the writing of all others fail.
const ESCAPE: char = '\u{1a}';

/// `text` as PostgreSQL holds it.
pub(in crate::store) fn escaped(text: &str) -> Cow<'_, str> {
    if text.contains(['\0', ESCAPE]) {
        Cow::Owned(text.replace(ESCAPE, "\u{1a}1").replace('\0', "\u{1a}0"))
    } else {
        Cow::Borrowed(text)
    }
}

/// What [`escaped`] was given.
pub(super) fn unescaped(text: String) -> String {
    if text.contains(ESCAPE) { text.replace("\u{1a}0", "\0").replace("\u{1a}1", "\u{1a}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_only_where_postgresql_could_not_hold_it() {
        assert_eq!(escaped("queue/\\0"), "queue/\\0");
        assert_eq!(escaped("a\0b\u{1a}c\u{1a}0"), "a\u{1a}0b\u{1a}1c\u{1a}10");
        assert_eq!(unescaped(escaped("a\0b\u{1a}c\u{1a}0").into_owned()), "a\0b\u{1a}c\u{1a}0");
    }
}

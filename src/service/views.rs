//! What was shown of things lately, by their names.

use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use crate::clock::Timestamp;

/// So many are remembered.
const REMEMBERED: usize = 200;

/// Views of things by their names, those that were shown lately, and when that was.
pub(super) struct Views<T>(Mutex<LruCache<String, (Timestamp, T)>>);

impl<T> Default for Views<T> {
    fn default() -> Views<T> {
        Views(Mutex::new(LruCache::unbounded()))
    }
}

impl<T: Clone> Views<T> {
    /// Notes what is shown of a thing; `None` to forget it.
    pub(super) fn note(&self, name: &str, at: Timestamp, view: Option<&T>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match view {
            Some(view) => drop(known.put(name.to_owned(), (at, view.clone()))),
            None => drop(known.pop(name)),
        }
        while known.len() > REMEMBERED {
            known.pop_lru();
        }
    }

    /// What was shown of it.
    pub(super) fn of(&self, name: &str) -> Option<(Timestamp, T)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_lately_is_remembered_and_what_is_gone_is_not() {
        let (views, at) = (Views::default(), Timestamp::from_millis);
        for number in 0..=REMEMBERED {
            views.note(&number.to_string(), at(1), Some(&number));
        }
        assert_eq!((views.of("0"), views.of("1")), (None, Some((at(1), 1))));
        views.note("1", at(2), Some(&7));
        assert_eq!(views.of("1"), Some((at(2), 7)));
        views.note("1", at(3), None);
        assert_eq!(views.of("1"), None);
    }
}

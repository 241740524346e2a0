//! Very many names, kept small: one text of all of them, and where each stands in it.

use std::fmt;
use std::ops::Range;

/// Names in the order in which they came, or sorted.
#[derive(Clone, Default)]
pub struct NameList {
    text: String,
    /// Where each name stands.
    places: Vec<Place>,
}

/// Where a name stands in the text.
#[derive(Clone, Copy)]
struct Place {
    start: u32,
    length: u32,
}

impl Place {
    fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }
}

impl NameList {
    /// Adds a name. There is room for names of 4 GiB in all, which no broker can hold; what would follow is left out.
    pub fn push(&mut self, name: &str) {
        if let (Ok(start), Ok(length)) = (u32::try_from(self.text.len()), u32::try_from(name.len())) {
            self.places.push(Place { start, length });
            self.text.push_str(name);
        }
    }

    /// Sorts the names.
    pub fn sort(&mut self) {
        let text = &self.text;
        self.places.sort_unstable_by_key(|place| &text[place.range()]);
    }

    /// Whether a name is among these, which are sorted.
    pub fn has(&self, name: &str) -> bool {
        self.places.binary_search_by(|place| self.text[place.range()].cmp(name)).is_ok()
    }

    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| &self.text[place.range()])
    }

    /// The same without those that are not `kept`.
    pub fn retain(&mut self, kept: impl Fn(&str) -> bool) {
        *self = self.iter().filter(|name| kept(name)).collect();
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl<'a> FromIterator<&'a str> for NameList {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> NameList {
        let mut list = NameList::default();
        names.into_iter().for_each(|name| list.push(name));
        list.text.shrink_to_fit();
        list.places.shrink_to_fit();
        list
    }
}

impl PartialEq for NameList {
    fn eq(&self, other: &NameList) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for NameList {}

impl fmt::Debug for NameList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_once_they_are_sorted_and_those_that_are_not_kept_are_gone() {
        let mut list: NameList = ["b", "", "ab", "ü", "a", "b"].into_iter().collect();
        list.sort();
        assert_eq!(list.iter().collect::<Vec<_>>(), ["", "a", "ab", "b", "b", "ü"]);
        assert!(["", "a", "ab", "b", "ü"].iter().all(|name| list.has(name)));
        assert!(!["c", "aa", "abc", "u"].iter().any(|name| list.has(name)));
        list.retain(|name| name.len() != 1);
        assert_eq!(list, ["", "ab", "ü"].into_iter().collect());
        assert!(list.has("ab") && !list.has("a") && !list.is_empty() && NameList::default().is_empty());
    }
}

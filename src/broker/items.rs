//! A JSON list that comes in pieces, read item by item: a long list is never in memory as a whole.

use super::answer::Unreadable;

/// Where the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Before,
    Within,
    After,
}

/// Splits a list into its items.
#[derive(Debug, Default)]
pub(super) struct Items {
    place: Place,
    /// The item that has begun, as far as it has come.
    item: Vec<u8>,
    /// How many objects and lists are open in it.
    depth: usize,
    /// Whether it is within a string, and whether what follows there is escaped.
    quoted: bool,
    escaped: bool,
    /// How many items were read.
    count: usize,
}

impl Items {
    /// Takes the next piece, and passes each item that is whole by then, as text.
    pub fn take(
        &mut self,
        piece: &[u8],
        each: &mut impl FnMut(&[u8]) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        for &byte in piece {
            match (self.place, byte) {
                (Place::Before | Place::After, b' ' | b'\t' | b'\r' | b'\n') => {}
                (Place::Before, b'[') => self.place = Place::Within,
                (Place::Before | Place::After, _) => return Err(no_list()),
                (Place::Within, b',') if self.is_between() => self.pass(each)?,
                (Place::Within, b']') if self.is_between() => {
                    // An empty list has no item.
                    if self.count > 0 || !self.item.trim_ascii().is_empty() {
                        self.pass(each)?;
                    }
                    self.place = Place::After;
                }
                (Place::Within, byte) => self.push(byte),
            }
        }
        Ok(())
    }

    /// Says that there are no more pieces.
    pub fn end(self) -> Result<(), Unreadable> {
        if self.place == Place::After { Ok(()) } else { Err(no_list()) }
    }

    /// Whether what comes next is between two items.
    fn is_between(&self) -> bool {
        self.depth == 0 && !self.quoted
    }

    fn push(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.quoted => self.escaped = true,
            b'"' => self.quoted = !self.quoted,
            b'{' | b'[' if !self.quoted => self.depth += 1,
            // What does not fit is no JSON, which whoever reads the item says.
            b'}' | b']' if !self.quoted => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.item.push(byte);
    }

    fn pass(&mut self, each: &mut impl FnMut(&[u8]) -> Result<(), Unreadable>) -> Result<(), Unreadable> {
        let at = self.count;
        self.count += 1;
        each(self.item.trim_ascii()).map_err(|why| format!("item {at}: {why}"))?;
        self.item.clear();
        Ok(())
    }
}

fn no_list() -> Unreadable {
    "it is no list".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The items of a list that comes in pieces of this size.
    fn read(text: &str, size: usize) -> Result<Vec<String>, Unreadable> {
        let (mut items, mut all) = (Items::default(), Vec::new());
        for piece in text.as_bytes().chunks(size) {
            items.take(piece, &mut |item| {
                serde_json::from_slice::<Value>(item).map_err(|_| "it is no JSON".to_owned())?;
                all.push(String::from_utf8(item.to_vec()).unwrap());
                Ok(())
            })?;
        }
        items.end().map(|()| all)
    }

    #[test]
    fn items_are_the_same_whatever_pieces_a_list_comes_in() {
        let text = " [ {\"a\":[1,{\"b\":\"]},\\\"{[\"}],\"c\":\"\\\\\"} ,\n \"x,]\\u005d\",[], 7.5 ] \n";
        let items = [r#"{"a":[1,{"b":"]},\"{["}],"c":"\\"}"#, r#""x,]\u005d""#, "[]", "7.5"];
        for size in 1..=text.len() {
            assert_eq!(read(text, size).unwrap(), items, "{size}");
        }
        assert!(read("[]", 1).unwrap().is_empty() && read(" [ \n] ", 9).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_list_or_no_whole_one_is_an_error() {
        for text in [
            "", " ", "{}", "<html>", "[", "[1", "[1,", "[1,]", "[,1]", "[1]]", "[1] x", "[\"a]", "[{]", "7", "[1 2]",
            "[}]",
        ] {
            for size in [1, 100] {
                assert!(read(text, size).is_err(), "{text}");
            }
        }
        assert_eq!(read("[1,x]", 9).unwrap_err(), "item 1: it is no JSON");
    }
}

//! Reads YAML: one document of maps, lists and single values.
//!
//! It is read strictly, because settings that are understood in another way than they were meant do harm: a key stands once
//! in a map, and there are no tags and no merge keys. Plain words mean what they do in the core schema of YAML 1.2, so that
//! `no` is a text. What is wrong is told by its kind and its place and never shown, for it may be a part of a secret.

use std::collections::BTreeMap;
use std::str::Chars;

use serde_json::{Map, Number, Value};
use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

/// How deep maps and lists may stand in each other.
const DEEPEST: usize = 32;

/// How many bytes all values may have together, each counted as one more, and what an alias stands for each time.
const LARGEST: usize = 4 << 20;

const TAG: &str = "a tag, which begins with `!`; give the value itself, a text that begins with `!` between quotes";
const TWICE: &str = "this key stands twice in its map; give each key once";
const NO_KEY: &str =
    "a key is empty, or no single value; give each value a key, a text with special characters between quotes";
const MERGE: &str = "a merge key, `<<`; write out what it stands for";
const SECOND: &str = "a second document begins, after `---`; give one document";
const TAB: &str = "a tab stands where only blanks may indent or separate; indent with blanks";
const INDENT: &str =
    "the indentation is wrong; give all keys of one map, and all items of one list, the same indentation";

const ESCAPE: &str = "a backslash between double quotes stands before what can't follow it; write `\\\\` for it";
const QUOTES: &str = "a text between quotes does not end where it should; give it one quote at either end, and write `''` for \
                      one between single quotes, `\\\"` for one between double quotes";
const ALIAS: &str = "`*` or `&` begins an alias or an anchor that can't be; give a text that begins so between quotes";
const OUTSIDE: &str = "something stands before or behind the document; give one document, without `%`, `---` and `...`";
const BRACKETS: &str = "a list or a map between brackets is not right; close each bracket, and put `, ` between items";
const SPECIAL: &str = "a special character stands in a text without quotes; give the text between quotes";
const CONTROL: &str = "a control character; leave it out, or write it as an escape such as `\\0` between double quotes";

/// What `text` holds; null where it holds nothing.
///
/// # Errors
/// Everything that is wrong with it, up to the first place that can't be understood: sentences without their subject, such
/// as "is not right as YAML at line 3, column 1: this key stands twice in its map; give each key once".
pub fn read(text: &str) -> Result<Value, Vec<String>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // The parser takes one of them for the end of the file, and would pass over all that follows.
    if let Some(at) = text.find(is_forbidden) {
        let (line, before) = text[..at].lines().enumerate().last().unwrap_or_default();
        let (line, before) = if text[..at].ends_with('\n') { (line + 1, "") } else { (line, before) };
        return Err(vec![problem_at(line + 1, before.chars().count() + 1, CONTROL)]);
    }
    let parser = Parser::new_from_str(text);
    let mut reader = Reader { text, parser, anchored: BTreeMap::new(), size: 0, problems: Vec::new() };
    match reader.document() {
        Ok(value) if reader.problems.is_empty() => Ok(value),
        Ok(_) => Err(reader.problems),
        Err(last) => {
            reader.problems.push(last);
            Err(reader.problems)
        }
    }
}

/// Whether a character can't stand in a file. (YAML 1.2.2, section 5.1.)
fn is_forbidden(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}') || matches!(c, '\u{fffe}' | '\u{ffff}')
}

fn problem(at: Marker, what: &str) -> String {
    // Its columns begin with zero.
    problem_at(at.line(), at.col() + 1, what)
}

fn problem_at(line: usize, column: usize, what: &str) -> String {
    format!("is not right as YAML at line {line}, column {column}: {what}")
}

struct Reader<'a> {
    text: &'a str,
    parser: Parser<Chars<'a>>,
    /// What each anchor stands for, and its size.
    anchored: BTreeMap<usize, (Value, usize)>,
    size: usize,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<(Event, Marker), String> {
        self.parser.next_token().map_err(|error| explain(&error, self.text))
    }

    fn refuse(&mut self, at: Marker, what: &str) {
        self.problems.push(problem(at, what));
    }

    fn document(&mut self) -> Result<Value, String> {
        let mut first = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(first.unwrap_or_default()),
                (Event::DocumentStart, at) if first.is_some() => return Err(problem(at, SECOND)),
                (Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd, _) => {}
                (event, at) => first = Some(self.value(event, at, 0)?),
            }
        }
    }

    fn value(&mut self, event: Event, at: Marker, depth: usize) -> Result<Value, String> {
        let before = self.size;
        self.grow(1, at)?;
        if depth > DEEPEST {
            return Err(problem(at, "too many maps and lists stand in each other"));
        }
        let (value, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.grow(text.len(), at)?;
                (if style == TScalarStyle::Plain { plain(text) } else { Value::String(text) }, anchor, tag)
            }
            Event::SequenceStart(anchor, tag) => (self.list(depth)?, anchor, tag),
            Event::MappingStart(anchor, tag) => (self.map(depth)?, anchor, tag),
            Event::Alias(anchor) => {
                let Some((value, size)) = self.anchored.get(&anchor) else {
                    return Err(problem(at, "an alias, `*`, stands in what it stands for"));
                };
                let (value, size) = (value.clone(), *size);
                self.grow(size, at)?;
                (value, 0, None)
            }
            _ => return Err(problem(at, INDENT)),
        };
        self.refuse_tag(tag.as_ref(), at);
        if anchor > 0 {
            self.anchored.insert(anchor, (value.clone(), self.size - before));
        }
        Ok(value)
    }

    fn list(&mut self, depth: usize) -> Result<Value, String> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Array(list)),
                (event, at) => list.push(self.value(event, at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, String> {
        let mut map = Map::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Object(map));
            }
            let key = self.key(event, at, depth)?;
            let (event, value_at) = self.next()?;
            let value = self.value(event, value_at, depth + 1)?;
            if key.is_some_and(|key| map.insert(key, value).is_some()) {
                self.refuse(at, TWICE);
            }
        }
    }

    /// A key; `None` where it is refused.
    fn key(&mut self, event: Event, at: Marker, depth: usize) -> Result<Option<String>, String> {
        match event {
            Event::Scalar(text, TScalarStyle::Plain, ..) if text == "<<" => self.refuse(at, MERGE),
            Event::Scalar(text, TScalarStyle::Plain, ..) if plain(text.clone()).is_null() => self.refuse(at, NO_KEY),
            Event::Scalar(text, _, _, tag) => {
                self.grow(text.len(), at)?;
                self.refuse_tag(tag.as_ref(), at);
                return Ok(Some(text));
            }
            event => {
                self.value(event, at, depth + 1)?;
                self.refuse(at, NO_KEY);
            }
        }
        Ok(None)
    }

    /// Refuses the tag of what stands `at` this place, which it stands before.
    fn refuse_tag(&mut self, tag: Option<&Tag>, at: Marker) {
        if tag.is_none() {
            return;
        }
        let before = |(number, line): (usize, &str)| {
            let end = if number + 1 == at.line() { at.col() } else { usize::MAX };
            let column = line.chars().take(end).collect::<Vec<_>>().iter().rposition(|c| *c == '!')?;
            Some((number + 1, column + 1))
        };
        let place = self.text.lines().enumerate().take(at.line()).filter_map(before).last();
        let (line, column) = place.unwrap_or((at.line(), at.col() + 1));
        self.problems.push(problem_at(line, column, TAG));
    }

    fn grow(&mut self, by: usize, at: Marker) -> Result<(), String> {
        self.size = self.size.saturating_add(by);
        if self.size > LARGEST { Err(problem(at, "there is too much in it")) } else { Ok(()) }
    }
}

/// What a text without quotes stands for.
fn plain(text: String) -> Value {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        other => number(other).map_or(Value::String(text), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix).filter(|digits| !digits.starts_with(['+', '-'])) {
            return u64::from_str_radix(digits, radix).ok().map(Number::from);
        }
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') || unsigned.contains(['i', 'n', 'I', 'N']) {
        return None;
    }
    let whole = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from));
    whole.ok().or_else(|| Number::from_f64(text.parse().ok()?))
}

/// What is wrong where the parser does not understand, by what it says of that and by what stands there.
fn explain(error: &ScanError, text: &str) -> String {
    let (said, at) = (error.info(), *error.marker());
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let lines: Vec<_> = text.lines().collect();
    let line = |number: usize| number.checked_sub(1).and_then(|index| lines.get(index)).copied().unwrap_or_default();
    // It may be noticed a line before or behind.
    let tab = |number: &usize| {
        let indentation = line(*number).len() - line(*number).trim_start().len();
        line(*number)[..indentation].find('\t')
    };
    if let Some((number, column)) =
        [at.line(), at.line() + 1, at.line().saturating_sub(1)].iter().find_map(|n| Some((*n, tab(n)?)))
    {
        return problem_at(number, column + 1, TAB);
    }
    let before: String = line(at.line()).chars().take(at.col()).collect();
    let what = if says(&["tab ", "tabs ", "a tab"]) {
        TAB
    } else if says(&["escape", "hexadecimal"]) {
        ESCAPE
    } else if says(&["quoted scalar"]) {
        QUOTES
    } else if says(&["TAG", "tag", "handle"]) {
        TAG
    } else if says(&["anchor", "alias"]) {
        ALIAS
    } else if says(&["document", "directive"]) && line(at.line()).starts_with(['%', '-', '.']) {
        OUTSIDE
    } else if says(&["flow", "unexpected eof", "must be followed by a valid"]) {
        BRACKETS
    } else if says(&["unexpected character", "comment", "node content", "cannot start with"])
        || says(&["mapping values"]) && before.contains(": ")
    {
        SPECIAL
    } else {
        INDENT
    };
    problem(at, what)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(text: &str) -> Vec<String> {
        read(text).err().unwrap_or_default()
    }

    #[test]
    fn values_are_those_of_the_core_schema() {
        for (text, expected) in [
            ("", json!(null)),
            ("# nothing\n", json!(null)),
            ("---\na: 1\n...\n", json!({"a": 1})),
            ("\u{feff}a: 1", json!({"a": 1})),
            ("{a: 1, \"b\": [x, 'y']}", json!({"a": 1, "b": ["x", "y"]})),
            ("a:\n- b: 1\n  c: ~\n- \n", json!({"a": [{"b": 1, "c": null}, null]})),
            (
                "[true, False, yes, no, on, null, Null, '', \"~\"]",
                json!([true, false, "yes", "no", "on", null, null, "", "~"]),
            ),
            ("[1, -2, +3, 007, 0x1F, 0o17, 18446744073709551615]", json!([1, -2, 3, 7, 31, 15, u64::MAX])),
            ("[1.5, .5, 1e3, -1.]", json!([1.5, 0.5, 1000.0, -1.0])),
            (
                "[1e999, .inf, .nan, 0x, 1_000, 1.2.3, 90 s, '1', a-]",
                json!(["1e999", ".inf", ".nan", "0x", "1_000", "1.2.3", "90 s", "1", "a-"]),
            ),
            ("a: |\n  x\n  y\nb: >-\n  x\n  y\n", json!({"a": "x\ny\n", "b": "x y"})),
            ("a: &x [1]\nb: *x\n", json!({"a": [1], "b": [1]})),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_kind_and_its_place() {
        for (text, place, what) in [
            ("a:\n\tb: 1\n", "line 2, column ", "tab"),
            ("a:\n  b: 1\n\tc: 2\n", "line 3, column ", "tab"),
            ("a:\n  - 1\n\t- 2\n", "line 3, column ", "tab"),
            ("a: !env X\n", "line 1, column ", "tag"),
            ("a: !!binary aGk=\n", "line 1, column ", "tag"),
            ("a: !hunter2\n", "line 1, column ", "tag"),
            ("!x a: 1\n", "line 1, column ", "tag"),
            ("a: !h!x 1\n", "line 1, column ", "tag"),
            ("a: !\n", "line 1, column ", "tag"),
            ("a: 1\nb: 2\na: 3\n", "line 3, column 1", "twice"),
            ("a: 1\n# a comment\n\nb: !x\n# a comment\n", "line 4, column 4", "tag"),
            ("a:\n  - {b: 1, 'b': 2}\n", "line 2, column 12", "twice"),
            ("a: 1\n---\nb: 2\n", "line 2, column 1", "second document"),
            ("a: 1\n%YAML 1.2\n---\nb: 2\n", "line ", "document"),
            ("a: 1\n---\n", "line 2, column 1", "second document"),
            ("a: 1\n...\nb: 2\n", "line 3", "document"),
            ("a:\n  b: 1\n c: 2\n", "line 3, column ", "indentation"),
            ("a:\n    b: 1\n  c: 2\n", "line 3, column ", "indentation"),
            ("a:\n  b: 1\n   c: 2\n", "line 3, column ", "indentation"),
            ("a: 1\n  b: 2\n", "line 2, column ", "indentation"),
            (" a: 1\nb: 2\n", "line 2, column ", "indentation"),
            ("a:\n  - 1\n - 2\n", "line 3, column ", "indentation"),
            ("a: [1\n", "line ", "brackets"),
            ("a: {b: 1\n", "line ", "brackets"),
            ("a: 'b\n", "line ", "quotes"),
            ("a: \"b\\q\"\n", "line 1, column ", "backslash"),
            ("a: b: c\n", "line 1, column ", "between quotes"),
            ("a: @b\n", "line 1, column ", "special character"),
            ("a: 1\n\0b: 2\n", "line 2, column 1", "control character"),
            ("a: 1\nb: c\0\nd: 2\n", "line 2, column 5", "control character"),
            ("# a\u{1b}\na: 1\n", "line 1, column 4", "control character"),
            ("a: *b\n", "line 1, column ", "alias"),
            ("a: &a [*a]\n", "line 1, column ", "alias"),
            ("<<: {a: 1}\n", "line 1, column 1", "merge key"),
            ("~: 1\n", "line 1, column 1", "key is empty"),
            (": 1\n", "line 1, column ", "key is empty"),
            ("? [a]\n: 1\n", "line 1, column ", "key is empty, or no single value"),
        ] {
            let told = problems(text);
            assert!(told.len() == 1 && told[0].contains(place) && told[0].contains(what), "{text}: {told:?}");
            assert!(told[0].starts_with("is not right as YAML at line ") && !told[0].contains("hunter2"), "{told:?}");
        }
    }

    #[test]
    fn every_problem_before_the_first_that_is_not_understood_is_told() {
        let told = problems("a: !x 1\na: 2\n<<: 3\nb:\n\tc: 4\n");
        let kinds = ["tag", "twice", "merge", "tab"];
        assert!(told.len() == 4 && told.iter().zip(kinds).all(|(told, kind)| told.contains(kind)), "{told:?}");
    }

    #[test]
    fn what_grows_without_bounds_is_refused() {
        assert!(problems(&"[".repeat(200))[0].contains("in each other"));
        assert!(problems(&"- ".repeat(100_000))[0].contains("in each other"));
        let mut text = format!("a0: &a0 {}\n", "x".repeat(100_000));
        for level in 1..12 {
            let inner = vec![format!("*a{}", level - 1); 9].join(", ");
            text += &format!("a{level}: &a{level} [{inner}]\n");
        }
        assert!(problems(&text)[0].contains("too much"));
    }
}

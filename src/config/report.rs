//! What was given, and everything that is wrong with it.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::kinds::{Kind, Wrong};
use super::setting::{Section, Setting, settings_of};
use crate::terminal;

/// Why the service can't run as it is configured: every problem, one a line, and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The problems.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "the configuration has {count} problem{}:", if count == 1 { "" } else { "s" })?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  * {}", terminal::one_line(problem)))
    }
}

/// The problems found so far.
pub(super) struct Report {
    /// What can be set.
    sections: &'static [Section],
    problems: Vec<String>,
    /// The settings whose values can't be read; no other problem is made of them.
    unread: BTreeSet<&'static str>,
}

impl Report {
    /// No problem yet with what stands in `sections`.
    pub fn new(sections: &'static [Section]) -> Report {
        Report { sections, problems: Vec::new(), unread: BTreeSet::new() }
    }

    fn settings(&self) -> impl Iterator<Item = &'static Setting> + use<> {
        settings_of(self.sections)
    }

    fn find(&self, key: &str) -> Option<&'static Setting> {
        self.settings().find(|setting| setting.key == key)
    }

    /// A problem that is not one setting's.
    pub fn add(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// What is wrong with one setting.
    fn refuse(&mut self, setting: &'static Setting, why: &str) {
        self.unread.insert(setting.key);
        self.problems.push(format!("{} ({}) {why}", setting.key, setting.variable));
    }

    /// Whatever of `needed` was not `given`.
    pub fn require(&mut self, key: &str, given: bool, who: &str) {
        if let Some(setting) = self.find(key)
            && !given
            && !self.unread.contains(setting.key)
        {
            let about = setting.about.split_whitespace().collect::<Vec<_>>().join(" ");
            self.refuse(setting, &format!("is not set, and {who} needs it; give {}. {about}", setting.expected));
        }
    }

    /// A rule over several settings: `problem` tells what was wrong and what would be right. It is not judged where one
    /// of them can't be read.
    pub fn rule(&mut self, keys: &[&str], holds: bool, problem: impl FnOnce() -> String) {
        if !holds && !keys.iter().any(|key| self.unread.contains(key)) {
            let named = keys.iter().filter_map(|key| self.find(key));
            let named: Vec<_> = named.map(|setting| format!("{} ({})", setting.key, setting.variable)).collect();
            self.problems.push(format!("{}: {}", named.join(", "), problem()));
        }
    }

    /// `value`, if there is no problem.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(ConfigError { problems: self.problems }),
        }
    }
}

/// Where values come from: the environment first, then the file.
pub(super) struct Given<'a> {
    /// What the file holds; null where there is none.
    pub file: &'a Value,
    /// How the file is called in messages.
    pub file_name: &'a str,
    /// Looks up a variable of the environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Given<'_> {
    /// Reads one setting; its default where nothing was given, or what was given is wrong.
    pub fn read<T>(&self, key: &str, kind: &Kind<T>, report: &mut Report) -> Option<T> {
        let setting = report.find(key)?;
        if let Some((value, source)) = self.find(setting) {
            match (kind.parse)(&value) {
                Ok(read) => return Some(read),
                Err(Wrong::Unexpected) => {
                    report.refuse(setting, &format!("{} in {source}; give {}", shown(kind, &value), kind.expected));
                }
                Err(Wrong::Because(problems)) => {
                    problems.iter().for_each(|why| report.refuse(setting, &format!("in {source}: {why}")));
                }
            }
        }
        (kind.parse)(&Value::String(setting.default.to_owned())).ok()
    }

    /// The value, and where it stands. An empty value counts as not given.
    fn find(&self, setting: &Setting) -> Option<(Value, &str)> {
        let pointer = format!("/{}", setting.key.replace('.', "/"));
        let variable = (self.environment)(setting.variable).map(|text| (Value::String(text), "the environment"));
        let in_file = || self.file.pointer(&pointer).map(|value| (value.clone(), self.file_name));
        let empty = |value: &Value| value.is_null() || value.as_str() == Some("");
        variable.filter(|(value, _)| !empty(value)).or_else(|| in_file().filter(|(value, _)| !empty(value)))
    }

    /// Reports every key of the file that is no setting and no section.
    pub fn refuse_unknown_keys(&self, report: &mut Report) {
        match self.file {
            Value::Null => {}
            Value::Object(map) => map.iter().for_each(|(key, value)| self.unknown_keys("", key, value, report)),
            _ => report.add(format!("{} is no map; give sections with settings", self.file_name)),
        }
    }

    fn unknown_keys(&self, above: &str, key: &str, value: &Value, report: &mut Report) {
        let path = &if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") };
        if key.is_empty() {
            let place = if above.is_empty() { String::new() } else { format!(" below {above}") };
            return report.add(format!("a key{place} in {} is empty; give the name of a setting", self.file_name));
        }
        if key.contains('.') && report.settings().any(|setting| setting.key == path || below(path, setting.key)) {
            // Messages name a setting so; in the file it would be another key than the one that is read.
            let parts = key.split('.').map(|part| format!("`{part}:`")).collect::<Vec<_>>().join(", and below that ");
            let place = if above.is_empty() { String::new() } else { format!("below `{above}:` ") };
            let what = "is one key with a dot; without the dot, give";
            return report.add(format!("{path} in {} {what} {place}{parts}", self.file_name));
        }
        if report.find(path).is_some() {
            return;
        }
        let known = report.settings().any(|setting| below(path, setting.key));
        // Of a section that is misspelt, each setting is told by itself: that finds what was meant.
        let misspelt = !path.contains('.') && value.as_object().is_some_and(|map| !map.is_empty());
        if !known && !misspelt {
            let hint = nearest(path, report)
                .map_or(String::new(), |setting| format!("; did you mean {} ({})?", setting.key, setting.variable));
            return report.add(format!("{path} in {} is no setting{hint}", self.file_name));
        }
        match value {
            Value::Null => {}
            Value::Object(map) => map.iter().for_each(|(key, value)| self.unknown_keys(path, key, value, report)),
            _ => report.add(format!("{path} in {} is a section; give its settings below it", self.file_name)),
        }
    }
}

/// Whether the setting of this key stands below this path.
fn below(path: &str, key: &str) -> bool {
    key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))
}

/// What of a wrong value may be shown.
fn shown<T>(kind: &Kind<T>, value: &Value) -> String {
    match value {
        _ if kind.secret => "is wrong".to_owned(),
        Value::Array(_) => "is a list".to_owned(),
        Value::Object(_) => "is a map".to_owned(),
        scalar => format!("is {scalar}"),
    }
}

/// The setting that was most probably meant by `path`: the one whose key, variable, or last part of the key is most like
/// it, if any is alike.
fn nearest(path: &str, report: &Report) -> Option<&'static Setting> {
    const ALIKE: f64 = 0.85;
    let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
    let own_last = path.rsplit('.').next().unwrap_or(path).to_ascii_lowercase();
    let likeness = |setting: &Setting| {
        let whole = strsim::jaro_winkler(path, setting.key);
        let variable = strsim::jaro_winkler(path, setting.variable);
        let end = strsim::jaro_winkler(&own_last, &last(setting.key).to_ascii_lowercase());
        whole.max(variable).max(end)
    };
    let best = report.settings().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= ALIKE).then_some(best)
}

//! What `doctor` found, and how it is shown.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

use crate::terminal::one_line;

/// How long one look may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work.
    Error,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub level: Level,
    /// A sentence about it.
    pub message: String,
    /// What to do; empty where nothing is to be done.
    pub advice: String,
}

impl Finding {
    pub(super) fn ok(name: &'static str, message: impl Into<String>) -> Finding {
        Finding { name, level: Level::Ok, message: message.into(), advice: String::new() }
    }

    /// The same, as something that works all the same.
    pub(super) fn into_warning(self) -> Finding {
        Finding { level: Level::Warning, ..self }
    }

    pub(super) fn warning(name: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { name, level: Level::Warning, message: message.into(), advice: advice.into() }
    }

    pub(super) fn error(name: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { name, level: Level::Error, message: message.into(), advice: advice.into() }
    }
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report(pub Vec<Finding>);

/// The widest line, and where the sentences begin.
const WIDTH: usize = 80;
const INDENT: usize = 22;

impl Report {
    /// Of settings that can't be used; each line of `problems` with a star is one.
    pub fn of_settings(problems: &str) -> Report {
        let advice = "Correct it. `taskcluster-pulse settings` lists all settings.";
        let mut told: Vec<_> = problems.lines().filter_map(|line| line.trim().strip_prefix("* ")).collect();
        if told.is_empty() {
            told.push(problems.trim());
        }
        Report(told.into_iter().map(|problem| Finding::error("settings", problem, advice)).collect())
    }

    /// The worst of it.
    pub fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    /// For scripts: `{status, checks}`, a list of `{name, level, message, advice}`.
    pub fn to_json(&self) -> Value {
        let checks = self.0.iter().map(|Finding { name, level, message, advice }| {
            json!({"name": name, "level": level.word(), "message": message, "advice": advice})
        });
        json!({"status": self.worst().word(), "checks": checks.collect::<Vec<_>>()})
    }
}

/// For people, on a terminal of 80 columns.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { name, level, message, advice } in &self.0 {
            let head = format!("{:<8} {name:<12} ", level.word());
            writeln!(f, "{}", wrapped(&head, &one_line(message)))?;
            if !advice.is_empty() {
                writeln!(f, "{}", wrapped(&" ".repeat(INDENT), &format!("-> {}", one_line(advice))))?;
            }
        }
        let count = |level| self.0.iter().filter(|finding| finding.level == level).count();
        let (good, warnings, errors) = (count(Level::Ok), count(Level::Warning), count(Level::Error));
        write!(f, "{good} ok, {warnings} to look at, {errors} that do not work")
    }
}

/// `text` behind `head`, in lines that are no wider than the terminal if its words are not.
fn wrapped(head: &str, text: &str) -> String {
    let (mut out, mut width) = (head.to_owned(), head.chars().count());
    let mut fresh = true;
    for word in text.split(' ') {
        let length = word.chars().count();
        if !fresh && width + 1 + length > WIDTH {
            let _ = write!(out, "\n{}", " ".repeat(INDENT));
            (width, fresh) = (INDENT, true);
        }
        if !fresh {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += length;
        fresh = false;
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_fits_a_terminal_and_says_what_to_do() {
        let long = "a sentence that goes on and on, much longer than one line of a terminal is, and further still";
        let report = Report(vec![
            Finding::ok("database", "it answers"),
            Finding::error("rabbitmq", long, "Do something about it that takes many words to say, as many as this."),
        ]);
        let text = report.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.starts_with("ok       database     it answers\nerror    rabbitmq     a sentence"), "{text}");
        assert!(text.contains("\n                      -> Do something"), "{text}");
        assert!(text.ends_with("\n1 ok, 0 to look at, 1 that do not work"), "{text}");
        assert_eq!(report.worst(), Level::Error);
        assert_eq!(report.to_json()["checks"][1]["level"], "error");
    }

    #[test]
    fn names_of_others_steer_no_terminal() {
        let settings = Report::of_settings("the configuration has 2 problems:\n  * one is wrong\n  * another is\n");
        assert_eq!(settings.0.iter().map(|of| of.message.as_str()).collect::<Vec<_>>(), ["one is wrong", "another is"]);
        assert_eq!(Report::of_settings("it can't be read").0[0].message, "it can't be read");
        let report = Report(vec![Finding::warning("users", "a\u{1b}]0;x\u{7}b\nc", "")]);
        assert!(!report.to_string().contains(['\u{1b}', '\u{7}']) && report.to_string().lines().count() == 2);
    }
}

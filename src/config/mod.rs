//! Configuration: defaults in the program, then `user-config.yml`, then the environment.
//!
//! * `settings`: the one table of settings, and the sections of [`Config`] that are made of it.
//! * `kinds`, `places` and `clients`: how values are read.
//! * `report`: what was given, and everything that is wrong with it.
//! * `rules`: what settings must be to each other, and what each command needs.
//! * `listing`: the example file, and the list of settings for people.
//!
//! Everything is checked together, so that whoever starts the service is told of every mistake at once.

mod clients;
mod kinds;
mod listing;
mod places;
mod report;
mod rules;
mod settings;

use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;
use url::Url;

pub use clients::Client;
pub use kinds::{AuthMode, Levels, LogFormat, NotifyMethod};
pub use listing::{example, listing};
pub use report::ConfigError;
pub use rules::Needs;
pub use settings::{
    App, Auth, Config, Logging, Monitor, Notify, Rabbit, SECTIONS, Section, Server, Setting, Store, Taskcluster, Worker,
};

use report::{Given, Report};

/// The file that is read, in the working directory, if it is there and no other is named.
pub const FILE: &str = "user-config.yml";

impl Config {
    /// Reads the settings from `file` and from `environment`, which looks up a variable; see [`environment`]. Where no
    /// file is named, [`FILE`] is read if there is one. What is empty counts as not set.
    ///
    /// # Errors
    /// Every problem: values that are wrong, unknown keys, rules that are broken, and whatever of `needs` is missing.
    pub fn load(
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
        needs: Needs,
    ) -> Result<Config, ConfigError> {
        let mut report = Report::default();
        let content = content(file);
        let file_name = file.unwrap_or(Path::new(FILE)).display().to_string();
        let given =
            Given { file: content.as_ref().unwrap_or(&Value::Null), file_name: &file_name, environment: &environment };
        given.refuse_unknown_keys(&mut report);
        let config = settings::read(&given, &mut report).map(rules::complete);
        match (&content, &config) {
            // What it would have given is neither missing nor known to break a rule.
            (Err(problem), _) => report.add(format!("{file_name} {problem}")),
            (Ok(_), Some(config)) => rules::check(config, needs, &mut report),
            (Ok(_), None) => {}
        }
        report.finish(config)
    }
}

/// The variable `name` of the process, for [`Config::load`]. One that is not UTF-8 is given with a mark in place of what
/// is not, so that it is refused rather than overlooked.
pub fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Reads a root URL that is not a setting, by the rule of the setting that is one.
///
/// # Errors
/// What would be right.
pub fn parse_root_url(text: &str) -> Result<Url, String> {
    let read = (places::HTTP_URL.parse)(&Value::from(text)).ok().and_then(|url| url.parse().ok());
    read.ok_or_else(|| format!("give {}", places::HTTP_URL.expected))
}

/// What the file holds; null where there need be none and is none. Else, what is wrong with it.
fn content(file: Option<&Path>) -> Result<Value, String> {
    let text = match std::fs::read_to_string(file.unwrap_or(Path::new(FILE))) {
        Err(error) if error.kind() == ErrorKind::NotFound && file.is_none() => return Ok(Value::Null),
        read => read.map_err(|error| format!("can't be read: {error}"))?,
    };
    // Only `true` and `false` are switches, so that `no` stays a text. The `!env` of 2018's files is refused, rather than
    // the name behind it taken for the value.
    let options = serde_saphyr::options! { strict_booleans: true, reject_unsupported_tags: true };
    serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
        // The error's own words may hold a part of the file, and that a part of a secret.
        let place = error.location().map(|at| format!(" at line {}, column {}", at.line(), at.column()));
        let place = place.unwrap_or_default();
        format!("is not right as YAML{place}; give each key once, and texts with special characters between quotes")
    })
}

/// Every setting, in the order of the file.
fn all_settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

//! Configuration: defaults in the program, then `user-config.yml`, then the environment.
//!
//! * `settings`: the one table of settings, and the sections of [`Config`] that are made of it.
//! * `setting`: what is known of one setting.
//! * `kinds`, `places`, `clients`, `console`, `groups`, `metrics`, `suffixes` and `json`: how values are read.
//! * `report`: what was given, and everything that is wrong with it.
//! * `rules`: what settings must be to each other, and what each command needs.
//! * `listing`: the example file, and the list of settings for people.
//!
//! Everything is checked together, so that whoever starts the service is told of every mistake at once.

mod accounts;
mod clients;
mod console;
mod groups;
mod json;
mod kinds;
mod limits;
mod listing;
mod metrics;
mod places;
mod report;
mod rules;
mod setting;
mod settings;
mod suffixes;

use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;
use url::Url;

pub use clients::Client;
pub use kinds::{AuthMode, Levels, LogFormat, MonitorAction, NotifyMethod, RabbitAuth};
pub use listing::{example, listing};
pub use metrics::Prometheus;
pub use report::ConfigError;
pub use rules::Needs;
pub use setting::{FILE, Section, Setting};
pub use settings::{
    App, Auth, Config, Console, Logging, Metrics, Monitor, Notify, Rabbit, SECTIONS, Server, Store, Taskcluster, Worker,
};

use crate::yaml;
use report::{Given, Report};

impl Config {
    /// Reads the settings from `file` and from `environment`, which looks up a variable; see [`environment`]. Where no
    /// file is named, [`FILE`] is read if there is one. An empty value counts as not set.
    ///
    /// # Errors
    /// Every problem: values that are wrong, unknown keys, rules that are broken, and whatever of `needs` is missing.
    pub fn load(
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
        needs: Needs,
    ) -> Result<Config, ConfigError> {
        let mut report = Report::new(SECTIONS);
        let content = content(file);
        let file_name = file.unwrap_or(Path::new(FILE)).display().to_string();
        let given =
            Given { file: content.as_ref().unwrap_or(&Value::Null), file_name: &file_name, environment: &environment };
        given.refuse_unknown_keys(&mut report);
        let config = settings::read(&given, &mut report).map(rules::complete);
        match (&content, &config) {
            // What it would have given is neither missing nor known to break a rule.
            (Err(problems), _) => problems.iter().for_each(|problem| report.add(format!("{file_name} {problem}"))),
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

/// What the file holds; null where there need be none and is none. Else, everything that is wrong with it.
fn content(file: Option<&Path>) -> Result<Value, Vec<String>> {
    let text = match std::fs::read_to_string(file.unwrap_or(Path::new(FILE))) {
        Err(error) if error.kind() == ErrorKind::NotFound && file.is_none() => return Ok(Value::Null),
        read => read.map_err(|error| vec![format!("can't be read: {error}")])?,
    };
    yaml::read(&text)
}

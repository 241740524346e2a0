//! What kinds of values there are: how each is read, and how a right one is described.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tracing::level_filters::LevelFilter;

use crate::secret::Secret;
pub use crate::telemetry::{Levels, LogFormat};

/// A kind of value. A value comes as the file's YAML gives it, or as a text from the environment.
pub(super) struct Kind<T> {
    /// Says what a right value is, to stand after "give".
    pub expected: &'static str,
    /// Whether a value must not be shown.
    pub secret: bool,
    /// Reads a value.
    pub parse: fn(&Value) -> Result<T, Wrong>,
}

/// Why a value can't be read.
pub(super) enum Wrong {
    /// It is not what its kind expects.
    Unexpected,
    /// It is wrong in these ways, each told as what was wrong and what would be right, showing no secret.
    Because(Vec<String>),
}

impl Wrong {
    /// It is wrong in one way.
    pub fn because(why: impl Into<String>) -> Wrong {
        Wrong::Because(vec![why.into()])
    }
}

/// What the guard may do about queues in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonitorAction {
    /// Nothing: what it would do is reported.
    Observe,
    /// Tell their owners.
    Warn,
    /// Tell, and delete the messages of those that stay above the limit.
    Purge,
    /// Tell, and delete those that stay above the limit.
    Delete,
}

/// How owners are told of the troubles of their namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyMethod {
    /// Nobody is told; the message is logged.
    Log,
    /// By Taskcluster's notify service.
    Taskcluster,
    /// By e-mail over SMTP.
    Smtp,
}

/// Who says who the callers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// The local list of clients.
    Local,
    /// Taskcluster's auth service.
    Remote,
    /// The local list for its own clients, the auth service for everybody else.
    Both,
}

/// How the service logs in to RabbitMQ's management API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RabbitAuth {
    /// By a name and a password.
    Password,
    /// By tokens that it signs.
    Token,
}

/// How the service logs in to RabbitMQ's management API.
pub(super) const RABBIT_AUTH: Kind<RabbitAuth> = Kind {
    expected: "`password` or `token`",
    secret: false,
    parse: |value| {
        from_text(value, |text| match text {
            "password" => Some(RabbitAuth::Password),
            "token" => Some(RabbitAuth::Token),
            _ => None,
        })
    },
};

/// The keys that sign tokens.
pub(super) const TOKEN_KEYS: Kind<Secret> =
    Kind { expected: "a JSON array of keys, each as `keys make` prints it", secret: true, parse: KEYS.parse };

/// Any text.
pub(super) const TEXT: Kind<String> =
    Kind { expected: "a text (in quotes if it looks like a number)", secret: false, parse: |v| own(v, |_| true) };

/// Any text that must not be shown.
pub(super) const SECRET: Kind<Secret> = Kind { expected: TEXT.expected, secret: true, parse: |v| secret(v, |_| true) };

/// `true` or `false`.
pub(super) const SWITCH: Kind<bool> = Kind {
    expected: "`true` or `false`",
    secret: false,
    parse: |value| match value {
        Value::Bool(on) => Ok(*on),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(Wrong::Unexpected),
    },
};

/// A switch as Taskcluster's services read `USE_KUBERNETES_DNS_SERVICE_DISCOVERY`: any text turns it on.
pub(super) const PRESENCE: Kind<bool> = Kind {
    expected: "any text for yes, nothing for no",
    secret: false,
    parse: |value| match value {
        Value::Bool(on) => Ok(*on),
        Value::String(text) => Ok(!text.is_empty()),
        _ => Err(Wrong::Unexpected),
    },
};

/// How long something may take, or how often it happens.
pub(super) const SPAN: Kind<Duration> = Kind {
    expected: "a duration of more than zero and at most a year, such as `90 s` or `1 hour`",
    secret: false,
    parse: |value| from_words(value, |text| duration(text).filter(|span| !span.is_zero())),
};

/// How long to wait, be it not at all. The 2018 service wrote these as offsets into the past, with a minus before them;
/// that minus is ignored.
pub(super) const DELAY: Kind<Duration> = Kind {
    expected: "a duration of at most a year, such as `90 s` or `1 hour` (a minus before it is ignored)",
    secret: false,
    parse: |value| from_words(value, |text| duration(text.trim_start_matches('-'))),
};

/// How many bytes.
pub(super) const SIZE: Kind<usize> = Kind {
    expected: "a size from `1 B` to `1024 MiB`, in `B`, `KiB` or `MiB`",
    secret: false,
    parse: |value| from_words(value, size),
};

/// A part of the whole, in percent.
pub(super) const SHARE: Kind<u8> = Kind {
    expected: "a share from `1%` to `100%`",
    secret: false,
    parse: |value| {
        from_words(value, |text| {
            text.strip_suffix('%')?.trim_end().parse().ok().filter(|share| (1..=100).contains(share))
        })
    },
};

/// A folder.
pub(super) const FOLDER: Kind<PathBuf> =
    Kind { expected: "the path of a folder", secret: false, parse: |value| from_text(value, |text| Some(text.into())) };

/// A file.
pub(super) const FILE: Kind<PathBuf> =
    Kind { expected: "the path of a file", secret: false, parse: |value| from_text(value, |text| Some(text.into())) };

/// Begins the name of every namespace. Names have at most 64 characters; some must be left for what tells them apart.
pub(super) const NAMESPACE_PREFIX: Kind<String> = Kind {
    expected: "1 to 40 characters of `[A-Za-z0-9_-]`",
    secret: false,
    parse: |value| own(value, |text| (1..=40).contains(&text.len()) && only(text, "_-")),
};

/// Begins the name of every broker user; it must need no escaping in a URL.
pub(super) const USERNAME_PREFIX: Kind<String> = Kind {
    expected: "at most 40 characters of `[A-Za-z0-9._-]`",
    secret: false,
    parse: |value| own(value, |text| text.len() <= 40 && only(text, "._-")),
};

/// The key ring that seals stored secrets.
pub(super) const KEYS: Kind<Secret> = Kind {
    expected: "a JSON array of one or more `{\"id\": .., \"algo\": \"aes-256\", \"key\": <base64 of 32 random bytes>}`",
    secret: true,
    parse: |value| {
        if let Some(slip) = value.as_str().and_then(|text| slip_of_quotes(text.trim())) {
            return Err(Wrong::because(slip));
        }
        // A list in the file is the same list as JSON text.
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let keys = |text: &str| serde_json::from_str::<Vec<serde_json::Map<String, Value>>>(text);
        let good = text.is_empty() || keys(&text).is_ok_and(|keys| !keys.is_empty());
        if good { Ok(Secret::new(text)) } else { Err(Wrong::Unexpected) }
    },
};

/// What the guard may do.
pub(super) const ACTION: Kind<MonitorAction> = Kind {
    expected: "`observe`, `warn`, `purge` or `delete`",
    secret: false,
    parse: |value| {
        from_text(value, |text| match text {
            "observe" => Some(MonitorAction::Observe),
            "warn" => Some(MonitorAction::Warn),
            "purge" => Some(MonitorAction::Purge),
            "delete" => Some(MonitorAction::Delete),
            _ => None,
        })
    },
};

/// How owners are told.
pub(super) const METHOD: Kind<NotifyMethod> = Kind {
    expected: "`log`, `taskcluster` or `smtp`",
    secret: false,
    parse: |value| {
        from_text(value, |text| match text {
            "log" => Some(NotifyMethod::Log),
            "taskcluster" => Some(NotifyMethod::Taskcluster),
            "smtp" => Some(NotifyMethod::Smtp),
            _ => None,
        })
    },
};

/// Who says who the callers are.
pub(super) const AUTH_MODE: Kind<AuthMode> = Kind {
    expected: "`local`, `remote` or `both`",
    secret: false,
    parse: |value| {
        from_text(value, |text| match text {
            "local" => Some(AuthMode::Local),
            "remote" => Some(AuthMode::Remote),
            "both" => Some(AuthMode::Both),
            _ => None,
        })
    },
};

/// How log lines are written.
pub(super) const FORMAT: Kind<LogFormat> = Kind {
    expected: "`auto`, `json` or `human`",
    secret: false,
    parse: |value| {
        from_text(value, |text| match text {
            "auto" => Some(LogFormat::Auto),
            "json" => Some(LogFormat::Json),
            "human" => Some(LogFormat::Human),
            _ => None,
        })
    },
};

/// Which events are logged, in the form that Taskcluster's services read.
pub(super) const LEVELS: Kind<Levels> = Kind {
    expected: "a level such as `info`, or some for parts and one for the rest, such as `root:info http:debug`",
    secret: false,
    parse: |value| from_words(value, levels),
};

/// How many, one at least.
pub(super) const fn count<T: TryFrom<u64>>() -> Kind<T> {
    Kind {
        expected: "a whole number of at least 1",
        secret: false,
        parse: |value| match number::<u64>(value) {
            Some(count) if count > 0 => T::try_from(count).map_err(|_| Wrong::Unexpected),
            _ => Err(Wrong::Unexpected),
        },
    }
}

/// Reads a text, which must have nothing at its ends that got there by mistake.
pub(super) fn from_text<T>(value: &Value, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Wrong> {
    let text = value.as_str().ok_or(Wrong::Unexpected)?;
    match slip(text) {
        Some(what) => Err(Wrong::because(what)),
        None => read(text).ok_or(Wrong::Unexpected),
    }
}

/// Reads names with commas between them, or a list of names.
pub(super) fn names<All>(value: &Value, is_good: impl Fn(&str) -> bool) -> Result<All, Wrong>
where
    All: FromIterator<String> + Default,
{
    let name = |name: &str| is_good(name.trim()).then(|| name.trim().to_owned());
    let split = |text: &str| match text.is_empty() {
        true => Some(All::default()),
        false => text.split(',').map(name).collect(),
    };
    let Some(list) = value.as_array() else { return from_words(value, split) };
    let named = |item: &Value| item.as_str().and_then(name);
    list.iter().map(named).collect::<Option<_>>().ok_or(Wrong::Unexpected)
}

/// Reads a text that means the same with blanks around it.
pub(super) fn from_words<T>(value: &Value, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Wrong> {
    value.as_str().map(str::trim).and_then(read).ok_or(Wrong::Unexpected)
}

/// What got into `text` by mistake and would be taken for a part of it, told without showing it.
pub(super) fn slip(text: &str) -> Option<&'static str> {
    let at_an_end = |of: fn(char) -> bool| text.starts_with(of) || text.ends_with(of);
    let invisible =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    if text.contains(char::REPLACEMENT_CHARACTER) {
        Some("holds something that is not UTF-8; give it in UTF-8")
    } else if at_an_end(|c| matches!(c, '\n' | '\r')) {
        Some("has a line break at an end; give it without (`echo` adds one, `printf %s` does not)")
    } else if at_an_end(invisible) {
        Some("has a blank or an invisible character at an end; give it without")
    } else {
        slip_of_quotes(text)
    }
}

/// The same where blanks at the ends do no harm.
pub(super) fn slip_of_quotes(text: &str) -> Option<&'static str> {
    let quote = ['"', '\'', '`', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}'];
    (text.starts_with(quote) || text.ends_with(quote)).then_some(
        "has a quote at an end, which would be a part of it; give it without (`docker --env-file` keeps quotes)",
    )
}

/// Takes a text that is good.
pub(super) fn own(value: &Value, good: impl FnOnce(&str) -> bool) -> Result<String, Wrong> {
    from_text(value, |text| good(text).then(|| text.to_owned()))
}

/// Takes a text that is good, and must not be shown.
pub(super) fn secret(value: &Value, good: impl FnOnce(&str) -> bool) -> Result<Secret, Wrong> {
    from_text(value, |text| good(text).then(|| Secret::new(text)))
}

/// Reads a number, given as such or as a text.
pub(super) fn number<T: TryFrom<u64>>(value: &Value) -> Option<T> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
    T::try_from(number).ok()
}

/// Whether `text` is made of ASCII letters, digits and `others` alone.
pub(super) fn only(text: &str, others: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// At most a year, so that a sum of a moment and a duration stays far from the end of time.
fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok().filter(|span| *span <= Duration::from_secs(365 * 24 * 3600))
}

fn size(text: &str) -> Option<usize> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let factor = match text[unit_at..].trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    let bytes = text[..unit_at].parse::<usize>().ok()?.checked_mul(factor)?;
    (1..=1 << 30).contains(&bytes).then_some(bytes)
}

fn levels(text: &str) -> Option<Levels> {
    if let Some(root) = level(text.trim()) {
        return Some(Levels { root, children: Vec::new() });
    }
    let mut root = None;
    let mut children = Vec::new();
    for part in text.split_whitespace() {
        let (child, level) = part.split_once(':').and_then(|(child, name)| Some((child, level(name)?)))?;
        match child {
            "root" => root = Some(level),
            _ if !child.is_empty() && only(child, "_") => children.push((child.to_owned(), level)),
            _ => return None,
        }
    }
    Some(Levels { root: root?, children })
}

/// The level of ours that takes in what syslog's level of this name takes in.
fn level(name: &str) -> Option<LevelFilter> {
    Some(match name {
        "debug" => LevelFilter::DEBUG,
        "info" | "notice" => LevelFilter::INFO,
        "warning" | "warn" => LevelFilter::WARN,
        "err" | "error" | "crit" | "alert" | "emerg" => LevelFilter::ERROR,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What `kind` makes of each of `values`; `None` where it refuses one.
    fn read<T>(kind: &Kind<T>, values: &[Value]) -> Vec<Option<T>> {
        values.iter().map(|value| (kind.parse)(value).ok()).collect()
    }

    fn texts<T>(kind: &Kind<T>, values: &[&str]) -> Vec<Option<T>> {
        values.iter().map(|text| (kind.parse)(&json!(text)).ok()).collect()
    }

    #[test]
    fn durations_are_written_as_people_do() {
        let seconds = |all: Vec<Option<Duration>>| all.iter().map(|d| d.map(|d| d.as_secs())).collect::<Vec<_>>();
        assert_eq!(
            seconds(texts(&SPAN, &["90 s", "90s", "1 hour", "1h 30m", "2 days 3 hours", "2 min"])),
            [Some(90), Some(90), Some(3600), Some(5400), Some(183_600), Some(120)]
        );
        assert_eq!(seconds(texts(&SPAN, &["0 s", "- 1 hour", "90", "soon", "", "2 years", "1 hour!"])), [None; 7]);
        assert_eq!(
            seconds(texts(&DELAY, &["- 1 hour", "-1 hour", "1 hour", "0 s", "1 -hour"])),
            [Some(3600), Some(3600), Some(3600), Some(0), None]
        );
        assert_eq!(seconds(read(&SPAN, &[json!(90), json!(true), json!(["90 s"])])), [None; 3]);
    }

    #[test]
    fn numbers_come_as_numbers_or_as_texts() {
        let values = [json!(4000), json!("4000"), json!(0), json!(-1), json!(1.5), json!("1e3"), json!(true)];
        assert_eq!(read(&count::<u64>(), &values), [Some(4000), Some(4000), None, None, None, None, None]);
        assert_eq!(
            texts(&SHARE, &["25%", "25 %", "100%", "0%", "101%", "25"]),
            [Some(25), Some(25), Some(100), None, None, None]
        );
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(texts(&SIZE, &["10 MiB", "512KiB", "1 B"]), [Some(10_485_760), Some(524_288), Some(1)]);
        assert_eq!(texts(&SIZE, &["10", "10 MB", "0 B", "MiB", "2048 MiB", "99999999999999999999 MiB"]), [None; 6]);
    }

    #[test]
    fn a_switch_is_true_or_false() {
        let values = [json!(true), json!("true"), json!("False"), json!("yes"), json!(1)];
        assert_eq!(read(&SWITCH, &values), [Some(true), Some(true), Some(false), None, None]);
    }

    #[test]
    fn what_is_on_when_it_is_there_is_off_by_a_false_in_the_file_alone() {
        let values = [json!("1"), json!("false"), json!(true), json!(false), json!(""), json!(1)];
        assert_eq!(read(&PRESENCE, &values), [Some(true), Some(true), Some(true), Some(false), Some(false), None]);
    }

    #[test]
    fn a_text_that_looks_like_a_number_must_be_quoted() {
        assert!(read(&SECRET, &[json!(12345), json!(1e5), json!(true)]).iter().all(Option::is_none));
        assert_eq!(texts(&SECRET, &["12345"]), [Some(Secret::new("12345"))]);
    }

    #[test]
    fn prefixes_need_no_escaping() {
        let good = |kind: &Kind<String>, text: &str| (kind.parse)(&json!(text)).is_ok();
        assert!(good(&NAMESPACE_PREFIX, &"a".repeat(40)) && good(&USERNAME_PREFIX, "dev.pulse-"));
        for prefix in ["", "a/b", "a b", "ä", "a.b", &"a".repeat(41)] {
            assert!(!good(&NAMESPACE_PREFIX, prefix), "{prefix}");
        }
        assert!(!good(&USERNAME_PREFIX, "a@b") && !good(&USERNAME_PREFIX, &"a".repeat(41)));
    }

    #[test]
    fn keys_are_a_list_in_the_file_or_as_json() {
        let keys = json!([{"id": "a", "algo": "aes-256", "key": "x"}]);
        assert_eq!(read(&KEYS, std::slice::from_ref(&keys)), read(&KEYS, &[json!(keys.to_string())]));
        assert_eq!(read(&KEYS, &[json!("[]"), json!("{}"), json!([]), json!("[1]"), json!("[")]), [const { None }; 5]);
    }

    #[test]
    fn levels_are_one_or_one_for_each_part_with_a_root() {
        let parsed = |text: &str| (LEVELS.parse)(&json!(text)).ok();
        assert_eq!(parsed("notice"), Some(Levels { root: LevelFilter::INFO, children: vec![] }));
        assert_eq!(
            parsed("root:err  store:debug hyper:warning"),
            Some(Levels {
                root: LevelFilter::ERROR,
                children: vec![("store".into(), LevelFilter::DEBUG), ("hyper".into(), LevelFilter::WARN)],
            })
        );
        for text in
            ["", "loud", "store:debug", "root:loud", "root:info debug", "root:info :debug", "root:info a=b:debug"]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}

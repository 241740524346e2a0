//! Settings: whatever stands in the file and the environment, there is a configuration, or a list of what is wrong that
//! shows no secret.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value, json};
use taskcluster_pulse::config::{self, Config, Needs, SECTIONS, Setting};

use crate::driver::{Random, assert_hides, fuzz};

/// What every secret is made of.
const CANARY: &str = "canary";
const NEEDS: &[Needs] = &[Needs::SERVE, Needs::WEB, Needs::WORKER, Needs::MIGRATE, Needs::CLAIM];
const YAML: &[&str] = &[
    ": ",
    "- ",
    "\n",
    "  ",
    "\t",
    "&a ",
    "*a",
    "<<: *a",
    "!env X",
    "!!binary ",
    "|",
    ">",
    "{",
    "[",
    "\"",
    "'",
    "#",
    "---\n",
    "null",
    "~",
    "0x1F",
    "1e999",
    ".inf",
    "yes",
    "? ",
    "%YAML 1.2\n",
    "\u{feff}",
    "\u{85}",
    "app:\n",
    "[[[[[[[[",
    "{{{{",
];

/// A value for a secret setting: right, nearly right, or of another kind, and always with the canary in it.
fn secret(random: &mut Random) -> Value {
    const SHAPES: &[&str] = &[
        "canary",
        "postgres://u:canary@h/d",
        "postgres://u:canary@h:canary/d?x=canary",
        "smtp://u:canary@h:25?tls=canary",
        "smtps://canary",
        "sqlite:canary",
        r#"[{"id": "a", "algo": "aes-256", "key": "canary"}]"#,
        r#"{"canary": canary}"#,
        r#"[{"clientId": "a b", "accessToken": "canary", "scopes": "canary"}]"#,
        r#"[{"id": "canary", "key": 7}]"#,
        r#"[{"clientId": "a", "accessToken": "canarycanarycanarycanary", "scopes": [], "expires": "canary"}]"#,
        "[canary",
    ];
    let text = format!("{}{}", random.pick(SHAPES), random.text(&["@", "/", "?", "\0", "é", " "], 2));
    let text = if random.once_in(3) { format!("{}{CANARY}", random.mutated_text(&text, YAML)) } else { text };
    match random.below(6) {
        0 => json!([text]),
        1 => json!({ "key": text }),
        2 => json!([{"clientId": "a", "accessToken": text}]),
        3 => serde_json::from_str(&text).ok().filter(|value: &Value| !value.is_number()).unwrap_or(json!(text)),
        _ => json!(text),
    }
}

/// A value for any other setting.
fn plain(random: &mut Random, setting: &Setting) -> Value {
    const SHAPES: &[&str] = &[
        "true",
        "no",
        "0",
        "-1",
        "65536",
        "18446744073709551616",
        "1 hour",
        "-1 hour",
        "99999999999 years",
        "1 s 1",
        "0 s",
        "1 KiB",
        "99999999999999999999 MiB",
        "100%",
        "0%",
        "http://",
        "https://a/b?c",
        "http://u:p@h",
        "::1",
        "a:b",
        "amqp",
        "root:debug a:",
        ".:",
        "a@b",
        "A <a@b.c>",
        "?x",
        "taskcluster-",
        "{}",
        "[]",
        "é",
        "\0",
    ];
    let text = if random.once_in(3) { setting.default } else { random.pick(SHAPES) };
    let text = if random.once_in(3) { random.mutated_text(text, YAML) } else { text.to_owned() };
    match random.below(4) {
        0 => random.mutated_json(json!(text)),
        1 => serde_json::from_str(&text).unwrap_or(json!(text)),
        _ => json!(text),
    }
}

fn put(file: &mut Value, key: &str, value: Value) {
    let (section, rest) = key.split_once('.').map_or((key, None), |(section, rest)| (section, Some(rest)));
    let map = file.as_object_mut().unwrap();
    match rest {
        Some(rest) => put(map.entry(section).or_insert_with(|| json!({})), rest, value),
        None => drop(map.insert(section.to_owned(), value)),
    }
}

#[test]
fn settings_are_read_or_refused_without_showing_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("user-config.yml");
    let settings: Vec<&Setting> = SECTIONS.iter().flat_map(|section| section.settings).collect();
    fuzz(20, |random| {
        let (mut file, mut environment) = (Value::Object(Map::new()), BTreeMap::new());
        for setting in &settings {
            let value = if setting.secret { secret(random) } else { plain(random, setting) };
            match random.below(4) {
                0 => put(&mut file, setting.key, value),
                1 => {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    environment.insert(setting.variable, text);
                }
                _ => {}
            }
        }
        // JSON is YAML.
        fs::write(&path, file.to_string()).unwrap();
        let needs = NEEDS[random.below(NEEDS.len())];
        match Config::load(Some(&path), |name| environment.get(name).cloned(), needs) {
            Ok(config) => assert_hides(&format!("{config:?}"), &[CANARY]),
            Err(error) => assert_hides(&format!("{error} {error:?}"), &[CANARY]),
        }
    });
}

#[test]
fn any_file_is_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("user-config.yml");
    let example = config::example();
    let uncommented: String = example.lines().map(|line| line.replacen("# ", "", 1) + "\n").collect();
    fuzz(60, |random| {
        let text = random.pick(&[example.as_str(), &uncommented, "a: &a [1, 1]\n"]);
        let mut bytes = random.mutated(text.as_bytes(), YAML);
        for _ in 0..random.below(20) {
            bytes = random.mutated(&bytes, YAML);
        }
        fs::write(&path, bytes).unwrap();
        let _ = Config::load(Some(&path), |_| None, NEEDS[random.below(NEEDS.len())]);
    });
}

/// A few lines that stand for billions of values.
#[test]
fn a_file_that_grows_without_bounds_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("user-config.yml");
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let inner = vec![format!("*a{}", level - 1); 9].join(", ");
        text += &format!("a{level}: &a{level} [{inner}]\n");
    }
    fs::write(&path, text).unwrap();
    Config::load(Some(&path), |_| None, Needs::MIGRATE).unwrap_err();
}

//! The configuration as an operator meets it: the file, the environment, and what is said when they are wrong.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use taskcluster_pulse::broker::token::TokenKey;
use taskcluster_pulse::config::{
    AuthMode, Config, ConfigError, FILE, Needs, NotifyMethod, SECTIONS, Setting, example, listing,
};

const CLIENTS: &str = r#"[{"clientId": "static/a", "accessToken": "an-access-token-of-29-letters", "scopes": ["*"]}]"#;
const KEYS: &str = r#"[{"id": "a", "algo": "aes-256", "key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}]"#;

/// What the service can't do without.
const NEEDED: [(&str, &str); 4] = [
    ("RABBIT_USERNAME", "admin"),
    ("RABBIT_PASSWORD", "hunter2"),
    ("RABBIT_BASE_URL", "http://rabbit.example.com:15672/"),
    ("STATIC_CLIENTS", CLIENTS),
];

/// Loads the configuration from `yaml` as the file, called "the file" in what is returned, and from these variables.
fn load(yaml: &str, variables: &[(&str, &str)], needs: Needs) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pulse.yml");
    std::fs::write(&path, yaml).unwrap();
    load_from(Some(&path), variables, needs).map_err(|error| {
        let rename = |problem: &String| problem.replace(path.to_str().unwrap(), "the file");
        ConfigError { problems: error.problems.iter().map(rename).collect() }
    })
}

fn load_from(file: Option<&Path>, variables: &[(&str, &str)], needs: Needs) -> Result<Config, ConfigError> {
    let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
    Config::load(file, find, needs)
}

fn loaded(yaml: &str, variables: &[(&str, &str)]) -> Config {
    load(yaml, variables, Needs::default()).unwrap()
}

fn problems(yaml: &str, variables: &[(&str, &str)]) -> Vec<String> {
    load(yaml, variables, Needs::default()).err().map(|error| error.problems).unwrap_or_default()
}

fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

#[test]
fn the_example_file_is_the_programs() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("user-config-example.yml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, example()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, example(), "run `UPDATE_GOLDEN=1 cargo test --test suite config` and look at the difference");
}

#[test]
fn the_example_file_holds_every_setting_and_its_default() {
    let example = example();
    let uncommented: Vec<_> = example.lines().map(uncomment).collect();
    let uncommented = uncommented.join("\n");
    let content = taskcluster_pulse::yaml::read(&uncommented).unwrap();
    for setting in settings() {
        let pointer = format!("/{}", setting.key.replace('.', "/"));
        assert!(content.pointer(&pointer).is_some(), "{} is missing", setting.key);
        assert!(example.contains(&format!("# {}: {}", setting.variable, setting.expected)), "{}", setting.variable);
    }
    assert_eq!(loaded(&uncommented, &[]), loaded("", &[]));
    assert_eq!(loaded(&example, &[]), loaded("", &[]), "as it is, it changes nothing");
}

/// The line without the `#` that stands right before a setting; other comments have a blank behind it.
fn uncomment(line: &str) -> String {
    match line.split_once('#') {
        Some((indent, rest)) if indent.trim().is_empty() && !rest.is_empty() && !rest.starts_with(' ') => {
            format!("{indent}{rest}")
        }
        _ => line.to_owned(),
    }
}

#[test]
fn no_two_settings_share_a_key_or_a_variable_and_the_listing_shows_all() {
    let count = settings().count();
    assert_eq!(settings().map(|setting| setting.key).collect::<BTreeSet<_>>().len(), count);
    assert_eq!(settings().map(|setting| setting.variable).collect::<BTreeSet<_>>().len(), count);
    for setting in settings() {
        assert!(listing().contains(&format!("\n{}, {}", setting.variable, setting.key)), "{}", setting.key);
    }
}

#[test]
fn the_variables_of_2018_still_have_their_names() {
    let known: BTreeSet<_> = settings().map(|setting| setting.variable).collect();
    for variable in "TASKCLUSTER_ROOT_URL TASKCLUSTER_CLIENT_ID TASKCLUSTER_ACCESS_TOKEN TASKCLUSTER_AMQP_HOSTNAME \
                     TASKCLUSTER_AMQP_PROTOCOL TASKCLUSTER_AMQP_PORT TASKCLUSTER_AMQP_VHOST RABBIT_USERNAME \
                     RABBIT_PASSWORD RABBIT_BASE_URL USERNAME_PREFIX NAMESPACE_PREFIX MOCK_MAINTENANCE \
                     MONITOR_ALERT_THRESHOLD MONITOR_DELETE_THRESHOLD PORT FORCE_SSL TRUST_PROXY \
                     NAMESPACE_ROTATION_INTERVAL NAMESPACES_EXPIRATION_DELAY MONITOR_CONNECTION_MAX_LIFETIME \
                     DATABASE_URL STATIC_CLIENTS DB_CRYPTO_KEYS LEVEL"
        .split_whitespace()
    {
        assert!(known.contains(variable), "{variable}");
    }
}

#[test]
fn the_environment_counts_for_more_than_the_file_and_the_file_for_more_than_the_default() {
    let yaml = "app:\n  namespacePrefix: file-\n  usernamePrefix: u-\nmonitor:\n";
    let config = loaded(yaml, &[("NAMESPACE_PREFIX", "env-"), ("MONITOR_ALERT_THRESHOLD", "7")]);
    assert_eq!((config.app.namespace_prefix.as_str(), config.app.username_prefix.as_str()), ("env-", "u-"));
    assert_eq!((config.monitor.alert_threshold, config.monitor.delete_threshold), (7, 8000));
}

#[test]
fn what_is_empty_counts_as_not_set() {
    let yaml = "app:\n  namespacePrefix: file-\n  amqpVhost: ''\n  amqpPort:\nserver:\n";
    let config = loaded(yaml, &[("NAMESPACE_PREFIX", ""), ("PORT", "")]);
    assert_eq!((config.app.namespace_prefix.as_str(), config.app.amqp_vhost.as_str()), ("file-", "/"));
    assert_eq!((config.app.amqp_port, config.server.port), (5671, 8080));
}

#[test]
fn lists_are_the_same_in_the_file_and_in_the_environment() {
    let yaml = "auth:\n  clients:\n    - clientId: static/a\n      accessToken: an-access-token-of-29-letters\n      \
                scopes: ['*']\n  roles:\n    admins: ['pulse:namespace:*']\n";
    let variables = [("STATIC_CLIENTS", CLIENTS), ("AUTH_ROLES", r#"{"admins": ["pulse:namespace:*"]}"#)];
    let config = loaded(yaml, &[]);
    assert_eq!(config, loaded("", &variables));
    assert_eq!((config.auth.clients.len(), config.auth.roles.len()), (1, 1));
}

#[test]
fn suffixes_are_the_same_in_the_file_and_in_the_environment() {
    let yaml = "app:\n  connectionStringSuffixes:\n    - namespace: taskcluster-x-*\n      suffix: ''\n    \
                - {clientId: 'project/*', suffix: '?heartbeat=30'}\n";
    let json =
        r#"[{"namespace": "taskcluster-x-*", "suffix": ""}, {"clientId": "project/*", "suffix": "?heartbeat=30"}]"#;
    let config = loaded(yaml, &[]);
    assert_eq!(config, loaded("", &[("CONNECTION_STRING_SUFFIXES", json)]));
    assert_eq!(config.app.connection_string_suffixes.len(), 2);
    let told = problems("", &[("CONNECTION_STRING_SUFFIXES", r#"[{"suffix": "?a"}]"#)]);
    assert!(told.len() == 1 && told[0].contains("entry 1: give a namespace"), "{told:?}");
}

#[test]
fn a_claim_needs_no_credentials_where_a_proxy_signs_and_half_of_them_is_a_mistake() {
    let proxy = ("TASKCLUSTER_PROXY_URL", "http://taskcluster/");
    let config = load("", &[proxy], Needs::CLAIM).unwrap();
    assert_eq!(config.taskcluster.signing_proxy(), Some("http://taskcluster"));
    let root = ("TASKCLUSTER_ROOT_URL", "https://tc.example.com");
    let (id, token) = (("TASKCLUSTER_CLIENT_ID", "a"), ("TASKCLUSTER_ACCESS_TOKEN", "b"));
    let config = load("", &[proxy, root, id, token], Needs::CLAIM).unwrap();
    assert_eq!(config.taskcluster.signing_proxy(), None);
    for half in [id, token] {
        let told = load("", &[proxy, root, half], Needs::CLAIM).unwrap_err().problems;
        assert!(told.len() == 1 && told[0].contains("is not set, and the claim needs it"), "{told:?}");
    }
    // The service itself is nobody's task.
    let notify = [proxy, ("NOTIFY_METHOD", "taskcluster")];
    let told = load("", &[&NEEDED[..], &notify].concat(), Needs::SERVE).unwrap_err().problems;
    assert!(told.iter().any(|problem| problem.contains("TASKCLUSTER_ROOT_URL")), "{told:?}");
}

#[test]
fn the_defaults_are_those_of_2018_where_there_were_any() {
    let config = loaded("", &[("RABBIT_BASE_URL", "https://rabbit.example.com/"), ("DATA_DIR", "/d")]);
    assert_eq!((config.app.namespace_prefix.as_str(), config.app.amqp_vhost.as_str()), ("taskcluster-", "/"));
    assert_eq!((config.app.amqp_protocol.as_str(), config.app.amqp_port), ("amqps://", 5671));
    assert_eq!(config.app.namespace_rotation_interval, Duration::from_secs(3600));
    assert_eq!(config.monitor.connection_max_lifetime, Duration::from_secs(72 * 3600));
    assert_eq!((config.monitor.alert_threshold, config.monitor.delete_threshold), (4000, 8000));
    assert_eq!((config.server.keep_alive_timeout, config.server.body_limit), (Duration::from_secs(90), 10 << 20));
    assert_eq!(config.notify.method, NotifyMethod::Log);
    let rooted = loaded("", &[("TASKCLUSTER_ROOT_URL", "https://tc.example.com")]);
    assert_eq!(rooted.auth.mode, AuthMode::Local, "a root URL alone opens nothing");
    // Those that depend on other settings.
    assert_eq!(config.rabbit.base_url, ["https://rabbit.example.com"]);
    assert_eq!(config.app.amqp_hostname, "rabbit.example.com");
    assert_eq!(config.store.database_url.expose(), "sqlite:/d/pulse.sqlite");
}

#[test]
fn every_problem_is_told_at_once_with_its_names_and_what_would_be_right() {
    let yaml = "app:\n  namespacePrefix: a/b\nmonitor:\n  alertThreshold: many\nweather: 1\nrabbit: 5\n";
    let variables = [("FORCE_SSL", "yes"), ("RABBIT_REQUEST_TIMEOUT", "20 min"), ("LEVEL", "loud")];
    let error = load(yaml, &variables, Needs::default()).unwrap_err();
    assert!(error.to_string().starts_with("the configuration has 8 problems:\n  * "), "{error}");
    for expected in [
        "weather in the file is no setting",
        "rabbit in the file is a section; give its settings below it",
        "app.namespacePrefix (NAMESPACE_PREFIX) is \"a/b\" in the file; give 1 to 40 characters of `[A-Za-z0-9_-]`",
        "monitor.alertThreshold (MONITOR_ALERT_THRESHOLD) is \"many\" in the file; give a whole number of at least 1",
        "server.forceSSL (FORCE_SSL) is \"yes\" in the environment; give `true` or `false`",
        "logging.level (LEVEL) is \"loud\" in the environment; give ",
        "app.namespaceRotationInterval (NAMESPACE_ROTATION_INTERVAL), rabbit.requestTimeout (RABBIT_REQUEST_TIMEOUT): \
         the first is 1h, the second 20m; give a time-out of at most a tenth of the rotation interval",
        "rabbit.requestTimeout (RABBIT_REQUEST_TIMEOUT): is 20m; give at most 30s",
    ] {
        assert!(error.problems.iter().any(|problem| problem.starts_with(expected)), "{expected} is not in {error}");
    }
    assert!(ConfigError { problems: vec!["x".into()] }.to_string().starts_with("the configuration has 1 problem:\n"));
}

#[test]
fn an_unknown_key_is_refused_with_the_one_that_was_probably_meant() {
    for (yaml, unknown, meant) in [
        ("monitor: {alertTreshold: 5}", "monitor.alertTreshold", "monitor.alertThreshold (MONITOR_ALERT_THRESHOLD)"),
        ("moniter: {alertThreshold: 5}", "moniter.alertThreshold", "monitor.alertThreshold"),
        ("alertThreshold: 5", "alertThreshold", "monitor.alertThreshold"),
        ("RABBIT_USERNAME: admin", "RABBIT_USERNAME", "rabbit.username"),
        ("taskcluster: {clientId: a}", "taskcluster.clientId", "taskcluster.credentials.clientId"),
        ("server: {forceSsl: true}", "server.forceSsl", "server.forceSSL"),
    ] {
        let told = problems(yaml, &[]);
        assert_eq!(told.len(), 1, "{told:?}");
        let expected = format!("{unknown} in the file is no setting; did you mean {meant}");
        assert!(told[0].starts_with(&expected), "{told:?}, not {expected}");
    }
    assert_eq!(problems("weather: {}", &[]), ["weather in the file is no setting"]);
}

#[test]
fn an_error_shows_no_secret() {
    let client = r#"[{"clientId": "hunter2 ", "accessToken": "hunter2", "scopes": []}, "hunter2"]"#;
    for (variable, value) in [
        ("STATIC_CLIENTS", client),
        ("STATIC_CLIENTS", "hunter2"),
        ("DB_CRYPTO_KEYS", "hunter2"),
        ("DATABASE_URL", "mysql://u:hunter2@h/d"),
        ("NOTIFY_SMTP_URL", "http://u:hunter2@h"),
        ("RABBIT_BASE_URL", "http://u:hunter2@h"),
        ("RABBIT_BASE_URL", "u:hunter2@h"),
    ] {
        let told = problems("", &[(variable, value)]);
        assert!(!told.is_empty() && told.iter().all(|problem| !problem.contains("hunter2")), "{told:?}");
        assert!(told[0].contains(variable), "{told:?}");
    }
    for yaml in [
        "rabbit:\n  password: [hunter2]\n",
        "rabbit:\n  username: {password: hunter2}\n",
        "rabbit:\n  password: \"hunter2\n",
        "rabbit:\n  password: 'hunter2\n",
        "rabbit:\n  password: a: hunter2\n",
        "rabbit:\n  password: %hunter2\n",
        "rabbit:\n  password: @hunter2\n",
        "rabbit:\n  password: !hunter2\n",
        "rabbit:\n  password: *hunter2\n",
        "rabbit:\n  password: \"hunter2\\q\"\n",
        "rabbit:\n  password: 'a'\n  password: hunter2\n",
        "rabbit: [hunter2\n",
    ] {
        let told = problems(yaml, &[]);
        assert!(!told.is_empty() && told.iter().all(|problem| !problem.contains("hunter2")), "{yaml}: {told:?}");
    }
}

#[test]
fn half_of_a_second_management_account_is_refused() {
    for variable in ["RABBIT_FALLBACK_USERNAME", "RABBIT_FALLBACK_PASSWORD"] {
        let told = load("", &[(variable, "second")], Needs::default()).unwrap_err().problems;
        assert!(told[0].contains("rabbit.fallbackUsername") && told[0].contains("give both, or neither"), "{told:?}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let key = TokenKey::make("hunter2").unwrap().expose().to_owned();
    let keys = format!("[{}]", key);
    let variables = [
        ("RABBIT_PASSWORD", "hunter2"),
        ("RABBIT_FALLBACK_USERNAME", "second"),
        ("RABBIT_FALLBACK_PASSWORD", "hunter2"),
        ("TASKCLUSTER_CLIENT_ID", "static/pulse"),
        ("TASKCLUSTER_ACCESS_TOKEN", "hunter2"),
        ("TASKCLUSTER_CERTIFICATE", "hunter2"),
        ("DATABASE_URL", "postgres://u:hunter2@h/d"),
        ("NOTIFY_SMTP_URL", "smtp://u:hunter2@h"),
        ("OIDC_CLIENT_SECRET", "hunter2"),
        (
            "DB_CRYPTO_KEYS",
            r#"[{"id": "a", "algo": "aes-256", "key": "hunter2hunter2hunter2hunter2hunter2hunter2A="}]"#,
        ),
        ("RABBIT_TOKEN_KEYS", keys.as_str()),
        ("STATIC_CLIENTS", r#"[{"clientId": "a", "accessToken": "hunter2-hunter2-hunter2", "scopes": []}]"#),
    ];
    let shown = format!("{:?}", loaded("", &variables));
    assert!(shown.contains("static/pulse") && !shown.contains("hunter2"), "{shown}");
    let secret: BTreeSet<_> = settings().filter(|setting| setting.secret).map(|setting| setting.variable).collect();
    let tried = variables
        .iter()
        .map(|(variable, _)| *variable)
        .filter(|variable| !["TASKCLUSTER_CLIENT_ID", "RABBIT_FALLBACK_USERNAME"].contains(variable));
    assert_eq!(secret, tried.collect(), "every secret setting is tried here");
}

#[test]
fn a_file_that_can_not_be_read_is_a_problem_among_others() {
    let missing = Path::new("/nowhere/pulse.yml");
    let told = load_from(Some(missing), &[("PORT", "x")], Needs::default()).unwrap_err().problems;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].starts_with("/nowhere/pulse.yml can't be read: "), "{told:?}");
    let needing = load("app: [", &[], Needs::SERVE).unwrap_err().problems;
    assert_eq!(needing.len(), 1, "what may be in the file is not called missing: {needing:?}");
    for (yaml, expected) in [
        ("app: [", "the file is not right as YAML at line "),
        ("app:\n  amqpPort: 1\n  amqpPort: 2\n", "the file is not right as YAML at line "),
        ("rabbit:\n  password: !env RABBIT_PASSWORD\n", "the file is not right as YAML at line "),
        ("just a text", "the file is no map"),
        ("- app", "the file is no map"),
    ] {
        let told = problems(yaml, &[]);
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?}");
    }
}

#[test]
fn a_file_in_the_working_directory_is_read_unless_another_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), "server: {port: one}").unwrap();
    std::fs::write(folder.path().join("other.yml"), "server: {port: two}").unwrap();
    let told = |arguments: &[&str]| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_taskcluster-pulse"));
        let ended = program.args(arguments).current_dir(folder.path()).env_clear().output().unwrap();
        String::from_utf8(ended.stderr).unwrap()
    };
    let (here, other) = (told(&["migrate"]), told(&["--config", "other.yml", "migrate"]));
    assert!(here.contains("\"one\" in user-config.yml"), "{here}");
    assert!(other.contains("\"two\" in other.yml"), "{other}");
}

#[test]
fn each_command_is_told_of_everything_it_lacks_and_of_nothing_else() {
    let told = |variables: &[(&str, &str)], needs| match load("", variables, needs) {
        Ok(_) => Vec::new(),
        Err(error) => error.problems,
    };
    let lacks = |variables: &[(&str, &str)], needs| -> Vec<String> {
        let named = |problem: &String| problem.split(['(', ')']).nth(1).unwrap().to_owned();
        told(variables, needs).iter().map(named).collect()
    };
    let rabbit = ["RABBIT_USERNAME", "RABBIT_PASSWORD", "RABBIT_BASE_URL"];
    let calls = ["TASKCLUSTER_ROOT_URL", "TASKCLUSTER_CLIENT_ID", "TASKCLUSTER_ACCESS_TOKEN"];
    assert_eq!(lacks(&[], Needs::SERVE), [&rabbit[..], &["STATIC_CLIENTS"]].concat());
    assert_eq!(lacks(&[], Needs::WEB), lacks(&[], Needs::SERVE));
    assert_eq!(lacks(&[], Needs::WORKER), rabbit);
    assert_eq!(lacks(&[], Needs::MIGRATE), [""; 0]);
    assert_eq!(lacks(&[], Needs::CLAIM), calls);
    assert_eq!(lacks(&NEEDED, Needs::SERVE), [""; 0]);
    let first = &told(&[], Needs::WORKER)[0];
    assert!(
        first.starts_with("rabbit.username (RABBIT_USERNAME) is not set, and the worker needs it; give "),
        "{first}"
    );

    let with = |extra: &[(&'static str, &'static str)]| [&NEEDED[..], extra].concat();
    let postgres = ("DATABASE_URL", "postgres://u:p@h/d");
    for needs in [Needs::SERVE, Needs::WEB, Needs::WORKER, Needs::MIGRATE] {
        assert_eq!(lacks(&with(&[postgres]), needs), ["DB_CRYPTO_KEYS"]);
    }
    assert_eq!(lacks(&with(&[postgres, ("DB_CRYPTO_KEYS", KEYS)]), Needs::SERVE), [""; 0]);
    assert_eq!(lacks(&with(&[("NOTIFY_METHOD", "taskcluster")]), Needs::WORKER), calls);
    assert_eq!(lacks(&with(&[("NOTIFY_METHOD", "smtp")]), Needs::SERVE), ["NOTIFY_SMTP_URL", "NOTIFY_FROM"]);
    assert_eq!(lacks(&with(&[("NOTIFY_METHOD", "smtp")]), Needs::WEB), [""; 0]);

    let in_cluster = ("USE_KUBERNETES_DNS_SERVICE_DISCOVERY", "false");
    for mode in ["remote", "both"].map(|mode| ("AUTH_MODE", mode)) {
        let without_clients = |extra: &[(&'static str, &'static str)]| [&NEEDED[..3], &[mode], extra].concat();
        assert_eq!(lacks(&without_clients(&[]), Needs::SERVE), ["TASKCLUSTER_ROOT_URL"]);
        assert_eq!(lacks(&without_clients(&[]), Needs::WORKER), [""; 0]);
        assert_eq!(lacks(&without_clients(&[("TASKCLUSTER_ROOT_URL", "https://x")]), Needs::SERVE), [""; 0]);
        assert_eq!(lacks(&without_clients(&[in_cluster]), Needs::SERVE), [""; 0]);
    }
    assert_eq!(lacks(&[in_cluster], Needs::CLAIM), calls, "a client calls us at the root URL");
    assert_eq!(lacks(&with(&[in_cluster, ("NOTIFY_METHOD", "taskcluster")]), Needs::WORKER), calls[1..]);
    let wrong = [("RABBIT_USERNAME", "u"), ("RABBIT_PASSWORD", "p"), ("RABBIT_BASE_URL", "x")];
    assert_eq!(lacks(&wrong, Needs::WORKER), ["RABBIT_BASE_URL"], "what is wrong is not also missing");
}

#[test]
fn settings_must_fit_each_other() {
    let broken = |variables: &[(&str, &str)]| problems("", variables).len();
    assert_eq!(broken(&[("MONITOR_ALERT_THRESHOLD", "8000")]), 1);
    assert_eq!(broken(&[("MONITOR_ALERT_THRESHOLD", "7999")]), 0);
    assert_eq!(broken(&[("MONITOR_ALERT_THRESHOLD", "9000"), ("MONITOR_DELETE_THRESHOLD", "x")]), 1);
    assert_eq!(broken(&[("FORCE_SSL", "true")]), 1);
    assert_eq!(broken(&[("FORCE_SSL", "true"), ("TRUST_PROXY", "true")]), 0);
    assert_eq!(broken(&[("TASKCLUSTER_CERTIFICATE", "{}")]), 1);
    assert_eq!(broken(&[("AUTH_MODE", "remote"), ("STATIC_CLIENTS", CLIENTS)]), 1, "these clients would be ignored");
    assert_eq!(broken(&[("AUTH_MODE", "both"), ("STATIC_CLIENTS", CLIENTS)]), 0);
    assert_eq!(broken(&[("AUTH_MODE", "both"), ("AUTH_REMOTE_TIMEOUT", "30 s")]), 1);
    assert_eq!(broken(&[("AUTH_REMOTE_TIMEOUT", "30 s")]), 0, "nobody is asked");
    assert_eq!(broken(&[("STORE_QUERY_TIMEOUT", "20 s")]), 1);
    assert_eq!(broken(&[("RABBIT_FIRST_CLAIM_TIMEOUT", "20 s")]), 1);
    assert_eq!(broken(&[("STORE_QUERY_TIMEOUT", "20 s"), ("SERVER_REQUEST_TIMEOUT", "21 s")]), 0);
    let rotation = |interval, timeout, every| {
        broken(&[
            ("NAMESPACE_ROTATION_INTERVAL", interval),
            ("RABBIT_REQUEST_TIMEOUT", timeout),
            ("WORKER_ROTATE_INTERVAL", every),
        ])
    };
    assert_eq!(rotation("14 days", "3 s", "1 min"), 0);
    assert_eq!(rotation("15 days", "3 s", "1 min"), 1);
    assert_eq!(rotation("2 s", "200 ms", "1 s"), 0);
    assert_eq!(rotation("1 s", "1 ms", "1 s"), 1, "too short");
    assert_eq!(rotation("2 s", "201 ms", "1 s"), 1, "the broker may take too long");
    assert_eq!(rotation("1 h", "30 s", "1 min"), 0);
    assert_eq!(rotation("1 h", "31 s", "1 min"), 1, "the broker may take too long for a clean-up");
    assert_eq!(rotation("2 s", "200 ms", "3 s"), 1, "rotated too seldom");
}

#[test]
fn nobody_can_sign_in_as_others_by_a_slip_in_the_settings() {
    let broken = |variables: &[(&str, &str)]| problems("", variables).len();
    let fake = ("FAKE_ACCOUNT", "owner@example.com");
    assert_eq!(broken(&[fake]), 1, "everybody can reach it");
    for (address, wrong) in [("127.0.0.1", 0), ("::1", 0), ("::ffff:127.0.0.1", 0), ("10.0.0.1", 1), ("::", 1)] {
        assert_eq!(broken(&[fake, ("SERVER_ADDRESS", address)]), wrong, "{address}");
    }
    let provider =
        |url: &str, issuer: &str| broken(&[("CONSOLE_URL", url), ("OIDC_ISSUER", issuer), ("OIDC_CLIENT_ID", "pulse")]);
    assert_eq!(provider("https://pulse.example.com", "https://id.example.com/realm"), 0);
    assert_eq!(provider("http://localhost:8080", "http://127.0.0.1:9000"), 0);
    assert_eq!(provider("http://pulse.example.com", "https://id.example.com"), 1);
    assert_eq!(provider("https://pulse.example.com", "http://id.example.com"), 1);
    assert_eq!(provider("https://example.com/pulse", "https://id.example.com"), 1, "it has a path");
    assert_eq!(provider("", "https://id.example.com"), 1);
    assert_eq!(broken(&[("OIDC_ISSUER", "https://id.example.com"), ("CONSOLE_URL", "https://p.example.com")]), 1);
    let taskcluster = [("CONSOLE_TASKCLUSTER_CLIENT_ID", "pulse"), ("CONSOLE_URL", "https://p.example.com")];
    assert_eq!(broken(&taskcluster), 1);
    assert_eq!(broken(&[&taskcluster[..], &[("TASKCLUSTER_ROOT_URL", "https://tc.example.com")]].concat()), 0);
}

#[test]
fn nothing_in_the_file_is_passed_over_in_silence() {
    for (yaml, expected) in [
        (
            "app.mockMaintenance: true",
            "app.mockMaintenance in the file is one key with a dot; without the dot, give `app:`, and below that `mockMaintenance:`",
        ),
        ("'app.mockMaintenance':", "app.mockMaintenance in the file is one key with a dot"),
        ("taskcluster.credentials.clientId: a", "taskcluster.credentials.clientId in the file is one key with a dot"),
        (
            "taskcluster:\n  credentials.clientId: a",
            "taskcluster.credentials.clientId in the file is one key with a dot; without the dot, give below `taskcluster:` `credentials:`, and below that `clientId:`",
        ),
        ("taskcluster.credentials: {clientId: a}", "taskcluster.credentials in the file is one key with a dot"),
        (
            "app.mockMaintenence: true",
            "app.mockMaintenence in the file is no setting; did you mean app.mockMaintenance",
        ),
        ("app: {mockMaintenance.: true}", "app.mockMaintenance. in the file is no setting"),
        ("app: {app: {mockMaintenance: true}}", "app.app in the file is no setting"),
        ("settings: {app: {mockMaintenance: true}}", "settings.app in the file is no setting"),
        ("app: {monitor: {alertThreshold: 1}}", "app.monitor in the file is no setting"),
        (
            "app: {mockMaintenance: {value: true}}",
            "app.mockMaintenance (MOCK_MAINTENANCE) is a map in the file; give `true` or `false`",
        ),
        ("app: {mockMaintenance: [true]}", "app.mockMaintenance (MOCK_MAINTENANCE) is a list in the file"),
        ("app: {mockMaintenance: 1}", "app.mockMaintenance (MOCK_MAINTENANCE) is 1 in the file"),
        ("app: {mockMaintenance: yes}", "app.mockMaintenance (MOCK_MAINTENANCE) is \"yes\" in the file"),
        (
            "app: {mockmaintenance: true}",
            "app.mockmaintenance in the file is no setting; did you mean app.mockMaintenance",
        ),
        ("app: {' mockMaintenance': true}", "app. mockMaintenance in the file is no setting"),
        (
            "App: {mockMaintenance: true}",
            "App.mockMaintenance in the file is no setting; did you mean app.mockMaintenance",
        ),
        ("MOCK_MAINTENANCE: true", "MOCK_MAINTENANCE in the file is no setting; did you mean app.mockMaintenance"),
        ("app: [{mockMaintenance: true}]", "app in the file is a section; give its settings below it"),
        ("app: true", "app in the file is a section; give its settings below it"),
        ("[{app: {mockMaintenance: true}}]", "the file is no map"),
        ("'': {app: {mockMaintenance: true}}", "a key in the file is empty"),
        ("app: {'': {mockMaintenance: true}}", "a key below app in the file is empty"),
        ("weather:", "weather in the file is no setting"),
        ("app: {weather: ~}", "app.weather in the file is no setting"),
        (
            "app: {mockMaintenance: false, mockMaintenance: true}",
            "the file is not right as YAML at line 1, column 31: this key stands twice",
        ),
        (
            "app: {mockMaintenance: false}\napp: {mockMaintenance: true}",
            "the file is not right as YAML at line 2, column 1: this key stands twice",
        ),
        (
            "app: {mockMaintenance: false}\n---\napp: {mockMaintenance: true}",
            "the file is not right as YAML at line 2, column 1: a second document",
        ),
        (
            "x: &x {mockMaintenance: true}\napp: {<<: *x}",
            "the file is not right as YAML at line 2, column 7: a merge key",
        ),
    ] {
        let told = problems(yaml, &[]);
        assert!(told.len() == 1 && told[0].starts_with(expected), "{yaml}: {told:?}");
    }
    let both = problems("app.mockMaintenance: true\napp: {mockMaintenance: false}", &[]);
    assert!(both.len() == 1 && both[0].contains("one key with a dot"), "{both:?}");
}

#[test]
fn nothing_in_clients_and_roles_is_passed_over_in_silence() {
    let token = "accessToken: an-access-token-of-29-letters";
    let client = |rest: &str| format!("auth:\n  clients:\n    - {{clientId: a, {token}, scopes: []{rest}}}\n");
    assert_eq!(problems(&client(""), &[]), [""; 0]);
    for (yaml, expected) in [
        (client(", scope: []"), "unknown key `scope`"),
        (client(", client.expires: 1"), "unknown key `client.expires`"),
        (client(", description: [1]"), "description must be a text"),
        (client(", expires: 2030"), "expires must be a date"),
        (client("}\n    - ~\n    - {clientId: b"), "client 2: is not a map"),
        (client("}\n    - []\n    - {clientId: b"), "client 2: is not a map"),
        (client(", scopes: []"), "stands twice"),
        ("auth: {clients: {a: b}}".to_owned(), "give a list"),
        ("auth: {clients: a}".to_owned(), "is not JSON"),
        (format!("auth: {{clients: [{{clientId: a, {token}, scopes: [~]}}]}}"), "scopes must be a list of texts"),
        (format!("auth: {{clients: [{{clientId: a, {token}, scopes: [[x]]}}]}}"), "scopes must be a list of texts"),
        (
            format!("auth: {{clients: [{{clientId: a, {token}, scopes: ['x ']}}]}}"),
            "without blanks or quotes at its ends",
        ),
        (format!("auth: {{clients: [{{clientId: a, {token}, scopes: ~}}]}}"), "scopes must be a list of texts"),
        (format!("auth: {{clients: [{{clientId: \"a\\n\", {token}, scopes: []}}]}}"), "clientId must be"),
        (
            "auth: {clients: [{clientId: a, accessToken: \"an-access-token-of-29-letters\\n\", scopes: []}]}"
                .to_owned(),
            "accessToken must be",
        ),
        ("auth: {roles: {a: ~}}".to_owned(), "scopes must be a list of texts"),
        ("auth: {roles: {a: [~]}}".to_owned(), "scopes must be a list of texts"),
        ("auth: {roles: {a: {scopes: []}}}".to_owned(), "scopes must be a list of texts"),
        ("auth: {roles: {'a ': []}}".to_owned(), "without blanks or quotes at its ends"),
        ("auth: {roles: {a: [], a: []}}".to_owned(), "stands twice"),
        ("auth: {roles: [a]}".to_owned(), "give a map"),
    ] {
        let told = problems(&yaml, &[]);
        assert!(told.iter().any(|problem| problem.contains(expected)), "{yaml}: {told:?}");
    }
    for (variable, json) in [
        ("AUTH_ROLES", r#"{"a": [], "a": ["*"]}"#),
        ("STATIC_CLIENTS", &CLIENTS.replace(r#""scopes""#, r#""scopes": [], "scopes""#)),
    ] {
        let told = problems("", &[(variable, json)]);
        assert!(told.len() == 1 && told[0].contains("a key stands twice in its object"), "{told:?}");
    }
}

#[test]
fn what_got_around_a_value_by_mistake_is_refused_without_being_shown() {
    let around = |value: &str| {
        [
            "{}\n",
            "{}\r\n",
            "\n{}",
            "{} ",
            " {}",
            "{}\t",
            "\"{}\"",
            "'{}'",
            "\"{}",
            "{}'",
            "\u{feff}{}",
            "{}\u{a0}",
            "{}\u{200b}",
            "{}\u{fffd}",
        ]
        .map(|form| form.replace("{}", value))
    };
    for (variable, value) in [
        ("RABBIT_USERNAME", "hunter2"),
        ("RABBIT_PASSWORD", "hunter2"),
        ("RABBIT_FALLBACK_USERNAME", "hunter2"),
        ("RABBIT_FALLBACK_PASSWORD", "hunter2"),
        ("RABBIT_BASE_URL", "http://hunter2"),
        ("TASKCLUSTER_ROOT_URL", "https://hunter2.example.com"),
        ("TASKCLUSTER_CLIENT_ID", "hunter2"),
        ("TASKCLUSTER_ACCESS_TOKEN", "hunter2"),
        ("TASKCLUSTER_CERTIFICATE", r#"{"seed": "hunter2"}"#),
        ("TASKCLUSTER_AMQP_HOSTNAME", "hunter2"),
        ("TASKCLUSTER_AMQP_VHOST", "hunter2"),
        ("DATABASE_URL", "postgres://u:hunter2@h/d"),
        ("NOTIFY_SMTP_URL", "smtp://u:hunter2@h"),
        ("DATA_DIR", "hunter2"),
    ] {
        for given in around(value) {
            let told = load("", &[(variable, &given)], Needs::CLAIM).unwrap_err().problems;
            let about = told.iter().find(|problem| problem.contains(&format!("({variable}) in the environment: ")));
            assert!(
                about.is_some_and(|problem| problem.contains("at an end") || problem.contains("UTF-8")),
                "{given:?}: {told:?}"
            );
            assert!(told.iter().all(|problem| !problem.contains("hunter2")), "{given:?}: {told:?}");
        }
    }
    let told = problems("rabbit:\n  password: |\n    hunter2\n", &[]);
    assert!(
        told.len() == 1 && told[0].contains("has a line break at an end") && !told[0].contains("hunter2"),
        "{told:?}"
    );
    for (variable, value) in [("STATIC_CLIENTS", CLIENTS), ("DB_CRYPTO_KEYS", KEYS), ("AUTH_ROLES", "{}")] {
        assert_eq!(problems("", &[(variable, &format!("\n{value}\n"))]), [""; 0], "JSON may have blanks around it");
        for quote in ["'", "\""] {
            let told = problems("", &[(variable, &format!("{quote}{value}{quote}\n"))]);
            assert!(told.len() == 1 && told[0].contains("has a quote at an end"), "{told:?}");
        }
    }
    for (variable, value) in [
        ("RABBIT_PASSWORD", "hunter2 'and \"more"),
        ("NOTIFY_FROM", "\"Pulse, Inc.\" <pulse@example.com>"),
        ("PORT", " 8080\n"),
        ("LEVEL", "info\n"),
        ("RABBIT_REQUEST_TIMEOUT", "2 s\n"),
    ] {
        assert_eq!(problems("", &[(variable, value)]), [""; 0], "{variable}");
    }
}

#[test]
fn an_ipv6_address_stands_between_brackets_in_connection_strings() {
    for given in ["::1", "[::1]"] {
        assert_eq!(loaded("", &[("TASKCLUSTER_AMQP_HOSTNAME", given)]).app.amqp_hostname, "[::1]");
    }
    let config = loaded("app: {amqpHostname: '2001:db8::1'}", &[]);
    assert_eq!(config.app.amqp_hostname, "[2001:db8::1]");
    assert_eq!(loaded("", &[("RABBIT_BASE_URL", "http://[::1]:15672")]).app.amqp_hostname, "[::1]");
}

#[test]
fn what_is_wrong_is_shown_without_steering_the_terminal() {
    let yaml = "\"we\\e[31mather\\u202e\": 1\nlogging: {level: \"lo\\u009bud\\u2066\"}\n";
    let shown = load(yaml, &[], Needs::default()).unwrap_err().to_string();
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control() && !('\u{2000}'..'\u{2070}').contains(&c)), "{shown:?}");
    assert!(shown.contains("we\\u{1b}[31mather\\u{202e} in"), "{shown}");
}

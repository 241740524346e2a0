//! The published contract: JSON schemas, the API reference and a manifest, and validation of requests by the schemas.
//!
//! The schemas are written in `schemas/v1/*.yml`. They are published in the forms that Taskcluster has: abstract in
//! `references/`, and absolute, with the root URL put before each name, as served.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{Draft, Registry, Resource, ValidationError, Validator};
use regex::Regex;
use serde_json::{Value, json};
use url::Url;

use super::error::{complaints, excerpt};
use super::routes::ROUTES;
use crate::clock::Timestamp;
use crate::yaml;

const SOURCES: [(&str, &str); 40] = [
    ("v1/account", include_str!("../../../schemas/v1/account.yml")),
    ("v1/account-request", include_str!("../../../schemas/v1/account-request.yml")),
    ("v1/credentials", include_str!("../../../schemas/v1/credentials.yml")),
    ("v1/credentials-request", include_str!("../../../schemas/v1/credentials-request.yml")),
    ("v1/delete-queues-request", include_str!("../../../schemas/v1/delete-queues-request.yml")),
    ("v1/delete-queues-response", include_str!("../../../schemas/v1/delete-queues-response.yml")),
    ("v1/end-request", include_str!("../../../schemas/v1/end-request.yml")),
    ("v1/end-response", include_str!("../../../schemas/v1/end-response.yml")),
    ("v1/exchange", include_str!("../../../schemas/v1/exchange.yml")),
    ("v1/exemption", include_str!("../../../schemas/v1/exemption.yml")),
    ("v1/exemption-request", include_str!("../../../schemas/v1/exemption-request.yml")),
    ("v1/extend-request", include_str!("../../../schemas/v1/extend-request.yml")),
    ("v1/inspect-request", include_str!("../../../schemas/v1/inspect-request.yml")),
    ("v1/inspect-response", include_str!("../../../schemas/v1/inspect-response.yml")),
    ("v1/list-audit-response", include_str!("../../../schemas/v1/list-audit-response.yml")),
    ("v1/list-exchanges-response", include_str!("../../../schemas/v1/list-exchanges-response.yml")),
    ("v1/list-exemptions-response", include_str!("../../../schemas/v1/list-exemptions-response.yml")),
    ("v1/list-namespaces-response", include_str!("../../../schemas/v1/list-namespaces-response.yml")),
    ("v1/list-people-response", include_str!("../../../schemas/v1/list-people-response.yml")),
    ("v1/list-queues-response", include_str!("../../../schemas/v1/list-queues-response.yml")),
    (
        "v1/list-requested-exemptions-response",
        include_str!("../../../schemas/v1/list-requested-exemptions-response.yml"),
    ),
    ("v1/list-tasks-response", include_str!("../../../schemas/v1/list-tasks-response.yml")),
    ("v1/list-undelivered-response", include_str!("../../../schemas/v1/list-undelivered-response.yml")),
    ("v1/list-unknown-response", include_str!("../../../schemas/v1/list-unknown-response.yml")),
    ("v1/move-on-request", include_str!("../../../schemas/v1/move-on-request.yml")),
    ("v1/move-on-response", include_str!("../../../schemas/v1/move-on-response.yml")),
    ("v1/namespace", include_str!("../../../schemas/v1/namespace.yml")),
    ("v1/namespace-request", include_str!("../../../schemas/v1/namespace-request.yml")),
    ("v1/namespace-response", include_str!("../../../schemas/v1/namespace-response.yml")),
    ("v1/owners", include_str!("../../../schemas/v1/owners.yml")),
    ("v1/owners-request", include_str!("../../../schemas/v1/owners-request.yml")),
    ("v1/person-result", include_str!("../../../schemas/v1/person-result.yml")),
    ("v1/queue", include_str!("../../../schemas/v1/queue.yml")),
    ("v1/queue-result", include_str!("../../../schemas/v1/queue-result.yml")),
    ("v1/rabbitmq", include_str!("../../../schemas/v1/rabbitmq.yml")),
    ("v1/requested-exemption", include_str!("../../../schemas/v1/requested-exemption.yml")),
    ("v1/retire-response", include_str!("../../../schemas/v1/retire-response.yml")),
    ("v1/run-task-request", include_str!("../../../schemas/v1/run-task-request.yml")),
    ("v1/run-task-response", include_str!("../../../schemas/v1/run-task-response.yml")),
    ("v1/task-plan", include_str!("../../../schemas/v1/task-plan.yml")),
];

const MANIFEST: &str = "references/manifest.json";
const REFERENCE: &str = "references/pulse/v1/api.json";

/// The contract of one deployment.
pub struct Contract {
    root: String,
    schemas: BTreeMap<String, Value>,
    validators: BTreeMap<String, Validator>,
}

impl Contract {
    /// The contract under `root_url`, or in its abstract form where there is none.
    ///
    /// # Errors
    /// A sentence, where a schema that is built in can't be used.
    pub fn new(root_url: Option<&Url>) -> Result<Contract, String> {
        let root = root_url.map_or("", |url| url.as_str().trim_end_matches('/')).to_owned();
        let mut schemas = BTreeMap::new();
        for (name, source) in SOURCES {
            let read = yaml::read(source);
            let mut schema = read.map_err(|problems| format!("schema {name} {}", problems.join(", ")))?;
            schema["$id"] = json!(format!("{root}/schemas/pulse/{name}.json#"));
            let metaschema = schema["$schema"].as_str().unwrap_or_default();
            schema["$schema"] = json!(format!("{root}{metaschema}"));
            schemas.insert(format!("{name}.json"), schema);
        }
        let validators = validators(&schemas)?;
        Ok(Contract { root, schemas, validators })
    }

    /// The API reference.
    pub fn reference(&self) -> Value {
        json!({
            "$schema": format!("{}/schemas/common/api-reference-v0.json#", self.root),
            "title": "Pulse Management Service",
            "description": "Credentials for Pulse, the RabbitMQ broker of Taskcluster: claim a namespace, and get a \
                            connection string for the queues and exchanges in it, whose password changes regularly.",
            "serviceName": "pulse",
            "apiVersion": "v1",
            "entries": ROUTES.iter().map(|entry| entry.reference()).collect::<Vec<_>>(),
        })
    }

    /// The manifest, which lists the references.
    pub fn manifest(&self) -> Value {
        json!({
            "$schema": format!("{}/schemas/common/manifest-v3.json#", self.root),
            "references": [format!("{}/{REFERENCE}", self.root)],
        })
    }

    /// All of it, in the form in which Taskcluster keeps the contracts of its own services: a list of objects with a
    /// `filename`, which is the path below the root URL, and a `content`.
    pub fn files(&self) -> Value {
        let file = |name: &str, content: &Value| json!({"filename": name, "content": content});
        let schemas = self.schemas.iter().map(|(path, schema)| file(&format!("schemas/pulse/{path}"), schema));
        let lists = [file(MANIFEST, &self.manifest()), file(REFERENCE, &self.reference())];
        lists.into_iter().chain(schemas).collect()
    }

    /// A schema by its path below `/schemas/pulse/`, `v1/namespace.json`, say.
    pub fn schema(&self, path: &str) -> Option<&Value> {
        self.schemas.get(path)
    }

    /// The paths of all schemas.
    pub fn schema_paths(&self) -> impl Iterator<Item = &str> {
        self.schemas.keys().map(String::as_str)
    }

    /// Checks a payload against the schema of this reference, `v1/namespace-request.json#`, say.
    ///
    /// # Errors
    /// What is wrong with it, worded as Taskcluster does.
    pub fn validate(&self, schema: &str, payload: &Value) -> Result<(), String> {
        let path = schema.trim_end_matches('#');
        let Some(validator) = self.validators.get(path) else { return Err(format!("there is no schema {schema}")) };
        let mut errors: Vec<_> = validator.iter_errors(payload).collect();
        if errors.is_empty() {
            return Ok(());
        }
        errors.sort_by_cached_key(|error| self.place(path, error));
        let lines = complaints(errors.iter().flat_map(lines_of));
        let id = format!("{}/schemas/pulse/{path}#", self.root);
        Err(format!("\nSchema Validation Failed!\nRejecting Schema: {id}\nErrors:\n{lines}"))
    }

    /// Where `ajv` tells of an error among all of a payload: what is wrong with the whole comes before its properties, which
    /// come as the schema has them. (Our validator goes by the payload.)
    fn place(&self, path: &str, error: &ValidationError<'_>) -> Option<usize> {
        let property = error.instance_path().as_str().split('/').nth(1)?;
        let properties = self.schemas.get(path)?.get("properties")?.as_object()?;
        properties.keys().position(|known| known == property)
    }
}

/// One validator a schema. The names of the schemas are irrelevant to it, so it gets its own absolute ones, and sees the
/// draft that Taskcluster's metaschema refers to.
fn validators(schemas: &BTreeMap<String, Value>) -> Result<BTreeMap<String, Validator>, String> {
    let local = |path: &str| format!("json-schema:///{path}");
    let resources: Vec<_> = schemas
        .iter()
        .map(|(path, schema)| {
            let mut schema = schema.clone();
            schema["$id"] = json!(local(path));
            schema["$schema"] = json!("http://json-schema.org/draft-06/schema#");
            (path, schema)
        })
        .collect();
    let mut registry = Registry::new();
    for (path, schema) in &resources {
        let resource = Resource::from_contents(schema.clone());
        registry = registry.add(local(path), resource).map_err(|error| error.to_string())?;
    }
    let registry = registry.prepare().map_err(|error| error.to_string())?;
    let build = |schema: &Value| {
        jsonschema::options()
            .with_draft(Draft::Draft6)
            .with_registry(&registry)
            .should_validate_formats(true)
            .with_format("date-time", |text| Timestamp::parse(text).is_some())
            .with_format("email", is_email)
            .build(schema)
    };
    let mut validators = BTreeMap::new();
    for (path, schema) in &resources {
        validators.insert((*path).clone(), build(schema).map_err(|error| format!("schema {path}: {error}"))?);
    }
    Ok(validators)
}

/// Whether `text` is an e-mail address by the rule of Taskcluster's validator: an ASCII atom before the `@`, and a domain
/// with a dot after it.
fn is_email(text: &str) -> bool {
    static RULE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let atom = "[a-z0-9!#$%&'*+/=?^_`{|}~-]+";
        let label = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?";
        Regex::new(&format!(r"^(?i){atom}(?:\.{atom})*@(?:{label}\.)+{label}$")).ok()
    });
    RULE.as_ref().is_some_and(|rule| rule.is_match(text))
}

/// What is wrong, in the words of `ajv`, the validator that Taskcluster uses.
fn lines_of(error: &ValidationError<'_>) -> Vec<String> {
    let at = format!("data{}", error.instance_path());
    let line = |text: String| format!("  * {at} {text}");
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| line(format!("must NOT have additional properties: {}", json!(excerpt(name)))))
            .collect(),
        // The first one is what is meant, and in Taskcluster the only one: an empty contact is ours.
        ValidationErrorKind::AnyOf { context } => {
            context.first().and_then(|first| first.first()).map_or_else(Vec::new, lines_of)
        }
        ValidationErrorKind::Format { format } => vec![line(format!("must match format {}", json!(format)))],
        ValidationErrorKind::MaxLength { limit } => vec![line(format!("must NOT have more than {limit} characters"))],
        ValidationErrorKind::Type { kind: TypeKind::Single(kind) } => vec![line(format!("must be {kind}"))],
        _ => vec![line(excerpt(&error.to_string()).into_owned())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(payload: Value) -> String {
        let root = Url::parse("https://tc.example.com/").unwrap();
        let contract = Contract::new(Some(&root)).unwrap();
        contract.validate("v1/namespace-request.json#", &payload).err().unwrap_or_default()
    }

    #[test]
    fn what_is_right_is_accepted() {
        for payload in [
            json!({}),
            json!({"expires": "2026-12-01T00:00:00.000Z", "contact": "a@a.com"}),
            json!({"contact": ""}),
            json!({"expires": "2026-12-01 00:00:00+02"}),
        ] {
            assert_eq!(refused(payload.clone()), "", "{payload}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_taskclusters_words() {
        let head = "\nSchema Validation Failed!\nRejecting Schema: \
                    https://tc.example.com/schemas/pulse/v1/namespace-request.json#\nErrors:\n";
        for (payload, lines) in [
            (json!([]), "  * data must be object"),
            (json!({"foo": 1}), "  * data must NOT have additional properties: \"foo\""),
            (json!({"expires": "soon"}), "  * data/expires must match format \"date-time\""),
            (json!({"expires": 5}), "  * data/expires must be string"),
            (json!({"contact": 5}), "  * data/contact must be string"),
        ] {
            assert_eq!(refused(payload), format!("{head}{lines}"));
        }
    }

    /// The cases are what ajv 8 says, which Taskcluster validates by.
    #[test]
    fn all_that_is_wrong_is_said_in_ajvs_order() {
        let unknown = |name| format!("data must NOT have additional properties: \"{name}\"");
        let contact = || "data/contact must match format \"email\"".to_owned();
        let (no_date, no_text) = ("data/expires must match format \"date-time\"", "data/expires must be string");
        let too_long = "data/contact must NOT have more than 254 characters".to_owned();
        for (payload, lines) in [
            (r#"{"foo":1,"expires":"x"}"#.to_owned(), vec![unknown("foo"), no_date.to_owned()]),
            (r#"{"contact":"a@a","zz":1,"expires":5}"#.to_owned(), vec![unknown("zz"), no_text.to_owned(), contact()]),
            (r#"{"contact":"a@a","expires":"x"}"#.to_owned(), vec![no_date.to_owned(), contact()]),
            (r#"{"contact":"nobody"}"#.to_owned(), vec![contact()]),
            (r#"{"zz":1,"expires":5,"aa":2}"#.to_owned(), vec![unknown("zz"), unknown("aa"), no_text.to_owned()]),
            (format!(r#"{{"contact":"{}"}}"#, "x".repeat(300)), vec![too_long]),
        ] {
            let complaints = refused(serde_json::from_str(&payload).unwrap());
            let given: Vec<_> = complaints.lines().filter_map(|line| line.strip_prefix("  * ")).collect();
            assert_eq!(given, lines, "{payload}");
        }
    }

    #[test]
    fn an_email_address_is_what_taskclusters_validator_takes_for_one() {
        for (text, valid) in [
            ("a@a.com", true),
            ("A@B.COM", true),
            ("a@b.c", true),
            ("a@a", false),
            ("\"a b\"@c.com", false),
            ("a..b@c.com", false),
            ("a@c_d.com", false),
            ("", false),
            ("a@b.c\n", false),
        ] {
            assert_eq!(is_email(text), valid, "{text}");
        }
    }
}

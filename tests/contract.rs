//! What is published: the API reference, the schemas, the command line and the Procfile are compared with the program.
//! `UPDATE_GOLDEN=1 cargo test --test suite contract` rewrites the files that are made from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use taskcluster_pulse::web::api::contract::Contract;
use taskcluster_pulse::web::api::routes::ROUTES;

const ROOT: &str = "https://tc.example.com";

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a file of the repository with what the program makes, or rewrites it.
#[track_caller]
fn golden(file: &str, made: &str) {
    let path = repository().join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        written, made,
        "{file}: run `UPDATE_GOLDEN=1 cargo test --test suite contract` and look at the difference"
    );
}

fn contract(root: Option<&str>) -> Contract {
    Contract::new(root.map(|root| root.parse().unwrap()).as_ref()).unwrap()
}

/// All objects in a schema that are schemas themselves, by where they are.
fn subschemas(at: String, schema: &Value, found: &mut Vec<(String, Value)>) {
    found.push((at.clone(), schema.clone()));
    let keyed = schema["properties"].as_object().into_iter().flatten();
    let listed = ["anyOf", "allOf", "oneOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten();
    let single = ["items", "not"].into_iter().filter_map(|key| schema.get(key)).filter(|below| below.is_object());
    for (key, below) in keyed {
        subschemas(format!("{at}/{key}"), below, found);
    }
    for (number, below) in listed.chain(single).enumerate() {
        subschemas(format!("{at}/{number}"), below, found);
    }
}

#[test]
fn the_reference_is_made_from_the_routes() {
    golden("references/pulse/v1/api.json", &format!("{:#}\n", contract(None).reference()));
}

#[test]
fn the_manifest_is_made_from_the_references() {
    golden("references/manifest.json", &format!("{:#}\n", contract(None).manifest()));
}

/// The rules of Taskcluster's `api-reference-v0.json`.
#[test]
fn the_reference_has_taskclusters_form() {
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let set = |words: &str| words.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    for root in [None, Some(ROOT)] {
        let (contract, prefix) = (contract(root), root.unwrap_or_default());
        let reference = contract.reference();
        assert_eq!(keys(&reference), set("$schema title description serviceName apiVersion entries"));
        assert_eq!(reference["$schema"], format!("{prefix}/schemas/common/api-reference-v0.json#"));
        assert_eq!((&reference["serviceName"], &reference["apiVersion"]), (&"pulse".into(), &"v1".into()));
        let entries = reference["entries"].as_array().unwrap();
        assert_eq!(entries.len(), ROUTES.len());
        let must = set("type method route query args name stability category title description");
        let mut names = BTreeSet::new();
        for entry in entries {
            let name = entry["name"].as_str().unwrap();
            assert!(names.insert(name), "{name} stands there twice");
            let (has, may) = (keys(entry), &must | &set("scopes input output"));
            assert!(must.is_subset(&has) && has.is_subset(&may), "{name} has {has:?}");
            assert_eq!(entry["type"], "function");
            assert!(["get", "post", "put", "delete"].contains(&entry["method"].as_str().unwrap()), "{name}");
            assert!(["stable", "experimental", "deprecated"].contains(&entry["stability"].as_str().unwrap()), "{name}");
            let route = entry["route"].as_str().unwrap();
            let params: Vec<_> = route.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()).collect();
            assert_eq!(entry["args"], serde_json::json!(params), "{name}");
            for schema in ["input", "output"].into_iter().filter_map(|key| entry.get(key)) {
                let path = schema.as_str().unwrap().strip_suffix('#').unwrap();
                assert!(contract.schema(path).is_some(), "{name} refers to {path}");
            }
        }
    }
}

/// The entries that clients have called since 2018, as they were.
#[test]
fn the_entries_of_2018_are_still_there() {
    let reference = contract(None).reference();
    let entry =
        |name: &str| reference["entries"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap();
    for (name, method, route, query, input, output) in [
        ("ping", "get", "/ping", "[]", "null", "null"),
        (
            "listNamespaces",
            "get",
            "/namespaces",
            r#"["limit","continuationToken"]"#,
            "null",
            r#""v1/list-namespaces-response.json#""#,
        ),
        ("namespace", "get", "/namespace/<namespace>", "[]", "null", r#""v1/namespace.json#""#),
        (
            "claimNamespace",
            "post",
            "/namespace/<namespace>",
            "[]",
            r#""v1/namespace-request.json#""#,
            r#""v1/namespace-response.json#""#,
        ),
    ] {
        let entry = entry(name);
        assert_eq!((&entry["method"], &entry["route"]), (&method.into(), &route.into()));
        assert_eq!(entry["query"].to_string(), query, "{name}");
        assert_eq!((entry["input"].to_string(), entry["output"].to_string()), (input.into(), output.into()), "{name}");
    }
    assert_eq!(entry("claimNamespace")["scopes"].to_string(), r#"{"AllOf":["pulse:namespace:<namespace>"]}"#);
}

/// The rules of Taskcluster's metaschema and of its own checks on schemas.
#[test]
fn the_schemas_keep_taskclusters_rules() {
    for root in ["", ROOT] {
        check_schemas(&contract((!root.is_empty()).then_some(root)), root);
    }
}

fn check_schemas(contract: &Contract, root: &str) {
    let mut referenced: BTreeSet<String> = ROUTES
        .iter()
        .flat_map(|entry| [entry.input, entry.output])
        .flatten()
        .map(|schema| schema.trim_end_matches('#').to_owned())
        .collect();
    let paths: BTreeSet<_> = contract.schema_paths().map(str::to_owned).collect();
    for path in &paths {
        let schema = contract.schema(path).unwrap();
        assert_eq!(schema["$id"], format!("{root}/schemas/pulse/{path}#"));
        assert_eq!(schema["$schema"], format!("{root}/schemas/common/metaschema.json#"));
        assert!(schema["title"].is_string() && schema["description"].is_string(), "{path}");
        let mut standalone = schema.clone();
        standalone["$schema"] = "http://json-schema.org/draft-06/schema#".into();
        assert!(jsonschema::meta::is_valid(&standalone), "{path} is no schema");
        let mut all = Vec::new();
        subschemas(path.clone(), schema, &mut all);
        for (at, schema) in all {
            if schema.get("properties").is_some() {
                assert!(schema["type"] == "object" && schema.get("additionalProperties").is_some(), "{at}");
            }
            if schema.get("items").is_some() {
                assert!(schema["type"] == "array" && schema["uniqueItems"].is_boolean(), "{at}");
            }
            if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
                let (file, pointer) = target.split_once('#').unwrap();
                assert!(
                    !file.contains(':') && !file.starts_with('/'),
                    "{at} refers to {target}, outside of the service"
                );
                let found = contract.schema(&format!("v1/{file}"));
                assert!(found.is_some_and(|found| found.pointer(pointer).is_some()), "{at} refers to {target}");
                referenced.insert(format!("v1/{file}"));
            }
        }
    }
    assert_eq!(referenced, paths, "each schema is referred to, and each that is referred to is there");
}

#[test]
fn the_sources_of_the_schemas_name_no_deployment() {
    let mut sources = BTreeSet::new();
    for file in std::fs::read_dir(repository().join("schemas/v1")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let source = taskcluster_pulse::yaml::read(&text).unwrap();
        assert!(source.get("$id").is_none(), "{} has an $id", path.display());
        assert_eq!(source["$schema"], "/schemas/common/metaschema.json#", "{}", path.display());
        sources.insert(format!("v1/{}.json", path.file_stem().unwrap().to_str().unwrap()));
    }
    assert_eq!(sources, contract(None).schema_paths().map(str::to_owned).collect(), "each source is built in");
    for path in &sources {
        assert_eq!(contract(None).schema(path).unwrap()["$id"], format!("/schemas/pulse/{path}#"));
    }
}

/// The program, away from this machine's settings.
fn program(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskcluster-pulse"));
    command.args(arguments).current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

#[test]
fn the_help_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let help = |arguments: &[&str]| {
        let output = program(arguments, folder.path()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut pages = vec![("".to_owned(), help(&["--help"]))];
    let commands = pages[0].1.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands: Vec<_> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next().filter(|_| !line.starts_with("   ")))
        .filter(|command| *command != "help")
        .map(str::to_owned)
        .collect();
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands {
        let page = help(&[&command, "--help"]);
        pages.push((format!(" {command}"), page));
    }
    let page = |(command, page): &(String, String)| format!("$ taskcluster-pulse{command} --help\n{page}\n");
    golden("tests/golden/help.txt", &pages.iter().map(page).collect::<String>());
}

/// Whoever publishes the contract gets all of it, and needs no settings for that.
#[test]
fn what_is_printed_is_the_whole_contract_in_both_forms() {
    let folder = tempfile::tempdir().unwrap();
    for root in ["", ROOT, "https://tc.example.com/some/prefix"] {
        let with_slash = format!("{root}/");
        let mut arguments = vec!["references"];
        if !root.is_empty() {
            arguments.extend(["--root-url", &with_slash]);
        }
        let output = program(&arguments, folder.path()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let printed: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let mut files = BTreeMap::new();
        for file in &printed {
            let keys: Vec<_> = file.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["filename", "content"]);
            assert!(
                files.insert(file["filename"].as_str().unwrap(), &file["content"]).is_none(),
                "a file stands twice"
            );
        }
        // What the other tests here check is what is printed.
        let contract = contract((!root.is_empty()).then_some(root));
        let mut expected =
            BTreeSet::from(["references/manifest.json".to_owned(), "references/pulse/v1/api.json".into()]);
        expected.extend(contract.schema_paths().map(|path| format!("schemas/pulse/{path}")));
        assert_eq!(files.keys().copied().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
        let manifest = files["references/manifest.json"];
        assert_eq!(manifest["$schema"], format!("{root}/schemas/common/manifest-v3.json#"));
        assert_eq!(manifest.as_object().unwrap().len(), 2);
        for listed in manifest["references"].as_array().unwrap() {
            let name = listed.as_str().unwrap().strip_prefix(root).and_then(|path| path.strip_prefix('/')).unwrap();
            assert_eq!(files[name], &contract.reference(), "{name}");
        }
        for (name, content) in files.iter().filter(|(name, _)| name.starts_with("schemas/")) {
            assert_eq!(content["$id"], format!("{root}/{name}#"));
            assert_eq!(content["$schema"], format!("{root}/schemas/common/metaschema.json#"));
            assert_eq!(Some(*content), contract.schema(name.strip_prefix("schemas/pulse/").unwrap()));
            let mut all = Vec::new();
            subschemas((*name).to_owned(), content, &mut all);
            for target in all.iter().filter_map(|(_, schema)| schema.get("$ref")?.as_str()) {
                let (file, pointer) = target.split_once('#').unwrap();
                let there = files.get(format!("schemas/pulse/v1/{file}").as_str());
                assert!(there.is_some_and(|there| there.pointer(pointer).is_some()), "{name} refers to {target}");
            }
        }
        for schema in
            contract.reference()["entries"].as_array().unwrap().iter().flat_map(|e| [&e["input"], &e["output"]])
        {
            let path = schema.as_str().map(|schema| format!("schemas/pulse/{}", schema.trim_end_matches('#')));
            assert!(path.is_none_or(|path| files.contains_key(path.as_str())), "{schema}");
        }
    }
    for root in ["tc.example.com", "ftp://tc.example.com", "https://tc.example.com?a", ""] {
        let output = program(&["references", "--root-url", root], folder.path()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && told.contains("give "), "{root}: {told}");
    }
}

/// Each command of the Procfile is understood; without settings it goes as far as to say which ones it needs.
#[test]
fn the_procfile_starts_what_there_is() {
    let procfile = std::fs::read_to_string(repository().join("Procfile")).unwrap();
    let mut names = Vec::new();
    for line in procfile.lines() {
        let (name, command) = line.split_once(": ").unwrap();
        names.push(name);
        // Every other part stands in quotes.
        let parts = command.split('\'').enumerate();
        let words: Vec<_> = parts
            .flat_map(|(number, part)| if number % 2 == 1 { vec![part] } else { part.split_whitespace().collect() })
            .collect();
        assert_eq!(words[0], "taskcluster-pulse", "{line}");
        let folder = tempfile::tempdir().unwrap();
        let output = program(&words[1..], folder.path()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        if name == "release" {
            assert!(output.status.success() && folder.path().join("data/pulse.sqlite").exists(), "{line}: {told}");
        } else {
            assert_eq!(output.status.code(), Some(2), "{line}: {told}");
            assert!(told.contains("RABBIT_BASE_URL") && !told.contains("--help"), "{line}: {told}");
        }
    }
    assert_eq!(names, ["release", "web", "worker", "monitorRabbit", "rotateNamespaces", "expireNamespaces"]);
}

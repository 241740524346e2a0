//! The layout of the code: each module uses only what stands below it, and each file says what it is for.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules, from the top down. Those in one row don't use each other.
const ORDER: &[&[&str]] = &[
    &["main"],
    &["process", "exec"],
    &["telemetry"],
    &["config"],
    &["http"],
    &["auth"],
    &["service"],
    &["store", "broker", "notify", "client"],
    &["taskcluster"],
    &["domain"],
    &["hawk"],
    &["tls", "secret"],
    &["clock"],
];

fn row(module: &str) -> usize {
    let found = ORDER.iter().position(|row| row.contains(&module));
    found.unwrap_or_else(|| panic!("the module {module} has no place in the order"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join(folder), &mut files);
    assert!(!files.is_empty());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(root).unwrap().to_owned(), text)
    };
    files.into_iter().map(read).collect()
}

/// The lines of a file, but for its comments and its tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
    shipped.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// The modules that a file uses: what follows `crate::`.
fn used(text: &str) -> impl Iterator<Item = &str> {
    code(text).flat_map(|line| line.match_indices("crate::").map(move |(at, found)| &line[at + found.len()..])).map(
        |rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            &rest[..end]
        },
    )
}

#[test]
fn a_module_uses_only_what_stands_below_it() {
    let mut edges = 0;
    for (path, text) in sources("src") {
        let module = path.components().nth(1).unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let text = text.replace("taskcluster_pulse::", "crate::");
        for used in used(&text).filter(|used| *used != module) {
            edges += 1;
            assert!(row(module) < row(used), "{} uses {used}, which does not stand below it", path.display());
        }
    }
    assert!(edges > 50, "{edges} uses found: is the check still reading the code?");
}

#[test]
fn the_domain_is_pure() {
    for (path, text) in sources("src/domain") {
        for impure in
            ["async ", "tokio", "serde", "SystemClock", "rand::", "std::fs", "std::net", "std::env", "tracing"]
        {
            let mentioned = code(&text).any(|line| line.contains(impure));
            assert!(!mentioned, "{} mentions {impure}", path.display());
        }
    }
}

#[test]
fn only_the_clock_asks_for_the_time() {
    for (path, text) in sources("src") {
        let asks = code(&text).any(|line| line.contains("Utc::now") || line.contains("SystemTime::now"));
        assert_eq!(asks, path.ends_with("clock.rs"), "{}", path.display());
    }
}

#[test]
fn each_file_says_what_it_is_for() {
    for (path, text) in ["src", "tests"].into_iter().flat_map(sources) {
        assert!(text.starts_with("//! "), "{} does not open with a //! comment", path.display());
    }
}

#[test]
fn every_test_that_the_page_on_faults_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/dependability.md")).unwrap();
    let tests: String = sources("tests").into_iter().chain(sources("src")).map(|(_, text)| text).collect();
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let named: Vec<_> =
        rows.filter_map(|row| row.rsplit('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(named.len() > 40, "{named:?}");
    for name in named {
        let test = name.rsplit("::").find(|part| *part != "…").unwrap().trim_end_matches('…');
        let known = tests.contains(&format!("fn {test}")) || root.join(format!("tests/{test}.rs")).exists();
        assert!(known || tests.contains(&format!("mod {test};")), "{name}");
    }
}

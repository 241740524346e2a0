//! The layout of the code: each module uses only what stands below it, and each file says what it is for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules, from the top down. Those in one row don't use each other.
const ORDER: &[&[&str]] = &[
    &["main"],
    &["commands"],
    &["process", "exec"],
    &["config"],
    &["web"],
    &["access"],
    &["service"],
    &["store", "broker", "notify", "client"],
    &["taskcluster"],
    &["domain"],
    &["hawk"],
    &["telemetry"],
    &["tls", "secret", "yaml", "terminal"],
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
fn each_purpose_of_the_store_has_a_file_of_its_name_in_either_backend() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut purposes = 0;
    for (backend, other) in [("postgres", "sqlite"), ("sqlite", "postgres")] {
        for (path, text) in sources(&format!("src/store/{backend}")) {
            let file = path.file_name().unwrap();
            if !text.contains("#[async_trait]\nimpl ") || file == "mod.rs" {
                continue;
            }
            purposes += 1;
            let described = root.join(file).exists() || root.join(path.file_stem().unwrap()).join("mod.rs").exists();
            assert!(described && root.join(other).join(file).exists(), "{}", path.display());
        }
    }
    assert!(purposes > 10, "{purposes} found: is the check still reading the code?");
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

/// A file, as the module that it is: `src/store/url.rs` is `store`, `url`; what stands at the root is nothing.
type Module = Vec<String>;

/// What a file says of others: the paths of its `use`s by the name that each gives, what it re-exports, and its other paths.
#[derive(Default)]
struct Spoken {
    named: BTreeMap<String, Module>,
    reexported: BTreeSet<String>,
    paths: Vec<Module>,
}

/// The paths of a tree such as `a::{b, c::{self, d as e}}`.
fn branches(tree: &str) -> Vec<String> {
    let Some((head, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in rest[..rest.rfind('}').unwrap()].chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(c);
        }
    }
    let full = parts.iter().filter(|part| !part.trim().is_empty()).flat_map(|part| branches(part.trim()));
    full.map(|branch| format!("{}{branch}", head.trim())).collect()
}

fn spoken(text: &str) -> Spoken {
    let (mut spoken, mut open) = (Spoken::default(), None::<(bool, String)>);
    for line in code(text) {
        // Who may see something is no use of it.
        let line = match line.split_once("pub(in ") {
            Some((before, rest)) => &format!("{before}pub {}", rest.split_once(") ").map_or("", |(_, rest)| rest)),
            None => line,
        };
        let public = line.trim_start().starts_with("pub");
        let used =
            line.trim_start().strip_prefix("use ").or(line.split_once(" use ").filter(|_| public).map(|both| both.1));
        if let Some((_, tree)) = &mut open {
            tree.push_str(line);
        } else if let Some(tree) = used {
            open = Some((public, tree.to_owned()));
        } else if !line.ends_with(';') || !line.contains("mod ") {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
            let paths = words.map(|word| word.trim_matches(':').split("::").map(str::to_owned).collect::<Module>());
            spoken.paths.extend(paths);
        }
        let Some((public, tree)) = open.take_if(|(_, tree)| tree.ends_with(';')) else { continue };
        for branch in branches(tree.trim_end_matches(';')) {
            let (path, name) = branch.split_once(" as ").unwrap_or((&branch, ""));
            let path: Module = path.trim_end_matches("::self").split("::").map(str::to_owned).collect();
            let name = if name.is_empty() { path.last().unwrap().clone() } else { name.to_owned() };
            // A trait that is used without a name still is used.
            let name = if name == "_" { path.join("::") } else { name };
            spoken.reexported.extend(public.then(|| name.clone()));
            spoken.named.insert(name, path);
        }
    }
    spoken
}

/// The file that `path`, said in `from`, leads to; through the `use`s of those that it leads by.
fn leads_to(files: &BTreeMap<Module, Spoken>, from: &Module, path: &[String], hops: usize) -> Option<Module> {
    let mut at = from.clone();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" | "taskcluster_pulse" => (at, rest) = (Module::new(), &path[1..]),
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|step| step == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        _ => {}
    }
    for (read, step) in rest.iter().enumerate() {
        let inner: Module = at.iter().chain([step]).cloned().collect();
        if files.contains_key(&inner) {
            at = inner;
            continue;
        }
        let Some(path) = files.get(&at)?.named.get(step).filter(|path| path[0] != *step && hops > 0) else { break };
        let further: Module = path.iter().chain(&rest[read + 1..]).cloned().collect();
        return leads_to(files, &at, &further, hops - 1);
    }
    Some(at)
}

/// The circles among files, each as `a.rs -> b.rs -> a.rs`: the shortest one through each file that is in any.
///
/// A file uses another if it says a path that leads there, in its shipped code. `mod` is no use, and neither is a `pub use`
/// of a name that the file says nowhere else: whoever uses that name by it uses the file that the name comes from.
fn circles(sources: &[(PathBuf, String)]) -> BTreeSet<String> {
    let mut files = BTreeMap::new();
    let mut shown = BTreeMap::new();
    for (path, text) in sources.iter().filter(|(path, _)| !path.ends_with("tests.rs")) {
        let below = path.with_extension("");
        let module: Module = below.iter().skip(1).map(|part| part.to_str().unwrap().to_owned()).collect();
        let module: Module =
            module.into_iter().filter(|part| !["mod", "lib", "main"].contains(&part.as_str())).collect();
        files.insert(module.clone(), spoken(text));
        shown.insert(module, path.display().to_string());
    }
    let mut uses: BTreeMap<&Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, spoken) in &files {
        let said: BTreeSet<&String> = spoken.paths.iter().flatten().collect();
        let imported =
            spoken.named.iter().filter(|(name, _)| !spoken.reexported.contains(*name) || said.contains(name));
        // A lone word may be the name of anything.
        let paths = imported.map(|(_, path)| path).chain(spoken.paths.iter().filter(|path| path.len() > 1));
        let led = paths.filter_map(|path| leads_to(&files, module, path, 9)).filter(|to| to != module);
        uses.insert(module, led.filter(|to| files.contains_key(to)).collect());
    }
    let through = |start: &Module| {
        let mut ways = VecDeque::from([vec![start.clone()]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            for next in &uses[way.last()?] {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    ways.push_back(way.iter().chain([next]).cloned().collect());
                }
            }
        }
        None
    };
    let mut found = BTreeSet::new();
    for mut circle in files.keys().filter_map(through) {
        let least = (0..circle.len()).min_by_key(|at| &circle[*at]).unwrap();
        circle.rotate_left(least);
        circle.push(circle[0].clone());
        found.insert(circle.iter().map(|module| shown[module].as_str()).collect::<Vec<_>>().join(" -> "));
    }
    found
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    for folder in ["src", "benches/bench"] {
        let found = circles(&sources(folder));
        assert!(found.is_empty(), "{folder}:\n{}", found.into_iter().collect::<Vec<_>>().join("\n"));
    }
}

#[test]
fn a_circle_is_found_by_whatever_path_it_is_made() {
    let found = |files: &[(&str, &str)]| {
        let sources: Vec<_> = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        circles(&sources).into_iter().collect::<Vec<_>>()
    };
    let below = ("src/b.rs", "pub struct B;");
    assert_eq!(found(&[("src/a.rs", "use crate::b::B;"), below]), [""; 0]);
    // Through an import, a path in the code, a branch of a tree over lines, an import without a name.
    for back in [
        "use crate::a::A;",
        "fn f() -> super::a::A {}",
        "use crate::{\n    a::{self, A as X},\n};",
        "use super::a::A as _;",
    ] {
        assert_eq!(
            found(&[("src/a.rs", "use crate::b::B;"), ("src/b.rs", back)]),
            ["src/a.rs -> src/b.rs -> src/a.rs"]
        );
    }
    // Round about.
    let third =
        [("src/a.rs", "use crate::b;"), ("src/b.rs", "use crate::c;"), ("src/c.rs", "fn f(a: &crate::a::A) {}")];
    assert_eq!(found(&third), ["src/a.rs -> src/b.rs -> src/c.rs -> src/a.rs"]);
    // Through a name that another file re-exports, which itself is in no circle unless it says the name.
    let parts = [("src/m/a.rs", "use super::B;"), ("src/m/b.rs", "use super::A;")];
    let whole = |text| found(&[&[("src/m/mod.rs", text)][..], &parts].concat());
    assert_eq!(whole("mod a;\nmod b;\npub use a::A;\npub use b::B;"), ["src/m/a.rs -> src/m/b.rs -> src/m/a.rs"]);
    let parts = [("src/m/a.rs", "use super::M;"), ("src/m/b.rs", "pub struct B;")];
    let whole = |text| found(&[&[("src/m/mod.rs", text)][..], &parts].concat());
    assert_eq!(whole("mod a;\npub use a::A;\npub struct M;"), [""; 0]);
    assert_eq!(whole("mod a;\npub use a::A;\npub struct M(A);"), ["src/m/mod.rs -> src/m/a.rs -> src/m/mod.rs"]);
    // Not by a comment or a test.
    assert_eq!(
        found(&[("src/a.rs", "use crate::b::B;"), ("src/b.rs", "// crate::a::A\n#[cfg(test)]\nuse crate::a;")]),
        [""; 0]
    );
}

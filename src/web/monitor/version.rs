//! Dockerflow's version object.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value, json};

/// The file that an image has it in, beside the program or in its folder.
const FILE: &str = "version.json";
const FOLDER: &str = "/app";

/// What the image says that it is, if it says so; else what the build knows.
pub fn version_object() -> Value {
    static FOUND: LazyLock<Value> = LazyLock::new(|| found(folders()).unwrap_or_else(built));
    FOUND.clone()
}

fn folders() -> Vec<PathBuf> {
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent).map(Path::to_owned);
    beside.into_iter().chain([PathBuf::from(FOLDER)]).collect()
}

fn found(folders: Vec<PathBuf>) -> Option<Value> {
    let read = |folder: PathBuf| {
        let file = folder.join(FILE);
        let text = std::fs::read_to_string(&file).ok()?;
        let read = serde_json::from_str(&text).ok().filter(Value::is_object);
        if read.is_none() {
            tracing::warn!("{} is not an object of JSON, and is ignored", file.display());
        }
        read
    };
    folders.into_iter().find_map(read)
}

/// The build fills in what it knows.
fn built() -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("PULSE_COMMIT").unwrap_or(""),
        "source": option_env!("PULSE_SOURCE").unwrap_or(""),
        "build": option_env!("PULSE_BUILD").unwrap_or(""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_can_be_read_counts() {
        let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let paths = || folders.iter().map(|folder| folder.path().to_owned()).collect();
        assert_eq!(found(paths()), None);
        std::fs::write(folders[0].path().join(FILE), "[1]").unwrap();
        std::fs::write(folders[2].path().join(FILE), r#"{"version": "9.9", "commit": "abc"}"#).unwrap();
        assert_eq!(found(paths()).unwrap()["commit"], "abc");
    }
}

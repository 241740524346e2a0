//! What pages load: one style sheet, one script, one icon, each under a name that changes with its content.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

use crate::web::edge::reply::not_found;

/// One file.
struct Asset {
    name: String,
    kind: &'static str,
    content: &'static [u8],
}

/// So much of its hash names a file, in bytes.
const SHOWN: usize = 6;

impl Asset {
    fn new(ending: &str, kind: &'static str, content: &'static [u8]) -> Asset {
        let hash = Sha256::digest(content).iter().take(SHOWN).fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Asset { name: format!("{hash}.{ending}"), kind, content }
    }

    fn path(&self) -> String {
        format!("/console/assets/{}", self.name)
    }
}

static CSS: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("css", "text/css; charset=utf-8", include_bytes!("assets/console.css")));
static JS: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("js", "text/javascript; charset=utf-8", include_bytes!("assets/console.js")));
static ICON: LazyLock<Asset> = LazyLock::new(|| Asset::new("svg", "image/svg+xml", include_bytes!("assets/icon.svg")));

/// Where pages find them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Paths {
    pub css: String,
    pub js: String,
    pub icon: String,
}

impl Paths {
    pub fn new() -> Paths {
        Paths { css: CSS.path(), js: JS.path(), icon: ICON.path() }
    }
}

/// Serves one. Whoever has it never asks again.
pub(super) async fn serve(Path(name): Path<String>) -> Response {
    let Some(asset) = [&CSS, &JS, &ICON].into_iter().find(|asset| asset.name == name) else {
        return not_found().await;
    };
    let headers = [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (headers, asset.content).into_response()
}

//! What a table shows, for spreadsheets and programs.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::visit::Visit;

/// In which form somebody wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Csv,
    Json,
}

/// In which form it is asked for; `None` for a page.
pub(super) fn form(visit: &Visit) -> Option<Form> {
    match visit.query.text("format") {
        "csv" => Some(Form::Csv),
        "json" => Some(Form::Json),
        _ => None,
    }
}

/// One cell. A spreadsheet takes what begins so for a formula, and names are chosen by anybody.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// A table as a file to keep.
pub(super) fn csv(name: &str, head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Response {
    let line = |cells: Vec<String>| cells.join(",") + "\r\n";
    let mut text = line(head.iter().map(|text| (*text).to_owned()).collect());
    rows.for_each(|row| text += &line(row.iter().map(|text| cell(text)).collect()));
    file(name, "csv", "text/csv; charset=utf-8", text)
}

/// The same as JSON.
pub(super) fn json(name: &str, rows: Vec<Value>) -> Response {
    file(name, "json", "application/json; charset=utf-8", format!("{:#}", Value::Array(rows)))
}

fn file(name: &str, ending: &str, kind: &'static str, text: String) -> Response {
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{name}.{ending}\""));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_DISPOSITION, disposition.unwrap_or_else(|_| HeaderValue::from_static("attachment"))),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_a_text_and_never_a_formula() {
        for (text, expected) in [
            ("a", "a"),
            ("a,b", "\"a,b\""),
            ("say \"x\"\n", "\"say \"\"x\"\"\n\""),
            ("=1+1", "'=1+1"),
            ("@x,y", "\"'@x,y\""),
            ("", ""),
        ] {
            assert_eq!(cell(text), expected);
        }
    }
}

//! Pages of a list: how long one is, and what names the next.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::error::ApiError;
use super::query::{Query, QueryRule};

/// How many things a page has at most, and where nothing is asked for.
const PAGE: u32 = 1000;

/// How many things a page has at most.
pub(super) const LIMIT: QueryRule =
    QueryRule { name: "limit", pattern: "/[0-9]+/", accepts: |value| value.bytes().any(|b| b.is_ascii_digit()) };
/// After which page.
pub(super) const TOKEN: QueryRule =
    QueryRule { name: "continuationToken", pattern: "/./", accepts: |value| !value.is_empty() };

/// The first number in what the query asks for, held between 1 and [`PAGE`]; zero asks for nothing in particular.
pub(super) fn page_size(query: &Query) -> u32 {
    let Some(text) = query.get(LIMIT.name) else { return PAGE };
    let digits: String = text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    match digits.parse() {
        Ok(0) => PAGE,
        Ok(limit) => PAGE.min(limit),
        Err(_) => PAGE,
    }
}

/// Of one thing more than a page has, those of the page, and the continuation token where there are more. `sorted_by` gives
/// what the list is sorted by.
pub(super) fn page<T, const N: usize>(
    mut found: Vec<T>,
    limit: u32,
    sorted_by: impl Fn(&T) -> [String; N],
) -> (Vec<T>, Option<String>) {
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let token = found.last().filter(|_| more).map(|last| write_token(&sorted_by(last)));
    (found, token)
}

/// A continuation token in Taskcluster's form: base64 of a JSON array of what the last row is sorted by.
fn write_token(columns: &[String]) -> String {
    STANDARD.encode(json!(columns).to_string())
}

/// What the last row of the page before is sorted by; `None` for the first page.
pub(super) fn after<const N: usize>(query: &Query) -> Result<Option<[String; N]>, ApiError>
where
    [String; N]: serde::de::DeserializeOwned,
{
    let Some(token) = query.get(TOKEN.name) else { return Ok(None) };
    let columns = STANDARD.decode(token).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let message = "Invalid continuation token: pass the continuationToken of the previous page as it is.";
    columns.map(Some).ok_or_else(|| ApiError::input(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continuation_token_is_taskclusters() {
        assert_eq!(write_token(&["taskcluster-x".to_owned()]), "WyJ0YXNrY2x1c3Rlci14Il0=");
        let read = |token: &str| after::<1>(&Query::from([("continuationToken".to_owned(), token.to_owned())]));
        assert_eq!(read("WyJ0YXNrY2x1c3Rlci14Il0=").unwrap(), Some(["taskcluster-x".to_owned()]));
        assert_eq!(after::<1>(&Query::new()).unwrap(), None);
        for bad in ["x", "WzE5LDNd", "bnVsbA==", "WyJhIiwiYiJd"] {
            assert_eq!(read(bad).unwrap_err().code, "InputError", "{bad}");
        }
    }

    #[test]
    fn a_page_has_between_one_and_a_thousand_things_and_a_token_where_there_are_more() {
        for (text, size) in [("1", 1), ("0", 1000), ("1000", 1000), ("5000", 1000), ("99999999999999", 1000), ("x7", 7)]
        {
            assert_eq!(page_size(&Query::from([("limit".to_owned(), text.to_owned())])), size, "{text}");
        }
        assert_eq!(page_size(&Query::new()), 1000);
        let by = |n: &i32| [n.to_string()];
        assert_eq!(page(vec![1, 2], 2, by), (vec![1, 2], None));
        assert_eq!(page(vec![1, 2, 3], 2, by), (vec![1, 2], Some(write_token(&["2".to_owned()]))));
    }
}

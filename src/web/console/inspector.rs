//! The inspector: messages as they are published, to exchanges of anybody.

use askama::Template;
use axum::http::StatusCode;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::answer::{self, Answer};
use super::export::{self, Form};
use super::frame::{Frame, Part, When, told};
use super::rows::own_name;
use super::trouble::Trouble;
use super::visit::{Fields, Visit};
use crate::domain::inspection::{MOST_CHOICES, NoInspection, Published, ROOM};
use crate::domain::inventory::Binding;
use crate::domain::name::named_by_exchange;
use crate::domain::rights::Right;
use crate::service::{Batch, ServiceError};
use crate::terminal::{self, one_line};
use crate::web::api::inspect::{content, shown_message};
use crate::web::edge::reply::indented;

/// So many exchanges are offered, and found by a part of their names.
const OFFERED: usize = 300;
const FOUND: usize = 20;
/// A message that is longer as indented JSON, in bytes, is shown as it came: what is nested deep takes many times its length.
const LONGEST_INDENTED: usize = 64 * 1024;
/// One with no more lines is shown open.
const SHORT: usize = 16;
/// How much of a message is shown on one line, in characters.
const PREVIEW: usize = 160;

/// What is chosen, as it was given.
#[derive(Clone, PartialEq, Eq)]
struct Chosen {
    exchange: String,
    key: String,
}

#[derive(Template)]
#[template(path = "inspector.html")]
struct Choose {
    frame: Frame,
    chosen: Vec<Chosen>,
    /// Exchanges that the browser offers while one types.
    offered: Vec<String>,
    /// Those that have in their names what was given, and where each leads.
    found: Vec<(String, String)>,
    more: usize,
    wrong: Option<String>,
    example: Chosen,
}

#[derive(Template)]
#[template(path = "inspector_watch.html")]
struct Watch {
    frame: Frame,
    id: String,
    chosen: Vec<Chosen>,
    /// The query of this page, and of the one to choose anew.
    again: String,
    anew: String,
    feed: Feed,
    ended: bool,
    idle: u32,
}

#[derive(Template)]
#[template(path = "inspector_feed.html")]
struct Feed {
    messages: Vec<Message>,
    left_out: bool,
    more: bool,
}

/// A message as it is shown.
struct Message {
    at: When,
    /// Its time in UTC, to the second.
    time: String,
    exchange: String,
    namespace: String,
    key: String,
    bytes: String,
    /// What is special about its content, in words.
    note: Option<&'static str>,
    preview: String,
    body: String,
    properties: String,
    open: bool,
}

impl Message {
    fn of(of: &Published, at: When) -> Message {
        let (text, note) = content(of);
        let indented = serde_json::from_str::<Value>(&text).ok().filter(|value| value.is_object() || value.is_array());
        let body = indented.and_then(|value| indented_or_not(&value)).unwrap_or(text);
        let preview: String = body.split_whitespace().collect::<Vec<_>>().join(" ");
        let properties = serde_json::from_str(&of.properties).ok();
        let properties = properties.and_then(|value| indented_or_not(&value)).unwrap_or_else(|| of.properties.clone());
        Message {
            time: at.0.to_string().get(11..19).unwrap_or_default().to_owned(),
            at,
            exchange: own_name(&of.exchange),
            namespace: named_by_exchange(&of.exchange)
                .map(|name| one_line(name.as_str()).into_owned())
                .unwrap_or_default(),
            key: one_line(&of.routing_key).into_owned(),
            bytes: told(Some(of.bytes)),
            note,
            open: body.lines().count() <= SHORT,
            preview: preview.chars().take(PREVIEW).collect(),
            body,
            properties,
        }
    }
}

fn indented_or_not(value: &Value) -> Option<String> {
    indented(value, LONGEST_INDENTED)
}

/// What a form or an address chooses: exchanges and routing keys in pairs.
fn chosen(of: &Fields) -> Vec<Chosen> {
    let keys = of.all("key").chain(std::iter::repeat(""));
    let pairs = of.all("exchange").zip(keys).take(2 * MOST_CHOICES);
    let all = pairs.map(|(exchange, key)| Chosen { exchange: exchange.trim().to_owned(), key: key.to_owned() });
    all.filter(|of| !of.exchange.is_empty()).collect()
}

fn query(chosen: &[Chosen], id: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    id.map(|id| query.append_pair("id", id));
    for Chosen { exchange, key } in chosen {
        query.append_pair("exchange", exchange).append_pair("key", key);
    }
    query.finish()
}

/// Who looks. Whoever has signed in may.
fn looker(visit: &Visit) -> Result<String, Trouble> {
    visit.require_all(Right::Inspect)?;
    let session = visit.session.as_ref().ok_or_else(Trouble::signed_out)?;
    Ok(session.1.person.subject.clone())
}

pub(super) async fn choose(visit: Visit) -> Answer {
    looker(&visit)?;
    let chosen = chosen(&visit.query);
    page(&visit, chosen, None).await
}

/// The page to choose by, with what is wrong in what was chosen.
async fn page(visit: &Visit, mut chosen: Vec<Chosen>, wrong: Option<(String, Option<String>)>) -> Answer {
    let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    // It is there without the names, too.
    let all = visit.service().readable_exchanges().await.unwrap_or_default();
    let (wrong, part) = wrong.map_or((None, None), |(wrong, part)| (Some(wrong), part));
    let sought = part.as_ref().map(|part| part.to_lowercase()).filter(|part| !part.is_empty());
    let fits = |name: &&String| sought.as_ref().is_some_and(|part| name.to_lowercase().contains(part));
    let lead = |name: &String| {
        let instead = |of: &Chosen| match part.as_ref() == Some(&of.exchange) {
            true => Chosen { exchange: name.clone(), ..of.clone() },
            false => of.clone(),
        };
        format!("/console/inspector?{}", query(&chosen.iter().map(instead).collect::<Vec<_>>(), None))
    };
    let found: Vec<_> = all.iter().filter(fits).collect();
    let more = found.len().saturating_sub(FOUND);
    let found: Vec<_> = found.into_iter().take(FOUND).map(|name| (name.clone(), lead(name))).collect();
    let example = example(chosen.first());
    chosen.resize(MOST_CHOICES.max(chosen.len()), Chosen { exchange: String::new(), key: String::new() });
    let offered = if all.len() <= OFFERED { all } else { Vec::new() };
    let frame = Frame::of(visit, Part::Inspector, "Inspector");
    answer::page(status, &Choose { frame, chosen, offered, found, more, wrong, example })
}

/// What is chosen, as it stands in a program: as literals, because anybody names an exchange, and somebody else pastes it.
fn example(of: Option<&Chosen>) -> Chosen {
    let literal = |text: &str| terminal::json(&json!(text).to_string()).into_owned();
    let (exchange, key) = of.map_or(("exchange/taskcluster-jobs/events", ""), |of| (&of.exchange, &of.key));
    Chosen { exchange: literal(exchange), key: literal(if key.is_empty() { "#" } else { key }) }
}

pub(super) async fn begin(visit: Visit) -> Answer {
    let who = looker(&visit)?;
    let chosen = chosen(&visit.form);
    let wanted = |of: &Chosen| Binding {
        exchange: of.exchange.clone(),
        routing_key: if of.key.is_empty() { "#".to_owned() } else { of.key.clone() },
    };
    let wanted: Vec<_> = chosen.iter().map(wanted).collect();
    let by = visit.by();
    match visit.service().inspect(&who, &wanted, &by).await {
        Ok(id) => Ok(answer::see(&format!("/console/inspector/watch?{}", query(&chosen, Some(&id))))),
        Err(ServiceError::Missing(_, name)) => {
            let wrong = format!("There is no exchange {}.", one_line(&name));
            page(&visit, chosen, Some((wrong, Some(name)))).await
        }
        Err(error @ ServiceError::NoInspection(NoInspection::Elsewhere)) => {
            let odd = chosen.iter().find(|of| !of.exchange.starts_with("exchange/")).map(|of| of.exchange.clone());
            page(&visit, chosen, Some((Trouble::from(error).text, odd))).await
        }
        Err(error @ (ServiceError::NoInspection(_) | ServiceError::TooManyInspections { .. })) => {
            page(&visit, chosen, Some((Trouble::from(error).text, None))).await
        }
        Err(error) => Err(error.into()),
    }
}

fn feed(batch: &Batch) -> Feed {
    let at = When(batch.at);
    // The newest comes first, as on the page.
    let messages = batch.messages.iter().rev().map(|of| Message::of(of, at)).collect();
    Feed { messages, left_out: batch.left_out, more: batch.more }
}

/// The messages since the last look, as a page, as the part of it that its script adds, or as a file.
pub(super) async fn watch(visit: Visit) -> Answer {
    let who = looker(&visit)?;
    let id = visit.query.text("id").to_owned();
    let batch = visit.service().inspected(&who, &id).await?;
    if visit.live {
        let Some(batch) = &batch else {
            return Err(Trouble::new(StatusCode::GONE, "It has ended", "Nobody looked for a minute."));
        };
        return answer::part(&feed(batch), &Frame::plain(Part::Inspector, ""));
    }
    if export::form(&visit) == Some(Form::Json) {
        let messages = batch.iter().flat_map(|batch| batch.messages.iter().map(|of| shown_message(of, batch.at)));
        return Ok(export::json("messages", messages.collect()));
    }
    let (chosen, ended) = (chosen(&visit.query), batch.is_none());
    let none = Feed { messages: Vec::new(), left_out: false, more: false };
    answer::shown(&Watch {
        frame: Frame::of(&visit, Part::Inspector, "Inspector"),
        again: query(&chosen, Some(&id)),
        anew: query(&chosen, None),
        feed: batch.as_ref().map_or(none, feed),
        id,
        chosen,
        ended,
        idle: ROOM.idle_seconds,
    })
}

pub(super) async fn stop(visit: Visit) -> Answer {
    let who = looker(&visit)?;
    visit.service().end_inspection(&who, visit.form.text("id")).await?;
    Ok(answer::see(&format!("/console/inspector?{}", query(&chosen(&visit.form), None))))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::inspection::Content;

    fn shown(content: Content, bytes: u64) -> Message {
        let published = Published {
            exchange: "exchange/taskcluster-x/events\u{202e}".to_owned(),
            routing_key: "a\n.b".to_owned(),
            bytes,
            content,
            properties: r#"{"content_type":"application/json"}"#.to_owned(),
            left: 0,
        };
        Message::of(&published, When(Timestamp::from_millis(0)))
    }

    #[test]
    fn json_is_indented_and_anything_else_is_shown_as_it_came() {
        let json = shown(Content::Text(r#"{"b":[1],"a":"<x>"}"#.to_owned()), 19);
        assert_eq!(json.body, "{\n  \"b\": [\n    1\n  ],\n  \"a\": \"<x>\"\n}");
        assert_eq!((json.preview.as_str(), json.note, json.open), (r#"{ "b": [ 1 ], "a": "<x>" }"#, None, true));
        assert_eq!((json.key.as_str(), json.namespace.as_str()), (r"a\n.b", "taskcluster-x"));
        assert!(json.exchange == r"events\u{202e}" && json.properties.contains("\n  \"content_type\""));
        assert_eq!(shown(Content::Text("12".to_owned()), 2).body, "12");
        let cut = shown(Content::Text("{\"a".to_owned()), 900);
        assert_eq!((cut.body.as_str(), cut.note, cut.bytes.as_str()), ("{\"a", Some("cut"), "900"));
    }

    #[test]
    fn what_is_no_text_is_base64_and_what_was_cut_within_a_character_is_text() {
        let bytes = |bytes: &[u8]| Content::Bytes(STANDARD.encode(bytes));
        let cut = shown(bytes(&"aé".as_bytes()[..2]), 3);
        assert_eq!((cut.body.as_str(), cut.note), ("a", Some("cut")));
        let binary = shown(bytes(&[0xff, 0, 1, 2, 3, 4]), 6);
        assert_eq!((binary.body, binary.note), (STANDARD.encode([0xff, 0, 1, 2, 3, 4]), Some("not text: base64")));
    }

    #[test]
    fn what_is_nested_deep_takes_no_more_room_than_it_should() {
        let deep = format!("{}{}{}", "[".repeat(100), "1,".repeat(7000) + "1", "]".repeat(100));
        let message = shown(Content::Text(deep.clone()), deep.len() as u64);
        assert!(message.body.len() <= LONGEST_INDENTED && message.body == deep);
        let deeper = "[".repeat(8000);
        assert_eq!(shown(Content::Text(deeper.clone()), 8000).body, deeper);
    }

    #[test]
    fn a_program_that_is_shown_does_nothing_else_whatever_an_exchange_is_called() {
        let chosen = Chosen { exchange: "exchange/x/a\"); import os\n\u{202e}".to_owned(), key: "\\".to_owned() };
        let shown = example(Some(&chosen));
        assert_eq!(shown.exchange, r#""exchange/x/a\"); import os\n\u202e""#);
        assert_eq!((shown.key.as_str(), example(None).key.as_str()), (r#""\\""#, "\"#\""));
    }

    #[test]
    fn an_address_says_what_is_chosen() {
        let of = |text: &str| chosen(&Fields::read(text.as_bytes()));
        let both = of("exchange=exchange/x/a&key=b.%23&exchange=&key=&exchange=+exchange/x/c+");
        let told: Vec<_> = both.iter().map(|of| (of.exchange.as_str(), of.key.as_str())).collect();
        assert_eq!(told, [("exchange/x/a", "b.#"), ("exchange/x/c", "")]);
        assert_eq!(query(&both, Some("1")), "id=1&exchange=exchange%2Fx%2Fa&key=b.%23&exchange=exchange%2Fx%2Fc&key=");
        assert!(of("q=1").is_empty());
    }
}

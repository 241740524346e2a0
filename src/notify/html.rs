//! From a message's Markdown to an e-mail's HTML.

use pulldown_cmark::{Event, Parser, Tag, TagEnd, html};

use crate::domain::notice::Notice;

/// The message as one complete HTML document that refers to nothing outside itself.
///
/// Of Markdown, what [`message`](crate::notify::message) writes is kept: paragraphs, lists, emphasis and code. The text of
/// everything else is shown as text, so that no name can become a link, an image or markup.
pub fn document(notice: &Notice) -> String {
    let title = fragment([Event::Text(notice.subject.as_str().into())].into_iter());
    let body = fragment(Parser::new(&notice.text).filter_map(plain));
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ margin: 0; padding: 24px; font: 16px/1.5 sans-serif; }}
main {{ max-width: 40em; margin: 0 auto; }}
code {{ font: 0.9em monospace; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<main>
{body}</main>
</body>
</html>
"#
    )
}

fn fragment<'a>(events: impl Iterator<Item = Event<'a>>) -> String {
    let mut text = String::new();
    html::push_html(&mut text, events);
    text
}

/// The event where it is of a kind that we write; markup as text; nothing for the frame of anything else.
fn plain(event: Event<'_>) -> Option<Event<'_>> {
    match event {
        Event::Start(Tag::Paragraph | Tag::List(_) | Tag::Item | Tag::Strong | Tag::Emphasis)
        | Event::End(TagEnd::Paragraph | TagEnd::List(_) | TagEnd::Item | TagEnd::Strong | TagEnd::Emphasis)
        | Event::Text(_)
        | Event::Code(_)
        | Event::SoftBreak
        | Event::HardBreak => Some(event),
        Event::Html(markup) | Event::InlineHtml(markup) => Some(Event::Text(markup)),
        _ => None,
    }
}

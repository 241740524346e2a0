//! Drawings of what a queue was like over time, as SVG that is made here: `currentColor` and attributes alone, which no content
//! security policy minds and dark mode turns by itself.

use std::fmt::Write as _;

use crate::clock::Timestamp;
use crate::domain::history::Look;
use crate::domain::words::number;

/// A mark across a drawing: a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub at: u64,
    pub name: &'static str,
}

/// Something that was done, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub at: Timestamp,
    pub name: String,
}

/// The points of a line, as the attribute `points` has them.
fn points(all: impl Iterator<Item = (f64, f64)>) -> String {
    let mut text = String::new();
    for (x, y) in all {
        let _ = write!(text, "{x:.1},{y:.1} ");
    }
    text.trim_end().to_owned()
}

/// Where a moment lies between two, from 0 to 1.
fn along(at: Timestamp, from: Timestamp, to: Timestamp) -> f64 {
    let span = (to.millis() - from.millis()).max(1) as f64;
    ((at.millis() - from.millis()) as f64 / span).clamp(0.0, 1.0)
}

/// A small line of a queue's size, with the thresholds. Roots are drawn, so that small and large queues show in one scale.
pub(super) fn spark(line: &[(Timestamp, u64)], alert: u64, delete: u64) -> Option<String> {
    const WIDTH: f64 = 112.0;
    const HEIGHT: f64 = 24.0;
    let (&(from, _), &(to, _)) = (line.first()?, line.last()?);
    if line.len() < 2 {
        return None;
    }
    let most = line.iter().map(|(_, size)| *size).max()?.max(delete) as f64;
    let y = |size: u64| HEIGHT - 1.5 - (size as f64 / most).sqrt() * (HEIGHT - 3.0);
    let curve = points(line.iter().map(|(at, size)| (1.0 + along(*at, from, to) * (WIDTH - 2.0), y(*size))));
    let mark = |at: u64, dashes: &str| {
        let y = y(at);
        format!(
            "<line class=\"mark\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"currentColor\" \
             stroke-dasharray=\"{dashes}\"/>"
        )
    };
    let last = line.last().map_or(0, |(_, size)| *size);
    let label = format!("{} messages at the end, {} at most", number(last), number(line.iter().map(|p| p.1).max()?));
    Some(format!(
        "<svg class=\"spark\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">{}{}<polyline points=\"{curve}\" \
         fill=\"none\" stroke=\"currentColor\" stroke-width=\"1.5\"/></svg>",
        mark(alert, "1 3"),
        mark(delete, "4 2"),
    ))
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 26.0;

/// A number that ends a scale well: 1, 2 or 5 and zeros.
fn round_up(most: u64) -> u64 {
    let mut step = 1;
    loop {
        for by in [1, 2, 5] {
            if most <= step * by {
                return step * by;
            }
        }
        if step > u64::MAX / 50 {
            return most;
        }
        step *= 10;
    }
}

/// A large drawing of what was seen of a queue: all of its messages and those that are held. `None` from fewer than two looks.
pub(super) fn chart(looks: &[Look], marks: &[Mark], events: &[Event]) -> Option<String> {
    let (first, last) = (looks.first()?, looks.last()?);
    if looks.len() < 2 {
        return None;
    }
    let (from, to) = (first.at, last.at);
    let seen = looks.iter().map(|look| look.total.max(look.unacked)).max()?;
    // A threshold that is far away would make a flat line of what there is.
    let near = |mark: &&Mark| mark.at <= seen.saturating_mul(3).max(10);
    let shown: Vec<_> = marks.iter().filter(near).collect();
    let most = round_up(shown.iter().map(|mark| mark.at + mark.at / 20).max().unwrap_or(0).max(seen).max(1));
    let x = |at: Timestamp| LEFT + along(at, from, to) * (WIDTH - LEFT - RIGHT);
    let y = |size: u64| HEIGHT - BOTTOM - size as f64 / most as f64 * (HEIGHT - TOP - BOTTOM);
    let mut svg = String::new();
    // So many lines that each is at a whole number.
    let steps = [4, 5, 2].into_iter().find(|steps| most.is_multiple_of(*steps)).unwrap_or(1);
    for step in 0..=steps {
        let (at, right) = (most / steps * step, WIDTH - RIGHT);
        let (y, label) = (y(at), number(at));
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"currentColor\" stroke-opacity=\".25\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 8.0,
            y + 4.0
        );
    }
    write_times(&mut svg, from, to);
    for mark in shown {
        let y = y(mark.at);
        let _ = write!(
            svg,
            "<g class=\"mark\"><line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"currentColor\" \
             stroke-dasharray=\"2 4\"/><text x=\"{:.1}\" y=\"{:.1}\">{} {}</text></g>",
            WIDTH - RIGHT,
            LEFT + 6.0,
            y - 4.0,
            mark.name,
            number(mark.at)
        );
    }
    let there = events.iter().filter(|event| event.at >= from && event.at <= to);
    for (row, event) in there.enumerate() {
        let x = x(event.at);
        // What was done at about the same time is told below one another, and left of the line where there is no room right of it.
        let (side, anchor) = if x > WIDTH - 160.0 { (-4.0, "end") } else { (4.0, "start") };
        let _ = write!(
            svg,
            "<g class=\"mark\"><line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\" stroke=\"currentColor\"/><text \
             x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text></g>",
            HEIGHT - BOTTOM,
            x + side,
            TOP + 10.0 + 14.0 * row as f64,
            event.name
        );
    }
    let line = |size: fn(&Look) -> u64| points(looks.iter().map(|look| (x(look.at), y(size(look)))));
    let label = format!(
        "From {} to {}: {} messages at first, {} at last, {} at most. The same numbers are in the table below.",
        moment(from),
        moment(to),
        number(first.total),
        number(last.total),
        number(seen)
    );
    Some(format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">{svg}<polyline class=\"unacked\" \
         points=\"{}\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"1.5\" stroke-dasharray=\"5 3\"/><polyline class=\"total\" \
         points=\"{}\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"2\"/></svg>",
        line(|look| look.unacked),
        line(|look| look.total)
    ))
}

fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{} {} UTC", text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default())
}

/// The times along the bottom.
fn write_times(svg: &mut String, from: Timestamp, to: Timestamp) {
    let span = to.since(from).as_secs();
    let (long, short) = (span > 36 * 3600, span < 600);
    for (part, anchor) in [(0, "start"), (1, "middle"), (2, "middle"), (3, "middle"), (4, "end")] {
        let at = Timestamp::from_millis(from.millis() + (to.millis() - from.millis()) * part / 4);
        let text = at.to_string();
        let shown = if long { text.get(5..10) } else { text.get(11..if short { 19 } else { 16 }) }.unwrap_or_default();
        let zone = if part == 4 && !long { " UTC" } else { "" };
        let x = LEFT + part as f64 / 4.0 * (WIDTH - LEFT - RIGHT);
        let y = HEIGHT - 8.0;
        let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{shown}{zone}</text>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    #[test]
    fn a_scale_ends_at_a_round_number() {
        for (most, end) in [(0, 1), (1, 1), (3, 5), (11, 20), (4321, 5000), (50_001, 100_000)] {
            assert_eq!(round_up(most), end);
        }
        assert!(round_up(u64::MAX) >= u64::MAX / 2);
    }

    #[test]
    fn a_drawing_stays_within_its_edges_and_says_what_it_shows() {
        let look =
            |minute, total| Look { at: at(minute), ready: total, unacked: 0, total, consumers: None, counters: None };
        let looks: Vec<_> = (0..90).map(|minute| look(minute, minute as u64 * 100)).collect();
        let marks = [Mark { at: 4000, name: "warned above" }, Mark { at: u64::MAX, name: "far" }];
        let svg = chart(&looks, &marks, &[Event { at: at(40), name: "warned".to_owned() }]).unwrap();
        assert!(svg.contains("warned above 4,000") && !svg.contains("far") && svg.contains(">warned<"), "{svg}");
        assert!(svg.contains("0 messages at first, 8,900 at last, 8,900 at most"), "{svg}");
        let numbers = svg.split(['"', ' ', ',']).filter_map(|part| part.parse::<f64>().ok());
        assert!(numbers.into_iter().all(|n| (0.0..=WIDTH).contains(&n)));
        assert_eq!((chart(&looks[..1], &marks, &[]), chart(&[], &[], &[])), (None, None));
        assert!(!svg.contains("style"));
    }

    #[test]
    fn a_small_line_shows_small_and_large_queues_below_one_another() {
        let svg = spark(&[(at(0), 0), (at(1), 80), (at(2), 9000)], 4000, 8000).unwrap();
        assert!(svg.contains("9,000 messages at the end, 9,000 at most"), "{svg}");
        assert_eq!(spark(&[(at(0), 5)], 4000, 8000), None);
        assert!(spark(&[(at(0), 0), (at(1), 0)], 4000, 8000).is_some());
    }
}

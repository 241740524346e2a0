//! Which queues of many a page shows, and in which order: as its address says. What is wrong in that is told beside its field,
//! and the rest holds.

use std::cmp::{Ordering, Reverse};
use std::fmt::Write as _;

use url::form_urlencoded;

use super::frame::is_trouble;
use super::visit::Fields;
use crate::domain::owner::Owner;
use crate::domain::shown::{QueueFilter, ShownQueue, is_state};

/// So many rows a page has.
pub(super) const ROWS: usize = 100;

/// By what queues are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    State,
    Messages,
    Unacked,
}

impl Sort {
    pub const ALL: [Sort; 4] = [Sort::Name, Sort::State, Sort::Messages, Sort::Unacked];

    pub fn word(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::State => "state",
            Sort::Messages => "messages",
            Sort::Unacked => "unacked",
        }
    }

    /// Whether the largest comes first, where nothing else is said.
    fn descends(self) -> bool {
        self != Sort::Name
    }
}

/// Whether queues with or without messages are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Any,
    Some,
    None,
}

/// Which queues are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub search: String,
    pub state: String,
    /// As they were given.
    pub least: String,
    pub unacked: String,
    pub namespace: String,
    /// A part of the name of an owner of its namespace.
    pub owner: String,
    pub content: Content,
    /// Only those of namespaces that one owns.
    pub mine: bool,
    pub sort: Sort,
    pub descending: bool,
    /// Counted from one.
    pub page: usize,
    /// What is wrong, by the name of its field.
    pub wrong: Vec<(&'static str, String)>,
    filter: QueueFilter,
    least_unacked: Option<u64>,
}

/// What stands for each trouble in the filter by state.
pub(super) const TROUBLED: &str = "trouble";

impl Choice {
    /// As an address says.
    pub fn read(query: &Fields) -> Choice {
        let mut wrong = Vec::new();
        let [search, state, least, unacked, namespace, owner] =
            ["q", "state", "min", "unacked", "namespace", "owner"].map(|name| query.text(name).to_owned());
        let mut number = |field: &'static str, text: &str| {
            let plain = text.replace(',', "");
            let read = plain.parse::<u64>().ok().filter(|_| plain.len() <= 15);
            if read.is_none() && !text.is_empty() {
                wrong.push((field, "Give a whole number, such as 1000.".to_owned()));
            }
            read
        };
        let (min_messages, least_unacked) = (number("min", &least), number("unacked", &unacked));
        let known = state.is_empty() || state == TROUBLED || is_state(&state);
        if !known {
            wrong.push(("state", "There is no such state.".to_owned()));
        }
        let filter = QueueFilter {
            min_messages,
            state: Some(state.clone()).filter(|state| known && !state.is_empty() && state != TROUBLED),
            ..QueueFilter::default()
        };
        let content = match query.text("content") {
            "some" => Content::Some,
            "none" => Content::None,
            _ => Content::Any,
        };
        let sort = Sort::ALL.into_iter().find(|sort| sort.word() == query.text("sort")).unwrap_or(Sort::Messages);
        let descending = match query.text("order") {
            "up" => false,
            "down" => true,
            _ => sort.descends(),
        };
        let page = query.text("page").parse().unwrap_or(1).max(1);
        let mine = query.text("mine") == "1";
        Choice {
            search,
            state: if known { state } else { String::new() },
            least,
            unacked,
            namespace,
            owner,
            content,
            mine,
            sort,
            descending,
            page,
            wrong,
            filter,
            least_unacked,
        }
    }

    /// Whether a queue is among them.
    pub fn fits(&self, shown: &ShownQueue) -> bool {
        let queue = &shown.queue;
        let messages = queue.messages.unwrap_or(0);
        let found = || queue.name.to_lowercase().contains(&self.search.to_lowercase());
        self.filter.fits(queue)
            && self.filter.fits_state(shown)
            && (self.state != TROUBLED || is_trouble(shown.state()))
            && self.least_unacked.is_none_or(|least| queue.unacked.is_some_and(|unacked| unacked >= least))
            && match self.content {
                Content::Any => true,
                Content::Some => messages > 0,
                Content::None => queue.messages == Some(0),
            }
            && (self.search.is_empty() || found())
    }

    /// Whether the queues of a namespace with these managers are among them.
    pub fn fits_owners(&self, managers: &[Owner]) -> bool {
        let wanted = self.owner.to_lowercase();
        wanted.is_empty() || managers.iter().any(|owner| owner.to_string().to_lowercase().contains(&wanted))
    }

    /// Whether something is chosen that is not always in view.
    pub fn has_more(&self) -> bool {
        let texts = [&self.namespace, &self.owner, &self.least, &self.unacked];
        self.content != Content::Any || self.mine || texts.into_iter().any(|text| !text.is_empty())
    }

    /// Which of two comes first.
    pub fn order(&self, a: &ShownQueue, b: &ShownQueue) -> Ordering {
        let names = || a.queue.name.cmp(&b.queue.name);
        let order = match self.sort {
            Sort::Name => names(),
            Sort::State => weight(a).cmp(&weight(b)),
            Sort::Messages => a.queue.messages.cmp(&b.queue.messages),
            Sort::Unacked => a.queue.unacked.cmp(&b.queue.unacked),
        };
        let order = if self.descending { order.reverse() } else { order };
        order.then_with(names)
    }

    /// The query of the same with these changes; without a page, unless one is given.
    pub fn link(&self, changes: &[(&str, &str)]) -> String {
        let content = match self.content {
            Content::Any => "",
            Content::Some => "some",
            Content::None => "none",
        };
        let order = match (self.descending, self.descending == self.sort.descends()) {
            (_, true) => "",
            (true, false) => "down",
            (false, false) => "up",
        };
        let sort = if self.sort == Sort::Messages { "" } else { self.sort.word() };
        let mine = if self.mine { "1" } else { "" };
        let all = [
            ("q", self.search.as_str()),
            ("namespace", &self.namespace),
            ("owner", &self.owner),
            ("state", &self.state),
            ("min", &self.least),
            ("unacked", &self.unacked),
            ("content", content),
            ("mine", mine),
            ("sort", sort),
            ("order", order),
        ];
        let mut query = form_urlencoded::Serializer::new(String::new());
        let changed = |name: &str| changes.iter().any(|(given, _)| *given == name);
        let kept = all.iter().filter(|(name, _)| !changed(name));
        for (name, value) in kept.chain(changes).filter(|(_, value)| !value.is_empty()) {
            query.append_pair(name, value);
        }
        let mut link = String::new();
        let query = query.finish();
        if !query.is_empty() {
            let _ = write!(link, "?{query}");
        }
        link
    }

    /// The query that sorts by `sort`; the other way round where that is so already.
    pub fn sorted_by(&self, sort: Sort) -> String {
        let down = if self.sort == sort { !self.descending } else { sort.descends() };
        let order = if down == sort.descends() {
            ""
        } else if down {
            "down"
        } else {
            "up"
        };
        self.link(&[("sort", if sort == Sort::Messages { "" } else { sort.word() }), ("order", order)])
    }

    /// What is wrong in a field.
    pub fn wrong(&self, field: &str) -> Option<&str> {
        self.wrong.iter().find(|(of, _)| *of == field).map(|(_, why)| why.as_str())
    }
}

/// How much a queue's state matters, and its size among such.
pub(super) fn weight(shown: &ShownQueue) -> (u8, Option<u64>) {
    let state = match shown.state() {
        "stalled" | "stopped" | "no consumer" | "looping" | "hoarding" => 4,
        "slow" => 3,
        "draining" => 2,
        "unknown" => 1,
        _ => 0,
    };
    (state, shown.queue.messages)
}

/// The part of `all` that this page shows, and how many pages there are.
pub(super) fn page_of<T>(all: Vec<T>, page: usize) -> (Vec<T>, usize, usize) {
    let pages = all.len().div_ceil(ROWS).max(1);
    let page = page.min(pages);
    (all.into_iter().skip((page - 1) * ROWS).take(ROWS).collect(), page, pages)
}

/// The worst of some queues.
pub(super) fn worst<'a>(all: impl Iterator<Item = &'a ShownQueue>) -> Option<&'a ShownQueue> {
    all.min_by_key(|shown| Reverse(weight(shown)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::inventory::{BrokerQueue, QueueKind};

    fn queue(name: &str, messages: Option<u64>, unacked: u64) -> ShownQueue {
        let queue = BrokerQueue {
            name: format!("queue/taskcluster-x/{name}"),
            messages,
            unacked: Some(unacked),
            fingerprint: 1,
            kind: QueueKind::Classic,
            exclusive: false,
        };
        ShownQueue { queue, verdict: None, watched: None, exempted: None }
    }

    fn read(query: &str) -> Choice {
        Choice::read(&Fields::read(query.as_bytes()))
    }

    fn chosen(query: &str) -> Vec<String> {
        let choice = read(query);
        let mut all = [queue("b", Some(5), 0), queue("A", Some(0), 0), queue("c", None, 0), queue("d", Some(900), 7)];
        all.sort_by(|a, b| choice.order(a, b));
        let fits = all.into_iter().filter(|shown| choice.fits(shown));
        fits.map(|shown| shown.queue.name.rsplit('/').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn an_address_says_which_queues_are_shown_and_in_which_order() {
        for (query, expected) in [
            ("", "d b A c"),
            ("sort=name", "A b c d"),
            ("sort=name&order=down", "d c b A"),
            ("order=up", "c A b d"),
            ("sort=unacked&order=up", "A b c d"),
            ("sort=state", "d b c A"),
            ("q=X/D", "d"),
            ("min=1,000", ""),
            ("min=5", "d b"),
            ("unacked=7", "d"),
            ("content=none", "A"),
            ("content=some", "d b"),
            ("state=fine", "A"),
            ("state=trouble", ""),
            ("state=unknown&min=6", "d"),
        ] {
            assert_eq!(chosen(query).join(" "), expected, "{query}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_beside_its_field_and_locks_nobody_out() {
        let choice = read("min=x&state=%3Cscript%3E&unacked=-1&page=99999999999999999999&sort=?");
        let wrong: Vec<_> = choice.wrong.iter().map(|(field, _)| *field).collect();
        assert_eq!((wrong, choice.page), (vec!["min", "unacked", "state"], 1));
        assert_eq!(chosen("min=x&state=y").len(), 4);
        assert!(choice.wrong("min").is_some() && choice.wrong("q").is_none());
    }

    #[test]
    fn a_link_keeps_what_it_does_not_change() {
        let choice = read("q=a%26b&state=slow&sort=name&page=3");
        assert_eq!(choice.link(&[]), "?q=a%26b&state=slow&sort=name");
        assert_eq!(choice.link(&[("page", "2"), ("state", "")]), "?q=a%26b&sort=name&page=2");
        assert_eq!(choice.sorted_by(Sort::Name), "?q=a%26b&state=slow&sort=name&order=down");
        assert_eq!(read("").sorted_by(Sort::Messages), "?order=up");
        assert_eq!(read("order=up").sorted_by(Sort::Messages), "");
        assert_eq!(read("").link(&[]), "");
    }

    #[test]
    fn an_owner_is_found_by_a_part_of_the_name() {
        let managers = ["you@example.com", "group:RelEng"].map(|owner| Owner::parse(owner).unwrap());
        for (owner, fits) in [("", true), ("YOU@", true), ("releng", true), ("group:", true), ("other", false)] {
            let choice = read(&format!("owner={owner}"));
            assert_eq!((choice.fits_owners(&managers), choice.has_more()), (fits, !owner.is_empty()), "{owner}");
        }
        assert!(!read("owner=a").fits_owners(&[]) && read("").fits_owners(&[]));
        assert_eq!(read("owner=a%40b&q=x").link(&[("page", "2")]), "?q=x&owner=a%40b&page=2");
    }

    #[test]
    fn a_page_that_is_not_there_is_the_last_one() {
        let all: Vec<_> = (0..250).collect();
        let (rows, page, pages) = page_of(all.clone(), 9);
        assert_eq!((rows.len(), rows[0], page, pages), (50, 200, 3, 3));
        assert_eq!(page_of(all, 1).0.len(), ROWS);
        assert_eq!(page_of(Vec::<u8>::new(), 5), (vec![], 1, 1));
    }
}

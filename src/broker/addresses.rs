//! Where the management API is: at one address, or at those of several nodes of one cluster.
//!
//! They are called in the order in which they were given. One that fails rests, so that not each call has to find out anew; when its
//! rest is over, one call tries it again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::account::BadManagement;

/// How long an address rests that failed for the first time, and at most after it failed again and again.
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// A call that was given up after so long says that the node hangs.
const HANGS: Duration = Duration::from_secs(1);

/// How long it is believed of a node that it is one of the cluster's majority, and of one that is alone that it is.
const SOUND: Duration = Duration::from_secs(5);
const ALONE: Duration = Duration::from_secs(60);

/// One address.
struct Address {
    /// With a slash at its end.
    api: Url,
    state: Mutex<State>,
    /// Whose turn it is to examine the node.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Until when it rests, and how long this rest is.
    rest: Option<(Instant, Duration)>,
    /// Until when it is believed that its lists are those of the cluster.
    sound: Option<Instant>,
    /// Whether it is known that names come through as they are.
    transparent: bool,
}

/// All of them.
pub(super) struct Addresses(Vec<Address>);

impl Addresses {
    /// Those below these URLs.
    pub(super) fn new(urls: &[Url]) -> Result<Addresses, BadManagement> {
        let address = |url: &Url| Ok(Address { api: api_url(url)?, state: Mutex::default(), turn: Default::default() });
        let all: Vec<_> = urls.iter().map(address).collect::<Result<_, _>>()?;
        if all.is_empty() { Err(BadManagement::Url) } else { Ok(Addresses(all)) }
    }

    /// Where it is; it holds no secret.
    pub(super) fn api(&self, at: usize) -> &Url {
        &self.0[at].api
    }

    /// All of them, for people.
    pub(super) fn shown(&self) -> String {
        self.0.iter().map(|address| address.api.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Host and port, for an error.
    pub(super) fn host(&self, at: usize) -> String {
        let api = self.api(at);
        format!("{}:{}", api.host_str().unwrap_or_default(), api.port_or_known_default().unwrap_or_default())
    }

    /// Which to try, one after the other: those that don't rest in their order, then the others, the sooner their rest ends.
    pub(super) fn order(&self) -> Vec<usize> {
        if self.0.len() == 1 {
            return vec![0];
        }
        let now = Instant::now();
        let resting = |at: &usize| {
            let mut state = self.state(*at);
            match &mut state.rest {
                Some((until, _)) if now < *until => Some(*until),
                Some((until, rest)) => {
                    // This call tries it, and others pass it over meanwhile.
                    *until = now + *rest;
                    None
                }
                None => None,
            }
        };
        let mut order: Vec<_> = (0..self.0.len()).map(|at| (resting(&at), at)).collect();
        order.sort();
        order.into_iter().map(|(_, at)| at).collect()
    }

    /// Begins a try at one of them. If it is `telling`, who gives it up after a while has found that the node hangs.
    pub(super) fn begin(&self, at: usize, telling: bool) -> Try<'_> {
        Try { addresses: self, at, began: Instant::now(), telling }
    }

    /// Lets one rest, because of what is told.
    pub(super) fn fail(&self, at: usize, why: &str) {
        if self.0.len() == 1 {
            return;
        }
        let (mut state, now) = (self.state(at), Instant::now());
        let before = state.rest.map(|(_, rest)| rest);
        let rest = before.map_or(FIRST_REST, |rest| (rest * 2).min(LONGEST_REST));
        state.rest = Some((now + rest, rest));
        state.sound = None;
        drop(state);
        if before.is_none() {
            tracing::warn!(
                r#type = "monitor.rabbitmq",
                "another node of RabbitMQ is called than {}: {why}",
                self.host(at)
            );
        }
    }

    fn works(&self, at: usize) {
        let was_resting = self.state(at).rest.take();
        if was_resting.is_some() {
            tracing::info!(r#type = "monitor.rabbitmq", "{} of RabbitMQ answers again", self.host(at));
        }
    }

    /// Whether there is more than one.
    pub(super) fn are_several(&self) -> bool {
        self.0.len() > 1
    }

    /// Whether it is still believed that its lists are those of the cluster.
    pub(super) fn is_sound(&self, at: usize) -> bool {
        self.state(at).sound.is_some_and(|until| Instant::now() < until)
    }

    /// Waits for the turn to examine it.
    pub(super) async fn turn(&self, at: usize) -> tokio::sync::MutexGuard<'_, ()> {
        self.0[at].turn.lock().await
    }

    /// They are, for a while, as far as can be told; `alone` where there is no other node.
    pub(super) fn found_sound(&self, at: usize, alone: bool) {
        self.state(at).sound = Some(Instant::now() + if alone { ALONE } else { SOUND });
    }

    /// Whether it is known that names come through as they are.
    pub(super) fn is_transparent(&self, at: usize) -> bool {
        self.state(at).transparent
    }

    /// They do.
    pub(super) fn found_transparent(&self, at: usize) {
        self.state(at).transparent = true;
    }

    fn state(&self, at: usize) -> MutexGuard<'_, State> {
        self.0[at].state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is under way at an address.
pub(super) struct Try<'a> {
    addresses: &'a Addresses,
    at: usize,
    began: Instant,
    telling: bool,
}

impl Try<'_> {
    /// It was answered.
    pub(super) fn works(mut self) {
        self.telling = false;
        self.addresses.works(self.at);
    }

    /// It failed for a reason that lies with the node.
    pub(super) fn fails(mut self, why: &str) {
        self.telling = false;
        self.addresses.fail(self.at, why);
    }

    /// It says nothing about the node.
    pub(super) fn ends(mut self) {
        self.telling = false;
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        if self.telling && self.began.elapsed() >= HANGS {
            self.addresses.fail(self.at, "it does not answer");
        }
    }
}

/// The address of the API below `base`, whether or not `base` ends with a slash, or with `/api` as the 2018 service
/// wanted it.
fn api_url(base: &Url) -> Result<Url, BadManagement> {
    let plain = base.username().is_empty() && base.password().is_none();
    let bare = base.query().is_none() && base.fragment().is_none() && base.has_host();
    if !plain || !bare || !matches!(base.scheme(), "http" | "https") {
        return Err(BadManagement::Url);
    }
    let mut api = base.clone();
    let path = base.path().trim_end_matches('/');
    api.set_path(&format!("{}/api/", path.strip_suffix("/api").unwrap_or(path)));
    Ok(api)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(urls: &[&str]) -> Result<Addresses, BadManagement> {
        Addresses::new(&urls.iter().map(|url| url.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn the_base_url_may_have_a_path_a_slash_and_api_at_its_end() {
        for (base, api) in [
            ("http://h", "http://h/api/"),
            ("http://h:1/", "http://h:1/api/"),
            ("https://h/api", "https://h/api/"),
            ("http://h/api/", "http://h/api/"),
            ("http://h/a%2Fb/c", "http://h/a%2Fb/c/api/"),
            ("http://h/a//", "http://h/a/api/"),
        ] {
            assert_eq!(addresses(&[base]).ok().unwrap().api(0).as_str(), api);
        }
    }

    #[test]
    fn a_base_url_of_another_kind_is_refused_and_not_repeated() {
        for base in ["ftp://h", "http://u:secret@h", "http://h?secret", "http://h#secret", "mailto:secret"] {
            let error = addresses(&["http://h", base]).err().unwrap().to_string();
            assert!(!error.contains("secret") && error.contains("http://host:15672"), "{error}");
        }
        assert!(addresses(&[]).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_fails_rests_and_is_tried_again_by_one_call() {
        let all = addresses(&["http://a", "http://b", "http://c"]).ok().unwrap();
        assert_eq!(all.order(), [0, 1, 2]);
        all.begin(0, true).fails("it is down");
        assert_eq!(all.order(), [1, 2, 0]);
        all.begin(1, true).fails("it is down, too");
        assert_eq!(all.order(), [2, 0, 1]);
        all.begin(1, true).works();
        assert_eq!(all.order(), [1, 2, 0]);
        tokio::time::advance(FIRST_REST).await;
        assert_eq!((all.order(), all.order()), (vec![0, 1, 2], vec![1, 2, 0]), "one call tries it");
        all.begin(0, true).fails("it is still down");
        tokio::time::advance(FIRST_REST).await;
        assert_eq!(all.order(), [1, 2, 0], "it rests longer each time");
        tokio::time::advance(FIRST_REST).await;
        assert_eq!(all.order(), [0, 1, 2]);
        all.begin(0, true).works();
        assert_eq!(all.order(), [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_after_a_while_says_that_the_node_hangs() {
        let all = addresses(&["http://a", "http://b"]).ok().unwrap();
        drop(all.begin(0, true));
        assert_eq!(all.order(), [0, 1], "nobody waited for it");
        let waited = all.begin(0, true);
        let (whole, own) = (all.begin(1, false), waited);
        tokio::time::advance(HANGS).await;
        drop((whole, own));
        assert_eq!(all.order(), [1, 0], "what needs the other nodes, too, says nothing of the one that was asked");
    }
}

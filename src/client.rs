//! For programs that use the service: the current credentials of a namespace, renewed in time.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use futures::StreamExt as _;
//! # use taskcluster_pulse::{client, clock::SystemClock, taskcluster::Taskcluster};
//! # async fn consume(taskcluster: Arc<Taskcluster>) {
//! let options = client::ClaimOptions::default();
//! let mut credentials = client::claims(taskcluster, "taskcluster-me", options, Arc::new(SystemClock));
//! while let Some(item) = credentials.next().await {
//!     match item {
//!         Ok(fresh) => { /* connect with fresh.connection_string.expose(), then close the connection before */ }
//!         Err(trouble) => eprintln!("{trouble}"), // it goes on by itself
//!     }
//! }
//! # }
//! ```

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::secret::Secret;
use crate::taskcluster::{Taskcluster, TaskclusterError, segment};

/// The name of the service in URLs.
const SERVICE: &str = "pulse";
/// The next claim comes after at least this part of the time for which a connection string works.
///
/// The service switches passwords once in each interval, and a string works until half an interval after the switch. So
/// a string works for between a half and one and a half intervals, and two thirds of that always end after the switch.
/// The next claim then returns a new string, and there is one claim in each interval.
const EARLIEST: f64 = 0.7;
/// A random part of up to this much is added, so that programs that claimed together don't claim together again. The
/// rest, at least a fifth, is left for outages.
const SPREAD: f64 = 0.1;
/// The longest time between two claims, whatever the service says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// A string that works for less than this is of no use, and counts as a failure. The service rotates at most every 2 s,
/// so its strings work for at least 1 s.
const LEAST: Duration = Duration::from_secs(1);
/// The pause after a first failure. Each later pause is twice as long.
const BASE_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often we read the clock while there is nothing to do. Timers stop while a computer sleeps, and don't notice when
/// its clock is set.
const RECHECK: Duration = Duration::from_secs(10);

/// When a namespace should expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expires {
    /// At this time.
    At(Timestamp),
    /// This long after each claim.
    In(Duration),
}

/// What a claim asks for, besides the namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimOptions {
    /// When the namespace should expire. If left out, the service decides: 4 hours after each claim, or later.
    pub expires: Option<Expires>,
    /// The e-mail address that gets warnings, empty for nobody. If left out, the contact stays.
    pub contact: Option<String>,
}

/// The credentials that a consumer connects with. `Debug` does not show the connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The AMQP URL, with user and password. It is wiped from memory when it is dropped.
    pub connection_string: Secret,
    /// Until when it is certain to log in.
    pub reclaim_at: Timestamp,
    /// When the namespace expires, unless it is claimed again.
    pub expires: Timestamp,
}

impl Credentials {
    /// Until when they are certain to work. Afterwards the password may change, or the namespace may be removed.
    pub fn good_until(&self) -> Timestamp {
        self.reclaim_at.min(self.expires)
    }

    fn read(mut answer: Value) -> Result<Credentials, TaskclusterError> {
        let date = |key: &str| answer[key].as_str().and_then(Timestamp::parse).ok_or_else(|| lacking(key));
        let (reclaim_at, expires) = (date("reclaimAt")?, date("expires")?);
        match answer.get_mut("connectionString").map(Value::take) {
            Some(Value::String(text)) => Ok(Credentials { connection_string: Secret::new(text), reclaim_at, expires }),
            _ => Err(lacking("connectionString")),
        }
    }
}

fn lacking(key: &str) -> TaskclusterError {
    TaskclusterError::Garbled { service: SERVICE.to_owned(), why: format!("it holds no usable {key}") }
}

/// Why there are no new credentials. In each case, claiming continues.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The service can't be reached, or can't serve. The last credentials work until their time is over.
    #[error("the namespace can't be claimed for now, which is tried again: {0}")]
    Unavailable(TaskclusterError),
    /// The service refuses, and waiting will hardly help: the credentials or scopes are wrong, or the name is not
    /// allowed.
    #[error("the claim is refused: {0}")]
    Refused(TaskclusterError),
    /// The last credentials were certain to work until this moment, which has passed. They may or may not still log in.
    #[error("the connection string was certain to log in until {0}, and could not be renewed since")]
    Uncertain(Timestamp),
}

/// Whether to give up a claim that failed with this error, because a person has to change something first.
pub fn is_refusal(error: &TaskclusterError) -> bool {
    match error {
        TaskclusterError::Unusable(_) => true,
        // 408 and 429 mean: later.
        TaskclusterError::Refused { status, .. } => *status < 500 && !matches!(status, 408 | 429),
        TaskclusterError::Unreachable { .. } | TaskclusterError::Garbled { .. } => false,
    }
}

/// Claims `namespace` once, and returns the service's answer, which contains the connection string in clear.
///
/// # Errors
/// Those of the call; see [`is_refusal`].
pub async fn claim(
    taskcluster: &Taskcluster,
    namespace: &str,
    options: &ClaimOptions,
    now: Timestamp,
) -> Result<Value, TaskclusterError> {
    let mut body = Map::new();
    if let Some(expires) = options.expires {
        let expires = match expires {
            Expires::At(at) => at,
            Expires::In(span) => now.plus(span),
        };
        body.insert("expires".to_owned(), json!(expires.to_string()));
    }
    if let Some(contact) = &options.contact {
        body.insert("contact".to_owned(), json!(contact));
    }
    let path = format!("namespace/{}", segment(namespace));
    Ok(taskcluster.call(Method::POST, SERVICE, &path, Some(&Value::Object(body))).await?.body)
}

/// The stream that [`claims`] returns.
pub type Claims = BoxStream<'static, Result<Credentials, Trouble>>;

/// The current credentials of `namespace`: claimed at once, and again well before they stop working.
///
/// The stream never ends. It claims only while it is polled, so drop it to stop claiming.
///
/// * It yields credentials when the connection string has changed, so connect anew for each such item. It yields the
///   same string again only after [`Trouble::Uncertain`], when the string is certain to work again.
/// * If a claim fails, it retries without end, after a growing, random pause of at most a minute; also after a refusal.
///   It yields one item when that begins, and one when an outage becomes a refusal or the reverse, but not one for each
///   attempt. The last credentials work until [`Credentials::good_until`].
/// * When that time has passed without a renewal, it yields [`Trouble::Uncertain`] once.
///
/// It compares times with `clock`. If that clock differs from the service's, the next claim comes earlier or later by
/// as much.
pub fn claims(taskcluster: Arc<Taskcluster>, namespace: &str, options: ClaimOptions, clock: Arc<dyn Clock>) -> Claims {
    let source = Arc::new(Source { taskcluster, namespace: namespace.to_owned(), options });
    let due = Due { at: clock.now(), by: Instant::now() };
    let claimant =
        Claimant { source, clock, current: None, claiming: None, due, failures: 0, refused: None, doubted: false };
    stream::unfold(claimant, async |mut claimant| Some((claimant.next().await, claimant))).boxed()
}

/// How long to wait after a claim before the next one. `left` is how long its credentials work, or how long the former
/// ones still work if it failed. `failures` is how many claims failed in a row. `random` is between 0 and 1.
pub fn next_claim(left: Duration, failures: u32, random: f64) -> Duration {
    match failures.checked_sub(1) {
        None => left.clamp(LEAST, LONGEST).mul_f64(EARLIEST + SPREAD * random),
        Some(earlier) => {
            let doubled = BASE_PAUSE.saturating_mul(2_u32.saturating_pow(earlier)).min(LONGEST_PAUSE);
            doubled.mul_f64(0.5 + random / 2.0)
        }
    }
}

/// The namespace to claim, and where to claim it.
struct Source {
    taskcluster: Arc<Taskcluster>,
    namespace: String,
    options: ClaimOptions,
}

/// When the next claim comes: at a time of the clock or of the timers, whichever is first. The clock continues while a
/// computer sleeps. The timers don't wait for years if the clock was wrong by years.
struct Due {
    at: Timestamp,
    by: Instant,
}

impl Due {
    fn left(&self, now: Timestamp) -> Duration {
        self.at.since(now).min(self.by.saturating_duration_since(Instant::now()))
    }
}

/// The state behind [`claims`].
struct Claimant {
    source: Arc<Source>,
    clock: Arc<dyn Clock>,
    current: Option<Credentials>,
    /// The claim in progress. It continues while an item is yielded.
    claiming: Option<BoxFuture<'static, Result<Credentials, TaskclusterError>>>,
    due: Due,
    /// How many claims have failed since the last success.
    failures: u32,
    /// Whether the last failed claim was a refusal; `None` if the last claim succeeded.
    refused: Option<bool>,
    /// Whether we have said that the current credentials are no longer certain.
    doubted: bool,
}

impl Claimant {
    async fn next(&mut self) -> Result<Credentials, Trouble> {
        loop {
            let now = self.clock.now();
            if self.claiming.is_none() && self.due.left(now).is_zero() {
                // After a sleep, the answer comes before a doubt would help.
                self.claiming = Some(self.claim(now));
            } else if let Some(trouble) = self.doubt(now) {
                return Err(trouble);
            }
            let pause = self.pause(now);
            let Some(claiming) = &mut self.claiming else {
                tokio::time::sleep(pause).await;
                continue;
            };
            if let Ok(answer) = tokio::time::timeout(pause, claiming).await {
                self.claiming = None;
                let item = match answer {
                    Ok(fresh) => self.renew(fresh).map(Ok),
                    Err(error) => self.fail(error).map(Err),
                };
                if let Some(item) = item {
                    return item;
                }
            }
        }
    }

    fn claim(&self, now: Timestamp) -> BoxFuture<'static, Result<Credentials, TaskclusterError>> {
        let source = self.source.clone();
        async move {
            let Source { taskcluster, namespace, options } = &*source;
            Credentials::read(claim(taskcluster, namespace, options, now).await?)
        }
        .boxed()
    }

    /// How long there is nothing to do.
    fn pause(&self, now: Timestamp) -> Duration {
        let claim = self.claiming.is_none().then(|| self.due.left(now));
        let doubt = self.current.as_ref().map(|current| current.good_until().since(now));
        [claim, doubt].into_iter().flatten().filter(|left| !left.is_zero()).fold(RECHECK, Duration::min)
    }

    /// Says once that the current credentials are no longer certain.
    fn doubt(&mut self, now: Timestamp) -> Option<Trouble> {
        let good_until = self.current.as_ref()?.good_until();
        let news = good_until <= now && !self.doubted;
        self.doubted |= news;
        news.then_some(Trouble::Uncertain(good_until))
    }

    fn renew(&mut self, fresh: Credentials) -> Option<Credentials> {
        let now = self.clock.now();
        let left = fresh.good_until().since(now);
        self.failures = if left < LEAST { self.failures.saturating_add(1) } else { 0 };
        self.refused = None;
        self.schedule(now, left);
        let certain_again = self.doubted && !left.is_zero();
        self.doubted &= !certain_again;
        let before = self.current.replace(fresh.clone());
        let changed = before.is_none_or(|before| before.connection_string != fresh.connection_string);
        (changed || certain_again).then_some(fresh)
    }

    fn fail(&mut self, error: TaskclusterError) -> Option<Trouble> {
        let now = self.clock.now();
        self.failures = self.failures.saturating_add(1);
        self.schedule(now, Duration::ZERO);
        let refused = is_refusal(&error);
        if self.refused.replace(refused) == Some(refused) {
            tracing::debug!(%error, failures = self.failures, "a claim failed again");
            return None;
        }
        Some(if refused { Trouble::Refused(error) } else { Trouble::Unavailable(error) })
    }

    fn schedule(&mut self, now: Timestamp, left: Duration) {
        let wait = next_claim(left, self.failures, rand::random());
        self.due = Due { at: now.plus(wait), by: Instant::now() + wait };
    }
}

//! Clients that claim again and again, and log in with what they are answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt as _, stream};
use reqwest::{Method, Url};
use serde_json::json;
use taskcluster_pulse::clock::{Clock, SystemClock, Timestamp};
use taskcluster_pulse::taskcluster::{ClientCredentials, Reply, RetryPolicy, Taskcluster, TaskclusterError};
use tokio::time::{sleep, timeout};

use super::caller::Caller;
use super::phases::NAMESPACES;
use super::tally::{Answer, Claim};
use crate::support::cluster::at;
use crate::support::rabbitmq;
use crate::world::name;

/// How long a client waits after one claim before the next.
const PAUSE: Duration = Duration::from_secs(3);
/// How long before its `reclaimAt` a credential has to work for the last time.
const LAST_LOGIN: Duration = Duration::from_secs(1);
/// How long a login may take.
const LOGIN_PATIENCE: Duration = Duration::from_secs(10);
/// How often Taskcluster's clients try again, and half of their first pause.
const RETRIES: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How things are.
#[derive(Clone, Copy)]
pub struct State {
    /// The number of the phase.
    pub phase: usize,
    /// Whether the broker has to let clients in.
    pub broker_is_up: bool,
    /// The node of a cluster that is down.
    pub down: Option<usize>,
    /// Whether there is certainly no database.
    pub only_memory: bool,
    /// Whether no more is claimed.
    pub over: bool,
}

/// What the clients share.
pub struct Scene {
    /// A client for each web process, by caller.
    services: [Vec<Taskcluster>; 2],
    /// Where the nodes of a cluster speak AMQP; nothing where there is none, and strings are good as they are.
    nodes: Vec<String>,
    began: Instant,
    state: Mutex<State>,
    claims: Mutex<Vec<Claim>>,
}

impl Scene {
    /// With web processes at these root URLs, and the nodes of a cluster, if there is one, at these.
    pub fn new(servers: &[&Url], nodes: Vec<String>) -> Result<Scene> {
        // One attempt at a time: those that follow are made here.
        let limits = RetryPolicy { retries: 0, ..RetryPolicy::default() };
        let service = |caller: Caller, url: &Url| {
            let (client_id, access_token) = (caller.id().to_owned(), caller.key().to_owned());
            let credentials = ClientCredentials { client_id, access_token, certificate: None };
            Taskcluster::new(url.clone(), Some(credentials), Arc::new(SystemClock), limits)
        };
        let all = |caller| servers.iter().map(|url| service(caller, url)).collect::<Result<_, _>>();
        let services = [all(Caller::Local)?, all(Caller::Remote)?];
        let state = State { phase: 0, broker_is_up: true, down: None, only_memory: false, over: false };
        Ok(Scene { services, nodes, began: Instant::now(), state: Mutex::new(state), claims: Mutex::default() })
    }

    /// Changes how things are.
    pub fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claims(&self) -> MutexGuard<'_, Vec<Claim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All claims, with those whose login is still to be tried tried.
    pub async fn take_claims(&self) -> Vec<Claim> {
        self.log_in_late().await;
        std::mem::take(&mut self.claims())
    }

    /// Claims a namespace at each web process, so that they know it.
    pub async fn introduce(&self, namespace: usize) -> Result<()> {
        for service in &self.services[Caller::of(namespace) as usize] {
            claim(service, namespace).await?;
        }
        Ok(())
    }

    /// Claims a namespace every few seconds, and when a credential that it was answered says so.
    pub async fn claim_until_over(self: Arc<Self>, namespace: usize) {
        sleep(PAUSE * namespace as u32 / NAMESPACES as u32).await;
        let mut turns = 0..;
        let mut held: Option<(usize, Timestamp)> = None;
        while !self.state().over {
            let is_due = held.is_some_and(|(_, reclaim_at)| reclaim_at <= SystemClock.now());
            let made = self.claim(namespace, is_due, &mut turns).await;
            let (number, answered) = {
                let mut claims = self.claims();
                let answered = made.answer.as_ref().map(|answer| answer.reclaim_at);
                claims.push(made);
                (claims.len() - 1, answered)
            };
            if answered.is_some() {
                self.log_in(number).await;
            }
            if held.is_none() || is_due {
                held = answered.map(|reclaim_at| (number, reclaim_at)).or(held);
            }
            let now = SystemClock.now();
            match held {
                Some((number, reclaim_at)) if reclaim_at > now && reclaim_at.since(now) < PAUSE => {
                    sleep(reclaim_at.since(now).saturating_sub(LAST_LOGIN)).await;
                    self.log_in(number).await;
                    sleep(reclaim_at.since(SystemClock.now())).await;
                }
                _ => sleep(PAUSE).await,
            }
        }
    }

    /// Claims as Taskcluster's clients do, at the next web process each time.
    async fn claim(&self, namespace: usize, is_due: bool, turns: &mut impl Iterator<Item = usize>) -> Claim {
        let services = &self.services[Caller::of(namespace) as usize];
        let (before, at) = (self.state(), self.began.elapsed());
        let mut claim_made = Claim {
            phase: before.phase,
            caller: Caller::of(namespace),
            at,
            is_due,
            took: Duration::ZERO,
            refused: None,
            remembered: false,
            answer: None,
            works: None,
        };
        for (attempt, turn) in (0..=RETRIES).zip(turns) {
            let began = Instant::now();
            let claimed = claim(&services[turn % services.len()], namespace).await;
            if attempt == 0 {
                claim_made.took = began.elapsed();
            }
            match claimed {
                Ok(answer) => {
                    claim_made.answer = Some(answer);
                    claim_made.remembered = before.only_memory && self.state().only_memory;
                    break;
                }
                Err(error) => {
                    // Without what is different each time.
                    let why = error.to_string();
                    let why = why.split_once(" (incidentId").map_or(why.as_str(), |(why, _)| why);
                    claim_made.refused.get_or_insert_with(|| why.replace(name(namespace).as_str(), "<namespace>"));
                }
            }
            if attempt < RETRIES {
                sleep((RETRY_PAUSE * 2_u32.pow(attempt + 1)).mul_f64(0.75 + rand::random::<f64>() / 2.0)).await;
            }
        }
        claim_made
    }

    /// Logs in with what a claim was answered, and notes whether that worked. Nothing is known while the broker is down.
    async fn log_in(&self, number: usize) {
        let answered = self.claims()[number].answer.clone();
        let Some(answer) = answered.filter(|_| self.state().broker_is_up) else { return };
        let works = self.lets_in(&answer.connection_string).await;
        if self.state().broker_is_up {
            let claim = &mut self.claims()[number];
            claim.works = Some(works && claim.works != Some(false));
        }
    }

    /// Whether the broker lets in who has this; of a cluster, a node that is up, as through a balancer.
    async fn lets_in(&self, connection_string: &str) -> bool {
        let down = self.state().down;
        match self.nodes.iter().enumerate().find(|(node, _)| Some(*node) != down) {
            Some((_, amqp)) => log_in(&at(connection_string, amqp)).await,
            None => log_in(connection_string).await,
        }
    }

    /// Logs in with what could not be tried while the broker was down, if it is still to be good.
    pub async fn log_in_late(&self) {
        let mut waiting: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (number, claim) in self.claims().iter().enumerate() {
            if let (Some(answer), None) = (&claim.answer, claim.works) {
                waiting.entry(answer.connection_string.clone()).or_default().push(number);
            }
        }
        let tried = stream::iter(waiting).map(async |(string, numbers)| (self.lets_in(&string).await, numbers));
        let done = tried.buffer_unordered(4).for_each(async |(works, numbers)| {
            let (mut claims, now) = (self.claims(), SystemClock.now());
            for number in numbers {
                let is_good = claims[number].answer.as_ref().is_some_and(|answer| now < answer.reclaim_at);
                claims[number].works = is_good.then_some(works);
            }
        });
        done.await;
    }
}

/// Claims as Taskcluster's clients do: it expires four hours from now.
async fn claim(service: &Taskcluster, namespace: usize) -> Result<Answer, TaskclusterError> {
    let expires = SystemClock.now().plus(Duration::from_secs(4 * 3600)).to_string();
    let asked = json!({"expires": expires, "contact": "owner@example.com"});
    let reply = service.call(Method::POST, "pulse", &format!("namespace/{}", name(namespace)), Some(&asked)).await?;
    answer(&reply).map_err(|error| TaskclusterError::Garbled { service: "pulse".to_owned(), why: error.to_string() })
}

fn answer(reply: &Reply) -> Result<Answer> {
    let text = |key: &str| reply.body[key].as_str().context("a text that is not there");
    let reclaim_at = Timestamp::parse(text("reclaimAt")?).context("a time that is none")?;
    Ok(Answer { connection_string: text("connectionString")?.to_owned(), reclaim_at })
}

/// Whether the broker lets in who has this.
async fn log_in(connection_string: &str) -> bool {
    let connected = timeout(LOGIN_PATIENCE, rabbitmq::log_in(connection_string)).await;
    let Ok(Ok(connection)) = connected else { return false };
    // It is in; how it leaves is no matter.
    let _ = timeout(LOGIN_PATIENCE, connection.close(200, "bye".into())).await;
    true
}

//! The cookie that holds the id of a session.
//!
//! `__Host-` has browsers take it over HTTPS from this very host alone, and send it to no other. Over plain HTTP they keep no
//! such cookie, or only for some names of the own machine, so that there, where the service is for nobody else, it is called
//! otherwise and not marked `Secure`. It is `Lax`, because a link in a mail leads to a page and must find its reader
//! signed in; what changes something is told by other means where it comes from, see [`super::sender`].

use axum::http::{HeaderMap, HeaderValue, header};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::access::attempt::Attempt;
use crate::access::people::People;
use crate::access::sessions::SessionId;
use crate::domain::session::LIFETIME;

fn name(people: &People) -> &'static str {
    if people.plain { "pulse-development" } else { "__Host-pulse" }
}

/// Begins the name of the cookie of an attempt to sign in. Each attempt has one, so that two tabs may do so at once.
const ATTEMPT: &str = "pulse-sign-in-";
/// How long somebody has to sign in at the provider, in seconds.
const ATTEMPT_LASTS: u32 = 600;
/// So many attempts one browser has at a time.
const ATTEMPTS: usize = 5;

fn attempt_name(people: &People, state: &str) -> String {
    let prefix = if people.plain { "" } else { "__Host-" };
    format!("{prefix}{ATTEMPT}{}", state.get(..12).unwrap_or(state))
}

/// All cookies that a browser sent.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

/// Has the browser keep an attempt, with where to go then, and forget the oldest ones of many.
pub(super) fn set_attempt(people: &People, headers: &HeaderMap, attempt: &Attempt, to: &str) -> Vec<HeaderValue> {
    let own = attempt_name(people, &attempt.state);
    let to = utf8_percent_encode(to, NON_ALPHANUMERIC);
    let kept = [made(people, &own, &format!("{}.{to}", attempt.to_text()), ATTEMPT_LASTS)];
    let prefix = attempt_name(people, "");
    let others: Vec<_> = pairs(headers).map(|(name, _)| name).filter(|name| name.starts_with(&prefix)).collect();
    let surplus = others.len().saturating_sub(ATTEMPTS - 1);
    let gone = others.into_iter().take(surplus).map(|name| made(people, name, "", 0));
    kept.into_iter().chain(gone).flatten().collect()
}

/// The attempt that a provider's answer belongs to, where to go then, and the cookie that forgets it.
pub(super) fn take_attempt(
    people: &People,
    headers: &HeaderMap,
    state: &str,
) -> Option<(Attempt, String, Option<HeaderValue>)> {
    let name = attempt_name(people, state);
    let (_, value) = pairs(headers).find(|(given, _)| *given == name)?;
    let (attempt, to) = value.rsplit_once('.')?;
    let to = percent_decode_str(to).decode_utf8().ok()?.into_owned();
    Some((Attempt::parse(attempt)?, to, made(people, &name, "", 0)))
}

fn made(people: &People, name: &str, value: &str, age: u32) -> Option<HeaderValue> {
    let secure = if people.plain { "" } else { "; Secure" };
    let cookie = format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    let mut cookie = HeaderValue::try_from(cookie).ok()?;
    cookie.set_sensitive(true);
    Some(cookie)
}

/// The id that a browser sent.
pub(super) fn read(people: &People, headers: &HeaderMap) -> Option<SessionId> {
    let mut all = pairs(headers);
    all.find(|(given, _)| *given == name(people)).and_then(|(_, value)| SessionId::parse(value))
}

/// Has the browser keep the id, or forget the one that it has.
pub(super) fn set(people: &People, id: Option<&SessionId>) -> Option<HeaderValue> {
    let age = id.map_or(0, |_| u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX));
    made(people, name(people), id.map_or("", SessionId::expose), age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_for_this_host_over_https_and_comes_back_among_others() {
        let (people, id) = (People::default(), SessionId::random());
        let cookie = set(&people, Some(&id)).unwrap();
        let cookie = cookie.to_str().unwrap();
        assert_eq!(
            cookie,
            format!("__Host-pulse={}; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax; Secure", id.expose())
        );
        let pair = cookie.split(';').next().unwrap();
        let sent = |text: &str| HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(text).unwrap())]);
        assert_eq!(read(&people, &sent(&format!("a=b; {pair};c"))), Some(id));
        for other in ["", "pulse-development=x", "__Host-pulse=x", &pair.replace("__Host", "__host")] {
            assert_eq!(read(&people, &sent(other)), None, "{other}");
        }
        let gone = set(&people, None).unwrap();
        assert!(gone.to_str().unwrap().starts_with("__Host-pulse=; Path=/; Max-Age=0;"));
        let development = People { plain: true, ..People::default() };
        assert_eq!(read(&development, &sent(pair)), None);
        assert!(!set(&development, None).unwrap().to_str().unwrap().contains("Secure"));
    }

    #[test]
    fn each_attempt_has_a_cookie_and_many_push_the_oldest_out() {
        let people = People::default();
        let (one, two) = (Attempt::begin(), Attempt::begin());
        let pair = |attempt: &Attempt| {
            let cookie = set_attempt(&people, &HeaderMap::new(), attempt, "/console/queues?q=a.b")[0].clone();
            assert!(cookie.to_str().unwrap().contains("Max-Age=600; HttpOnly; SameSite=Lax; Secure"));
            cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
        };
        let sent = |text: &str| HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(text).unwrap())]);
        let both = sent(&format!("{}; {}", pair(&one), pair(&two)));
        for attempt in [&one, &two] {
            let (found, to, gone) = take_attempt(&people, &both, &attempt.state).unwrap();
            assert_eq!((&found, to.as_str()), (attempt, "/console/queues?q=a.b"));
            assert!(gone.unwrap().to_str().unwrap().contains("Max-Age=0"));
        }
        assert!(
            take_attempt(&people, &both, &Attempt::begin().state).is_none()
                && take_attempt(&people, &both, "").is_none()
        );
        let many: Vec<_> = (0..9).map(|_| pair(&Attempt::begin())).collect();
        assert_eq!(set_attempt(&people, &sent(&many.join("; ")), &one, "/console").len(), 6);
    }
}

//! Signing in and out, and what somebody's sessions are.

use askama::Template;
use axum::http::{HeaderValue, header};
use axum::response::Response;

use super::answer::{self, Answer};
use super::frame::{Frame, Part, When};
use super::trouble::Trouble;
use super::visit::Visit;
use super::{cookie, sender};
use crate::access::attempt::{Attempt, Returned, SignInError};
use crate::access::sessions::SessionId;
use crate::domain::audit::{Actor, By};
use crate::domain::session::Person;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    frame: Frame,
    /// Where to go then.
    to: String,
    development: Option<String>,
    /// The names of the providers, and where signing in by each begins.
    providers: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "me.html")]
struct Me {
    frame: Frame,
    address: Option<String>,
    subject: String,
    groups: Vec<String>,
    administrator: bool,
    sessions: Vec<Shown>,
}

/// A session as it is shown.
struct Shown {
    created: When,
    seen: When,
    expires: When,
    current: bool,
}

/// Leads to what most look for.
pub(super) async fn home(visit: Visit) -> Answer {
    Ok(answer::see(if visit.session.is_some() { "/console/namespaces" } else { "/console/status" }))
}

/// Where to go after sign-in: a page of the console, and nothing else.
fn destination(text: &str) -> &str {
    let rest = text.strip_prefix("/console");
    let good = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    if good && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') { text } else { "/console/namespaces" }
}

pub(super) async fn sign_in(visit: Visit) -> Answer {
    let to = destination(visit.query.text("to")).to_owned();
    let development = visit.people().development.clone();
    let title = if visit.people().is_closed() { "Nobody can sign in yet" } else { "Sign in" };
    let begin = url::form_urlencoded::Serializer::new(String::new()).append_pair("to", &to).finish();
    let by = |name: String, way: &str| (name, format!("/console/sign-in/{way}?{begin}"));
    let oidc = visit.people().oidc.as_ref().map(|oidc| by(oidc.name().to_owned(), "begin"));
    let taskcluster = visit.people().taskcluster.as_ref().map(|deployment| by(deployment.name(), "taskcluster"));
    let providers = oidc.into_iter().chain(taskcluster).collect();
    answer::shown(&SignIn { frame: Frame::of(&visit, Part::None, title), to, development, providers })
}

/// Leads to the identity provider. It begins with a link, because browsers count where a form leads to.
pub(super) async fn begin_oidc(visit: Visit) -> Answer {
    let oidc = visit.people().oidc.clone().ok_or_else(no_provider)?;
    let attempt = Attempt::begin();
    let url = oidc.authorize(&attempt).await?;
    Ok(lead_to(&visit, &attempt, url.as_str()))
}

/// The same to Taskcluster.
pub(super) async fn begin_taskcluster(visit: Visit) -> Answer {
    let deployment = visit.people().taskcluster.clone().ok_or_else(no_provider)?;
    let attempt = Attempt::begin();
    let url = deployment.authorize(&attempt)?;
    Ok(lead_to(&visit, &attempt, url.as_str()))
}

fn no_provider() -> Trouble {
    Trouble::missing("There is no such identity provider here.")
}

fn lead_to(visit: &Visit, attempt: &Attempt, url: &str) -> Response {
    let to = destination(visit.query.text("to"));
    let mut response = answer::see(url);
    for cookie in cookie::set_attempt(visit.people(), &visit.headers, attempt, to) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Takes somebody back from the identity provider.
pub(super) async fn callback(visit: Visit) -> Answer {
    let oidc = visit.people().oidc.clone().ok_or_else(no_provider)?;
    let (attempt, to, back, gone) = returned(&visit)?;
    let person = oidc.finish(&attempt, &back, visit.now).await;
    finish(&visit, person, oidc.name(), &to, gone).await
}

/// The same from Taskcluster.
pub(super) async fn taskcluster_callback(visit: Visit) -> Answer {
    let deployment = visit.people().taskcluster.clone().ok_or_else(no_provider)?;
    let (attempt, to, back, gone) = returned(&visit)?;
    let person = deployment.finish(&attempt, &back).await;
    finish(&visit, person, &deployment.name(), &to, gone).await
}

/// What a browser came back with, and the cookie that forgets its attempt.
fn returned(visit: &Visit) -> Result<(Attempt, String, Returned, Option<HeaderValue>), Trouble> {
    let text = |name: &str| visit.query.text(name).to_owned();
    let back = Returned { code: text("code"), state: text("state"), error: text("error"), issuer: text("iss") };
    let taken = cookie::take_attempt(visit.people(), &visit.headers, &back.state);
    let (attempt, to, gone) = taken.ok_or(SignInError::Unasked)?;
    Ok((attempt, to, back, gone))
}

async fn finish(
    visit: &Visit,
    person: Result<Person, SignInError>,
    how: &str,
    to: &str,
    gone: Option<HeaderValue>,
) -> Answer {
    let answer = match person {
        Ok(person) => begin(visit, person, how, destination(to)).await,
        Err(error) => Err(error.into()),
    };
    let mut response =
        answer.unwrap_or_else(|trouble| answer::trouble(&trouble, Some(Frame::of(visit, Part::None, ""))));
    gone.map(|cookie| response.headers_mut().append(header::SET_COOKIE, cookie));
    Ok(response)
}

pub(super) async fn development(visit: Visit) -> Answer {
    let person = visit.people().development_account();
    let person = person.ok_or_else(|| Trouble::missing("There is no development account here."))?;
    if !sender::is_for_loopback(&visit.headers) {
        return Err(Trouble::foreign_name());
    }
    let to = destination(visit.form.text("to")).to_owned();
    begin(&visit, person, "the development account", &to).await
}

/// Begins a session, and leads on.
pub(super) async fn begin(visit: &Visit, person: Person, how: &str, to: &str) -> Answer {
    // Whoever had a session in this browser has none any more.
    if let Some((id, session)) = &visit.session {
        visit.service().sign_out(&id.hash(), &session.person, &visit.by()).await?;
    }
    let id = SessionId::random();
    let by = By { actor: Actor::Person(person.name().to_owned()), request: visit.request.clone() };
    visit.service().sign_in(&id.hash(), person, how, &by).await?;
    let mut response = answer::see(to);
    cookie::set(visit.people(), Some(&id)).map(|cookie| response.headers_mut().append(header::SET_COOKIE, cookie));
    Ok(response)
}

pub(super) async fn sign_out(visit: Visit) -> Answer {
    if let Some((id, session)) = &visit.session {
        let (service, person, by) = (visit.service(), &session.person, visit.by());
        if visit.form.has("everywhere") {
            service.sign_out_everywhere(person, &by).await?;
        } else {
            service.sign_out(&id.hash(), person, &by).await?;
        }
    }
    let mut response: Response = answer::see("/console/status");
    cookie::set(visit.people(), None).map(|cookie| response.headers_mut().insert(header::SET_COOKIE, cookie));
    Ok(response)
}

pub(super) async fn me(visit: Visit) -> Answer {
    let Some((_, own)) = &visit.session else { return Err(Trouble::signed_out()) };
    let sessions = visit.service().sessions_of(&own.person).await?;
    let shown = |of: &crate::domain::session::Session| Shown {
        created: When(of.created),
        seen: When(of.seen),
        expires: When(of.expires),
        current: (of.created, of.expires) == (own.created, own.expires),
    };
    let Person { subject, address, groups, .. } = own.person.clone();
    answer::shown(&Me {
        frame: Frame::of(&visit, Part::None, "You"),
        administrator: visit.subject().administrator,
        sessions: sessions.iter().map(shown).collect(),
        address,
        subject,
        groups,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_sign_in_nobody_is_led_out_of_the_console() {
        for good in ["/console", "/console/queues?q=a&page=2", "/console/queue?name=queue%2Fx%2F%20"] {
            assert_eq!(destination(good), good);
        }
        for bad in [
            "",
            "/",
            "//evil.example.com",
            "https://evil.example.com",
            "/consoles",
            "/console\\@evil",
            "/console/ a",
            "/console/\n",
        ] {
            assert_eq!(destination(bad), "/console/namespaces", "{bad}");
        }
    }
}

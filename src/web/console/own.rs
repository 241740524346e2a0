//! What owners do with a namespace: its owners, its credentials, its end.

use askama::Template;
use axum::http::StatusCode;
use zeroize::Zeroizing;

use super::answer::{self, Answer};
use super::confirm::{Line, Question, done};
use super::frame::{Frame, Part, When};
use super::namespace::segment;
use super::rows::namespace_path;
use super::visit::Visit;
use crate::domain::account::Schedule;
use crate::domain::owner::Owner;
use crate::domain::rights::Right;
use crate::service::{Credentials, Ended, ServiceError};
use crate::store::Summary;
use crate::web::edge::encoding::Secret;

#[derive(Template)]
#[template(path = "owners.html")]
struct Owners {
    frame: Frame,
    name: String,
    path: String,
    contact: String,
    text: String,
    wrong: Option<String>,
}

#[derive(Template)]
#[template(path = "credentials.html")]
struct Ask {
    frame: Frame,
    name: String,
    path: String,
    /// Whether its owner moves on from the user that it was made of.
    moves_on: bool,
}

#[derive(Template)]
#[template(path = "secret.html")]
struct Shown {
    frame: Frame,
    path: String,
    name: String,
    user: String,
    password: Zeroizing<String>,
    string: Zeroizing<String>,
    expires: When,
    /// What became of those before.
    before: Option<&'static str>,
}

pub(super) async fn owners(visit: Visit) -> Answer {
    let found = visit.namespace(&segment(&visit, 1), Right::Own).await?;
    let text = found.owners.iter().map(|owner| format!("{owner}\n")).collect();
    owners_page(&visit, &found, text, None)
}

fn owners_page(visit: &Visit, of: &Summary, text: String, wrong: Option<String>) -> Answer {
    let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let name = of.name.to_string();
    let frame = Frame::of(visit, Part::Namespaces, format!("Owners of {name}"));
    let (path, contact) = (namespace_path(&name), of.contact.clone());
    answer::page(status, &Owners { frame, name, path, contact, text, wrong })
}

pub(super) async fn set_owners(visit: Visit) -> Answer {
    let found = visit.namespace(&segment(&visit, 1), Right::Own).await?;
    let text = visit.form.text("owners").to_owned();
    let named = text.split(['\n', ',', ' ', '\t', '\r']).map(str::trim).filter(|text| !text.is_empty());
    let owners = named.map(Owner::parse).collect::<Result<Vec<_>, _>>();
    let owners = match owners {
        Ok(owners) => owners,
        Err(error) => return owners_page(&visit, &found, text, Some(format!("{error}."))),
    };
    // Whoever takes the own name away is not let down by a slip.
    let mut after = found.clone();
    after.owners.clone_from(&owners);
    let loses = visit.may(Right::Own, &found) && !visit.may(Right::Own, &after);
    if loses && !visit.form.has("leave") {
        let wrong = "You are not among them, so that you could not change anything here any more. To do it all the same, tick \
                     the box and save again.";
        return owners_page(&visit, &found, text, Some(wrong.to_owned()));
    }
    let by = visit.by();
    match visit.service().set_owners(&found.name, owners, false, &by).await {
        Err(error @ (ServiceError::LastOwner(_) | ServiceError::TooManyOwners(_))) => {
            let text_of = super::trouble::Trouble::from(error).text;
            owners_page(&visit, &found, text, Some(text_of))
        }
        Err(error) => Err(error.into()),
        Ok(owned) => {
            let all: Vec<_> = owned.owners.iter().map(ToString::to_string).collect();
            let told = if all.is_empty() { "nobody but its contact".to_owned() } else { all.join(", ") };
            finished(&visit, "Owners saved", &found, &format!("its owners are {told}"), true)
        }
    }
}

fn question(of: &Summary, act: &'static str) -> Question {
    let name = of.name.to_string();
    let (title, losses, button) = match act {
        "release" => (
            format!("Release {name}"),
            vec![
                "Its users are deleted now, and all of its connections are closed.".to_owned(),
                "Its queues, with the messages in them, and its exchanges are removed soon after.".to_owned(),
                "Somebody else with the right to its name may claim it then.".to_owned(),
            ],
            "Release namespace",
        ),
        _ => (
            format!("Revoke the credentials of {name}"),
            vec![
                "Its passwords are replaced now, and all of its connections are closed.".to_owned(),
                "Programs that claim get new credentials at their next claim, within minutes.".to_owned(),
                "Its queues, exchanges and messages stay.".to_owned(),
            ],
            "Revoke credentials",
        ),
    };
    let path = namespace_path(&name);
    Question {
        part: Part::Namespaces,
        title,
        losses,
        items: Vec::new(),
        typed: Some(name),
        hidden: Vec::new(),
        action: format!("{path}/{act}"),
        button: button.to_owned(),
        reason_needed: true,
        harmless: false,
        back: path,
    }
}

pub(super) async fn ask_release(visit: Visit) -> Answer {
    let found = visit.namespace(&segment(&visit, 1), Right::Own).await?;
    question(&found, "release").ask(&visit, None)
}

pub(super) async fn ask_revoke(visit: Visit) -> Answer {
    let found = visit.namespace(&segment(&visit, 1), Right::Own).await?;
    question(&found, "revoke").ask(&visit, None)
}

pub(super) async fn release(visit: Visit) -> Answer {
    let found = visit.namespace(&segment(&visit, 1), Right::Own).await?;
    let asked = question(&found, "release");
    if let Some(wrong) = asked.answered(&visit) {
        return asked.ask(&visit, Some(wrong));
    }
    let (by, reason) = (visit.by(), visit.form.text("reason").to_owned());
    let ended = visit.service().release(&found.name, &reason, &by).await?;
    let text = match ended {
        Ended::Done => "it is released: its users are gone, and what is left is removed soon".to_owned(),
        Ended::Pending(why) => format!("it is released; its users go as soon as possible ({why})"),
    };
    finished(&visit, "Released", &found, &text, false)
}

pub(super) async fn revoke(visit: Visit) -> Answer {
    let found = visit.namespace(&segment(&visit, 1), Right::Own).await?;
    let asked = question(&found, "revoke");
    if let Some(wrong) = asked.answered(&visit) {
        return asked.ask(&visit, Some(wrong));
    }
    let (by, reason) = (visit.by(), visit.form.text("reason").to_owned());
    let ended = visit.service().revoke(&found.name, &reason, &by).await?;
    let text = match ended {
        Ended::Done => "its earlier credentials are refused, and its connections are closed".to_owned(),
        Ended::Pending(why) => format!("it is stored, and carried out as soon as possible ({why})"),
    };
    finished(&visit, "Revoked", &found, &text, true)
}

fn finished(visit: &Visit, title: &str, of: &Summary, text: &str, there: bool) -> Answer {
    let lines = vec![Line { item: of.name.to_string(), text: text.to_owned(), good: true }];
    let link = match there {
        true => (namespace_path(of.name.as_str()), "To the namespace".to_owned()),
        false => ("/console/namespaces".to_owned(), "To the namespaces".to_owned()),
    };
    done(visit, Part::Namespaces, title, lines, vec![link])
}

pub(super) async fn ask_credentials(visit: Visit) -> Answer {
    let found = visit.namespace(&segment(&visit, 1), Right::Own).await?;
    let account = visit.service().account(&found.name).await?;
    let name = found.name.to_string();
    let frame = Frame::of(&visit, Part::Namespaces, format!("New credentials for {name}"));
    let moves_on = account.adopted().is_some_and(|adopted| adopted.moved.is_none());
    answer::shown(&Ask { frame, path: namespace_path(&name), name, moves_on })
}

pub(super) async fn credentials(visit: Visit) -> Answer {
    let found = visit.namespace(&segment(&visit, 1), Right::Own).await?;
    let (by, end_old) = (visit.by(), visit.form.has("end-old"));
    let account = visit.service().account(&found.name).await?;
    let moves_on = account.adopted().is_some_and(|adopted| adopted.moved.is_none());
    let (given, before) = match moves_on {
        true => {
            let given = visit.service().move_on(&found.name, Schedule::OnDemand, &by).await?;
            (given.ok_or(ServiceError::Contended(found.name.clone()))?, None)
        }
        false => {
            let given = visit.service().new_credentials(&found.name, end_old, &by).await?;
            let before = match (end_old, given.old_ended) {
                (false, _) => "Those before work until you ask for the next ones.",
                (true, true) => "Those before are refused now, and their connections are closed.",
                (true, false) => "Those before are refused within minutes.",
            };
            (given, Some(before))
        }
    };
    show(&visit, given, before)
}

/// The page that shows credentials, this once.
pub(super) fn show(visit: &Visit, given: Credentials, before: Option<&'static str>) -> Answer {
    let Credentials { name, user, password, connection_string, expires, .. } = given;
    let page = Shown {
        frame: Frame::of(visit, Part::Namespaces, format!("Credentials of {name}")),
        path: namespace_path(name.as_str()),
        name: name.to_string(),
        user,
        password: Zeroizing::new(password.expose().to_owned()),
        string: connection_string,
        expires: When(expires),
        before,
    };
    let mut response = answer::shown(&page)?;
    response.extensions_mut().insert(Secret);
    Ok(response)
}

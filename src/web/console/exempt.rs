//! Letting queues grow: an administrator says so, an owner asks for it, and an administrator grants or refuses that.

use super::answer::Answer;
use super::confirm::{LONGEST_REASON, Line, Question, done};
use super::frame::Part;
use super::queue;
use super::rows::{link, own_name};
use super::trouble::Trouble;
use super::visit::Visit;
use crate::clock::Timestamp;
use crate::domain::exemption::terms;
use crate::domain::ladder::Exemption;
use crate::domain::name::named_by_queue;
use crate::domain::rights::Right;
use crate::store::Summary;
use crate::terminal::one_line;

/// Reads the form by which a queue may grow.
fn exemption(visit: &Visit) -> Result<(Exemption, String), String> {
    let (up_to, until, reason) = (visit.form.text("up-to"), visit.form.text("until"), visit.form.text("reason"));
    let up_to = match up_to.replace(',', "").parse::<u64>() {
        Ok(most) if most > 0 => Some(most),
        _ if up_to.is_empty() => None,
        _ => return Err("Give a whole number of messages, or nothing for no bound.".to_owned()),
    };
    let end = last_day(until)?;
    if end.is_some_and(|end| end <= visit.now) {
        return Err("The last day is past.".to_owned());
    }
    match reason.chars().count() {
        0 => Err("Say why: owners and administrators read it.".to_owned()),
        1..=LONGEST_REASON => Ok((Exemption { up_to, until: end }, reason.to_owned())),
        _ => Err(format!("Use at most {LONGEST_REASON} characters for the reason.")),
    }
}

/// The end of a day that was given in a form; `None` where none was.
pub(super) fn last_day(text: &str) -> Result<Option<Timestamp>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let moment = Timestamp::parse(&format!("{text}T23:59:59Z")).or_else(|| Timestamp::parse(text));
    moment.map(Some).ok_or_else(|| "Give the last day as a date, such as 2026-12-31, or nothing for no end.".to_owned())
}

/// The queue that a form or an address names, of a namespace over which the person has this right.
async fn named(visit: &Visit, right: Right) -> Result<(Summary, String), Trouble> {
    let given = visit.form.all("name").next().or_else(|| visit.query.all("name").next());
    let name = given.unwrap_or_default().to_owned();
    Ok((visit.owner_of(named_by_queue(&name), &name, right).await?, name))
}

pub(super) async fn exempt(visit: Visit) -> Answer {
    let (owner, name) = named(&visit, Right::Exempt).await?;
    let (exemption, reason) = match exemption(&visit) {
        Ok(read) => read,
        Err(wrong) => return queue::shown(visit, &name, Some(wrong)).await,
    };
    let by = visit.by();
    visit.service().exempt(&owner.name, &name, exemption, &reason, &by).await?;
    let text = format!("may grow {}", terms(exemption, visit.now));
    finished(&visit, "Let grow", &name, &text)
}

pub(super) async fn end(visit: Visit) -> Answer {
    let (owner, name) = named(&visit, Right::Exempt).await?;
    let by = visit.by();
    if !visit.service().end_exemption(&owner.name, &name, &by).await? {
        return Err(Trouble::missing("There is no such exemption any more."));
    }
    finished(&visit, "Exemption ended", &name, "is looked after like any other again")
}

/// An owner asks for it.
pub(super) async fn ask(visit: Visit) -> Answer {
    let (owner, name) = named(&visit, Right::Own).await?;
    let (exemption, reason) = match exemption(&visit) {
        Ok(read) => read,
        Err(wrong) => return queue::shown(visit, &name, Some(wrong)).await,
    };
    let (by, address) = (visit.by(), visit.session.as_ref().and_then(|(_, session)| session.person.address.clone()));
    visit.service().ask_exemption(&owner.name, &name, exemption, &reason, address.as_deref(), &by).await?;
    let text = format!(
        "administrators are asked that it may grow {}; you are told what they say",
        terms(exemption, visit.now)
    );
    finished(&visit, "Asked for", &name, &text)
}

/// What was asked for of a queue or a pattern of queues, as it is stored now.
async fn requested(visit: &Visit) -> Result<(Summary, crate::domain::exemption::Requested), Trouble> {
    let (owner, name) = named(visit, Right::Exempt).await?;
    let found = visit.service().requests(&owner.name).await?.into_iter().find(|of| of.queue == name);
    let missing =
        || Trouble::missing("There is no such request any more: it was decided, or asked for anew otherwise.");
    Ok((owner, found.ok_or_else(missing)?))
}

fn question(of: &crate::domain::exemption::Requested, granted: bool, now: Timestamp) -> Question {
    let (word, act, button) =
        if granted { ("Let it grow", "grant", "Grant it") } else { ("Refuse to let it grow", "refuse", "Refuse it") };
    Question {
        part: Part::Administration,
        title: format!("{word}: {}", own_name(&of.queue)),
        losses: vec![
            format!("{} asks that it may grow {}: {}", of.by, terms(of.exemption, now), of.reason),
            "The owners of the namespace, and who asked, are told by mail.".to_owned(),
        ],
        items: Vec::new(),
        typed: None,
        hidden: vec![("name", of.queue.clone())],
        action: format!("/console/administration/requests/{act}"),
        button: button.to_owned(),
        reason_needed: !granted,
        harmless: true,
        back: "/console/administration/exemptions".to_owned(),
    }
}

pub(super) async fn ask_grant(visit: Visit) -> Answer {
    let (_, found) = requested(&visit).await?;
    question(&found, true, visit.now).ask(&visit, None)
}

pub(super) async fn ask_refuse(visit: Visit) -> Answer {
    let (_, found) = requested(&visit).await?;
    question(&found, false, visit.now).ask(&visit, None)
}

pub(super) async fn grant(visit: Visit) -> Answer {
    let (owner, found) = requested(&visit).await?;
    let asked = question(&found, true, visit.now);
    if let Some(wrong) = asked.answered(&visit) {
        return asked.ask(&visit, Some(wrong));
    }
    let (by, given) = (visit.by(), visit.form.text("reason"));
    let reason = if given.is_empty() { found.reason.clone() } else { format!("{}; {given}", found.reason) };
    let reason: String = reason.chars().take(LONGEST_REASON).collect();
    visit.service().exempt(&owner.name, &found.queue, found.exemption, &reason, &by).await?;
    decided(&visit, "Granted", &found.queue, &format!("may grow {}", terms(found.exemption, visit.now)))
}

pub(super) async fn refuse(visit: Visit) -> Answer {
    let (owner, found) = requested(&visit).await?;
    let asked = question(&found, false, visit.now);
    if let Some(wrong) = asked.answered(&visit) {
        return asked.ask(&visit, Some(wrong));
    }
    let (by, reason) = (visit.by(), visit.form.text("reason").to_owned());
    visit.service().refuse_exemption(&owner.name, &found.queue, &reason, &by).await?;
    decided(&visit, "Refused", &found.queue, "is looked after like any other; its owners are told")
}

fn decided(visit: &Visit, title: &str, name: &str, text: &str) -> Answer {
    let lines = vec![Line { item: one_line(name).into_owned(), text: text.to_owned(), good: true }];
    let back = ("/console/administration/exemptions".to_owned(), "To the exemptions".to_owned());
    done(visit, Part::Administration, title, lines, vec![back])
}

fn finished(visit: &Visit, title: &str, name: &str, text: &str) -> Answer {
    let lines = vec![Line { item: one_line(name).into_owned(), text: text.to_owned(), good: true }];
    done(visit, Part::Queues, title, lines, vec![(link("/console/queue", name), "To the queue".to_owned())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_with_it_and_what_is_no_day_is_told() {
        let end = |text: &str| last_day(text).map(|end| end.map(|end| end.to_string()));
        assert_eq!(end("2026-12-31"), Ok(Some("2026-12-31T23:59:59.000Z".to_owned())));
        assert_eq!(end(""), Ok(None));
        assert!(end("soon").unwrap_err().contains("such as 2026-12-31"));
    }
}

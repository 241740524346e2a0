//! Namespaces that nobody owns or that are disabled; and accounts: made, or made of a
//! user that somebody else made.

use askama::Template;
use axum::http::StatusCode;

use super::unknown::{Unknown, unknown};
use super::{Page, SHOWN, frame, pages};
use crate::domain::adoption::Wanted;
use crate::domain::owner::Owner;
use crate::domain::rights::Right;
use crate::service::ServiceError;
use crate::web::console::answer::{self, Answer};
use crate::web::console::confirm::{Line, done};
use crate::web::console::frame::{Frame, Part, When};
use crate::web::console::own;
use crate::web::console::rows::namespace_path;
use crate::web::console::trouble::Trouble;
use crate::web::console::visit::Visit;

const PATH: &str = "/console/administration/things";

#[derive(Template)]
#[template(path = "administration_things.html")]
struct Things {
    frame: Frame,
    pages: Vec<Page>,
    unowned: Vec<Namespace>,
    disabled: Vec<Namespace>,
    /// What nobody accounts for; `None` where it was not asked for.
    unknown: Option<Unknown>,
}

struct Namespace {
    name: String,
    link: String,
    created: When,
}

pub(in crate::web::console) async fn things(visit: Visit) -> Answer {
    let frame = frame(&visit, "Namespaces and users")?;
    let unowned = visit.service().unowned(None, SHOWN).await?;
    let disabled = visit.service().disabled().await?;
    let shown = |of: &crate::store::Summary| Namespace {
        name: of.name.to_string(),
        link: namespace_path(of.name.as_str()),
        created: When(of.created),
    };
    // It takes a look at all that the broker has, so that it is done only where somebody asks for it.
    let unknown = match visit.query.has("unknown") {
        true => Some(unknown(&visit).await?),
        false => None,
    };
    let (unowned, disabled) = (unowned.iter().map(shown).collect(), disabled.iter().map(shown).collect());
    answer::shown(&Things { frame, pages: pages(PATH), unowned, disabled, unknown })
}

#[derive(Template)]
#[template(path = "administration_account.html")]
struct Account {
    frame: Frame,
    /// Whether it is made of a user that is there.
    adopts: bool,
    name: String,
    owners: String,
    wrong: Option<String>,
}

fn account_page(visit: &Visit, adopts: bool, wrong: Option<String>) -> Answer {
    let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let given = |name: &str| {
        let form = visit.form.text(name);
        if form.is_empty() { visit.query.text(name) } else { form }.to_owned()
    };
    let frame = frame(visit, if adopts { "Adopt a user" } else { "Make an account" })?;
    answer::page(status, &Account { frame, adopts, name: given("name"), owners: given("owners"), wrong })
}

/// The owners that a form names.
fn owners(visit: &Visit) -> Result<Vec<Owner>, String> {
    let named =
        visit.form.text("owners").split(['\n', ',', ' ', '\t', '\r']).map(str::trim).filter(|text| !text.is_empty());
    let owners = named.map(Owner::parse).collect::<Result<Vec<_>, _>>().map_err(|error| format!("{error}."))?;
    if owners.is_empty() { Err("Name at least one owner: an address or a group.".to_owned()) } else { Ok(owners) }
}

pub(in crate::web::console) async fn ask_account(visit: Visit) -> Answer {
    account_page(&visit, false, None)
}

pub(in crate::web::console) async fn make_account(visit: Visit) -> Answer {
    visit.require_all(Right::Administer)?;
    let owners = match owners(&visit) {
        Ok(owners) => owners,
        Err(wrong) => return account_page(&visit, false, Some(wrong)),
    };
    let by = visit.by();
    match visit.service().create_account(visit.form.text("name"), &owners, &by).await {
        Ok(given) => own::show(&visit, given, None),
        Err(error @ (ServiceError::BadAccount(_) | ServiceError::Exists(_) | ServiceError::TooManyOwners(_))) => {
            account_page(&visit, false, Some(Trouble::from(error).text))
        }
        Err(error) => Err(error.into()),
    }
}

pub(in crate::web::console) async fn ask_adopt(visit: Visit) -> Answer {
    account_page(&visit, true, None)
}

pub(in crate::web::console) async fn adopt(visit: Visit) -> Answer {
    visit.require_all(Right::Administer)?;
    let owners = match owners(&visit) {
        Ok(owners) => owners,
        Err(wrong) => return account_page(&visit, true, Some(wrong)),
    };
    let (user, by) = (visit.form.text("name").to_owned(), visit.by());
    let wanted = Wanted { user: user.clone(), owners, unbounded: Vec::new() };
    let outcome = visit.service().adopt(&[wanted], false, &by).await?;
    if outcome.changed == 0 {
        let why = outcome.reports.join("; ");
        return account_page(&visit, true, Some(format!("Nothing was changed: {why}.")));
    }
    let text = "is an account now; its user stays as it is until an owner moves on".to_owned();
    let links = vec![(namespace_path(&user), "To the account".to_owned()), (PATH.to_owned(), "Back".to_owned())];
    done(&visit, Part::Administration, "Adopted", vec![Line { item: user, text, good: true }], links)
}

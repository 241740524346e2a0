//! The words of messages about accounts.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::name::Name;
use crate::domain::words::count;
use crate::notify::text::{code, fact, subject};

fn days(of: Duration) -> String {
    count(of.as_secs() / 86_400, "day", "days")
}

/// An account ends soon, because nobody uses it.
pub(super) fn ending(
    account: &Name,
    expires: Timestamp,
    used: Timestamp,
    lifetime: Duration,
    at: Timestamp,
) -> (String, String) {
    // Its last hours are told as a day.
    let left = days(expires.since(at).max(Duration::from_secs(86_400)));
    let subject = subject("Pulse account ", account.as_str(), &format!(" ends within {left}"));
    let mut facts = String::new();
    fact(&mut facts, "Account", &code(account.as_str()));
    fact(&mut facts, "Last used", &used.to_string());
    fact(&mut facts, "It ends at", &expires.to_string());
    let text = format!(
        "Nobody uses a Pulse account of yours.\n\n{facts}\n**What will happen:** unless somebody connects with it before, its \
         credentials stop working, and its queues and exchanges are deleted with all that is in them.\n\n**What to do:** if \
         you need it, connect with it, or get new credentials for it: either puts its end off, to {} later. If you don't, do \
         nothing.",
        days(lifetime)
    );
    (subject, text)
}

/// The user that an account was made of is in use, though its owner has moved on.
pub(super) fn in_use(
    account: &Name,
    user: &str,
    addresses: &[(String, Timestamp)],
    retire_after: Duration,
    at: Timestamp,
) -> (String, String) {
    let many = count(addresses.len() as u64, "address", "addresses");
    let subject = subject("Pulse user ", user, &format!(" is in use from {many}"));
    let mut facts = String::new();
    fact(&mut facts, "Account", &code(account.as_str()));
    fact(&mut facts, "Former user", &code(user));
    fact(&mut facts, "Seen at", &at.to_string());
    for (address, last) in addresses {
        fact(&mut facts, "Connected from", &format!("{}, last at {last}", code(address)));
    }
    let text = format!(
        "You have moved on from the former user of a Pulse account of yours, and somebody still connects with it.\n\n{facts}\n\
         **What will happen:** nothing. The user goes on working until an owner retires it, or nobody has used it for {}.\n\n\
         **What to do:** give the programs at these addresses the new credentials. When all have them, retire the user.",
        days(retire_after)
    );
    (subject, text)
}

/// The user that an account was made of is deleted.
pub(super) fn retired(account: &Name, user: &str, used: Option<Timestamp>, at: Timestamp) -> (String, String) {
    let subject = subject("Pulse user ", user, " is retired");
    let mut facts = String::new();
    fact(&mut facts, "Account", &code(account.as_str()));
    fact(&mut facts, "Former user", &code(user));
    fact(&mut facts, "Last used", &used.map_or("never, as far as was seen".to_owned(), |used| used.to_string()));
    fact(&mut facts, "Retired at", &at.to_string());
    let text = format!(
        "The former user of a Pulse account of yours is deleted, because you have moved on from it and nobody used it for \
         long.\n\n{facts}\n**What will happen:** it can't log in any more. The account, its credentials and its queues are as \
         they were.\n\n**What to do:** nothing. If a program is refused now, give it the credentials of the account."
    );
    (subject, text)
}

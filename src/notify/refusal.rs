//! What a mail server refuses: the address itself, or something that somebody can mend.
//!
//! A warning that is given up by mistake is lost, and one that is tried in vain costs a few attempts. So a refusal is about the
//! address only where the server says so, and everything else is tried again: relaying, our name, our account, the sender, a
//! full mailbox, a message that is too long or taken for spam.
//!
//! | Where | What is said | Whose fault |
//! |---|---|---|
//! | connecting, `EHLO`, `STARTTLS`, `AUTH`, `MAIL` | anything | no address was named yet: ours |
//! | `RCPT`, `DATA`, the message | 4yz | mended |
//! | | 5yz with an extended status (RFC 3463) of [`ABOUT_THE_ADDRESS`], in words that do not name who sends ([`SENDERS`]) | the address |
//! | | 5yz with any other extended status | mended |
//! | | 556 (RFC 7504), without one | the address: its domain takes no mail |
//! | | 550, 551, 553 without one, in words that name the recipient as unknown ([`UNKNOWN`]) | the address |
//! | | any other 5yz | mended |
//!
//! At `RCPT` servers also refuse what they did not like about the client, its name or the sender: by default Postfix waits with all
//! of that until then.

/// Extended statuses 5.y.z that are about the recipient's address, as subject and detail.
///
/// 1.1 no such mailbox, 1.2 no such domain, 1.3 bad syntax, 1.4 ambiguous, 1.6 moved (RFC 3463, section 3.2), 1.10 the domain
/// takes no mail (RFC 7505), 2.1 the mailbox is disabled. Not among them are 1.0, by which Postfix tells of the sender's
/// address; 1.7 and 1.8, which are the sender's; 1.5 and 1.9, which say nothing of the kind.
const ABOUT_THE_ADDRESS: [(u16, u16); 7] = [(1, 1), (1, 2), (1, 3), (1, 4), (1, 6), (1, 10), (2, 1)];

/// Words by which servers without extended statuses say that nobody has the address.
const UNKNOWN: [&str; 20] = [
    "no such user",
    "no such mailbox",
    "no such recipient",
    "no such address",
    "no such person",
    "no mailbox",
    "unknown user",
    "user unknown",
    "unknown recipient",
    "recipient unknown",
    "unknown mailbox",
    "mailbox unknown",
    "user not found",
    "mailbox not found",
    "recipient not found",
    "user does not exist",
    "user doesn't exist",
    "mailbox does not exist",
    "invalid recipient",
    "bad mailbox",
];

/// Words that say that it is something else, whatever else is said: "sender verify failed: no such user".
const OURS: [&str; 7] = ["verif", "callout", "relay", "authenticat", "policy", "spam", "block"];

/// Words that name who sends, or its name. An extended status may be about that, too: "5.1.1 sender address rejected".
const SENDERS: [&str; 5] = ["sender", "mail from", "return path", "helo", "ehlo"];

/// Whether a reply to `RCPT` or to what follows it says that the address itself is what is wrong.
pub(super) fn is_about_the_address(code: u16, text: &str) -> bool {
    if !(500..600).contains(&code) {
        return false;
    }
    let words = text.to_lowercase();
    let says = |listed: &[&str]| listed.iter().any(|word| words.contains(word));
    if says(&SENDERS) {
        return false;
    }
    if let Some((class, subject, detail)) = extended_status(text) {
        return class == 5 && ABOUT_THE_ADDRESS.contains(&(subject, detail));
    }
    match code {
        556 => true,
        550 | 551 | 553 => says(&UNKNOWN) && !says(&OURS),
        _ => false,
    }
}

/// The extended status of a reply: before its text, as RFC 2034 has it, or as qmail's `(#5.1.1)`.
fn extended_status(text: &str) -> Option<(u16, u16, u16)> {
    let qmail = || status(text.split_once("(#")?.1);
    status(text.trim_start()).or_else(qmail)
}

/// Reads a status that `text` begins with.
fn status(text: &str) -> Option<(u16, u16, u16)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut numbers = text[..end].split('.').map(|number| number.parse().ok());
    let (class, subject, detail) = (numbers.next()??, numbers.next()??, numbers.next()??);
    (numbers.next().is_none() && matches!(class, 2 | 4 | 5)).then_some((class, subject, detail))
}

#[cfg(test)]
mod tests {
    use super::is_about_the_address;

    #[test]
    fn what_nobody_can_mend_is_about_the_address() {
        for (code, text) in [
            (550, "5.1.1 no such user"),
            (550, "5.1.1 <a@b>: Recipient address rejected: User unknown in relay recipient table"),
            (550, "5.1.1 The email account that you tried to reach does not exist."),
            (550, "5.1.1\nsecond line"),
            (550, "5.1.2 Host unknown"),
            (501, "5.1.3 Bad recipient address syntax"),
            (553, "5.1.3 the address is no valid RFC 5321 address"),
            (553, "5.1.4 ambiguous"),
            (551, "5.1.6 moved"),
            (550, "5.1.10 recipient address has a null MX"),
            (556, "5.1.10 null MX"),
            (556, "the domain takes no mail"),
            (550, "5.2.1 mailbox disabled"),
            (554, "5.1.1 told after the message"),
            (550, "sorry, no mailbox here by that name. (#5.1.1)"),
            (550, "no such user"),
            (550, "No Such User Here"),
            (550, "<a@b>: User unknown"),
            (551, "user not found; please try elsewhere"),
            (553, "bad mailbox"),
        ] {
            assert!(is_about_the_address(code, text), "{code} {text}");
        }
    }

    #[test]
    fn what_somebody_can_mend_is_not() {
        for (code, text) in [
            // Our name, our address, our account.
            (504, "5.5.2 <host>: Helo command rejected: need fully-qualified hostname"),
            (450, "4.7.1 <host>: Helo command rejected: Host not found"),
            (550, "5.7.1 <host>: Helo command rejected: Access denied"),
            (554, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.example.com"),
            (530, "5.7.0 must issue a STARTTLS command first"),
            (530, "log in first"),
            (535, "5.7.8 bad credentials"),
            (550, "5.7.26 this mail is unauthenticated"),
            (503, "5.5.1 bad sequence of commands"),
            // Relaying.
            (550, "relay not permitted"),
            (550, "Relaying denied for no such user"),
            (550, "5.7.1 relaying denied"),
            (554, "5.7.1 <a@b>: Relay access denied"),
            (551, "not our user, and we relay for nobody"),
            (553, "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"),
            // The sender.
            (550, "5.1.0 <pulse@example.com>: Sender address rejected: User unknown in local recipient table"),
            (550, "5.1.1 <pulse@example.com>: Sender address rejected: undeliverable address"),
            (550, "5.1.2 <host>: Helo command rejected: Host not found"),
            (553, "5.1.7 bad sender syntax"),
            (553, "5.1.8 domain of sender does not exist"),
            (550, "Verification failed for <pulse@example.com>\nNo such user here\nSender verify failed"),
            (553, "5.7.1 <a@b>: Sender address rejected: not owned by user pulse"),
            // The mailbox is full, or does not take anything just now.
            (452, "4.2.2 over quota"),
            (552, "5.2.2 mailbox full"),
            (552, "mailbox full"),
            (552, "requested mail action aborted: exceeded storage allocation"),
            (450, "4.2.1 receives mail too quickly"),
            (554, "5.2.0 something about the mailbox"),
            // The message.
            (552, "5.3.4 too long"),
            (552, "5.2.3 longer than this mailbox takes"),
            (554, "5.6.0 bad content"),
            (554, "5.7.1 looks like spam"),
            (554, "message looks like spam"),
            (550, "blocked: no such user would get this"),
            // The server.
            (451, "4.3.0 greylisted"),
            (450, "4.1.1 mailbox is checked, try again"),
            (550, "4.1.1 mixed up"),
            (550, "5.4.1 recipient address rejected: access denied"),
            (550, "5.5.1 no valid recipients"),
            (554, "no valid recipients"),
            (521, "this server takes no mail"),
            (550, "5.0.0 no such user, or whatever it was"),
            (550, "5.1.5 valid"),
            (500, "unrecognised command"),
            // Nothing is said.
            (550, ""),
            (550, "rejected"),
            (550, "requested action not taken: mailbox unavailable"),
            (553, "mailbox name not allowed"),
            (554, "transaction failed"),
            (554, "5.1"),
            (421, "shutting down"),
            (250, "5.1.1"),
        ] {
            assert!(!is_about_the_address(code, text), "{code} {text}");
        }
    }
}

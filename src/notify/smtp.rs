//! Messages as e-mails, handed to an SMTP server.
//!
//! The conversation is led step by step on `lettre`'s connection rather than by its transport, whose errors don't say which
//! command was refused, for four reasons. What is refused before `RCPT` is never about the address, whatever its code says.
//! What a server repeats of our account when it refuses that is shown nowhere. Each step has a time-out; the transport's is for
//! connecting alone. And what follows the server's acceptance can't undo it: the transport waits for the answer to `QUIT`, and
//! a message that was accepted would be sent again.

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message};
use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};
use url::{Host, Url};

use crate::domain::notice::{About, Notice};
use crate::notify::refusal::is_about_the_address;
use crate::notify::{Notifier, NotifyError, html};
use crate::tls::{self, Trust};

/// How long the server may take to say goodbye; whatever it says changes nothing.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why the settings of an SMTP server can't be used; it holds neither the URL nor a part of it, for there is a password in
/// it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadSmtp(String);

/// How the connection is encrypted.
#[derive(Clone)]
enum Tls {
    /// Not at all.
    None,
    /// By STARTTLS where the server offers it.
    Opportunistic(TlsParameters),
    /// By STARTTLS, or there is no delivery.
    Required(TlsParameters),
    /// From the first byte.
    Wrapped(TlsParameters),
}

/// An SMTP server, and who sends. `Debug` shows the server's host and port alone.
#[derive(Clone)]
pub struct Smtp {
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    from: Mailbox,
    hello: ClientId,
    timeout: Duration,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Smtp {
    /// A server by its URL, `smtps://[<user>:<password>@]<host>[:<port>]` for TLS from the start, or
    /// `smtp://[<user>:<password>@]<host>[:<port>][?tls=required|opportunistic|none]` for STARTTLS (`required` where
    /// nothing is said). User and password are percent-encoded. The port is 465 with `smtps`, 25 with `none`, else 587.
    /// Certificates are checked against those of `trust`: the system's, or those that the environment variable `SSL_CERT_FILE`
    /// names, unless it has others.
    ///
    /// `from` is the sender, `a@example.com` or `Name <a@example.com>`. `ehlo_name` is the name by which we introduce ourselves
    /// (`EHLO`); where it is empty, the domain of the sender. Connecting and each command may take `timeout`.
    ///
    /// # Errors
    /// What is wrong with which part, and what would be right.
    pub fn new(url: &str, from: &str, ehlo_name: &str, timeout: Duration, trust: &Trust) -> Result<Smtp, BadSmtp> {
        let bad = |why: &str| BadSmtp(why.to_owned());
        let from: Mailbox = from
            .parse()
            .map_err(|_| bad("the sender of e-mails must have the form `a@example.com` or `Name <a@example.com>`"))?;
        let url = Url::parse(url).map_err(|_| bad("the SMTP server must be given as smtps://host or smtp://host"))?;
        // An IPv6 address has brackets in a URL only.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(bad("the SMTP server's URL must name a host"));
        }
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(bad("the SMTP server's URL must have no path and no #"));
        }
        let credentials = credentials(&url)?;
        let (tls, port) = tls(&url, &host, trust)?;
        if credentials.is_some() && matches!(tls, Tls::Opportunistic(_)) {
            return Err(bad(
                "with a password the SMTP server's URL must say tls=required, or tls=none to send it in clear",
            ));
        }
        let hello = client_id(if ehlo_name.is_empty() { from.email.domain() } else { ehlo_name }).ok_or_else(|| {
            bad("the name for EHLO, or else the sender's domain, must be a host's name or its address in []")
        })?;
        Ok(Smtp { host, port: url.port().unwrap_or(port), tls, credentials, from, hello, timeout })
    }

    /// The e-mail. A second delivery of the same notice has the same `Message-ID` and `Date`, by which a reader's program
    /// can tell that it is the same.
    fn email(&self, notice: &Notice, to: Address) -> Result<Message, NotifyError> {
        let created = Duration::from_millis(u64::try_from(notice.created.millis()).unwrap_or(0));
        // RFC 3834, section 5: programs that answer e-mails leave this one unanswered.
        let auto_submitted = HeaderName::new_from_ascii_str("Auto-Submitted");
        let email = Message::builder();
        let email = match thread(notice, self.from.email.domain()) {
            Some(thread) => email.references(thread),
            None => email,
        };
        email
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(notice.subject.as_str())
            .date(SystemTime::UNIX_EPOCH + created)
            .message_id(Some(format!("<{}@{}>", notice.id, self.from.email.domain())))
            .raw_header(HeaderValue::new(auto_submitted, "auto-generated".to_owned()))
            .multipart(MultiPart::alternative_plain_html(notice.text.clone(), html::document(notice)))
            .map_err(|e| NotifyError::Temporary(format!("the e-mail can't be made: {e}")))
    }

    /// A connection that is encrypted and logged in as configured. Whatever fails here is no fault of the address.
    async fn connect(&self) -> Result<AsyncSmtpConnection, NotifyError> {
        let name = &self.hello;
        let wrapped = match &self.tls {
            Tls::Wrapped(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let server = (self.host.as_str(), self.port);
        let connecting = AsyncSmtpConnection::connect_tokio1(server, Some(self.timeout), name, wrapped, None);
        let mut connection = self.step(connecting).await?.map_err(|e| temporary("connecting", &e))?;
        let starttls = match &self.tls {
            Tls::Required(parameters) => Some(parameters),
            Tls::Opportunistic(parameters) if connection.can_starttls() => Some(parameters),
            _ => None,
        };
        if let Some(parameters) = starttls {
            let upgrading = connection.starttls(parameters.clone(), name);
            self.step(upgrading).await?.map_err(|e| temporary("STARTTLS", &e))?;
        }
        if let Some(credentials) = &self.credentials {
            let answer = self.step(connection.auth(DEFAULT_MECHANISMS, credentials)).await?;
            // The text of the answer stays here, lest a server repeats what it was sent.
            answer.map_err(|e| match e.status() {
                Some(code) => NotifyError::Temporary(format!("the SMTP server refuses our account: {code}")),
                None => NotifyError::Temporary("logging in to the SMTP server failed".to_owned()),
            })?;
        }
        Ok(connection)
    }

    /// Hands the e-mail over; once this succeeds the server is responsible for it.
    async fn send(
        &self,
        connection: &mut AsyncSmtpConnection,
        email: &Message,
        to: Address,
    ) -> Result<(), NotifyError> {
        let from = self.from.email.clone();
        let mail = self.step(connection.command(Mail::new(Some(from), Vec::new()))).await?;
        mail.map_err(|e| temporary("the sender", &e))?;
        let rcpt = self.step(connection.command(Rcpt::new(to, Vec::new()))).await?;
        rcpt.map_err(|e| refused("the recipient", &e))?;
        let data = self.step(connection.command(Data)).await?;
        data.map_err(|e| refused("the e-mail", &e))?;
        let accepted = self.step(connection.message(&email.formatted())).await?;
        accepted.map_err(|e| refused("the e-mail", &e))?;
        Ok(())
    }

    /// Waits for one step of the conversation, but not longer than the time-out.
    async fn step<T>(&self, step: impl Future<Output = T>) -> Result<T, NotifyError> {
        let timeout = self.timeout;
        let late = |_| NotifyError::Temporary(format!("the SMTP server did not answer within {timeout:?}"));
        tokio::time::timeout(timeout, step).await.map_err(late)
    }
}

#[async_trait]
impl Notifier for Smtp {
    async fn deliver(&self, notice: &Notice) -> Result<(), NotifyError> {
        // Taskcluster's notify service takes ASCII addresses only, too; others need an extension that few servers have.
        let to: Address = notice
            .to
            .parse()
            .ok()
            .filter(|_| notice.to.is_ascii())
            .ok_or_else(|| NotifyError::Permanent("the contact is not an e-mail address in ASCII".to_owned()))?;
        let email = self.email(notice, to.clone())?;
        let mut connection = self.connect().await?;
        let sent = self.send(&mut connection, &email, to).await;
        let _ = tokio::time::timeout(GOODBYE, connection.abort()).await;
        sent
    }
}

/// What all messages about one queue refer to, by which a reader's program shows them together; and what all that tell of many
/// queues do. These refer to no queue: a program that sees several references takes them for one thread, and would show all of
/// those queues in one for ever.
fn thread(notice: &Notice, domain: &str) -> Option<String> {
    let (kind, name) = match &notice.about {
        Some(About { queue, first_seen, .. }) => {
            ("queue", format!("{} {queue} {}", notice.namespace, first_seen.millis()))
        }
        None if !notice.instead_of.is_empty() => ("queues", notice.to.to_lowercase()),
        None => return None,
    };
    let hash = Sha256::digest(name.as_bytes());
    let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Some(format!("<{kind}-{hash}@{domain}>"))
}

/// User and password of the URL.
fn credentials(url: &Url) -> Result<Option<Credentials>, BadSmtp> {
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(String::from)
            .map_err(|_| BadSmtp("user and password of the SMTP server's URL must be UTF-8".to_owned()))
    };
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        (user, Some(password)) if !user.is_empty() => Ok(Some(Credentials::new(decoded(user)?, decoded(password)?))),
        _ => Err(BadSmtp("the SMTP server's URL must have both a user and a password, or neither".to_owned())),
    }
}

fn parameters(host: &str, trust: &Trust) -> Result<TlsParameters, SmtpError> {
    let mut builder = TlsParameters::builder(host.to_owned());
    let authorities = trust.authorities();
    if !authorities.is_empty() {
        builder = builder.certificate_store(CertificateStore::None);
    }
    for authority in authorities {
        builder = builder.add_root_certificate(Certificate::from_der(authority.to_vec())?);
    }
    builder.build()
}

/// How the URL wants the connection encrypted, and the port where it names none.
fn tls(url: &Url, host: &str, trust: &Trust) -> Result<(Tls, u16), BadSmtp> {
    let parameters =
        || parameters(host, trust).map_err(|e| BadSmtp(format!("TLS to the SMTP server can't be set up: {e}")));
    let query: Vec<_> = url.query_pairs().collect();
    let wanted = match query.as_slice() {
        [] => None,
        [(key, value)] if key == "tls" => Some(value.as_ref()),
        _ => return Err(BadSmtp("the SMTP server's URL may have tls=... after its ?, and nothing else".to_owned())),
    };
    match (url.scheme(), wanted) {
        ("smtps", None) => Ok((Tls::Wrapped(parameters()?), 465)),
        ("smtp", None | Some("required")) => Ok((Tls::Required(parameters()?), 587)),
        ("smtp", Some("opportunistic")) => Ok((Tls::Opportunistic(parameters()?), 587)),
        ("smtp", Some("none")) => Ok((Tls::None, 25)),
        ("smtps", Some(_)) => Err(BadSmtp("the SMTP server's URL can't have tls=... with smtps".to_owned())),
        ("smtp", Some(_)) => Err(BadSmtp("the SMTP server's tls must be required, opportunistic or none".to_owned())),
        _ => Err(BadSmtp("the SMTP server's URL must begin with smtps:// or smtp://".to_owned())),
    }
}

fn temporary(what: &str, error: &SmtpError) -> NotifyError {
    let told = format!("SMTP, {what}: {error}");
    NotifyError::Temporary(match tls::advice(&told) {
        Some(advice) => format!("{told} ({advice})"),
        None => told,
    })
}

/// What a refusal means once the address was named.
fn refused(what: &str, error: &SmtpError) -> NotifyError {
    let text = error.source().map(ToString::to_string).unwrap_or_default();
    match error.status() {
        Some(code) if is_about_the_address(code.into(), &text) => {
            NotifyError::Permanent(format!("SMTP, {what}: {error}"))
        }
        _ => temporary(what, error),
    }
}

/// Whether `text` can be the name by which a client introduces itself.
pub fn is_ehlo_name(text: &str) -> bool {
    client_id(text).is_some()
}

/// What `EHLO` takes (RFC 5321, section 4.1.1.1): a domain, in ASCII, or an address between brackets.
fn client_id(text: &str) -> Option<ClientId> {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let address = address.strip_prefix("IPv6:").unwrap_or(address);
        return address.parse().ok().map(|address| match address {
            IpAddr::V4(address) => ClientId::Ipv4(address),
            IpAddr::V6(address) => ClientId::Ipv6(address),
        });
    }
    match Host::parse(text).ok()? {
        Host::Domain(name) => Some(ClientId::Domain(name)),
        Host::Ipv4(_) | Host::Ipv6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smtp(url: &str) -> Result<Smtp, BadSmtp> {
        Smtp::new(url, "Pulse <pulse@example.com>", "", Duration::from_secs(1), &Trust::default())
    }

    #[test]
    fn a_url_says_how_the_connection_is_encrypted() {
        for (url, host, port) in [
            ("smtps://mail.example.com", "mail.example.com", 465),
            ("smtp://mail.example.com/", "mail.example.com", 587),
            ("smtp://mail.example.com?tls=required", "mail.example.com", 587),
            ("smtp://mail.example.com:2525?tls=opportunistic", "mail.example.com", 2525),
            ("smtp://[::1]?tls=none", "::1", 25),
        ] {
            let smtp = smtp(url).unwrap();
            assert_eq!((smtp.host.as_str(), smtp.port), (host, port), "{url}");
        }
        assert!(matches!(smtp("smtp://x").unwrap().tls, Tls::Required(_)));
        assert!(matches!(smtp("smtps://x").unwrap().tls, Tls::Wrapped(_)));
    }

    #[test]
    fn a_bad_url_is_refused_without_being_shown() {
        for url in [
            "canary",
            "smtp:canary",
            "https://me:canary@x",
            "smtp://me:canary@",
            "smtp://:canary@x",
            "smtp://canary@x",
            "smtp://me:canary%ff@x",
            "smtp://me:canary@x/canary",
            "smtp://me:canary@x#canary",
            "smtp://me:canary@x?tls=canary",
            "smtp://me:canary@x?tls=none&tls=none",
            "smtp://me:canary@x?canary",
            "smtp://me:canary@x?tls=opportunistic",
            "smtps://me:canary@x?tls=none",
            "smtp://me:canary@x:99999",
        ] {
            let error = smtp(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{url}: {error}");
        }
        let smtp = smtp("smtps://me:can%41ry@x").unwrap();
        assert!(smtp.credentials == Some(Credentials::new("me".into(), "canAry".into())));
        assert_eq!(format!("{smtp:?}"), r#"Smtp { host: "x", port: 465, .. }"#);
        assert!(Smtp::new("smtps://x", "nobody", "", Duration::from_secs(1), &Trust::default()).is_err());
    }

    #[test]
    fn we_introduce_ourselves_as_configured_or_by_the_domain_of_the_sender() {
        let hello = |from: &str, hello: &str| {
            Smtp::new("smtps://x", from, hello, Duration::from_secs(1), &Trust::default())
                .ok()
                .map(|smtp| smtp.hello.to_string())
        };
        for (from, name, told) in [
            ("Pulse <pulse@tc.example.com>", "", Some("tc.example.com")),
            ("pulse@tc.example.com", "worker-1.example.com", Some("worker-1.example.com")),
            ("pulse@b\u{fc}cher.example", "", Some("xn--bcher-kva.example")),
            ("pulse@example.com", "[192.0.2.1]", Some("[192.0.2.1]")),
            ("pulse@example.com", "[IPv6:2001:db8::1]", Some("[IPv6:2001:db8::1]")),
            ("pulse@example.com", "[2001:db8::1]", Some("[IPv6:2001:db8::1]")),
            ("pulse@example.com", "a b", None),
            ("pulse@example.com", "a\r\nMAIL FROM:<b@c>", None),
            ("pulse@example.com", "192.0.2.1", None),
        ] {
            assert_eq!(hello(from, name).as_deref(), told, "{from} {name}");
        }
    }
}

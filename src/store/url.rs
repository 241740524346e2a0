//! `DATABASE_URL`: which store, where, and how the connection to it is encrypted.

use std::error::Error as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};

use crate::store::error::StoreError;

/// How long a host may take to accept a connection, unless the URL says so.
const CONNECT: Duration = Duration::from_secs(5);

/// Where the store is. `Debug` does not show the password.
#[derive(Debug, Clone)]
pub enum DatabaseUrl {
    /// A SQLite file, which is made where it isn't there.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(Server),
}

/// A PostgreSQL server and a database on it.
#[derive(Debug, Clone)]
pub struct Server {
    /// All hosts.
    pub(super) config: Box<Config>,
    /// The same for each host alone, in their order.
    pub(super) hosts: Vec<Config>,
    /// What of the server's certificate is verified.
    pub(super) verified: Verified,
    pub(super) files: Files,
}

/// What of a server's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verified {
    /// That the server has its key.
    Nothing,
    /// That it is of an authority that is trusted.
    Authority,
    /// That, and that it is for this host.
    Name,
}

/// Files of certificates and keys; an empty path where none is named.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    /// Authorities that are trusted in place of the system's.
    pub(super) root: PathBuf,
    /// The certificate that is shown to the server.
    pub(super) certificate: PathBuf,
    /// Its key.
    pub(super) key: PathBuf,
}

impl FromStr for DatabaseUrl {
    type Err = StoreError;

    /// Reads `sqlite:<path>`, `postgres://…` or `postgresql://…`.
    ///
    /// The parameters of a PostgreSQL URL are those of tokio-postgres, but for encryption: `sslmode` is `disable`,
    /// `prefer` (the default), `require`, `verify-ca` or `verify-full`, and `sslrootcert`, `sslcert` and `sslkey` name files, all with
    /// libpq's meanings (with `sslrootcert`, `require` is `verify-ca`). Taskcluster's `ssl=1` and `ssl=authorized` stand for `require`
    /// and `verify-full`. Where there are several hosts, `target_session_attrs` is `read-write` unless it is given.
    ///
    /// # Errors
    /// [`StoreError::Setup`] says what is wrong and shows nothing of the URL, which may hold a password.
    fn from_str(url: &str) -> Result<DatabaseUrl, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            return sqlite(path);
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return postgres(url).map(DatabaseUrl::Postgres);
        }
        Err(wrong("it must begin with sqlite:, postgres:// or postgresql://"))
    }
}

fn wrong(what: impl std::fmt::Display) -> StoreError {
    StoreError::Setup(format!("the database URL is wrong: {what}"))
}

fn sqlite(path: &str) -> Result<DatabaseUrl, StoreError> {
    let relative_to_a_host = path.starts_with("//") && !path.starts_with("///");
    if path.is_empty() || path.starts_with(':') || relative_to_a_host {
        return Err(wrong("after sqlite: comes the path of a file, as in sqlite:/var/lib/pulse.sqlite"));
    }
    Ok(DatabaseUrl::Sqlite(PathBuf::from(path)))
}

fn postgres(url: &str) -> Result<Server, StoreError> {
    // The rest of a password with an @ in it would be taken for the host or a parameter, which errors show.
    if url.matches('@').count() > 1 {
        return Err(wrong("it has more than one @; write %40 for each but the one before the host"));
    }
    let (rest, mode, files) = take_encryption(url)?;
    let (ssl_mode, mut verified) = mode.unwrap_or((SslMode::Prefer, Verified::Nothing));
    if ssl_mode == SslMode::Require && verified == Verified::Nothing && !files.root.as_os_str().is_empty() {
        verified = Verified::Authority;
    }
    let parsed = |url: &str| -> Result<Config, StoreError> {
        let mut config = url.parse::<Config>().map_err(|error| {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            wrong(format!("{error}: {why}; it must look like postgres://user:password@host:5432/database"))
        })?;
        config.ssl_mode(ssl_mode);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        Ok(config)
    };
    let mut config = parsed(&rest)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(wrong("it names no host, as in postgres://user:password@host:5432/database"));
    }
    let mut hosts: Vec<Config> = single_hosts(&rest).iter().map(|url| parsed(url)).collect::<Result<_, _>>()?;
    if hosts.len() > 1 && !rest.contains("target_session_attrs=") {
        for each in hosts.iter_mut().chain([&mut config]) {
            each.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
    }
    Ok(Server { config: Box::new(config), hosts, verified, files })
}

/// The URL for each host alone. Hosts that stand among the parameters stay together.
fn single_hosts(url: &str) -> Vec<String> {
    let begins = url.find('@').or(url.find("://").map(|at| at + 2)).map_or(0, |at| at + 1);
    let ends = url[begins..].find(['/', '?']).map_or(url.len(), |at| begins + at);
    url[begins..ends].split(',').map(|host| format!("{}{host}{}", &url[..begins], &url[ends..])).collect()
}

type Encryption = (SslMode, Verified);

/// Takes the parameters of encryption out of the URL: tokio-postgres knows few of them.
fn take_encryption(url: &str) -> Result<(String, Option<Encryption>, Files), StoreError> {
    let host_at = url.find('@').unwrap_or(0);
    let mut files = Files::default();
    let Some(query_at) = url[host_at..].find('?').map(|at| host_at + at) else {
        return Ok((url.to_owned(), None, files));
    };
    let mut mode = None;
    let mut kept = Vec::new();
    for parameter in url[query_at + 1..].split('&') {
        let found = match parameter.split_once('=') {
            Some(("sslmode", value)) => match value {
                "disable" => (SslMode::Disable, Verified::Nothing),
                "prefer" => (SslMode::Prefer, Verified::Nothing),
                "require" => (SslMode::Require, Verified::Nothing),
                "verify-ca" => (SslMode::Require, Verified::Authority),
                "verify-full" => (SslMode::Require, Verified::Name),
                _ => return Err(wrong("sslmode must be disable, prefer, require, verify-ca or verify-full")),
            },
            Some(("ssl", value)) => match value {
                "1" => (SslMode::Require, Verified::Nothing),
                "authorized" => (SslMode::Require, Verified::Name),
                _ => return Err(wrong("ssl must be 1 (encrypted, not verified) or authorized (verified too)")),
            },
            Some((name @ ("sslrootcert" | "sslcert" | "sslkey"), value)) => {
                let path = percent_decode_str(value).decode_utf8();
                let path = path.map_err(|_| wrong(format!("{name} must be UTF-8")))?.into_owned().into();
                match name {
                    "sslrootcert" => files.root = path,
                    "sslcert" => files.certificate = path,
                    _ => files.key = path,
                }
                continue;
            }
            _ => {
                kept.push(parameter);
                continue;
            }
        };
        if mode.replace(found).is_some() {
            return Err(wrong("give only one of sslmode and ssl, and only once"));
        }
    }
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    Ok((format!("{}{query}", &url[..query_at]), mode, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str) -> String {
        url.parse::<DatabaseUrl>().unwrap_err().to_string()
    }

    #[test]
    fn encryption_is_read_as_libpq_and_as_taskcluster_write_it() {
        for (parameters, mode, verified) in [
            ("", SslMode::Prefer, Verified::Nothing),
            ("?application_name=x", SslMode::Prefer, Verified::Nothing),
            ("?sslmode=disable", SslMode::Disable, Verified::Nothing),
            ("?sslmode=prefer", SslMode::Prefer, Verified::Nothing),
            ("?connect_timeout=3&sslmode=require", SslMode::Require, Verified::Nothing),
            ("?sslmode=verify-full&application_name=x", SslMode::Require, Verified::Name),
            ("?sslmode=verify-ca", SslMode::Require, Verified::Authority),
            ("?sslmode=require&sslrootcert=%2Fca.pem", SslMode::Require, Verified::Authority),
            ("?sslrootcert=ca.pem", SslMode::Prefer, Verified::Nothing),
            ("?ssl=1", SslMode::Require, Verified::Nothing),
            ("?ssl=authorized", SslMode::Require, Verified::Name),
        ] {
            let url = format!("postgres://u:a?ssl=0@h:1/d{parameters}");
            let Ok(DatabaseUrl::Postgres(server)) = url.parse() else { panic!("{url}") };
            assert_eq!((server.config.get_ssl_mode(), server.verified), (mode, verified), "{url}");
            assert_eq!(server.config.get_password(), Some(&b"a?ssl=0"[..]));
            assert_eq!(server.config.get_dbname(), Some("d"));
        }
    }

    #[test]
    fn hosts_are_told_apart_and_the_one_that_can_be_written_to_is_wanted() {
        let server = |url: &str| match url.parse() {
            Ok(DatabaseUrl::Postgres(server)) => server,
            other => panic!("{url}: {other:?}"),
        };
        let two = server("postgres://u:p,x@a:1,b:2/d?application_name=x&sslrootcert=/ca%20.pem&sslcert=c&sslkey=k");
        let shown: Vec<_> = two.hosts.iter().map(|of| (of.get_hosts().to_vec(), of.get_ports().to_vec())).collect();
        let tcp = |name: &str| vec![tokio_postgres::config::Host::Tcp(name.to_owned())];
        assert_eq!(shown, [(tcp("a"), vec![1]), (tcp("b"), vec![2])]);
        for config in two.hosts.iter().chain([&*two.config]) {
            assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
            assert_eq!((config.get_dbname(), config.get_password()), (Some("d"), Some(&b"p,x"[..])));
        }
        let Files { root, certificate, key } = &two.files;
        assert_eq!((root.to_str(), certificate.to_str(), key.to_str()), (Some("/ca .pem"), Some("c"), Some("k")));
        let any = server("postgres://a,b?target_session_attrs=any");
        assert_eq!(any.hosts[1].get_target_session_attrs(), TargetSessionAttrs::Any);
        assert_eq!(server("postgres://h/d").hosts[0].get_target_session_attrs(), TargetSessionAttrs::Any);
        assert_eq!(server("postgres:///d?host=a,b").hosts.len(), 1);
    }

    #[test]
    fn a_wrong_url_is_refused_without_showing_its_password() {
        for (url, what) in [
            ("mysql://u:hunter2@h/d", "must begin with sqlite:, postgres:// or postgresql://"),
            ("postgres://u:hunter2@h/d?sslmode=hunter2", "sslmode must be"),
            ("postgres://u:hunter2@h/d?ssl=true", "ssl must be 1"),
            ("postgres://u:hunter2@h/d?ssl=1&sslmode=disable", "only one of"),
            ("postgres://u:hunter2@h:port/d", "must look like"),
            ("postgres:///d", "names no host"),
            ("postgres://u:p@hunter2@h/d", "write %40"),
            ("postgres://u:p@?hunter2=1@h/d", "write %40"),
            ("sqlite:", "the path of a file"),
            ("sqlite::memory:", "the path of a file"),
            ("sqlite://pulse.sqlite", "the path of a file"),
        ] {
            let error = error(url);
            assert!(error.contains(what) && !error.contains("hunter2"), "{url}: {error}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let url: DatabaseUrl = "postgres://u:hunter2@h/d".parse().unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
    }

    #[test]
    fn a_sqlite_path_is_taken_as_it_is() {
        for (url, path) in [("sqlite:a/b", "a/b"), ("sqlite:/a", "/a"), ("sqlite:///a", "/a")] {
            let Ok(DatabaseUrl::Sqlite(found)) = url.parse() else { panic!("{url}") };
            assert!(found.components().eq(PathBuf::from(path).components()));
        }
    }
}

//! `DATABASE_URL`: which store, where, and how the connection to it is encrypted.

use std::error::Error as _;
use std::path::PathBuf;
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use crate::store::StoreError;

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
    pub(super) config: Box<Config>,
    /// Whether the server's certificate must be good for its name.
    pub(super) verified: bool,
}

impl FromStr for DatabaseUrl {
    type Err = StoreError;

    /// Reads `sqlite:<path>`, `postgres://…` or `postgresql://…`.
    ///
    /// The parameters of a PostgreSQL URL are those of tokio-postgres, but for encryption: `sslmode` is `disable`,
    /// `prefer` (the default), `require` or `verify-full` with libpq's meanings (only `verify-full` looks at the server's
    /// certificate). Taskcluster's `ssl=1` and `ssl=authorized` stand for `require` and `verify-full`.
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
    let (rest, mode) = take_encryption(url)?;
    let mut config = rest.parse::<Config>().map_err(|error| {
        let why = error.source().map(ToString::to_string).unwrap_or_default();
        wrong(format!("{error}: {why}; it must look like postgres://user:password@host:5432/database"))
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(wrong("it names no host, as in postgres://user:password@host:5432/database"));
    }
    let (ssl_mode, verified) = mode.unwrap_or((SslMode::Prefer, false));
    config.ssl_mode(ssl_mode);
    Ok(Server { config: Box::new(config), verified })
}

type Encryption = (SslMode, bool);

/// Takes the parameters `ssl` and `sslmode` out of the URL: tokio-postgres knows neither the one nor `verify-full`.
fn take_encryption(url: &str) -> Result<(String, Option<Encryption>), StoreError> {
    let host_at = url.find('@').unwrap_or(0);
    let Some(query_at) = url[host_at..].find('?').map(|at| host_at + at) else { return Ok((url.to_owned(), None)) };
    let mut mode = None;
    let mut kept = Vec::new();
    for parameter in url[query_at + 1..].split('&') {
        let found = match parameter.split_once('=') {
            Some(("sslmode", value)) => match value {
                "disable" => (SslMode::Disable, false),
                "prefer" => (SslMode::Prefer, false),
                "require" => (SslMode::Require, false),
                "verify-full" => (SslMode::Require, true),
                _ => return Err(wrong("sslmode must be disable, prefer, require or verify-full")),
            },
            Some(("ssl", value)) => match value {
                "1" => (SslMode::Require, false),
                "authorized" => (SslMode::Require, true),
                _ => return Err(wrong("ssl must be 1 (encrypted, not verified) or authorized (verified too)")),
            },
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
    Ok((format!("{}{query}", &url[..query_at]), mode))
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
            ("", SslMode::Prefer, false),
            ("?application_name=x", SslMode::Prefer, false),
            ("?sslmode=disable", SslMode::Disable, false),
            ("?sslmode=prefer", SslMode::Prefer, false),
            ("?connect_timeout=3&sslmode=require", SslMode::Require, false),
            ("?sslmode=verify-full&application_name=x", SslMode::Require, true),
            ("?ssl=1", SslMode::Require, false),
            ("?ssl=authorized", SslMode::Require, true),
        ] {
            let url = format!("postgres://u:a?ssl=0@h:1/d{parameters}");
            let Ok(DatabaseUrl::Postgres(server)) = url.parse() else { panic!("{url}") };
            assert_eq!((server.config.get_ssl_mode(), server.verified), (mode, verified), "{url}");
            assert_eq!(server.config.get_password(), Some(&b"a?ssl=0"[..]));
            assert_eq!(server.config.get_dbname(), Some("d"));
        }
    }

    #[test]
    fn a_wrong_url_is_refused_without_showing_its_password() {
        for (url, what) in [
            ("mysql://u:hunter2@h/d", "must begin with sqlite:, postgres:// or postgresql://"),
            ("postgres://u:hunter2@h/d?sslmode=hunter2", "sslmode must be"),
            ("postgres://u:hunter2@h/d?ssl=true", "ssl must be 1"),
            ("postgres://u:hunter2@h/d?ssl=1&sslmode=disable", "only one of"),
            ("postgres://u:hunter2@h:port/d", "must look like"),
            ("postgres://u:hunter2@h/d?sslrootcert=hunter2", "sslrootcert"),
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

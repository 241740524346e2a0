//! The environment of the command.

use std::process::Command;

use percent_encoding::percent_decode_str;
use url::Url;

use super::published::Published;
use crate::client::Credentials;
use crate::config::SECTIONS;

/// The variable with the connection string with which the command was started.
pub const VARIABLE: &str = "PULSE_CONNECTION_STRING";
/// The variable with the path of the file with the current connection string, if there is one.
pub const FILE_VARIABLE: &str = "PULSE_CONNECTION_STRING_FILE";
/// The variables with the parts of the string, as Taskcluster's own services read them: the user, the password, the
/// host, the virtual host, and whether it is `amqps` (`libraries/pulse/src/credentials.js`, which only knows the
/// standard ports).
pub const PARTS: [&str; 5] = ["PULSE_USERNAME", "PULSE_PASSWORD", "PULSE_HOSTNAME", "PULSE_VHOST", "PULSE_AMQPS"];

/// A secret setting of ours, but many programs read a database of their own from a variable of this name.
const ANYBODYS: &str = "DATABASE_URL";

/// The variables with our secrets, which we don't pass on to the command.
pub fn secret_variables() -> impl Iterator<Item = &'static str> {
    let settings = SECTIONS.iter().flat_map(|section| section.settings).filter(|setting| setting.secret);
    settings.map(|setting| setting.variable).filter(|variable| *variable != ANYBODYS)
}

/// Sets the variables with which the command connects, and removes the `withheld` ones.
pub(super) fn prepare(
    command: &mut Command,
    credentials: &Credentials,
    file: Option<&Published>,
    withheld: &[&'static str],
) {
    for name in withheld.iter().chain(&PARTS).chain(&[FILE_VARIABLE]) {
        command.env_remove(name);
    }
    let string = credentials.connection_string.expose();
    command.env(VARIABLE, string);
    command.envs(PARTS.into_iter().zip(parts(string).into_iter().flatten()));
    command.envs(file.map(|file| (FILE_VARIABLE, file.path())));
}

/// The values of [`PARTS`]; `None` if the string does not have the form that the service uses.
fn parts(string: &str) -> Option<[String; 5]> {
    let url = Url::parse(string).ok()?;
    let decoded = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
    let amqps = match url.scheme() {
        "amqps" => true,
        "amqp" => false,
        _ => return None,
    };
    let vhost = url.path().strip_prefix('/').map_or(Some("/".to_owned()), decoded)?;
    let (username, password) = (decoded(url.username())?, decoded(url.password()?)?);
    Some([username, password, url.host_str()?.to_owned(), vhost, amqps.to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_string_are_those_that_taskcluster_makes_it_of() {
        let read = |string| parts(string).map(|parts| parts.join(" "));
        for (string, expected) in [
            ("amqps://u-1:p_-A@pulse.example.com:5671/%2F", "u-1 p_-A pulse.example.com / true"),
            ("amqp://u:p%40%3A@h/a%20%2Fb?frameMax=0", "u p@: h a /b false"),
            ("amqp://u:p@[::1]:5672/x", "u p [::1] x false"),
            ("amqp://u:p@h", "u p h / false"),
        ] {
            assert_eq!(read(string).as_deref(), Some(expected));
        }
        for string in ["", "amqp://h", "amqp://u@h/", "https://u:p@h/", "amqp://u:%ff@h/", "amqp:u:p"] {
            assert_eq!(read(string), None, "{string}");
        }
    }
}

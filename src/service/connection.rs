//! What connection strings are made of.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::domain::name::Name;
use crate::secret::Password;

/// What the connection strings of this deployment are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionTemplate {
    /// `amqps://` or `amqp://`.
    pub protocol: String,
    /// The host that AMQP clients connect to.
    pub hostname: String,
    /// Its port.
    pub port: u16,
    /// The virtual host, as it is named at the broker.
    pub vhost: String,
    /// Put behind the virtual host as it is; `?frameMax=0`, say.
    pub suffix: String,
    /// Who gets another suffix. The first that applies counts.
    pub suffixes: Vec<SuffixRule>,
}

/// Some callers, and the suffix of their connection strings. A pattern is a text that must be the same, or that ends in `*`
/// and must be what it begins with, as in a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuffixRule {
    /// The pattern of the namespaces; `None` for all.
    pub namespace: Option<String>,
    /// The pattern of the clients that claim, or have issued the temporary credentials that claim; `None` for all.
    pub client: Option<String>,
    /// The suffix.
    pub suffix: String,
}

impl SuffixRule {
    fn applies(&self, namespace: &str, client: Option<&str>) -> bool {
        let is = |pattern: &str, text: &str| match pattern.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => text == pattern,
        };
        self.namespace.as_ref().is_none_or(|pattern| is(pattern, namespace))
            && self.client.as_ref().is_none_or(|pattern| client.is_some_and(|client| is(pattern, client)))
    }
}

/// What JavaScript's `encodeURIComponent` leaves as it is.
const URI_COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

impl ConnectionTemplate {
    /// `<protocol><user>:<password>@<hostname>:<port>/<encoded vhost><suffix>`, with the suffix for this client that
    /// claims this namespace.
    pub fn connection_string(
        &self,
        user: &str,
        password: &Password,
        namespace: &Name,
        client: Option<&str>,
    ) -> Zeroizing<String> {
        let ConnectionTemplate { protocol, hostname, port, vhost, suffix, suffixes } = self;
        let own = suffixes.iter().find(|rule| rule.applies(namespace.as_str(), client));
        let suffix = own.map_or(suffix, |rule| &rule.suffix);
        let (password, vhost) = (password.expose(), utf8_percent_encode(vhost, URI_COMPONENT));
        Zeroizing::new(format!("{protocol}{user}:{password}@{hostname}:{port}/{vhost}{suffix}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(suffixes: Vec<SuffixRule>, namespace: &str, client: Option<&str>) -> String {
        let template = ConnectionTemplate {
            protocol: "amqps://".into(),
            hostname: "pulse.example.com".into(),
            port: 5671,
            vhost: "/a b".into(),
            suffix: "?frameMax=0".into(),
            suffixes,
        };
        let (name, password) = (Name::from_stored(namespace.into()), Password::from_stored("secret".into()));
        template.connection_string("taskcluster-x-1", &password, &name, client).to_string()
    }

    #[test]
    fn a_connection_string_is_shaped_as_in_2018() {
        let expected = "amqps://taskcluster-x-1:secret@pulse.example.com:5671/%2Fa%20b?frameMax=0";
        assert_eq!(made(Vec::new(), "taskcluster-x", None), expected);
    }

    #[test]
    fn the_first_rule_that_applies_gives_the_suffix() {
        let rule = |namespace: Option<&str>, client: Option<&str>, suffix: &str| SuffixRule {
            namespace: namespace.map(Into::into),
            client: client.map(Into::into),
            suffix: suffix.into(),
        };
        let rules = vec![
            rule(Some("taskcluster-x-*"), Some("project/a"), "?both"),
            rule(Some("taskcluster-x"), None, ""),
            rule(Some("taskcluster-x-*"), None, "?namespace"),
            rule(None, Some("project/*"), "?client"),
            rule(None, Some("project/b"), "?late"),
        ];
        for (namespace, client, expected) in [
            ("taskcluster-x-1", Some("project/a"), "?both"),
            ("taskcluster-x-1", Some("project/a/b"), "?namespace"),
            ("taskcluster-x-1", None, "?namespace"),
            ("taskcluster-x", Some("project/a"), ""),
            ("taskcluster-y", Some("project/b"), "?client"),
            ("taskcluster-xy", Some("project"), "?frameMax=0"),
            ("taskcluster-y", None, "?frameMax=0"),
        ] {
            let string = made(rules.clone(), namespace, client);
            assert_eq!(string.split_once("%20b").unwrap().1, expected, "{namespace} {client:?}");
        }
    }
}

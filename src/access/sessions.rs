//! The ids of sessions: random, known to the person's browser alone, and kept by their hashes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::service::Digest;

/// How many letters an id has: 256 bits in base64.
const LETTERS: usize = 43;

/// The id of a session. `Debug` shows nothing of it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId(Zeroizing<String>);

impl SessionId {
    /// A new one: 256 random bits from the operating system's generator.
    pub fn random() -> SessionId {
        let bytes = Zeroizing::new(rand::random::<[u8; 32]>());
        SessionId(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
    }

    /// One that a browser sent; `None` where it has not the form of one.
    pub fn parse(text: &str) -> Option<SessionId> {
        let good = text.len() == LETTERS && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        good.then(|| SessionId(Zeroizing::new(text.to_owned())))
    }

    /// The id itself, for the cookie alone.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the store knows it by. It is random enough to need no salt.
    pub fn hash(&self) -> Digest {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionId(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_random_comes_back_from_the_cookie_and_is_shown_nowhere() {
        let (one, other) = (SessionId::random(), SessionId::random());
        assert!(one != other && one.hash() != other.hash() && one.expose().len() == LETTERS);
        assert_eq!(SessionId::parse(one.expose()).unwrap().hash(), one.hash());
        assert_eq!(format!("{one:?}"), "SessionId(..)");
        let long = "a".repeat(LETTERS + 1);
        for bad in ["", "a", &long, &long[2..], &format!("{};", &long[1..LETTERS])] {
            assert_eq!(SessionId::parse(bad), None, "{bad}");
        }
    }
}

//! Secrets: wiped when dropped, and never printed. Passwords of broker users are made here and nowhere else.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const SALT_BYTES: usize = 4;
const DIGEST_BYTES: usize = 32;

/// Begins what stands for a password that is lost; the hash of that follows. No password that we make has a colon.
const LOST: &str = "lost:";

/// A broker user's password. `Debug` shows nothing of it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// A new password: 192 random bits from the operating system's generator, as 32 characters of `[A-Za-z0-9_-]`, so
    /// that it stands in a URL as it is.
    pub fn random() -> Password {
        let bytes = Zeroizing::new(rand::random::<[u8; 24]>());
        Password(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
    }

    /// A password that was made before, as the store gives it back.
    pub fn from_stored(text: String) -> Password {
        Password(Zeroizing::new(text))
    }

    /// Stands for a password that is lost, by the hash that RabbitMQ has of it. Nobody can be given it, but RabbitMQ can be
    /// told again that it is good. `None` where no password logs in with this hash, or it is of another form than ours.
    pub fn behind(hash: &PasswordHash) -> Option<Password> {
        let bytes = STANDARD.decode(hash.as_str()).ok()?;
        (bytes.len() == SALT_BYTES + DIGEST_BYTES).then(|| Password(Zeroizing::new(format!("{LOST}{}", hash.as_str()))))
    }

    /// The password itself, for the connection string and for sealing; for nothing that is shown or logged.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What RabbitMQ is told in place of the password, under a fresh random salt.
    pub fn hash(&self) -> PasswordHash {
        self.lost().map_or_else(|| self.hash_with(rand::random()), PasswordHash::of)
    }

    /// The hash that stands for a password that is lost.
    fn lost(&self) -> Option<&str> {
        self.0.strip_prefix(LOST)
    }

    fn hash_with(&self, salt: [u8; SALT_BYTES]) -> PasswordHash {
        let digest = Sha256::new().chain_update(salt).chain_update(self.0.as_bytes()).finalize();
        PasswordHash::of(&STANDARD.encode([&salt[..], &digest[..]].concat()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A secret that we are given and don't make: an access token, a key ring, a URL that may hold a password. `Debug` shows
/// nothing of it, and there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Guards `text`.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(Zeroizing::new(text.into()))
    }

    /// The secret itself; for nothing that is shown or logged.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(none)" } else { "Secret(..)" })
    }
}

/// A password hash in RabbitMQ's `rabbit_password_hashing_sha256` form: base64 of a 4-byte salt and the SHA-256 of salt
/// and password (RabbitMQ docs, "Credentials and Passwords"). An empty one belongs to a user who can't log in by password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Kept);

/// How many bytes a hash has as text.
const HASH_BYTES: usize = 48;

/// The text of a hash. Of a large deployment there are very many, so that those of the usual length, which are nearly all, have no
/// room of their own on the heap.
#[derive(Clone, PartialEq, Eq)]
enum Kept {
    Usual([u8; HASH_BYTES]),
    /// Of any other length.
    Odd(Box<str>),
}

impl PasswordHash {
    /// The hash under which no password logs in.
    pub fn blocked() -> PasswordHash {
        PasswordHash::of("")
    }

    /// A hash as the broker reports it.
    pub fn from_broker(text: String) -> PasswordHash {
        PasswordHash::of(&text)
    }

    fn of(text: &str) -> PasswordHash {
        PasswordHash(match text.as_bytes().try_into() {
            Ok(usual) => Kept::Usual(usual),
            Err(_) => Kept::Odd(text.into()),
        })
    }

    /// Whether no password logs in with this hash.
    pub fn is_blocked(&self) -> bool {
        self.as_str().is_empty()
    }

    /// Whether `password` logs in with this hash. The comparison takes the same time wherever the two differ.
    pub fn verifies(&self, password: &Password) -> bool {
        if let Some(hash) = password.lost() {
            return hash.as_bytes().ct_eq(self.as_str().as_bytes()).into();
        }
        let Ok(bytes) = STANDARD.decode(self.as_str()) else { return false };
        let Some((salt, _)) = bytes.split_first_chunk::<SALT_BYTES>() else { return false };
        password.hash_with(*salt).as_str().as_bytes().ct_eq(self.as_str().as_bytes()).into()
    }

    /// The text that is sent to RabbitMQ as `password_hash`.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // It was made of a text.
            Kept::Usual(usual) => std::str::from_utf8(usual).unwrap_or_default(),
            Kept::Odd(odd) => odd,
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_blocked() { "PasswordHash(blocked)" } else { "PasswordHash(..)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_192_random_bits_and_needs_no_escaping() {
        let (a, b) = (Password::random(), Password::random());
        assert_ne!(a, b);
        assert_eq!(URL_SAFE_NO_PAD.decode(a.expose()).unwrap().len(), 24);
        assert!(a.expose().bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'));
    }

    #[test]
    fn the_hash_is_rabbitmqs() {
        // The worked example of RabbitMQ's documentation: password "test12", salt 908DC60A.
        let password = Password::from_stored("test12".into());
        let hash = password.hash_with([0x90, 0x8D, 0xC6, 0x0A]);
        assert_eq!(hash.as_str(), "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
        assert!(hash.verifies(&password));
        assert!(!hash.verifies(&Password::from_stored("test13".into())));
    }

    #[test]
    fn nothing_logs_in_with_a_blocked_or_broken_hash() {
        for hash in ["", "!", "AAAA"] {
            assert!(!PasswordHash::from_broker(hash.into()).verifies(&Password::from_stored(String::new())));
        }
        assert!(PasswordHash::blocked().is_blocked());
    }

    #[test]
    fn a_lost_password_is_known_by_its_hash() {
        let password = Password::random();
        let hash = password.hash();
        let lost = Password::behind(&hash).unwrap();
        assert!(lost.hash() == hash && lost.hash().verifies(&password) && hash.verifies(&lost));
        assert!(!password.hash().verifies(&lost), "this one has another salt");
        for none in ["", "!", "AAAA"] {
            assert_eq!(Password::behind(&PasswordHash::from_broker(none.into())), None);
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let password = Password::random();
        let shown = format!("{password:?} {:?}", password.hash());
        assert_eq!(shown, "Password(..) PasswordHash(..)");
        assert_eq!(format!("{:?} {:?}", Secret::new("x"), Secret::default()), "Secret(..) Secret(none)");
    }
}

//! Attempts to sign in at an identity provider: what a browser keeps of one, what it comes back with, and why it may be in vain.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

/// Why somebody was not signed in. The text is for that person; what else is known of it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// The provider can't be reached, or its answers can't be understood.
    #[error(
        "The identity provider does not answer as it should. Try again; if that does not help, tell those who run the service."
    )]
    Provider,
    /// The provider did not let the person in.
    #[error("The identity provider did not let you in: it answered `{0}`.")]
    Refused(String),
    /// It is not an answer to what this browser asked, or is used a second time.
    #[error("This sign-in was not begun in this browser, or took longer than ten minutes. Begin anew.")]
    Unasked,
    /// What the provider says of the person is not to be believed.
    #[error(
        "What the identity provider says of you can't be verified. Begin anew; if that does not help, tell those who run the service."
    )]
    Unverified,
}

/// One attempt to sign in: what the browser keeps of it until the provider leads it back.
#[derive(Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Comes back from the provider.
    pub state: String,
    /// Comes back within the ID token.
    pub nonce: String,
    /// What PKCE proves that we have.
    pub verifier: String,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempt(..)")
    }
}

/// 256 random bits.
fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

impl Attempt {
    /// A new one.
    pub fn begin() -> Attempt {
        Attempt { state: random(), nonce: random(), verifier: random() }
    }

    /// As a browser keeps it.
    pub fn to_text(&self) -> String {
        format!("{}.{}.{}", self.state, self.nonce, self.verifier)
    }

    /// As a browser gave it back.
    pub fn parse(text: &str) -> Option<Attempt> {
        let mut parts = text.split('.').map(str::to_owned);
        let (state, nonce, verifier) = (parts.next()?, parts.next()?, parts.next()?);
        parts.next().is_none().then_some(Attempt { state, nonce, verifier })
    }
}

/// What the provider led a browser back with.
#[derive(Debug, Clone, Default)]
pub struct Returned {
    /// The code, to be redeemed once.
    pub code: String,
    /// The state of the attempt.
    pub state: String,
    /// Why there is no code.
    pub error: String,
    /// The issuer, where the provider names itself.
    pub issuer: String,
}

impl Returned {
    /// Checks that it answers this attempt, and has a code.
    ///
    /// # Errors
    /// [`SignInError::Unasked`], and [`SignInError::Refused`] with the provider's word for why.
    pub fn is_of(&self, attempt: &Attempt) -> Result<(), SignInError> {
        if !bool::from(attempt.state.as_bytes().ct_eq(self.state.as_bytes())) {
            return Err(SignInError::Unasked);
        }
        if self.error.is_empty() {
            return Ok(());
        }
        let code = self.error.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(60).collect();
        Err(SignInError::Refused(code))
    }
}

/// The error for the person, once the log has why.
pub(super) fn logged(why: &str, error: SignInError) -> SignInError {
    tracing::warn!(r#type = "console.sign-in", "somebody could not sign in: {why}");
    error
}

//! A request with what it says of its sender, read once for all who ask.

use super::certificate::Ext;
use super::hawk::{Error, Proof};
use super::request::SignedRequest;

/// A request, and its header or bewit. Nothing that it says is true before it is verified.
pub struct Read<'a> {
    pub(super) request: SignedRequest<'a>,
    /// What it says; `None` where it has neither.
    pub(super) proof: Result<Option<Proof>, Error>,
    signer: Option<String>,
}

impl<'a> Read<'a> {
    /// Reads a request.
    pub fn of(request: &SignedRequest<'a>) -> Read<'a> {
        let proof = Proof::read(request);
        let signer = proof.as_ref().ok().and_then(Option::as_ref).map(|proof| {
            let ext = Ext::parse(proof.ext.as_deref()).ok();
            let issuer = ext.as_ref().and_then(|ext| ext.issuer(&proof.id).ok().flatten());
            issuer.unwrap_or(&proof.id).to_owned()
        });
        Read { request: *request, proof, signer }
    }

    /// The client under whose key it says that it is signed: with temporary credentials, the one that issued them.
    pub fn signer(&self) -> Option<&str> {
        self.signer.as_deref()
    }

    /// What can be read of it, if anything can.
    pub(super) fn readable(&self) -> Option<&Proof> {
        self.proof.as_ref().ok()?.as_ref()
    }
}

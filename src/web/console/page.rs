//! What a page of the table is.

use futures::future::BoxFuture;

use super::answer::Answer;
use super::visit::Visit;

/// A page, or what a form of a page does.
pub(super) struct Page {
    /// Its path below `/console`.
    pub path: &'static str,
    /// Whether it is sent a form, and so may change something.
    pub takes_form: bool,
    /// Whether it is there for who has not signed in.
    pub open: bool,
    pub handler: fn(Visit) -> BoxFuture<'static, Answer>,
}

impl Page {
    /// Whether it may change something.
    pub fn changes(&self) -> bool {
        self.takes_form
    }
}

//! Which deployment this is, and whose users stand where its own should.

use async_trait::async_trait;

use crate::domain::identity::Tag;
use crate::store::error::StoreError;

/// What the service knows of itself and of others at its broker.
#[async_trait]
pub trait Deployment: Send + Sync {
    /// The tag of the deployment that keeps its records here. It was made with the database's schema, and is always the same.
    async fn tag(&self) -> Result<Tag, StoreError>;

    /// Users of others that stand where ours should, in the order of their names, at most `limit`.
    async fn foreign_users(&self, limit: u32) -> Result<Vec<String>, StoreError>;

    /// Adds users to the foreign ones, and removes others.
    async fn note_foreign_users(&self, add: &[String], remove: &[String]) -> Result<(), StoreError>;
}

/// What is wrong with a database whose schema is there and its one row of `deployment` is not.
pub(super) fn no_deployment() -> StoreError {
    StoreError::Failed(
        "the database has no row in `deployment`, which its migration made: it is not complete".to_owned(),
    )
}

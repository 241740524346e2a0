//! Sealing anew: what is sealed under an older key of the key ring is sealed under the newest one, while others go on.

use super::error::StoreError;
use super::namespaces::row::NamespaceRow;
use super::records::{Change, Record, Records, Write};
use super::seal::KeyRing;

/// How many records are written at once.
const BATCH: usize = 500;

/// How often what others wrote meanwhile is read again. A process with an older key ring may seal under an older key again.
const ROUNDS: usize = 10;

/// What became of sealing anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rekeyed {
    /// How many namespaces were sealed under an older key, and are under the newest one now.
    pub resealed: usize,
    /// How many could not be opened. They need the key that sealed them.
    pub unreadable: usize,
    /// How many are sealed under an older key even so, because another process wrote them again and again.
    pub left: usize,
}

/// A store that keeps sealed rows.
pub(super) trait SealedRows: Records {
    /// What they are sealed under.
    fn keys(&self) -> &KeyRing;

    /// All of them.
    fn rows(&self) -> impl Future<Output = Result<Vec<NamespaceRow>, StoreError>> + Send;
}

/// Writes all rows of which a part is sealed under an older key. Each is written over the version at which it was read, so
/// nothing that another process writes meanwhile is undone.
pub(super) async fn rekey(store: &impl SealedRows) -> Result<Rekeyed, StoreError> {
    let keys = store.keys();
    let mut outcome = Rekeyed::default();
    for round in 0..ROUNDS {
        (outcome.unreadable, outcome.left) = (0, 0);
        let mut changes = Vec::new();
        for row in store.rows().await?.into_iter().filter(|row| row.is_sealed_before(keys)) {
            match row.open(keys) {
                Ok(namespace) => changes.push(Change {
                    record: Record::Namespace(namespace),
                    notices: Vec::new(),
                    audits: Vec::new(),
                }),
                Err(error) => {
                    // After the loss of a key these are many, of which the result gives the number.
                    if outcome.unreadable == 0 && round == 0 {
                        tracing::error!("not every namespace can be sealed anew; the first that can't: {error}");
                    }
                    outcome.unreadable += 1;
                }
            }
        }
        for batch in changes.chunks(BATCH) {
            let written = store.write(batch).await?;
            let done = written.iter().filter(|write| **write == Write::Done).count();
            outcome.resealed += done;
            outcome.left += batch.len() - done;
        }
        if outcome.left == 0 {
            break;
        }
    }
    Ok(outcome)
}

//! Recipients in SQLite.

use async_trait::async_trait;
use rusqlite::{TransactionBehavior, params};

use super::Sqlite;
use super::rows::{execute, query};
use crate::clock::Timestamp;
use crate::domain::recipients::{Mute, Recipients};
use crate::store::error::StoreError;
use crate::store::recipients::{self, ALL, RecipientRecords};

const REFUSE: &str =
    "INSERT INTO refusal (address, at) VALUES (?1, ?2) ON CONFLICT (address) DO UPDATE SET at = excluded.at";
const MUTE: &str = "INSERT INTO mute (target, since, until) VALUES (?1, ?2, ?3)";

#[async_trait]
impl RecipientRecords for Sqlite {
    async fn recipients(&self) -> Result<Recipients, StoreError> {
        Ok(recipients::recipients(self.read(|db| query(db, ALL, [], |row| recipients::known(row))).await?))
    }

    async fn note_refusal(&self, address: &str, at: Timestamp, forget: Timestamp) -> Result<(), StoreError> {
        let (address, at, forget) = (address.to_owned(), at.millis(), forget.millis());
        self.change(move |db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            execute(&transaction, "DELETE FROM refusal WHERE at <= ?1", [forget])?;
            execute(&transaction, REFUSE, params![address, at])?;
            Ok(transaction.commit()?)
        })
        .await
    }

    async fn mute(&self, target: &str, mute: Option<Mute>) -> Result<bool, StoreError> {
        let target = target.to_owned();
        self.change(move |db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let before = execute(&transaction, "DELETE FROM mute WHERE target = ?1", [&target])? > 0;
            if let Some(Mute { since, until }) = mute {
                execute(&transaction, MUTE, params![target, since.millis(), until.map(Timestamp::millis)])?;
            }
            transaction.commit()?;
            Ok(before)
        })
        .await
    }
}

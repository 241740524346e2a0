//! Notices in PostgreSQL.

use std::sync::LazyLock;

use async_trait::async_trait;

use super::Postgres;
use super::pool::Repeat;
use super::text::escaped;
use crate::clock::Timestamp;
use crate::domain::notice::{Notice, Undelivered};
use crate::store::error::StoreError;
use crate::store::notices::{self, Accepted, Keep, NoticeRow, Notices};
use crate::store::table::Table as _;

static TAKE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "UPDATE notice SET attempts = attempts + 1, due = $2 WHERE id = ANY(ARRAY(SELECT id FROM notice \
         WHERE due <= $1 OR due > $1 + 86400000 ORDER BY due, id LIMIT $3 FOR UPDATE SKIP LOCKED)) RETURNING {}",
        NoticeRow::columns()
    )
});
static TAKE_TO: LazyLock<String> = LazyLock::new(|| {
    format!(
        "UPDATE notice SET attempts = attempts + 1, due = $2 WHERE id = ANY(ARRAY(SELECT id FROM notice \
         WHERE (due <= $1 OR due > $1 + 86400000) AND recipient = $4 AND brief IS NOT NULL ORDER BY due, id LIMIT $3 \
         FOR UPDATE SKIP LOCKED)) RETURNING {}",
        NoticeRow::columns()
    )
});
/// Repeated after an answer that was lost, it finds no notice, and changes nothing. It locks watches in the order in which those
/// who write them do.
const ACCEPT: &str = "WITH gone AS (DELETE FROM notice WHERE id = ANY($1::text[]) RETURNING id), \
     heard AS (DELETE FROM refusal WHERE address = $5), \
     warning AS (SELECT queue, told FROM unnest($1::text[], $2::text[], $3::bigint[]) AS sent (id, queue, told) \
     JOIN gone USING (id) WHERE told IS NOT NULL), \
     locked AS (SELECT watch.queue FROM watch WHERE queue = ANY($2::text[]) ORDER BY queue FOR UPDATE) \
     UPDATE watch SET mail = 'accepted', accepted = $4::bigint, warned = coalesce(warned, greatest($4::bigint, watch.told)), \
     version = version + 1 FROM warning JOIN locked USING (queue) \
     WHERE watch.queue = warning.queue AND watch.told = warning.told AND mail = 'waiting'";
/// What it adds, it does not see: of the others of the namespace, one less is kept.
static GIVE_UP: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH given_up AS (DELETE FROM notice WHERE id = $1 RETURNING {}), \
         added AS (INSERT INTO undelivered ({}) SELECT *, $2::bigint, $3::text FROM given_up ON CONFLICT (id) DO NOTHING) \
         DELETE FROM undelivered WHERE given_up <= $4 OR id = ANY(ARRAY(SELECT id FROM undelivered \
         WHERE namespace = (SELECT namespace FROM given_up) ORDER BY given_up DESC, id OFFSET greatest($5::bigint - 1, 0)))",
        NoticeRow::columns(),
        notices::undelivered_columns()
    )
});
static UNDELIVERED: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {} FROM undelivered ORDER BY given_up DESC, id LIMIT $1", notices::undelivered_columns())
});

#[async_trait]
impl Notices for Postgres {
    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        let (now, retry, limit) = (now.millis(), retry.millis(), i64::from(limit));
        let taken = self.database.query(Repeat::Never, &TAKE, &[&now, &retry, &limit]).await?;
        Ok(notices::in_order(taken.iter().map(notices::notice).collect::<Result<_, _>>()?))
    }

    async fn take_notices_to(
        &self,
        address: &str,
        now: Timestamp,
        retry: Timestamp,
        limit: u32,
    ) -> Result<Vec<Notice>, StoreError> {
        let (now, retry, limit, address) = (now.millis(), retry.millis(), i64::from(limit), escaped(address));
        let taken = self.database.query(Repeat::Never, &TAKE_TO, &[&now, &retry, &limit, &address]).await?;
        Ok(notices::in_order(taken.iter().map(notices::notice).collect::<Result<_, _>>()?))
    }

    async fn postpone_notices(&self, ids: &[String], retry: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE notice SET due = $2 WHERE id = ANY($1::text[])";
        self.database.query(Repeat::Safe, sql, &[&ids, &retry.millis()]).await?;
        Ok(())
    }

    async fn accept_notices(&self, address: &str, accepted: &[Accepted], at: Timestamp) -> Result<(), StoreError> {
        let ids: Vec<_> = accepted.iter().map(|notice| notice.id.as_str()).collect();
        let warnings = accepted.iter().map(|notice| notice.warning.as_ref());
        let queues: Vec<_> = warnings.clone().map(|warning| warning.map(|(queue, _)| escaped(queue))).collect();
        let told: Vec<_> = warnings.map(|warning| warning.map(|(_, told)| told.millis())).collect();
        let (at, address) = (at.millis(), escaped(address));
        self.database.query(Repeat::Safe, ACCEPT, &[&ids, &queues, &told, &at, &address]).await?;
        Ok(())
    }

    async fn give_up_notice(&self, id: &str, at: Timestamp, why: &str, keep: Keep) -> Result<(), StoreError> {
        let (at, why, since, most) = (at.millis(), escaped(why), keep.since.millis(), i64::from(keep.most));
        self.database.query(Repeat::Safe, &GIVE_UP, &[&id, &at, &why, &since, &most]).await?;
        Ok(())
    }

    async fn undelivered(&self, limit: u32) -> Result<Vec<Undelivered>, StoreError> {
        let found = self.database.query(Repeat::Safe, &UNDELIVERED, &[&i64::from(limit)]).await?;
        found.iter().map(notices::undelivered).collect()
    }
}

//! What statements are given, with PostgreSQL's name of its type: behind a pooler a statement is sent with the types of its
//! parameters, since it can't be prepared there under a name.

use std::borrow::Cow;

use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

/// A type that parameters have.
trait Typed {
    /// PostgreSQL's.
    const TYPE: Type;
    /// That of an array of it.
    const ARRAY: Type;
}

macro_rules! typed {
    ($($rust:ty: $kind:ident, $array:ident;)*) => {
        $(impl Typed for $rust {
            const TYPE: Type = Type::$kind;
            const ARRAY: Type = Type::$array;
        })*
    };
}

typed! {
    bool: BOOL, BOOL_ARRAY;
    i16: INT2, INT2_ARRAY;
    i64: INT8, INT8_ARRAY;
    &str: TEXT, TEXT_ARRAY;
    String: TEXT, TEXT_ARRAY;
    Cow<'_, str>: TEXT, TEXT_ARRAY;
    &[u8]: BYTEA, BYTEA_ARRAY;
    Vec<u8>: BYTEA, BYTEA_ARRAY;
}

impl<T: Typed> Typed for Option<T> {
    const TYPE: Type = T::TYPE;
    const ARRAY: Type = T::ARRAY;
}

impl<T: Typed> Typed for &T {
    const TYPE: Type = T::TYPE;
    const ARRAY: Type = T::ARRAY;
}

/// An array; there are none of arrays.
impl<T: Typed> Typed for Vec<T> {
    const TYPE: Type = T::ARRAY;
    const ARRAY: Type = Type::UNKNOWN;
}

impl<T: Typed> Typed for &[T] {
    const TYPE: Type = T::ARRAY;
    const ARRAY: Type = Type::UNKNOWN;
}

/// What a statement is given.
pub(in crate::store) trait Param: Sync {
    /// Its type.
    fn kind(&self) -> Type;

    /// As it is sent.
    fn value(&self) -> &(dyn ToSql + Sync);
}

impl<T: Typed + ToSql + Sync> Param for T {
    fn kind(&self) -> Type {
        T::TYPE
    }

    fn value(&self) -> &(dyn ToSql + Sync) {
        self
    }
}

fn typed<'a>(params: &[&'a dyn Param]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    params.iter().map(|param| (param.value(), param.kind())).collect()
}

fn values<'a>(params: &[&'a dyn Param]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|param| param.value()).collect()
}

/// Runs a statement, prepared once a connection unless there is a pooler.
pub(super) async fn run(
    client: &ClientWrapper,
    pooled: bool,
    sql: &str,
    params: &[&dyn Param],
) -> Result<Vec<Row>, Error> {
    match pooled {
        true => client.query_typed(sql, &typed(params)).await,
        false => client.query(&client.prepare_cached(sql).await?, &values(params)).await,
    }
}

/// The same in a transaction.
pub(super) async fn run_in(
    transaction: &Transaction<'_>,
    pooled: bool,
    sql: &str,
    params: &[&dyn Param],
) -> Result<Vec<Row>, Error> {
    match pooled {
        true => transaction.query_typed(sql, &typed(params)).await,
        false => transaction.query(&transaction.prepare_cached(sql).await?, &values(params)).await,
    }
}

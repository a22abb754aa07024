//! Between the database's values and ours. What comes out of the database is parsed again.

use std::str::FromStr;

use oci::Digest;
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Decode, Row, Sqlite, Type};

use crate::{CatalogError, TaskState, UnixMillis};

/// Returns the bytes that stand for `digest` in the database.
pub(crate) fn digest_bytes(digest: &Digest) -> &[u8] {
    digest.as_bytes()
}

/// Returns `size` as the database holds it. Sizes are below 2⁶³: they are lengths of real content.
pub(crate) fn size_value(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Reads typed columns of a row.
pub(crate) trait RowExt {
    /// Reads a column that the database type alone describes.
    fn value<'row, T>(&'row self, column: &'static str) -> Result<T, CatalogError>
    where
        T: Decode<'row, Sqlite> + Type<Sqlite>;

    /// Reads a digest.
    fn digest(&self, column: &'static str) -> Result<Digest, CatalogError>;

    /// Reads a digest that may be absent.
    fn digest_or_none(&self, column: &'static str) -> Result<Option<Digest>, CatalogError>;

    /// Reads a size or count.
    fn size(&self, column: &'static str) -> Result<u64, CatalogError>;

    /// Reads a time that may be absent.
    fn time_or_none(&self, column: &'static str) -> Result<Option<UnixMillis>, CatalogError>;

    /// Reads a text that has a type of its own.
    fn parsed<T: FromStr>(&self, column: &'static str) -> Result<T, CatalogError>;

    /// Reads a time.
    fn time(&self, column: &'static str) -> Result<UnixMillis, CatalogError> {
        Ok(UnixMillis(self.value(column)?))
    }

    /// Reads the state of a task.
    fn state(&self, column: &'static str) -> Result<TaskState, CatalogError> {
        let text: String = self.value(column)?;
        let states = [
            TaskState::Pending,
            TaskState::Running,
            TaskState::Succeeded,
            TaskState::Failed,
        ];
        let known = states.into_iter().find(|state| state.as_sql() == text);
        known.ok_or(CatalogError::Damaged { value: text })
    }
}

impl RowExt for SqliteRow {
    fn value<'row, T>(&'row self, column: &'static str) -> Result<T, CatalogError>
    where
        T: Decode<'row, Sqlite> + Type<Sqlite>,
        &'static str: ColumnIndex<Self>,
    {
        Ok(self.try_get(column)?)
    }

    fn digest(&self, column: &'static str) -> Result<Digest, CatalogError> {
        parse_digest(self.value(column)?)
    }

    fn digest_or_none(&self, column: &'static str) -> Result<Option<Digest>, CatalogError> {
        self.value::<Option<Vec<u8>>>(column)?
            .map(parse_digest)
            .transpose()
    }

    fn size(&self, column: &'static str) -> Result<u64, CatalogError> {
        let value: i64 = self.value(column)?;
        u64::try_from(value).map_err(|_negative| CatalogError::Damaged {
            value: value.to_string(),
        })
    }

    fn time_or_none(&self, column: &'static str) -> Result<Option<UnixMillis>, CatalogError> {
        Ok(self.value::<Option<i64>>(column)?.map(UnixMillis))
    }

    fn parsed<T: FromStr>(&self, column: &'static str) -> Result<T, CatalogError> {
        let text: String = self.value(column)?;
        text.parse()
            .map_err(|_reason| CatalogError::Damaged { value: text })
    }
}

fn parse_digest(bytes: Vec<u8>) -> Result<Digest, CatalogError> {
    let bytes = <[u8; Digest::LEN]>::try_from(bytes).map_err(|bytes| CatalogError::Damaged {
        value: format!("{bytes:02x?}"),
    })?;
    Ok(Digest::from_bytes(bytes))
}

//! Builds and executes statements with many values.

use futures::future;
use serde::Serialize;
use sqlx::{
    Any, Arguments, Encode, Type,
    any::{AnyArguments, AnyRow},
    error::BoxDynError,
};

use super::{StoreError, Tx, rows::Places, sql};

/// A statement with its values.
pub(crate) struct Statement<'q> {
    text: String,
    values: Result<AnyArguments<'q>, BoxDynError>,
}

/// Statements that are built one by one.
pub(super) type Statements<'q> = Box<dyn Iterator<Item = Statement<'q>> + Send + 'q>;

impl<'q> Statement<'q> {
    /// A statement with placeholders for `rows` rows of `columns` values between two texts, without the values.
    pub(super) fn of_rows(places: Places, before: &str, (rows, columns): (usize, usize), after: &str) -> Self {
        let mut values = AnyArguments::default();
        values.reserve(rows * columns, 0);
        Self { text: format!("{before}{}{after}", places.rows(rows, columns)), values: Ok(values) }
    }

    /// Binds the next value.
    pub(crate) fn bind(mut self, value: impl Encode<'q, Any> + Type<Any> + 'q) -> Self {
        self.values = self.values.and_then(|mut values| values.add(value).map(|()| values));
        self
    }

    /// Binds the next value as JSON.
    pub(crate) fn json(self, value: Option<&impl Serialize>) -> Self {
        match value.map(serde_json::to_string).transpose() {
            Ok(text) => self.bind(text),
            Err(error) => self.failed(error.into()),
        }
    }

    /// Records that a value could not be encoded.
    pub(super) fn failed(self, error: BoxDynError) -> Self {
        Self { values: self.values.and(Err(error)), ..self }
    }
}

impl Tx {
    /// The row that a statement returns.
    pub(super) async fn fetch_one(
        &mut self,
        operation: &'static str,
        statement: Statement<'_>,
    ) -> Result<AnyRow, StoreError> {
        let values = statement.values.map_err(sqlx::Error::Encode).map_err(sql(operation))?;
        sqlx::query_with(&statement.text, values).fetch_one(&mut *self.inner).await.map_err(sql(operation))
    }

    /// Executes statements, and returns how many rows they changed. While the database executes one, the next is built.
    pub(super) async fn execute_each<'q>(
        &mut self,
        operation: &'static str,
        mut statements: Statements<'q>,
    ) -> Result<u64, StoreError> {
        let mut changed = 0;
        let mut next = statements.next();
        while let Some(Statement { text, values }) = next {
            let values = values.map_err(sqlx::Error::Encode).map_err(sql(operation))?;
            let executed = sqlx::query_with(&text, values).execute(&mut *self.inner);
            let (done, following) = future::join(executed, future::lazy(|_| statements.next())).await;
            changed += done.map_err(sql(operation))?.rows_affected();
            next = following;
        }
        Ok(changed)
    }
}

//! Questions to the database, each with a deadline.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::Store;
use crate::error::{Result, Unanswered};
use crate::lease::Lease;
use crate::pool::Object;

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection for statements that are to be answered within [`Config::statement_timeout`](crate::Config).
/// One that was not answered, or not waited for, is closed.
pub(super) struct Asking {
    lease: Lease,
    limit: Duration,
}

impl Store {
    /// A connection of the pool, for short questions.
    pub(super) async fn asking(&self) -> Result<Asking> {
        Ok(Asking { lease: Lease::new(self.client().await?), limit: self.config.statement_timeout })
    }
}

impl Asking {
    pub(super) async fn query(&mut self, statement: &str, params: Params<'_>) -> Result<Vec<Row>, Unanswered> {
        self.within(async |client| client.query(statement, params).await).await
    }

    /// With a statement that is asked often: the connection keeps it prepared.
    pub(super) async fn query_prepared(&mut self, statement: &str, params: Params<'_>) -> Result<Vec<Row>, Unanswered> {
        self.lease.keep();
        let client = self.lease.client();
        let asked = async {
            let statement = client.prepare_cached(statement).await?;
            client.query(&statement, params).await
        };
        let answer = tokio::time::timeout(self.limit, asked).await;
        let answer = answer.map_err(|_| Unanswered::Late(self.limit))?;
        self.lease.give_back();
        Ok(answer?)
    }

    pub(super) async fn query_one(&mut self, statement: &str, params: Params<'_>) -> Result<Row, Unanswered> {
        self.within(async |client| client.query_one(statement, params).await).await
    }

    pub(super) async fn query_opt(&mut self, statement: &str, params: Params<'_>) -> Result<Option<Row>, Unanswered> {
        self.within(async |client| client.query_opt(statement, params).await).await
    }

    pub(super) async fn execute(&mut self, statement: &str, params: Params<'_>) -> Result<u64, Unanswered> {
        self.within(async |client| client.execute(statement, params).await).await
    }

    /// The database's answer, be it an error: without one the connection is not given back.
    async fn within<T>(&mut self, ask: impl AsyncFnOnce(&Object) -> Result<T, tokio_postgres::Error>) -> Result<T, Unanswered> {
        self.lease.keep();
        let answer = tokio::time::timeout(self.limit, ask(self.lease.client())).await;
        let answer = answer.map_err(|_| Unanswered::Late(self.limit))?;
        self.lease.give_back();
        Ok(answer?)
    }
}

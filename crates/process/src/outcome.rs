//! Owns the SQL surface that the doors call: sessions, prepared statements and their results.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use futures::Stream;

use crate::{PositionToken, Result};

/// One client's state: search path, settings, and which statement is running.
#[derive(Debug)]
pub struct Session {}

/// What a run may use and must wait for.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Ends the statement after this long; `None` takes the session's `statement_timeout`.
    pub timeout: Option<Duration>,
    /// Waits until these positions are visible.
    pub after: Vec<PositionToken>,
}

impl Session {
    /// Splits a text into statements and plans the first ones; `;` separates them. An empty text gives an empty list.
    ///
    /// Statements are planned one by one as they are run, since a later one may need an earlier one's table:
    /// this only parses.
    pub fn parse(&self, _sql: &str) -> Result<Vec<Statement>> {
        unimplemented!()
    }

    /// Plans a statement: checks names and types, and finds its parameters and result columns.
    pub async fn prepare(&self, _statement: &Statement) -> Result<Prepared> {
        unimplemented!()
    }

    /// Runs a prepared statement. The result streams; dropping it cancels the query.
    pub async fn run(&self, _prepared: &Prepared, _params: &[ScalarValue], _options: RunOptions) -> Result<Outcome> {
        unimplemented!()
    }

    /// Parses, plans and runs one statement without parameters.
    pub async fn execute(&self, _sql: &str) -> Result<Outcome> {
        unimplemented!()
    }

    /// A handle that cancels what this session is running, for another connection to call.
    pub fn canceller(&self) -> Canceller {
        unimplemented!()
    }

    /// A session setting's value, as SHOW prints it.
    pub fn setting(&self, _name: &str) -> Option<String> {
        unimplemented!()
    }
}

/// Cancels a session's running statement.
#[derive(Debug, Clone)]
pub struct Canceller {}

impl Canceller {
    /// Ends the running statement with `query_canceled`; does nothing when none runs.
    pub fn cancel(&self) {}
}

/// A parsed statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its text, without the `;`.
    pub text: String,
}

/// A planned statement.
#[derive(Debug, Clone)]
pub struct Prepared {}

impl Prepared {
    /// The types of `$1`, `$2`, …; `None` where the statement does not tell.
    pub fn parameter_types(&self) -> &[Option<DataType>] {
        unimplemented!()
    }

    /// The result's columns; `None` for statements that return no rows. Field metadata tells JSON and UUID from text
    /// (`millstream_catalog::LOGICAL_TYPE_KEY`).
    pub fn schema(&self) -> Option<SchemaRef> {
        unimplemented!()
    }
}

/// What a statement came to.
#[derive(Debug)]
pub enum Outcome {
    /// Rows; the tag is for the wire's CommandComplete (`SELECT`, `SHOW`, `EXPLAIN`).
    Rows {
        /// The rows.
        rows: RowStream,
        /// The command, without its count.
        tag: &'static str,
    },
    /// No rows: the command tag, as PostgreSQL spells it (`CREATE STREAM`, `INSERT 0 5`, `SET`), and notices.
    Done {
        /// The whole tag.
        tag: String,
        /// Things to tell the user, such as "stream x exists already, skipped".
        notices: Vec<String>,
    },
}

/// A query's rows. Batches arrive as they are made; dropping the stream cancels the query and frees its memory.
#[derive(Debug)]
pub struct RowStream {
    schema: SchemaRef,
}

impl RowStream {
    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl Stream for RowStream {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}

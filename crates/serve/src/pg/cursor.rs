//! Owns cursors: queries whose rows a client fetches in parts, by name, for the length of a transaction or longer.
//!
//! A cursor holds its running query, which goes no further ahead than a few batches, and never its whole result. So it
//! goes forward only, and it counts as a running query until it is closed. What limits a statement's time limits each
//! FETCH, not the cursor.

use std::future::Future;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use millstream_catalog::fault::Code;
use millstream_process::{Outcome, Prepared, RunOptions};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::RowDescription;
use pgwire::messages::response::TransactionStatus;

use super::connection::{Connection, Failure, Sending};
use super::cursor_statement::{CursorStatement, Declaration, Reach};
use super::report::Report;
use super::row::RowFormat;

/// As long as a cursor may be open.
const UNLIMITED: Duration = Duration::MAX;

/// An open cursor.
pub(super) struct Cursor {
    sending: Sending,
    schema: SchemaRef,
    binary: bool,
    hold: bool,
    /// Whether the block that made it is still open.
    in_block: bool,
    /// Rows that were passed.
    position: u64,
}

impl Cursor {
    /// How its rows look, `formats` as Bind gives them.
    pub(super) fn format(&self, formats: &[i16]) -> RowFormat {
        match (formats, self.binary) {
            ([], true) => RowFormat::new(&self.schema, &[1]),
            _ => RowFormat::new(&self.schema, formats),
        }
    }
}

impl Connection {
    /// Plans the query of a DECLARE.
    pub(super) async fn prepare_cursor(&mut self, text: &str, declared: &Declaration) -> Result<Prepared, Failure> {
        let query = text.get(declared.query_start..).unwrap_or_default();
        let before = text.get(..declared.query_start).map_or(0, |before| before.chars().count());
        let statements = self.session.parse(query).map_err(|e| Report::of(&e).moved(before))?;
        let [statement] = statements.as_slice() else {
            return Err(Report::new("42601", "a cursor is declared for one query").into());
        };
        let prepared = self.wire.while_connected(self.session.prepare(statement)).await?;
        let prepared = prepared.map_err(|e| Report::of(&e).moved(before))?;
        match prepared.is_query() {
            true => Ok(prepared),
            false => Err(Report::new("42601", "a cursor can be declared for a query only").into()),
        }
    }

    /// Runs a statement about cursors; `described` says that the client knows the columns already.
    pub(super) async fn run_cursor(
        &mut self,
        statement: &CursorStatement,
        declared: Option<(&Prepared, &[ScalarValue])>,
        format: Option<RowFormat>,
        described: bool,
    ) -> Result<(), Failure> {
        match statement {
            CursorStatement::Declare(declaration) => {
                let Some((prepared, params)) = declared else {
                    return Err(Report::new(Code::Internal.sqlstate(), "a cursor's query was not planned").into());
                };
                self.declare(declaration, prepared, params).await?;
            }
            CursorStatement::Fetch { name, reach, moves } => {
                // Out of the map while it runs: a cursor that fails is gone.
                let mut cursor = self.cursors.remove(name).ok_or_else(|| no_cursor(name))?;
                let format = format.unwrap_or_else(|| cursor.format(&[]));
                if !described && !moves {
                    let columns = RowDescription::new(format.describe());
                    self.wire.send(PgWireBackendMessage::RowDescription(columns))?;
                }
                let rows = self.fetch(&mut cursor, *reach, *moves, format).await;
                if !matches!(rows, Err(Failure::Wire(_))) && !matches!(&rows, Err(Failure::Report(r)) if ends(r)) {
                    self.cursors.insert(name.clone(), cursor);
                }
                return Ok(self.complete(format!("{} {}", statement.tag(), rows?))?);
            }
            CursorStatement::Close(Some(name)) => {
                self.cursors.remove(name).ok_or_else(|| no_cursor(name))?;
            }
            CursorStatement::Close(None) => self.cursors.clear(),
        }
        Ok(self.complete(statement.tag().to_owned())?)
    }

    async fn declare(
        &mut self,
        declaration: &Declaration,
        prepared: &Prepared,
        params: &[ScalarValue],
    ) -> Result<(), Failure> {
        let Declaration { name, binary, hold, .. } = declaration;
        if self.cursors.contains_key(name) {
            return Err(Report::new("42P03", format!("cursor {name:?} already exists")).into());
        }
        if !hold && self.transaction == TransactionStatus::Idle {
            let message = "DECLARE CURSOR can only be used in transaction blocks, or WITH HOLD";
            return Err(Report::new("25P01", message).into());
        }
        let limit = self.session.timeout();
        let options = RunOptions { timeout: Some(UNLIMITED), ..RunOptions::default() };
        let run = within(limit, self.session.run(prepared, params, options));
        let Outcome::Rows { rows, tag } = self.wire.while_connected(run).await??? else {
            return Err(Report::new("42601", "a cursor can be declared for a query only").into());
        };
        let schema = rows.schema();
        let sending = Sending::new(rows, tag, RowFormat::new(&schema, &[]));
        let in_block = self.transaction != TransactionStatus::Idle;
        let cursor = Cursor { sending, schema, binary: *binary, hold: *hold, in_block, position: 0 };
        self.cursors.insert(name.clone(), cursor);
        Ok(())
    }

    /// Sends or passes rows of a cursor; how many.
    async fn fetch(
        &mut self,
        cursor: &mut Cursor,
        reach: Reach,
        moves: bool,
        format: RowFormat,
    ) -> Result<u64, Failure> {
        let (skip, take) = match reach {
            Reach::All => (0, u64::MAX),
            Reach::Next(rows) if rows > 0 || cursor.position == 0 => (0, rows),
            Reach::Relative(rows) if rows > 0 => (rows - 1, 1),
            Reach::Absolute(row) if row > cursor.position => (row - cursor.position - 1, 1),
            _ => {
                return Err(Report::new(FORWARD_ONLY, "cursor can only scan forward").into());
            }
        };
        cursor.sending.set_format(format);
        let limit = self.session.timeout();
        let (sending, wire) = (&mut cursor.sending, &mut self.wire);
        let rows = within(limit, async {
            let skipped = sending.skip(wire, skip).await?;
            cursor.position += skipped;
            let rows = match (take, moves) {
                _ if skipped < skip => 0,
                (0, _) => 0,
                (take, true) => sending.skip(wire, take).await?,
                (take, false) => sending.send_some(wire, take).await?,
            };
            cursor.position += rows;
            Ok::<_, Failure>(rows)
        });
        rows.await?
    }

    /// Closes the cursors that end with a transaction.
    pub(super) fn end_cursors(&mut self, rolled_back: bool) {
        self.cursors.retain(|_, cursor| cursor.hold && !(rolled_back && cursor.in_block));
        self.cursors.values_mut().for_each(|cursor| cursor.in_block = false);
    }
}

/// What a cursor answers that is asked for rows behind it; it stays open.
const FORWARD_ONLY: &str = "55000";

fn ends(report: &Report) -> bool {
    !report.is(FORWARD_ONLY)
}

/// The work's outcome, or a failure when it takes longer than a statement may.
async fn within<F: Future>(limit: Option<Duration>, work: F) -> Result<F::Output, Failure> {
    match limit {
        None => Ok(work.await),
        Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| {
            let message = format!("the statement ran longer than its limit of {} ms and was ended", limit.as_millis());
            Report::new(Code::Timeout.sqlstate(), message).into()
        }),
    }
}

pub(super) fn no_cursor(name: &str) -> Failure {
    Report::new("34000", format!("cursor {name:?} does not exist")).into()
}

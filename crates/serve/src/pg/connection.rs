//! Owns one client's conversation: its session, its transaction state, and what it has prepared.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::StreamExt;
use millstream_catalog::fault::{Code, Fault};
use millstream_process::{Outcome, RowStream, Session};
use pgwire::messages::response::{CommandComplete, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::ParameterStatus;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::control::{Control, changes_something};
use super::cursor::Cursor;
use super::extended::{Portal, Statement};
use super::report::{self, Report, unwritable};
use super::row::RowFormat;
use super::wire::{Wire, WireError};
use crate::column::Column;

/// Why a statement did not come to its end: a failure to report, or a connection that is gone.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client is told and may go on.
    Report(Report),
    /// There is nobody to tell.
    Wire(WireError),
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Report(report)
    }
}

impl<F: Fault> From<F> for Failure {
    fn from(fault: F) -> Self {
        Self::Report(Report::of(&fault))
    }
}

/// One client.
pub(super) struct Connection {
    pub(super) wire: Wire,
    pub(super) session: Session,
    pub(super) transaction: TransactionStatus,
    /// Whether the open block ran something that a rollback would have to undo.
    changed_in_block: bool,
    pub(super) statements: HashMap<String, Arc<Statement>>,
    pub(super) portals: HashMap<String, Portal>,
    pub(super) cursors: HashMap<String, Cursor>,
    /// After a failure in the extended protocol: everything up to Sync is passed over.
    pub(super) skips_to_sync: bool,
    /// Settings the client is told of when they change, with the values it knows.
    reported: Vec<(&'static str, Option<String>)>,
}

impl Connection {
    pub(super) fn new<const N: usize>(wire: Wire, session: Session, reported: [&'static str; N]) -> Self {
        let reported = reported.into_iter().map(|name| (name, session.setting(name))).collect();
        Self {
            wire,
            session,
            transaction: TransactionStatus::Idle,
            changed_in_block: false,
            statements: HashMap::new(),
            portals: HashMap::new(),
            cursors: HashMap::new(),
            skips_to_sync: false,
            reported,
        }
    }

    /// Answers the client's messages until it leaves.
    pub(super) async fn serve(mut self) -> Result<(), WireError> {
        self.ready()?;
        loop {
            let message = match self.wire.receive().await {
                Ok(message) => message,
                Err(WireError::Left) => return Ok(()),
                Err(error) => return self.dismiss(error).await,
            };
            match message {
                PgWireFrontendMessage::Terminate(_) => return Ok(()),
                PgWireFrontendMessage::Query(query) => {
                    self.skips_to_sync = false;
                    self.simple_query(&query.query).await?;
                }
                message if message.is_extended_query() => self.extended(message).await?,
                // What is left of a COPY that was refused.
                PgWireFrontendMessage::CopyData(_)
                | PgWireFrontendMessage::CopyDone(_)
                | PgWireFrontendMessage::CopyFail(_) => {}
                _ => {
                    let message = report::fatal("08P01", "this message is not expected here");
                    self.wire.send(message)?;
                    return self.wire.flush().await;
                }
            }
        }
    }

    /// Tells the client why its connection ends, as far as it still listens.
    async fn dismiss(mut self, error: WireError) -> Result<(), WireError> {
        let message = match &error {
            WireError::Stopping => report::fatal(Code::ShuttingDown.sqlstate(), "the node is stopping"),
            WireError::Protocol(_) => report::fatal("08P01", &error.to_string()),
            WireError::TooLarge { .. } => report::fatal(Code::TooLarge.sqlstate(), &error.to_string()),
            WireError::Left | WireError::Io(_) => return Err(error),
        };
        self.wire.send(message)?;
        self.wire.flush().await?;
        match error {
            WireError::Stopping => Ok(()),
            error => Err(error),
        }
    }

    /// Tells the client that it may ask the next thing.
    pub(super) fn ready(&mut self) -> Result<(), WireError> {
        self.wire.send(PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(self.transaction)))
    }

    /// Reports a statement's failure; an open block is failed with it.
    pub(super) fn fail(&mut self, report: Report) -> Result<(), WireError> {
        if self.transaction == TransactionStatus::Transaction {
            self.transaction = TransactionStatus::Error;
        }
        self.wire.send(report.into_message())
    }

    /// Refuses what a failed block does not take.
    pub(super) fn check_block(&self, control: Option<&Control>) -> Result<(), Report> {
        let ends_block = control.is_some_and(Control::ends_failed_block);
        if self.transaction != TransactionStatus::Error || ends_block {
            return Ok(());
        }
        let message = "current transaction is aborted, commands ignored until end of transaction block";
        Err(Report::new("25P02", message))
    }

    /// Carries out a statement that the connection answers itself.
    pub(super) fn control(&mut self, control: &Control) -> Result<(), Failure> {
        let tag = match control {
            Control::Begin(tag) => self.begin(tag)?,
            Control::Commit => self.end_block(true)?,
            Control::Rollback => self.end_block(false)?,
            Control::Savepoint => "SAVEPOINT",
            Control::Release => "RELEASE",
            Control::RollbackToSavepoint => {
                self.check_undone()?;
                if self.transaction == TransactionStatus::Error {
                    self.transaction = TransactionStatus::Transaction;
                }
                "ROLLBACK"
            }
            Control::Deallocate(Some(name)) => {
                self.statements.remove(name);
                "DEALLOCATE"
            }
            Control::Deallocate(None) => {
                self.statements.clear();
                "DEALLOCATE ALL"
            }
            Control::Discard(tag) => {
                if *tag == "DISCARD ALL" {
                    self.statements.clear();
                    self.portals.clear();
                    self.cursors.clear();
                }
                tag
            }
        };
        Ok(self.complete(tag.to_owned())?)
    }

    fn begin(&mut self, tag: &'static str) -> Result<&'static str, WireError> {
        if self.transaction == TransactionStatus::Transaction {
            self.wire.send(report::warning("25001", "there is already a transaction in progress"))?;
        } else {
            self.transaction = TransactionStatus::Transaction;
            self.changed_in_block = false;
        }
        Ok(tag)
    }

    /// Ends the open block. One that changed something is not rolled back: it has ended, and the client is told so.
    fn end_block(&mut self, commit: bool) -> Result<&'static str, Failure> {
        let before = std::mem::replace(&mut self.transaction, TransactionStatus::Idle);
        let rolled_back = !commit || before == TransactionStatus::Error;
        self.end_cursors(rolled_back);
        if before == TransactionStatus::Idle {
            self.wire.send(report::warning("25P01", "there is no transaction in progress"))?;
        } else if rolled_back {
            let checked = self.check_undone();
            self.changed_in_block = false;
            checked?;
        }
        self.changed_in_block = false;
        Ok(if rolled_back { "ROLLBACK" } else { "COMMIT" })
    }

    /// Refuses to say that what was changed is undone.
    fn check_undone(&self) -> Result<(), Report> {
        if !self.changed_in_block {
            return Ok(());
        }
        let message = "what this block changed stays changed: each statement is durable when it answers, and a \
                       ROLLBACK undoes none";
        let hint = "send what must be done together as one statement, such as MERGE or INSERT … ON CONFLICT; end \
                    blocks that change something with COMMIT";
        Err(Report::new(Code::Unsupported.sqlstate(), message).hinted(hint))
    }

    /// Ends a statement that returned no rows.
    pub(super) fn done(&mut self, tag: String, notices: Vec<String>) -> Result<(), WireError> {
        for text in notices {
            self.wire.send(report::notice(text))?;
        }
        self.changed_in_block |= changes_something(&tag);
        if tag == "SET" || tag == "RESET" {
            self.report_settings()?;
        }
        self.complete(tag)
    }

    /// Tells the client that a statement is complete.
    pub(super) fn complete(&mut self, tag: String) -> Result<(), WireError> {
        self.wire.send(PgWireBackendMessage::CommandComplete(CommandComplete::new(tag)))
    }

    fn report_settings(&mut self) -> Result<(), WireError> {
        for (name, known) in &mut self.reported {
            let value = self.session.setting(name);
            if value != *known {
                let status = ParameterStatus::new((*name).to_owned(), value.clone().unwrap_or_default());
                self.wire.send(PgWireBackendMessage::ParameterStatus(status))?;
                *known = value;
            }
        }
        Ok(())
    }
}

/// Rows on their way out, with what is left of the batch that is being written.
pub(super) struct Sending {
    rows: RowStream,
    tag: &'static str,
    format: RowFormat,
    batch: Option<(Vec<Column>, usize, usize)>,
    sent: u64,
}

impl Sending {
    pub(super) fn new(rows: RowStream, tag: &'static str, format: RowFormat) -> Self {
        Self { rows, tag, format, batch: None, sent: 0 }
    }

    /// What is sent from here on looks like this.
    pub(super) fn set_format(&mut self, format: RowFormat) {
        self.format = format;
    }

    /// Sends up to so many rows; how many there were.
    pub(super) async fn send_some(&mut self, wire: &mut Wire, rows: u64) -> Result<u64, Failure> {
        self.send(wire, rows).await?;
        Ok(self.sent)
    }

    /// Passes over up to so many rows; how many there were.
    pub(super) async fn skip(&mut self, wire: &mut Wire, rows: u64) -> Result<u64, Failure> {
        let mut skipped = 0;
        while skipped < rows {
            let Some((_, next, end)) = &mut self.batch else {
                match wire.while_connected(self.rows.next()).await?.transpose()? {
                    Some(batch) => self.batch = Some(self.columns(&batch)?),
                    None => break,
                }
                continue;
            };
            let left = *end - *next;
            let step = usize::try_from(rows - skipped).map_or(left, |wanted| wanted.min(left));
            *next += step;
            skipped += step as u64;
            if *next >= *end {
                self.batch = None;
            }
        }
        Ok(skipped)
    }

    /// Sends up to `limit` rows, 0 being all; true when there are no more.
    pub(super) async fn send(&mut self, wire: &mut Wire, limit: u64) -> Result<bool, Failure> {
        let mut left = if limit == 0 { u64::MAX } else { limit };
        let mut scratch = Vec::new();
        self.sent = 0;
        loop {
            let Some((columns, next, rows)) = &mut self.batch else {
                if self.rows.is_live() {
                    wire.flush().await?;
                }
                match wire.while_connected(self.rows.next()).await?.transpose()? {
                    Some(batch) => self.batch = Some(self.columns(&batch)?),
                    None => return Ok(true),
                }
                continue;
            };
            while *next < *rows && left > 0 {
                self.format
                    .put_row(columns, *next, &mut scratch, wire.output())
                    .map_err(|e| Failure::Report(unwritable(&e)))?;
                *next += 1;
                left -= 1;
                self.sent += 1;
                wire.flush_when_full().await?;
            }
            if *next >= *rows {
                self.batch = None;
            }
            if left == 0 {
                return Ok(false);
            }
        }
    }

    fn columns(&self, batch: &RecordBatch) -> Result<(Vec<Column>, usize, usize), Failure> {
        if batch.num_columns() != self.format.len() {
            return Err(Report::new("XX000", "the result has other columns than were announced").into());
        }
        let columns = self.format.columns(batch).map_err(|e| Failure::Report(unwritable(&e)))?;
        Ok((columns, 0, batch.num_rows()))
    }

    /// The command tag: `SELECT` counts the rows of the last round.
    pub(super) fn tag(&self) -> String {
        match self.tag {
            "SELECT" | "INSERT 0" | "UPDATE" | "DELETE" | "MERGE" => format!("{} {}", self.tag, self.sent),
            tag => tag.to_owned(),
        }
    }
}

/// Sends an outcome without rows, or hands its rows back.
pub(super) fn rows_of(
    connection: &mut Connection,
    outcome: Outcome,
) -> Result<Option<(RowStream, &'static str)>, WireError> {
    match outcome {
        Outcome::Rows { rows, tag } => {
            connection.changed_in_block |= changes_something(tag);
            Ok(Some((rows, tag)))
        }
        Outcome::Done { tag, notices } => connection.done(tag, notices).map(|()| None),
        // Carried out before.
        Outcome::CopyIn(_) | Outcome::CopyOut { .. } => Ok(None),
    }
}

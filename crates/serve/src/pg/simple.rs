//! Owns the simple query protocol: one text of any number of statements, values as text.

use millstream_process::{Prepared, RunOptions, Statement};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::RowDescription;
use pgwire::messages::response::EmptyQueryResponse;

use super::connection::{Connection, Failure, Sending, rows_of};
use super::control::Control;
use super::cursor_statement::CursorStatement;
use super::extended::without_end;
use super::report::Report;
use super::row::RowFormat;
use super::wire::WireError;

impl Connection {
    /// Runs a text's statements in order, up to the first that fails.
    pub(super) async fn simple_query(&mut self, text: &str) -> Result<(), WireError> {
        // A new query takes the place of the unnamed statement and portal.
        self.statements.remove("");
        self.portals.remove("");
        match self.run_text(text).await {
            Ok(()) => {}
            Err(Failure::Report(report)) => self.fail(report)?,
            Err(Failure::Wire(error)) => return Err(error),
        }
        self.ready()
    }

    async fn run_text(&mut self, text: &str) -> Result<(), Failure> {
        if let Some(control) = Control::parse(text) {
            self.check_block(Some(&control))?;
            return self.control(&control);
        }
        if let Some(cursor) = CursorStatement::parse(text) {
            return self.run_cursor_text(text, &cursor).await;
        }
        if let Some(known) = self.session.prepared(without_end(text)) {
            self.check_block(None)?;
            return self.run_prepared(&known).await;
        }
        let statements = self.session.parse(text)?;
        if statements.is_empty() {
            self.wire.send(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()))?;
        }
        let mut searched = 0;
        for statement in &statements {
            let start =
                text.get(searched..).and_then(|rest| rest.find(&statement.text)).map_or(searched, |at| searched + at);
            searched = start + statement.text.len();
            let characters_before = text.get(..start).map_or(0, |before| before.chars().count());
            self.run_statement(statement).await.map_err(|failure| match failure {
                Failure::Report(report) => Failure::Report(report.moved(characters_before)),
                wire => wire,
            })?;
        }
        Ok(())
    }

    async fn run_cursor_text(&mut self, text: &str, cursor: &CursorStatement) -> Result<(), Failure> {
        self.check_block(None)?;
        let prepared = match cursor {
            CursorStatement::Declare(declared) => Some(self.prepare_cursor(text, declared).await?),
            _ => None,
        };
        if let Some(prepared) = &prepared {
            no_parameters(prepared)?;
        }
        self.run_cursor(cursor, prepared.as_ref().map(|prepared| (prepared, [].as_slice())), None, false).await
    }

    async fn run_statement(&mut self, statement: &Statement) -> Result<(), Failure> {
        let control = Control::parse(&statement.text);
        self.check_block(control.as_ref())?;
        if let Some(control) = control {
            return self.control(&control);
        }
        if let Some(cursor) = CursorStatement::parse(&statement.text) {
            return self.run_cursor_text(&statement.text, &cursor).await;
        }
        let (session, wire) = (&self.session, &mut self.wire);
        let prepared = wire.while_connected(session.prepare(statement)).await??;
        self.run_prepared(&prepared).await
    }

    async fn run_prepared(&mut self, prepared: &Prepared) -> Result<(), Failure> {
        no_parameters(prepared)?;
        let (session, wire) = (&self.session, &mut self.wire);
        let outcome = wire.while_connected(session.run(prepared, &[], RunOptions::default())).await??;
        let Some(outcome) = self.copied(outcome).await? else {
            return Ok(());
        };
        let Some((rows, tag)) = rows_of(self, outcome)? else {
            return Ok(());
        };
        let format = RowFormat::new(&rows.schema(), &[]);
        self.wire.send(PgWireBackendMessage::RowDescription(RowDescription::new(format.describe())))?;
        let mut sending = Sending::new(rows, tag, format);
        sending.send(&mut self.wire, 0).await?;
        Ok(self.complete(sending.tag())?)
    }
}

fn no_parameters(prepared: &Prepared) -> Result<(), Report> {
    match prepared.parameter_types().len() {
        0 => Ok(()),
        n => Err(Report::new("42P02", format!("there is no value for parameter $1: the statement has {n} parameters"))),
    }
}

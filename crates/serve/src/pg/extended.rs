//! Owns the extended query protocol: statements prepared once and run many times, with parameters, in text or binary.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use millstream_process::{Prepared, RunOptions};
use pgwire::messages::data::{NoData, ParameterDescription, RowDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended,
    TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::connection::{Connection, Failure, Sending, rows_of};
use super::control::Control;
use super::cursor_statement::CursorStatement;
use super::oid;
use super::report::{Report, unwritable};
use super::row::RowFormat;
use super::value::{Given, arrow_type};
use super::wire::WireError;

/// A statement by the name it was prepared under.
pub(super) struct Statement {
    body: Body,
    /// The parameters' types as the client is told them.
    parameter_oids: Vec<u32>,
    /// The result's columns as the client is told them, all as text; none where there is no result.
    format: Option<RowFormat>,
}

enum Body {
    /// Nothing but white space.
    Empty,
    /// Answered by the connection itself.
    Control(Control),
    /// Run by the engine.
    Query(Box<Prepared>),
    /// About a cursor; with its query where it declares one.
    Cursor(CursorStatement, Option<Box<Prepared>>),
}

impl Body {
    /// What takes the parameters.
    fn prepared(&self) -> Option<&Prepared> {
        match self {
            Self::Query(prepared) => Some(prepared),
            Self::Cursor(_, prepared) => prepared.as_deref(),
            Self::Empty | Self::Control(_) => None,
        }
    }
}

/// A statement with its parameters, ready to run or running.
pub(super) struct Portal {
    statement: Arc<Statement>,
    params: Vec<ScalarValue>,
    /// How the result's columns look; none where there is no result.
    format: Option<RowFormat>,
    state: State,
}

enum State {
    /// Not run yet.
    Ready,
    /// Some rows were sent, and more may come.
    Suspended(Box<Sending>),
    /// Nothing is left.
    Done,
}

impl Statement {
    fn new(body: Body, declared: &[u32]) -> Self {
        let parameter_oids = parameter_oids(&body, declared);
        let mut statement = Self { body, parameter_oids, format: None };
        let nulls = statement.parameter_oids.iter().map(|oid| match arrow_type(*oid) {
            Some(data_type) => ScalarValue::try_from(&data_type).unwrap_or(ScalarValue::Utf8(None)),
            None => ScalarValue::Utf8(None),
        });
        let schema = statement.schema_with(&nulls.collect::<Vec<_>>());
        statement.format = schema.map(|schema| RowFormat::new(&schema, &[]));
        statement
    }

    /// How the result looks for parameters of these types, in these formats.
    fn format_with(&self, params: &[ScalarValue], formats: &[i16]) -> Option<RowFormat> {
        match self.body.prepared().is_some_and(|p| p.parameter_types().iter().any(Option::is_none)) {
            true => self.schema_with(params).map(|schema| RowFormat::new(&schema, formats)),
            false => self.format.as_ref().map(|format| format.in_formats(formats)),
        }
    }

    /// The result's columns for parameters of these types; they matter where the statement does not tell the types.
    fn schema_with(&self, params: &[ScalarValue]) -> Option<SchemaRef> {
        let Body::Query(prepared) = &self.body else { return None };
        match prepared.parameter_types().iter().all(Option::is_some) {
            true => prepared.schema(),
            false => prepared.schema_with(params),
        }
    }

    fn wanted(&self, parameter: usize) -> Option<&DataType> {
        self.body.prepared()?.parameter_types().get(parameter).and_then(Option::as_ref)
    }
}

impl Connection {
    /// Answers one message of the extended protocol.
    pub(super) async fn extended(&mut self, message: PgWireFrontendMessage) -> Result<(), WireError> {
        if let PgWireFrontendMessage::Sync(_) = message {
            return self.sync();
        }
        if self.skips_to_sync {
            return Ok(());
        }
        match self.extended_message(message).await {
            Ok(()) => Ok(()),
            Err(Failure::Report(report)) => {
                self.skips_to_sync = true;
                self.fail(report)
            }
            Err(Failure::Wire(error)) => Err(error),
        }
    }

    async fn extended_message(&mut self, message: PgWireFrontendMessage) -> Result<(), Failure> {
        match message {
            PgWireFrontendMessage::Parse(parse) => self.parse(parse).await,
            PgWireFrontendMessage::Bind(bind) => self.bind(bind),
            PgWireFrontendMessage::Describe(describe) => self.describe(&describe),
            PgWireFrontendMessage::Execute(execute) => self.execute(&execute).await,
            PgWireFrontendMessage::Close(close) => self.close(&close),
            PgWireFrontendMessage::Flush(_) => Ok(self.wire.flush().await?),
            _ => Ok(()),
        }
    }

    /// Ends a series of messages; outside of a block its portals end with it.
    fn sync(&mut self) -> Result<(), WireError> {
        self.skips_to_sync = false;
        if self.transaction == TransactionStatus::Idle {
            self.portals.clear();
        }
        self.ready()
    }

    async fn parse(&mut self, parse: Parse) -> Result<(), Failure> {
        let name = parse.name.unwrap_or_default();
        if name.is_empty() {
            self.statements.remove("");
        } else if self.statements.contains_key(&name) {
            let message = format!("prepared statement {name:?} already exists");
            return Err(Report::new("42P05", message).into());
        }
        let body = match self.session.prepared(without_end(&parse.query)) {
            Some(known) => {
                self.check_block(None)?;
                Body::Query(Box::new(known))
            }
            None => {
                let control = Control::parse(&parse.query);
                self.check_block(control.as_ref())?;
                match control {
                    Some(control) => Body::Control(control),
                    None => self.prepare(&parse.query).await?,
                }
            }
        };
        self.statements.insert(name, Arc::new(Statement::new(body, &parse.type_oids)));
        Ok(self.wire.send(PgWireBackendMessage::ParseComplete(ParseComplete::new()))?)
    }

    async fn prepare(&mut self, text: &str) -> Result<Body, Failure> {
        if let Some(cursor) = CursorStatement::parse(text) {
            let prepared = match &cursor {
                CursorStatement::Declare(declared) => Some(Box::new(self.prepare_cursor(text, declared).await?)),
                _ => None,
            };
            return Ok(Body::Cursor(cursor, prepared));
        }
        let statements = self.session.parse(text)?;
        let [statement] = statements.as_slice() else {
            if statements.is_empty() {
                return Ok(Body::Empty);
            }
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(Report::new("42601", message).into());
        };
        let before =
            text.find(&statement.text).and_then(|at| text.get(..at)).map_or(0, |before| before.chars().count());
        let prepared = self.wire.while_connected(self.session.prepare(statement)).await?;
        Ok(Body::Query(Box::new(prepared.map_err(|e| Report::of(&e).moved(before))?)))
    }

    fn bind(&mut self, bind: Bind) -> Result<(), Failure> {
        let name = bind.statement_name.unwrap_or_default();
        let statement = self.statement(&name)?;
        let control = match &statement.body {
            Body::Control(control) => Some(control),
            _ => None,
        };
        self.check_block(control)?;
        let (given, expected) = (bind.parameters.len(), statement.parameter_oids.len());
        if given != expected {
            let message = format!(
                "bind message supplies {given} parameters, but prepared statement {name:?} requires {expected}"
            );
            return Err(Report::new("08P01", message).into());
        }
        let binary = |i: usize| match bind.parameter_format_codes.as_slice() {
            [] => false,
            [all] => *all == 1,
            each => each.get(i) == Some(&1),
        };
        let mut params = Vec::with_capacity(given);
        for (i, bytes) in bind.parameters.iter().enumerate() {
            let given = Given {
                bytes: bytes.as_deref(),
                binary: binary(i),
                oid: statement.parameter_oids[i],
                wanted: statement.wanted(i),
            };
            params.push(given.value(i + 1)?);
        }
        let formats = &bind.result_column_format_codes;
        let format = match &statement.body {
            Body::Cursor(cursor, _) => self.fetched(cursor, formats),
            _ => statement.format_with(&params, formats),
        };
        let portal = Portal { statement, params, format, state: State::Ready };
        self.portals.insert(bind.portal_name.unwrap_or_default(), portal);
        Ok(self.wire.send(PgWireBackendMessage::BindComplete(BindComplete::new()))?)
    }

    /// How the rows of a FETCH look; none for what sends no rows, and for cursors that are not there yet.
    fn fetched(&self, cursor: &CursorStatement, formats: &[i16]) -> Option<RowFormat> {
        match cursor {
            CursorStatement::Fetch { name, moves: false, .. } => Some(self.cursors.get(name)?.format(formats)),
            _ => None,
        }
    }

    fn statement(&self, name: &str) -> Result<Arc<Statement>, Failure> {
        let missing = || Report::new("26000", format!("prepared statement {name:?} does not exist")).into();
        self.statements.get(name).cloned().ok_or_else(missing)
    }

    fn describe(&mut self, describe: &Describe) -> Result<(), Failure> {
        let name = describe.name.as_deref().unwrap_or_default();
        let format = if describe.target_type == TARGET_TYPE_BYTE_STATEMENT {
            let statement = self.statement(name)?;
            let parameters = ParameterDescription::new(statement.parameter_oids.clone());
            self.wire.send(PgWireBackendMessage::ParameterDescription(parameters))?;
            match &statement.body {
                Body::Cursor(cursor, _) => self.fetched(cursor, &[]),
                _ => statement.format.clone(),
            }
        } else {
            // A cursor is a portal, too.
            match (self.portals.get(name), self.cursors.get(name)) {
                (Some(portal), _) => portal.format.clone(),
                (None, Some(cursor)) => Some(cursor.format(&[])),
                (None, None) => return Err(no_portal(name)),
            }
        };
        Ok(self.wire.send(match format {
            Some(format) => PgWireBackendMessage::RowDescription(RowDescription::new(format.describe())),
            None => PgWireBackendMessage::NoData(NoData::new()),
        })?)
    }

    async fn execute(&mut self, execute: &Execute) -> Result<(), Failure> {
        let name = execute.name.as_deref().unwrap_or_default();
        // Out of the map while it runs: a portal that fails is gone.
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let limit = u64::try_from(execute.max_rows).unwrap_or(0);
        let state = std::mem::replace(&mut portal.state, State::Done);
        portal.state = match state {
            State::Ready => self.start(&portal, limit).await?,
            State::Suspended(sending) => self.resume(sending, limit).await?,
            State::Done => {
                self.complete("SELECT 0".to_owned())?;
                State::Done
            }
        };
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    async fn start(&mut self, portal: &Portal, limit: u64) -> Result<State, Failure> {
        let statement = Arc::clone(&portal.statement);
        let prepared = match &statement.body {
            Body::Empty => {
                self.wire.send(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()))?;
                return Ok(State::Done);
            }
            Body::Control(control) => {
                self.check_block(Some(control))?;
                self.control(control)?;
                return Ok(State::Done);
            }
            Body::Cursor(cursor, prepared) => {
                self.check_block(None)?;
                let declared = prepared.as_deref().map(|prepared| (prepared, portal.params.as_slice()));
                self.run_cursor(cursor, declared, portal.format.clone(), true).await?;
                return Ok(State::Done);
            }
            Body::Query(prepared) => prepared,
        };
        self.check_block(None)?;
        if let Some(rows) = self.session.run_at_once(prepared, &portal.params)
            && (limit == 0 || limit > rows.num_rows() as u64)
        {
            self.send_batch(&rows, portal.format.as_ref())?;
            return Ok(State::Done);
        }
        let run = self.session.run(prepared, &portal.params, RunOptions::default());
        let outcome = self.wire.while_connected(run).await??;
        let Some(outcome) = self.copied(outcome).await? else {
            return Ok(State::Done);
        };
        let Some((rows, tag)) = rows_of(self, outcome)? else {
            return Ok(State::Done);
        };
        let format = portal.format.clone().unwrap_or_else(|| RowFormat::new(&rows.schema(), &[]));
        self.resume(Box::new(Sending::new(rows, tag, format)), limit).await
    }

    /// Sends a result that is there as a whole, with its end.
    fn send_batch(&mut self, rows: &RecordBatch, format: Option<&RowFormat>) -> Result<(), Failure> {
        let format = format.cloned().unwrap_or_else(|| RowFormat::new(&rows.schema(), &[]));
        let unfit = |e| Failure::Report(unwritable(&e));
        let columns = format.columns(rows).map_err(unfit)?;
        let mut scratch = Vec::new();
        for row in 0..rows.num_rows() {
            format.put_row(&columns, row, &mut scratch, self.wire.output()).map_err(unfit)?;
        }
        Ok(self.complete(format!("SELECT {}", rows.num_rows()))?)
    }

    async fn resume(&mut self, mut sending: Box<Sending>, limit: u64) -> Result<State, Failure> {
        if sending.send(&mut self.wire, limit).await? {
            self.complete(sending.tag())?;
            return Ok(State::Done);
        }
        self.wire.send(PgWireBackendMessage::PortalSuspended(PortalSuspended::new()))?;
        Ok(State::Suspended(sending))
    }

    fn close(&mut self, close: &Close) -> Result<(), Failure> {
        let name = close.name.as_deref().unwrap_or_default();
        if close.target_type == TARGET_TYPE_BYTE_STATEMENT {
            self.statements.remove(name);
        } else {
            self.portals.remove(name);
            self.cursors.remove(name);
        }
        Ok(self.wire.send(PgWireBackendMessage::CloseComplete(CloseComplete::new()))?)
    }
}

/// A text without the `;` at its end.
pub(super) fn without_end(text: &str) -> &str {
    text.trim_end_matches(|c: char| c == ';' || c.is_whitespace())
}

fn no_portal(name: &str) -> Failure {
    Report::new("34000", format!("portal {name:?} does not exist")).into()
}

/// A parameter's type: as the client declared it, else as the statement needs it, else text. There may be more declared
/// than the plan has, where a part of the statement was answered without being planned.
fn parameter_oids(body: &Body, declared: &[u32]) -> Vec<u32> {
    let Some(prepared) = body.prepared() else {
        return Vec::new();
    };
    let needed = prepared.parameter_types().iter().map(|needed| match needed {
        Some(data_type) => oid::of_parameter(data_type),
        None => oid::TEXT,
    });
    let unneeded = declared.len().saturating_sub(prepared.parameter_types().len());
    needed
        .chain(std::iter::repeat_n(oid::TEXT, unneeded))
        .enumerate()
        .map(|(i, needed)| match declared.get(i) {
            None | Some(&(0 | oid::UNKNOWN)) => needed,
            Some(declared) => *declared,
        })
        .collect()
}

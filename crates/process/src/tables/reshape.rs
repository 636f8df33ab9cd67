//! Owns how a table's rows follow a change of its definition: new constraints are held against them, and files get
//! other columns.
//!
//! ```text
//!   the turn: no row comes or goes ──► rows pass? ──► log merged down ──► files written again, in no commit
//!     ──► the catalog has the new definition: it is decided ──► one Delta commit takes the files in
//! ```
//!
//! What fails before the catalog has it changes nothing. What fails behind it is made good by whoever opens the lake
//! table next: the definition says what its columns were made of ([`reshape_of`]).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use futures::StreamExt;
use millstream_catalog::fault::Code;
use millstream_catalog::{KeptColumn, Stream, TableSpec};
use millstream_store::{Fill, Layout, Reshape, ReshapedFiles};
use tokio::sync::MutexGuard;

use super::gather::shown_row;
use super::keys::{KeyPrints, Print};
use super::merge::merge_down;
use super::source::TableSource;
use crate::admit::Admission;
use crate::background::open_table;
use crate::engine::Shared;
use crate::stream::{Definition, OpenStream};
use crate::{Error, FaultPoint, RejectedRow, Result, Rows};

/// What a table's files are to become, as its definition says; `None` while columns were only added.
pub(crate) fn reshape_of(shared: &Shared, definition: &Definition) -> Result<Option<Reshape>> {
    let stream = &definition.stream;
    let Some(spec) = &stream.table else { return Ok(None) };
    let Some(reshape) = &spec.reshape else { return Ok(None) };
    Ok(Some(Reshape {
        operation: "CHANGE COLUMNS".to_owned(),
        schema: Arc::clone(&definition.full_schema),
        layout: Layout::from(spec),
        kept: reshape.kept.iter().map(|column| (column.name.clone(), column.from.clone())).collect(),
        fill: fill_of(shared, stream, &reshape.filled)?,
    }))
}

/// Gives columns their DEFAULT.
fn fill_of(shared: &Shared, stream: &Stream, filled: &[String]) -> Result<Option<Fill>> {
    if filled.is_empty() {
        return Ok(None);
    }
    let mut only = rule_free(stream);
    only.columns.retain(|column| filled.contains(&column.name));
    for column in &mut only.columns {
        column.default = stream.column(&column.name).and_then(|c| c.default.clone());
    }
    let admission = Admission::compile(&only, &shared.context()?.state())?;
    let (schema, now_us) = (only.schema(), shared.options.clock.now_us());
    Ok(Some(Arc::new(move |rows| {
        let columns: Vec<ArrayRef> = schema.fields().iter().map(|f| new_null_array(f.data_type(), rows)).collect();
        let missing = vec![Some(BooleanBuffer::new_set(rows)); columns.len()];
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
        let admitted = admission.admit(Rows { batch, missing }, now_us);
        let admitted = admitted.map_err(|e| ArrowError::ExternalError(Box::new(e)))?;
        match admitted.rejected.into_iter().next() {
            None => Ok(admitted.batch),
            Some(row) => Err(ArrowError::ExternalError(Box::new(Error::rejected(row.code, row.reason)))),
        }
    })))
}

/// The columns of a definition, of which nothing is asked.
fn rule_free(stream: &Stream) -> Stream {
    let mut free = Stream { checks: vec![], table: Some(TableSpec::default()), partition_by: vec![], ..stream.clone() };
    for column in &mut free.columns {
        (column.nullable, column.default) = (true, None);
    }
    free
}

/// A change of a table's definition, over the rows that it has. The caller has the table's turn.
pub(crate) struct Reshaping<'a> {
    shared: &'a Arc<Shared>,
    table: &'a Arc<OpenStream>,
    before: Arc<Stream>,
    next: &'a Stream,
}

/// Files that are ready to take the place of others, while nobody else changes the table's.
pub(crate) struct Prepared<'a> {
    reshape: Reshape,
    files: ReshapedFiles,
    _no_tiering: MutexGuard<'a, ()>,
    _no_care: MutexGuard<'a, ()>,
}

impl<'a> Reshaping<'a> {
    /// Of a table to its next definition.
    pub(crate) fn new(shared: &'a Arc<Shared>, table: &'a Arc<OpenStream>, next: &'a Stream) -> Self {
        Self { shared, table, before: Arc::clone(&table.definition().stream), next }
    }

    /// Whether files have to be written again.
    pub(crate) fn rewrites(&self) -> bool {
        self.next.reshaped() != self.before.reshaped()
    }

    /// The columns that keep values.
    fn kept(&self) -> Vec<KeptColumn> {
        let reshape = self.next.table.as_ref().and_then(|spec| spec.reshape.as_ref());
        match reshape.filter(|_| self.rewrites()) {
            Some(reshape) => reshape.kept.clone(),
            None => {
                let same = |name: &String| KeptColumn { name: name.clone(), from: name.clone() };
                self.before.columns.iter().map(|column| same(&column.name)).collect()
            }
        }
    }

    fn filled(&self) -> Vec<String> {
        let reshape = self.next.table.as_ref().and_then(|spec| spec.reshape.as_ref());
        reshape.filter(|_| self.rewrites()).map(|reshape| reshape.filled.clone()).unwrap_or_default()
    }

    /// What the new definition asks of rows that the old one did not: NOT NULL and CHECK. `None` when nothing.
    fn new_rules(&self) -> Option<Stream> {
        let (kept, filled) = (self.kept(), self.filled());
        let was_required = |name: &str| {
            let from = kept.iter().find(|column| column.name == name).map(|column| &column.from);
            from.and_then(|from| self.before.column(from)).is_some_and(|column| !column.nullable)
        };
        let mut rules = rule_free(self.next);
        for (rule, column) in rules.columns.iter_mut().zip(&self.next.columns) {
            rule.nullable = column.nullable || was_required(&column.name);
            if filled.contains(&column.name) {
                rule.default.clone_from(&column.default);
            }
        }
        let new = self.next.checks.iter().filter(|check| !self.before.checks.contains(check));
        rules.checks = new.cloned().collect();
        let asks = !rules.checks.is_empty() || rules.columns.iter().any(|column| !column.nullable);
        asks.then_some(rules)
    }

    /// The primary key, if it is of other columns than before.
    fn new_key(&self) -> Result<Option<KeyPrints>> {
        let key = |stream: &Stream| stream.table.as_ref().and_then(|spec| spec.primary_key.clone());
        let Some(next) = key(self.next) else { return Ok(None) };
        let kept = self.kept();
        let from = |name: &String| kept.iter().find(|column| column.name == *name).map(|column| column.from.clone());
        let columns: Option<Vec<String>> = next.columns.iter().map(from).collect();
        match (key(&self.before), columns) {
            (Some(before), Some(columns)) if before.columns == columns => Ok(None),
            _ => KeyPrints::of(self.next),
        }
    }

    /// Refuses the change when a row that is there breaks a rule that comes with it, and names the first.
    pub(crate) async fn check_rows(&self) -> Result<()> {
        let (rules, key) = (self.new_rules(), self.new_key()?);
        if rules.is_none() && key.is_none() {
            return Ok(());
        }
        let session = self.shared.context()?.state();
        let rules = rules.unwrap_or_else(|| rule_free(self.next));
        let admission = Admission::compile(&rules, &session)?;
        let form = self.form();
        let wrap = |e| Error::from_datafusion(e, "");
        let Some(state) = self.table.table() else { return Ok(()) };
        let snapshot = state.snapshot(self.shared, self.table).await?;
        let source = TableSource::new(Arc::clone(self.shared), Arc::clone(self.table), false).at(snapshot);
        let plan = source.scan(&session, None, &[], None).await.map_err(wrap)?;
        let now_us = self.shared.options.clock.now_us();
        let mut seen: HashSet<Print> = HashSet::new();
        // One part after the other, so that which row is named is no chance.
        let parts = 0..plan.properties().output_partitioning().partition_count();
        let parts = parts.map(|part| plan.execute(part, session.task_ctx())).collect::<Result<Vec<_>, _>>();
        let mut rows = futures::stream::iter(parts.map_err(wrap)?).flatten();
        while let Some(batch) = rows.next().await {
            let rows = form.rows(&batch.map_err(wrap)?)?;
            let given = rows.batch.clone();
            let admitted = admission.admit(rows, now_us)?;
            if let Some(row) = admitted.rejected.first() {
                return Err(self.broken_by(&given, row));
            }
            let Some(key) = &key else { continue };
            let prints = key.prints(&admitted.batch)?;
            if let Some(row) = prints.into_iter().position(|print| !seen.insert(print)) {
                return Err(key.there_twice(self.next, &admitted.batch, row));
            }
        }
        Ok(())
    }

    fn broken_by(&self, rows: &RecordBatch, broken: &RejectedRow) -> Error {
        let shown = shown_row(rows, broken.row);
        let message =
            format!("table {} has a row that forbids it: {}; it is ({shown})", self.before.name, broken.reason);
        Error::Rejected {
            code: broken.code,
            message,
            hint: Some("UPDATE or DELETE such rows, then alter the table".to_owned()),
            position: None,
        }
    }

    fn form(&self) -> Form {
        let loose: Vec<Field> = self.next.columns.iter().map(|c| c.to_field().with_nullable(true)).collect();
        Form { schema: Arc::new(Schema::new(loose)), kept: self.kept(), filled: self.filled() }
    }

    /// Writes the rows again with the new columns. Nothing is changed as yet.
    pub(crate) async fn prepare(&self, definition: &Definition) -> Result<Option<Prepared<'a>>> {
        let Some(reshape) = reshape_of(self.shared, definition)?.filter(|_| self.rewrites()) else { return Ok(None) };
        let no_tiering = self.table.tier_lock.lock().await;
        // What the log has is of the old columns: it goes to the lake first.
        merge_down(self.shared, self.table).await?;
        let snapshot = match self.table.table() {
            Some(state) => state.snapshot(self.shared, self.table).await?,
            None => return Ok(None),
        };
        if !snapshot.hot.is_empty() {
            let message = format!("the lake has not taken the changes of table {} yet: try again", self.table.name());
            return Err(Error::rejected(Code::Busy, message));
        }
        let no_care = self.table.care_lock.lock().await;
        let lake = open_table(self.shared, self.table).await?;
        let files = lake.stage_reshaped(&reshape).await?;
        Ok(Some(Prepared { reshape, files, _no_tiering: no_tiering, _no_care: no_care }))
    }

    /// Makes the change: `decide` writes it down, and nobody reads the table until its files follow. What keeps these
    /// from it is made good later.
    pub(crate) async fn carry_out(
        &self,
        definition: Definition,
        prepared: Option<Prepared<'_>>,
        decide: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let Some(state) = self.table.table() else { return decide.await };
        let log_schema = Arc::clone(&definition.log_schema);
        let change = async {
            decide.await?;
            self.table.redefine(definition);
            let Some(prepared) = prepared else { return Ok::<_, Error>(()) };
            if let Err(error) = self.take(&prepared).await {
                let error = crate::error::chain(&error);
                tracing::warn!(table = %self.table.name(), error, "its files get their columns when it is read next");
                self.table.close_lake_table();
            }
            Ok(())
        };
        state.while_unread(change).await?;
        state.forget_keys();
        // After a crash here the log gets its schema when the table is opened.
        self.table.log().set_schema(log_schema).await?;
        Ok(())
    }
}

impl Reshaping<'_> {
    /// Takes files into the lake that were prepared.
    async fn take(&self, prepared: &Prepared<'_>) -> Result<()> {
        self.shared.faults.reach(FaultPoint::AlterDecided)?;
        let lake = open_table(self.shared, self.table).await?;
        match lake.take_reshaped(&prepared.reshape, &prepared.files).await? {
            true => Ok(()),
            false => Err(Error::rejected(Code::Busy, "another process changed the table's files meanwhile")),
        }
    }
}

/// Gives rows of the old columns the form of the new ones.
struct Form {
    schema: SchemaRef,
    kept: Vec<KeptColumn>,
    filled: Vec<String>,
}

impl Form {
    fn rows(&self, batch: &RecordBatch) -> Result<Rows> {
        let wrap = |e: ArrowError| Error::from_datafusion(e.into(), "");
        let count = batch.num_rows();
        let (mut columns, mut missing) = (vec![], vec![]);
        for field in self.schema.fields() {
            let kept = self.kept.iter().find(|column| column.name == *field.name());
            let column = match kept.and_then(|column| batch.column_by_name(&column.from)) {
                Some(column) => cast_with_options(column, field.data_type(), &EXACT).map_err(wrap)?,
                None => new_null_array(field.data_type(), count),
            };
            columns.push(column);
            missing.push(self.filled.contains(field.name()).then(|| BooleanBuffer::new_set(count)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(wrap)?;
        Ok(Rows { batch, missing })
    }
}

/// A value that does not fit is an error, never NULL.
const EXACT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

//! Owns how a table is changed: rows that go and rows that come, checked, numbered, and appended to its log as one.
//!
//! A plain insert holds the table's gate together with others; what reads before it writes holds it alone, from its
//! look to its append, so that nothing changes in between and nothing is under way that it does not see.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::StreamExt;
use futures::stream::BoxStream;
use millstream_buffer::{Append, Key, Part};
use millstream_catalog::fault::Code;
use parking_lot::Mutex;
use roaring::RoaringTreemap;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

use super::changelog::{files_record, numbers_of, record};
use super::gather::{Gathered, Gatherer};
use super::index::{RowsByKey, build_index};
use super::keys::index_columns;
use super::others;
use super::state::{TableSnapshot, TableState};
use crate::engine::Shared;
use crate::external::refuse_others;
use crate::ingest::append_patiently;
use crate::stream::{Counters, OpenStream};
use crate::{Error, Result, Rows};

/// What comes and goes at once.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// Rows that go: `_offset`, the key's columns, and while somebody follows the table all others.
    pub(crate) gone: Option<RecordBatch>,
    /// Rows that come.
    pub(crate) come: Option<Rows>,
}

/// What a statement came to.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Rows that went.
    pub(crate) gone: u64,
    /// Rows that came.
    pub(crate) come: u64,
    /// Whether its key was there already: then nothing came.
    pub(crate) duplicate: bool,
}

/// Takes the rows that come, as they are in the table: each batch before the next change is asked for, and all before
/// any is durable.
pub(crate) type Kept = Mutex<Vec<RecordBatch>>;

/// The right to change a table: nobody else does while it is there, and a query run now sees everything before it.
#[derive(Debug)]
pub(crate) struct Turn {
    shared: Arc<Shared>,
    table: Arc<OpenStream>,
    gate: OwnedRwLockWriteGuard<()>,
    /// What the statement reads, of a table that others write to.
    base: Option<TableSnapshot>,
}

impl Turn {
    /// Waits for the right to change `table`.
    pub(crate) async fn of(shared: &Arc<Shared>, table: &Arc<OpenStream>) -> Result<Turn> {
        let state = state_of(table)?;
        if !table.is_others() {
            state.look(shared, table).await?;
            state.room(shared, table).await?;
        }
        let gate = Arc::clone(&state.gate).write_owned().await;
        let base = match table.is_others() {
            true => Some(state.snapshot(shared, table).await?),
            false => None,
        };
        Ok(Turn { shared: Arc::clone(shared), table: Arc::clone(table), gate, base })
    }

    /// What the statement must read of the table, where that is not simply what is there now.
    pub(crate) fn base(&self) -> Option<&TableSnapshot> {
        self.base.as_ref()
    }

    /// The table.
    pub(crate) fn table(&self) -> &Arc<OpenStream> {
        &self.table
    }

    /// What it is made of.
    pub(super) fn into_parts(self) -> (Arc<Shared>, Arc<OpenStream>, OwnedRwLockWriteGuard<()>) {
        (self.shared, self.table, self.gate)
    }

    /// Whether rows that go must come with all of their old content: else the key's columns do.
    pub(crate) fn needs_old_content(&self) -> bool {
        self.table.table().is_some_and(TableState::is_followed)
    }

    /// The columns that rows which go must come with.
    pub(crate) fn columns_that_go(&self) -> Vec<String> {
        let definition = self.table.definition();
        match self.needs_old_content() {
            true => definition.full_schema.fields().iter().map(|f| f.name().clone()).collect(),
            false => index_columns(&definition.stream),
        }
    }

    /// Tells which rows have which keys, as long as the turn lasts.
    pub(crate) async fn rows_by_key(&self) -> Result<RowsByKey> {
        RowsByKey::of(&self.shared, &self.table).await
    }

    /// Makes all changes, or none; `keep` gets the rows that come.
    pub(crate) async fn apply(
        self,
        mut changes: BoxStream<'_, Result<Change>>,
        keep: Option<&Kept>,
    ) -> Result<Applied> {
        let Turn { shared, table, gate, base } = self;
        if let Some(base) = base {
            return others::apply(&shared, &table, &base, changes, keep, Gate::Alone { _gate: gate }).await;
        }
        build_index(&shared, &table).await?;
        let mut gatherer = Gatherer::new(&shared, &table, keep)?;
        while let Some(change) = changes.next().await {
            let change = change?;
            if let Some(gone) = change.gone {
                gatherer.goes(gone).await?;
            }
            if let Some(come) = change.come {
                gatherer.comes(come).await?;
            }
        }
        let gathered = gatherer.end().await?;
        if let Some(keys) = state_of(&table)?.keys.lock().as_ref() {
            gathered.check_keys(&table, keys, &|_, _| None)?;
        }
        commit(table, gathered, Gate::Alone { _gate: gate }, None).await
    }
}

/// Rows come, side by side with other inserts.
pub(crate) async fn insert(
    shared: &Arc<Shared>,
    table: &Arc<OpenStream>,
    rows: BoxStream<'_, Result<Rows>>,
    keep: Option<&Kept>,
) -> Result<Applied> {
    insert_keyed(shared, table, rows, keep, None, &|_, _| None).await
}

/// Says where a row came from: the number of its batch, of those that have rows, and its place in it.
pub(crate) type PlaceOf<'a> = &'a (dyn Fn(usize, usize) -> Option<String> + Sync);

/// [`insert`] with a key that is kept with the rows: the log tells whether it has it. `place` is for a row that is
/// refused for its primary key.
pub(crate) async fn insert_keyed(
    shared: &Arc<Shared>,
    table: &Arc<OpenStream>,
    mut rows: BoxStream<'_, Result<Rows>>,
    keep: Option<&Kept>,
    key: Option<Key>,
    place: PlaceOf<'_>,
) -> Result<Applied> {
    let state = state_of(table)?;
    if table.is_others() {
        if key.is_some() {
            refuse_others(table, "files cannot be loaded once", "leave once = true out")?;
        }
        let gate = Gate::Together { _gate: Arc::clone(&state.gate).read_owned().await };
        let base = state.snapshot(shared, table).await?;
        let changes = rows.map(|rows| Ok(Change { gone: None, come: Some(rows?) })).boxed();
        return others::apply(shared, table, &base, changes, keep, gate).await;
    }
    state.look(shared, table).await?;
    state.room(shared, table).await?;
    let gate = indexed_gate(shared, table, state).await?;
    let mut gatherer = Gatherer::new(shared, table, keep)?;
    while let Some(rows) = rows.next().await {
        gatherer.comes(rows?).await?;
    }
    let mut gathered = gatherer.end().await?;
    // The keys are taken before the rows are durable, so that no other insert takes them meanwhile.
    if let Some(keys) = state.keys.lock().as_mut() {
        gathered.check_keys(table, keys, place)?;
        gathered.take_keys(keys);
    }
    let key = key.map(|key| Key { note: gathered.rows_that_come(), ..key });
    commit(Arc::clone(table), gathered, Gate::Together { _gate: gate }, key).await
}

/// The gate, held together with others, while there is an index if the table needs one.
async fn indexed_gate(
    shared: &Arc<Shared>,
    table: &Arc<OpenStream>,
    state: &TableState,
) -> Result<OwnedRwLockReadGuard<()>> {
    loop {
        let gate = Arc::clone(&state.gate).read_owned().await;
        let keyed = table.definition().stream.table.as_ref().is_some_and(|t| t.primary_key.is_some());
        if !keyed || state.keys.lock().is_some() {
            return Ok(gate);
        }
        drop(gate);
        let turn = Turn::of(shared, table).await?;
        build_index(shared, table).await?;
        drop(turn);
    }
}

/// How a statement holds the table while its rows become durable.
pub(super) enum Gate {
    Alone { _gate: OwnedRwLockWriteGuard<()> },
    Together { _gate: OwnedRwLockReadGuard<()> },
}

impl Gate {
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Gate::Alone { .. })
    }
}

/// Appends what was gathered. It goes on when its caller is gone, so that the index always tells what the log says.
pub(super) async fn commit(
    table: Arc<OpenStream>,
    mut gathered: Gathered,
    gate: Gate,
    key: Option<Key>,
) -> Result<Applied> {
    if gathered.is_empty() {
        return Ok(gathered.into_applied());
    }
    let appended = tokio::spawn(async move {
        let result = append(&table, &gathered, key).await;
        let state = state_of(&table)?;
        match (&result, &gate) {
            // What the index says of these rows may not be so.
            (Err(_) | Ok(true), _) => *state.keys.lock() = None,
            (Ok(false), Gate::Alone { .. }) => {
                if let Some(keys) = state.keys.lock().as_mut() {
                    gathered.take_keys(keys);
                }
            }
            (Ok(false), Gate::Together { .. }) => {}
        }
        result.map(|duplicate| Applied { duplicate, ..gathered.into_applied() })
    });
    appended.await.map_err(|e| Error::rejected(Code::Internal, format!("a change of a table ended early: {e}")))?
}

/// Whether the key was there already, so that nothing was appended.
async fn append(table: &OpenStream, gathered: &Gathered, key: Option<Key>) -> Result<bool> {
    let schema = table.log().schema();
    let batch = match gathered.files() {
        Some(files) => files_record(&schema, &files.text()?)?,
        None => record(&schema, &gathered.gone, &gathered.come)?,
    };
    let appended = append_patiently(table, Append { parts: vec![Part { partition: 0, batch }], key }).await?;
    if !appended.duplicate {
        Counters::add(&table.counters.accepted_rows, gathered.rows_that_come());
    }
    Ok(appended.duplicate)
}

pub(super) fn state_of(table: &OpenStream) -> Result<&TableState> {
    table.table().ok_or_else(|| Error::Rejected {
        code: Code::WrongObjectType,
        message: format!("{} is a stream: its rows only come, they are not changed", table.name()),
        hint: Some("a table's rows can be changed: CREATE TABLE".to_owned()),
        position: None,
    })
}

/// The numbers of the rows in these batches.
pub(super) fn add_numbers(batch: &RecordBatch, to: &mut RoaringTreemap) -> Result<u64> {
    let numbers = numbers_of(batch).map_err(|e| Error::from_datafusion(e.into(), ""))?;
    let before = to.len();
    to.extend(numbers.values().iter().map(|n| *n as u64));
    Ok(to.len() - before)
}

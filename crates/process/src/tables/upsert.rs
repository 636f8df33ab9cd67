//! Owns upserts: rows that come in the place of the rows that have their keys, without a look at what those hold.
//!
//! Statements that wait for the table's turn wait together: the first that gets it makes the changes of all of them,
//! in the order in which they came, with one append. So a table takes as many upserts as its log takes rows, however
//! few rows a statement has.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use millstream_catalog::OFFSET_COLUMN;
use millstream_catalog::fault::{Code, Fault};
use tokio::sync::oneshot;

use super::gather::Gathered;
use super::index::build_index;
use super::keys::{KeyIndex, Print};
use super::state::TableState;
use super::write::{Applied, Gate, Turn, commit, state_of};
use crate::engine::Shared;
use crate::stream::{Definition, OpenStream};
use crate::{Error, Result};

/// Statements with more rows than this do not wait together with others.
const MOST_ROWS: usize = 10_000;
/// Rows that one append takes.
const ROWS_TOGETHER: usize = 50_000;

/// What becomes of a row whose key is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// It takes the other's place.
    Replaces,
    /// It is left out.
    LeftOut,
}

/// Rows that come, with no key twice, which its table's definition has admitted.
#[derive(Debug)]
pub(crate) struct Upsert {
    pub(crate) rows: RecordBatch,
    pub(crate) met: Met,
    pub(crate) definition: Arc<Definition>,
}

/// What it came to.
#[derive(Debug)]
pub(crate) struct Upserted {
    pub(crate) applied: Applied,
    /// The rows that came.
    pub(crate) came: RecordBatch,
}

/// A statement that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    upsert: Upsert,
    done: oneshot::Sender<Result<Option<Upserted>>>,
}

/// Makes the change, with those of others that wait. `None` says that it can't be made so: rows that go are needed
/// with their content, the table is defined anew, or the rows are too many.
pub(crate) async fn upsert(shared: &Arc<Shared>, table: &Arc<OpenStream>, upsert: Upsert) -> Result<Option<Upserted>> {
    if upsert.rows.num_rows() > MOST_ROWS {
        return Ok(None);
    }
    let state = state_of(table)?;
    let (done, mut answer) = oneshot::channel();
    state.upserts.lock().push_back(Waiting { upsert, done });
    loop {
        let turn = Turn::of(shared, table).await?;
        match answer.try_recv() {
            Ok(answer) => return answer,
            Err(oneshot::error::TryRecvError::Closed) => {
                return Err(Error::rejected(Code::Internal, "a change of a table ended early"));
            }
            Err(oneshot::error::TryRecvError::Empty) => {
                let together = take_some(state);
                // It goes on when this caller is gone: others wait for it.
                let made = tokio::spawn(make(turn, together)).await;
                made.map_err(|e| Error::rejected(Code::Internal, format!("a change of a table ended early: {e}")))?;
            }
        }
    }
}

/// Those that came first, as many as one append takes; those whose caller is gone are left out.
fn take_some(state: &TableState) -> Vec<Waiting> {
    let mut queue = state.upserts.lock();
    let mut rows = 0;
    let mut together = Vec::new();
    while let Some(next) = queue.front() {
        rows += next.upsert.rows.num_rows();
        if rows > ROWS_TOGETHER && !together.is_empty() {
            break;
        }
        together.extend(queue.pop_front().filter(|waiting| !waiting.done.is_closed()));
    }
    together
}

/// Makes the changes of all and tells each what came of it.
async fn make(turn: Turn, together: Vec<Waiting>) {
    let (upserts, tell): (Vec<_>, Vec<_>) = together.into_iter().map(|w| (w.upsert, w.done)).unzip();
    // Who does not wait any more needs no answer.
    match make_all(turn, &upserts).await {
        Ok(applied) => {
            for (done, applied) in tell.into_iter().zip(applied) {
                let _ = done.send(Ok(applied));
            }
        }
        Err(error) => {
            for done in tell {
                let (code, message, hint) = (error.code(), error.to_string(), error.hint());
                let _ = done.send(Err(Error::Rejected { code, message, hint, position: None }));
            }
        }
    }
}

async fn make_all(turn: Turn, upserts: &[Upsert]) -> Result<Vec<Option<Upserted>>> {
    let nothing = || upserts.iter().map(|_| None).collect();
    if turn.needs_old_content() {
        return Ok(nothing());
    }
    let (shared, table, gate) = turn.into_parts();
    build_index(&shared, &table).await?;
    let definition = table.definition();
    let state = state_of(&table)?;
    let mut gathered = Gathered::default();
    let mut applied = Vec::with_capacity(upserts.len());
    {
        let keys = state.keys.lock();
        let Some(keys) = keys.as_ref() else { return Ok(nothing()) };
        let mut resolved = Resolved { keys, state, came: HashMap::new() };
        for upsert in upserts {
            applied.push(match Arc::ptr_eq(&upsert.definition, &definition) {
                true => Some(resolved.add(upsert, &mut gathered)?),
                false => None,
            });
        }
    }
    commit(table, gathered, Gate::Alone { _gate: gate }, None).await?;
    Ok(applied)
}

/// Which row has which key, with the changes that are being gathered.
struct Resolved<'a> {
    keys: &'a KeyIndex,
    state: &'a TableState,
    /// Rows that came in what is gathered.
    came: HashMap<Print, i64>,
}

impl Resolved<'_> {
    /// Adds what a statement does.
    fn add(&mut self, upsert: &Upsert, to: &mut Gathered) -> Result<Upserted> {
        let prints = self.keys.prints.prints(&upsert.rows)?;
        let met: Vec<Option<i64>> =
            prints.iter().map(|print| self.came.get(print).copied().or_else(|| self.keys.row(*print))).collect();
        let mut applied = Applied::default();
        let (rows, prints) = match upsert.met {
            Met::LeftOut => {
                let new: BooleanArray = met.iter().map(|met| Some(met.is_none())).collect();
                let prints: Vec<Print> =
                    prints.into_iter().zip(&met).filter(|(_, m)| m.is_none()).map(|p| p.0).collect();
                (chosen(&upsert.rows, &new)?, prints)
            }
            Met::Replaces => {
                let there: BooleanArray = met.iter().map(|met| Some(met.is_some())).collect();
                let numbers: Vec<i64> = met.iter().flatten().copied().collect();
                if !numbers.is_empty() {
                    let key: Vec<Print> =
                        prints.iter().zip(&met).filter(|(_, met)| met.is_some()).map(|(print, _)| *print).collect();
                    let gone = self.numbered_keys(&chosen(&upsert.rows, &there)?, &numbers)?;
                    applied.gone = to.goes(gone, key, numbers);
                }
                (upsert.rows.clone(), prints)
            }
        };
        applied.come = rows.num_rows() as u64;
        if applied.come > 0 {
            let first = self.state.take_numbers(rows.num_rows());
            self.came.extend(prints.iter().copied().zip(first..));
            to.comes(rows.clone(), prints, first);
        }
        Ok(Upserted { applied, came: rows })
    }

    /// What is told of rows that go: the columns of their keys, and their numbers.
    fn numbered_keys(&self, rows: &RecordBatch, numbers: &[i64]) -> Result<RecordBatch> {
        let mut fields: Vec<Arc<Field>> = self.keys.prints.fields().iter().cloned().collect();
        let mut columns = self.keys.prints.columns(rows)?;
        fields.push(Arc::new(Field::new(OFFSET_COLUMN, DataType::Int64, false)));
        columns.push(Arc::new(Int64Array::from(numbers.to_vec())) as ArrayRef);
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(unfit)
    }
}

fn chosen(rows: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch> {
    match mask.false_count() {
        0 => Ok(rows.clone()),
        _ => filter_record_batch(rows, mask).map_err(unfit),
    }
}

fn unfit(error: arrow::error::ArrowError) -> Error {
    Error::from_datafusion(error.into(), "")
}

//! Owns the outbox: what a dataflow gives beside its answer, committed with its state and then delivered.
//!
//! Rows of a derived stream and rows for quarantine are in the same commit of the state store as the state and the
//! positions that they come of. Behind the commit they are appended to their logs, under keys made of the number of
//! the commit. So after a crash at any point the outbox of the last commit is delivered again, and what was there adds
//! nothing; what was stepped behind the commit was not delivered, and is stepped again.
//!
//! ```text
//!   steps ──► commit n: state, positions, outbox n ──► sync ──► append with key (life, n, piece) ──► outbox n removed
//! ```
//!
//! Closed windows of a materialized view go the same way to its readers: a row that was seen stays, and what closes a
//! window depends on how rows were taken, which a restart does not repeat. They are not in the answer of the commit
//! but beside it, and stay there until the next one.
//!
//! A state that was begun anew has another `life`, so that its keys are others.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use millstream_catalog::fault::Code;
use millstream_views::{Dataflow, Refused, StateStore};
use uuid::Uuid;

use super::changes::{Sources, unweighted};
use super::open::OpenView;
use super::saved_changes;
use crate::engine::Shared;
use crate::ingest::{QuarantinedRow, append_derived, quarantine_rows};
use crate::stream::OpenStream;
use crate::{Error, Result};

/// Bytes of rows that are appended at once.
const PIECE_BYTES: usize = 4 << 20;
/// Rows of a delta that are brought into the stream's form at once.
const PART_ROWS: usize = 64 * 1024;
/// Bytes of rows after which a commit is due.
const FULL_BYTES: usize = 8 << 20;
/// Steps after which a commit is due.
const FULL_STEPS: usize = 8;

/// Keys of closed windows begin with it.
const CLOSED: &[u8] = b"s";

/// Rows that wait for a commit.
#[derive(Debug)]
pub(super) struct Outbox {
    view: Arc<OpenView>,
    /// The stream that the rows go to; none when the view is a materialized one.
    stream: Option<Arc<OpenStream>>,
    rows: Vec<RecordBatch>,
    bytes: usize,
    steps: usize,
    refused: Vec<QuarantinedRow>,
    /// Deltas of the view's answer that nobody sees yet.
    closed: Vec<RecordBatch>,
    /// What of its inputs is in them.
    sources: Sources,
}

/// What a commit holds of an outbox, to be delivered.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    rows: Vec<RecordBatch>,
    refused: Vec<QuarantinedRow>,
    closed: Vec<RecordBatch>,
    sources: Sources,
}

/// What makes the deliveries of a commit recognisable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Postmark {
    pub(super) life: Uuid,
    pub(super) number: u64,
}

impl Postmark {
    /// The key of a piece.
    fn key(&self, piece: &str) -> String {
        format!("{}/{}/{piece}", self.life.simple(), self.number)
    }
}

impl Outbox {
    /// An empty one.
    pub(super) fn new(view: Arc<OpenView>, stream: Option<Arc<OpenStream>>) -> Self {
        Self {
            view,
            stream,
            rows: vec![],
            bytes: 0,
            steps: 0,
            refused: vec![],
            closed: vec![],
            sources: Sources::new(),
        }
    }

    /// Adds a step's delta.
    pub(super) fn add(&mut self, delta: &RecordBatch) -> Result<()> {
        self.steps += 1;
        let Some(stream) = &self.stream else { return Ok(()) };
        let schema = Arc::clone(&stream.definition().schema);
        for start in (0..delta.num_rows()).step_by(PART_ROWS) {
            let part = delta.slice(start, PART_ROWS.min(delta.num_rows() - start));
            let rows = stored(&part, &schema)?;
            self.bytes += rows.get_array_memory_size();
            self.rows.push(rows);
        }
        Ok(())
    }

    /// Adds a step's delta for readers of the view, and what of its inputs is in it.
    pub(super) fn close(&mut self, delta: RecordBatch, sources: Sources) {
        self.bytes += delta.get_array_memory_size();
        self.closed.push(delta);
        self.sources = sources;
    }

    /// Adds rows for quarantine.
    pub(super) fn set_aside(&mut self, refused: Vec<Refused>) {
        let rows = refused.into_iter().map(|r| QuarantinedRow { reason: r.reason, text: r.row });
        for row in rows {
            self.bytes += row.reason.len() + row.text.len();
            self.refused.push(row);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.refused.is_empty() && self.closed.is_empty()
    }

    /// Whether closed windows wait.
    pub(super) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Whether what waits is enough for a commit.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES || self.steps >= FULL_STEPS
    }

    /// Takes what waits.
    pub(super) fn take(&mut self) -> Result<Parcel> {
        (self.bytes, self.steps) = (0, 0);
        let rows = pieces(std::mem::take(&mut self.rows))?;
        let (refused, closed) = (std::mem::take(&mut self.refused), std::mem::take(&mut self.closed));
        Ok(Parcel { rows, refused, closed, sources: std::mem::take(&mut self.sources) })
    }

    /// Makes durable what was delivered, where the stream does not do so with every append.
    pub(super) async fn sync(&self) -> Result<()> {
        match &self.stream {
            Some(stream) => super::input::sync_lazy(stream).await,
            None => Ok(()),
        }
    }

    /// Appends a parcel to where it goes. What is there already under the same postmark adds nothing; without one,
    /// nothing is recognised.
    pub(super) async fn deliver(&self, shared: &Shared, parcel: &Parcel, postmark: Option<Postmark>) -> Result<()> {
        if let Some(stream) = &self.stream {
            for (i, rows) in parcel.rows.iter().enumerate() {
                append_derived(stream, rows, postmark.map(|mark| mark.key(&i.to_string()))).await?;
            }
        }
        if !parcel.refused.is_empty() {
            let key = postmark.map(|mark| mark.key("quarantine"));
            quarantine_rows(shared, &self.view.name(), &parcel.refused, key).await?;
        }
        for delta in &parcel.closed {
            self.view.change(delta, parcel.sources.clone(), shared.options.clock.now_us())?;
        }
        Ok(())
    }
}

/// A delta's rows in the form in which the stream keeps them.
fn stored(delta: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let (rows, going) = unweighted(delta, &without_weight(delta))?;
    if going > 0 {
        return Err(Error::rejected(Code::Internal, "the query of a stream takes rows back"));
    }
    let misfit = |e| Error::rejected(Code::Internal, format!("rows do not fit the columns of their stream: {e}"));
    let columns = rows.columns().iter().zip(schema.fields());
    let columns: std::result::Result<Vec<ArrayRef>, _> = columns.map(|(c, f)| cast(c, f.data_type())).collect();
    RecordBatch::try_new(Arc::clone(schema), columns.map_err(misfit)?).map_err(misfit)
}

fn without_weight(delta: &RecordBatch) -> SchemaRef {
    let schema = delta.schema();
    let fields = &schema.fields()[..schema.fields().len() - 1];
    Arc::new(arrow::datatypes::Schema::new(fields.to_vec()))
}

/// The rows in batches of about [`PIECE_BYTES`].
fn pieces(rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let mut pieces = Vec::new();
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    for batch in rows {
        let all = batch.get_array_memory_size();
        let step = (batch.num_rows() * PIECE_BYTES / all.max(1)).max(1);
        for start in (0..batch.num_rows()).step_by(step) {
            let length = step.min(batch.num_rows() - start);
            let weight = all * length / batch.num_rows();
            if bytes + weight > PIECE_BYTES && !waiting.is_empty() {
                pieces.push(joined(&std::mem::take(&mut waiting))?);
                bytes = 0;
            }
            bytes += weight;
            waiting.push(batch.slice(start, length));
        }
    }
    if !waiting.is_empty() {
        pieces.push(joined(&waiting)?);
    }
    Ok(pieces)
}

fn joined(batches: &[RecordBatch]) -> Result<RecordBatch> {
    let misfit = |e| Error::rejected(Code::Internal, format!("rows of a stream do not fit each other: {e}"));
    concat_batches(batches[0].schema_ref(), batches).map_err(misfit)
}

impl Parcel {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.refused.is_empty() && self.closed.is_empty()
    }

    /// How many changes of the view its closed windows make.
    pub(super) fn closed_changes(&self) -> u64 {
        self.closed.iter().filter(|delta| delta.num_rows() > 0).count() as u64
    }

    /// How many rows of closed windows it has.
    pub(super) fn closed_rows(&self) -> usize {
        self.closed.iter().map(RecordBatch::num_rows).sum()
    }

    /// Takes out what goes to readers of the view.
    pub(super) fn take_closed(&mut self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.closed)
    }

    /// Whether rows of it go to quarantine.
    pub(super) fn goes_to_quarantine(&self) -> bool {
        !self.refused.is_empty()
    }

    /// The changes that put it into a store, in place of the one before.
    pub(super) fn packed(&self, store: &dyn StateStore) -> Result<Vec<millstream_views::Change>> {
        let mut changes = removed(store)?;
        for (i, rows) in self.rows.iter().enumerate() {
            changes.push((key(&[b"r", &(i as u32).to_be_bytes()]), Some(encoded(rows)?)));
        }
        for (i, delta) in self.closed.iter().enumerate() {
            for (n, start) in (0..delta.num_rows()).step_by(PART_ROWS).enumerate() {
                let part = delta.slice(start, PART_ROWS.min(delta.num_rows() - start));
                let number = [(i as u32).to_be_bytes(), (n as u32).to_be_bytes()].concat();
                changes.push((key(&[CLOSED, &number]), Some(encoded(&part)?)));
            }
        }
        if !self.refused.is_empty() {
            let rows: Vec<(&str, &str)> = self.refused.iter().map(|r| (r.reason.as_str(), r.text.as_str())).collect();
            let text = serde_json::to_vec(&rows);
            let text = text.map_err(|e| Error::rejected(Code::Internal, format!("refused rows are no JSON: {e}")))?;
            changes.push((key(&[b"q"]), Some(text.into())));
        }
        Ok(changes)
    }

    /// What the last commit put into a store and nobody removed. Closed windows come as they were shown.
    pub(super) fn unpacked(store: &dyn StateStore) -> Result<Self> {
        let mut parcel = Self::default();
        let mut closed: BTreeMap<Vec<u8>, Vec<RecordBatch>> = BTreeMap::new();
        for key in keys(store)? {
            let Some(value) = store.get(&key)? else { continue };
            match letter(&key) {
                Some(b'r') => parcel.rows.extend(decoded(&value)?),
                Some(b's') => {
                    let delta = key[..key.len().saturating_sub(size_of::<u32>())].to_vec();
                    closed.entry(delta).or_default().extend(decoded(&value)?);
                }
                _ => parcel.refused = refused_rows(&value)?,
            }
        }
        parcel.closed = closed.into_values().map(|parts| joined(&parts)).collect::<Result<_>>()?;
        Ok(parcel)
    }
}

/// The changes that remove the parcel from a store.
pub(super) fn removed(store: &dyn StateStore) -> Result<Vec<millstream_views::Change>> {
    Ok(keys(store)?.into_iter().map(|key| (key, None)).collect())
}

/// The keys of the parcel that a store has.
fn keys(store: &dyn StateStore) -> Result<Vec<Vec<u8>>> {
    let mut keys = store.keys(Dataflow::CALLERS_KEYS)?;
    keys.retain(|key| letter(key) != Some(saved_changes::LETTER));
    Ok(keys)
}

/// What says what a value is.
fn letter(key: &[u8]) -> Option<u8> {
    key.get(Dataflow::CALLERS_KEYS.len()).copied()
}

/// The changes that remove what was delivered: closed windows stay until the next commit has them in its answer.
pub(super) fn delivered(store: &dyn StateStore) -> Result<Vec<millstream_views::Change>> {
    let mut changes = removed(store)?;
    let closed = key(&[CLOSED]);
    changes.retain(|(key, _)| !key.starts_with(&closed));
    Ok(changes)
}

fn key(parts: &[&[u8]]) -> Vec<u8> {
    [&[Dataflow::CALLERS_KEYS], parts].concat().concat()
}

fn encoded(rows: &RecordBatch) -> Result<Bytes> {
    let write = || {
        let mut writer = StreamWriter::try_new(Vec::new(), rows.schema_ref())?;
        writer.write(rows)?;
        writer.into_inner()
    };
    let bytes = write().map_err(|e| Error::rejected(Code::Internal, format!("rows cannot be written down: {e}")))?;
    Ok(bytes.into())
}

fn decoded(bytes: &[u8]) -> Result<Vec<RecordBatch>> {
    let read = || StreamReader::try_new(bytes, None)?.collect::<std::result::Result<Vec<_>, _>>();
    read().map_err(|e| damaged(&e))
}

fn refused_rows(bytes: &[u8]) -> Result<Vec<QuarantinedRow>> {
    let rows: Vec<(String, String)> = serde_json::from_slice(bytes).map_err(|e| damaged(&e))?;
    Ok(rows.into_iter().map(|(reason, text)| QuarantinedRow { reason, text }).collect())
}

fn damaged(error: &dyn std::error::Error) -> Error {
    Error::rejected(Code::DataCorrupted, format!("rows that wait for their stream cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use millstream_views::MemoryStore;

    use super::*;

    fn batch(values: std::ops::Range<i64>) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(values)) as ArrayRef)]).unwrap()
    }

    #[test]
    fn a_parcel_comes_out_of_the_store_as_it_went_in() {
        let store = MemoryStore::default();
        let refused = vec![QuarantinedRow { reason: "Divide by zero".into(), text: "{\"id\":0}".into() }];
        let closed = vec![batch(7..9)];
        let parcel = Parcel { rows: vec![batch(0..3), batch(3..5)], refused, closed, ..Parcel::default() };
        store.commit(parcel.packed(&store).unwrap()).unwrap();
        let again = Parcel::unpacked(&store).unwrap();
        assert_eq!((&again.rows, &again.refused, &again.closed), (&parcel.rows, &parcel.refused, &parcel.closed));
        store.commit(delivered(&store).unwrap()).unwrap();
        let again = Parcel::unpacked(&store).unwrap();
        assert_eq!((again.rows, again.refused, again.closed), (vec![], vec![], vec![batch(7..9)]));
        // The next one takes its place.
        let next = Parcel { rows: vec![batch(5..6)], ..Parcel::default() };
        store.commit(next.packed(&store).unwrap()).unwrap();
        let again = Parcel::unpacked(&store).unwrap();
        assert_eq!((again.rows, again.refused, again.closed), (next.rows, vec![], vec![]));
        store.commit(removed(&store).unwrap()).unwrap();
        assert!(Parcel::unpacked(&store).unwrap().is_empty());
    }

    #[test]
    fn pieces_have_all_rows_in_their_order_and_a_bounded_size() {
        let count = 3 * PIECE_BYTES as i64 / 8;
        let rows = vec![batch(0..10), batch(10..count), batch(count..count + 5)];
        let pieces = pieces(rows).unwrap();
        assert!((4..=6).contains(&pieces.len()), "{} pieces", pieces.len());
        let values: Vec<i64> =
            pieces.iter().flat_map(|p| p.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(values, (0..count + 5).collect::<Vec<_>>());
        assert!(pieces.iter().all(|p| p.num_rows() * 8 <= PIECE_BYTES));
    }
}

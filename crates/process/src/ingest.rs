//! Owns how rows enter a stream: defaults, constraints, partitioning, quarantine, the durable append.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use millstream_buffer::{Append, Appended, Clock, Key, OffsetRange};
use millstream_catalog::fault::{Code, Fault};
use millstream_catalog::{ObjectName, Positions, Stream};
use twox_hash::XxHash64;

use crate::engine::{Shared, quarantine_name};
use crate::stream::{Counters, OpenStream};
use crate::{Error, Result};

/// How soon a view's rows are offered again to a log that has no room for them.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// Decoded rows, before defaults and constraints.
#[derive(Debug, Clone)]
pub struct Rows {
    /// One column per column of the stream, in its order and types; every column may hold NULLs.
    pub batch: RecordBatch,
    /// Per column, which rows did not give it at all (as against giving NULL): only those take the default.
    /// `None` where every row gave the column. One entry per column.
    pub missing: Vec<Option<BooleanBuffer>>,
}

/// A row that a constraint refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Its index in [`Rows::batch`].
    pub row: usize,
    /// The column at fault, if it is one.
    pub column: Option<String>,
    /// What kind of failure it is.
    pub code: Code,
    /// The constraint and the cause, as a person reads it.
    pub reason: String,
}

/// Rows that passed, in the stream's schema, and those that did not.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The rows that passed, in their order, defaults filled in.
    pub batch: RecordBatch,
    /// The rows that did not, by rising index.
    pub rejected: Vec<RejectedRow>,
}

/// A row on its way to `system.quarantine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedRow {
    /// Why, as a person reads it, with line and column.
    pub reason: String,
    /// The original text; bytes that are not UTF-8 are shown as U+FFFD.
    pub text: String,
}

/// A producer's key for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key as the producer gave it.
    pub key: String,
    /// A hash of the request's body as it was sent.
    pub content: u64,
}

/// What became of a request's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Rows that are in the stream.
    pub accepted: u64,
    /// Rows that are in quarantine.
    pub quarantined: u64,
    /// Where the accepted rows are.
    pub ranges: Vec<OffsetRange>,
    /// Whether the key was seen before, so that this request added nothing.
    pub duplicate: bool,
    /// A token for `after`: a query that waits for it sees these rows.
    pub token: PositionToken,
}

/// A point in one stream's history, as clients carry it: `flights:0-1500,1-1620` is offset 1500 of partition 0 and
/// 1620 of partition 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionToken {
    /// The stream.
    pub stream: ObjectName,
    /// Offsets after the last row that must be visible; 0 for partitions that do not matter.
    pub positions: Positions,
}

impl PositionToken {
    fn of(stream: &ObjectName, ranges: &[OffsetRange]) -> Self {
        let mut positions = Positions::default();
        for range in ranges {
            positions.set(range.partition, range.end);
        }
        Self { stream: stream.clone(), positions }
    }
}

impl std::fmt::Display for PositionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.stream)?;
        let named = self.positions.0.iter().enumerate().filter(|(_, offset)| **offset > 0);
        for (i, (partition, offset)) in named.enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{partition}-{offset}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for PositionToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            let shown: String = text.chars().take(80).collect();
            Error::rejected(
                Code::InvalidRequest,
                format!("position {shown:?} is not a token such as \"flights:0-1500\"; take it from an ingest reply"),
            )
        };
        let (stream, offsets) = text.split_once(':').ok_or_else(bad)?;
        let stream = ObjectName::parse(stream)?;
        let mut positions = Positions::default();
        for pair in offsets.split(',').filter(|pair| !pair.is_empty()) {
            let (partition, offset) = pair.split_once('-').ok_or_else(bad)?;
            let partition = partition.parse::<u32>().ok().filter(|p| *p < 1024).ok_or_else(bad)?;
            positions.set(partition, offset.parse().map_err(|_| bad())?);
        }
        Ok(Self { stream, positions })
    }
}

/// An open stream, for the doors that write to it. Cheap to clone.
#[derive(Clone)]
pub struct StreamHandle {
    pub(crate) open: Arc<OpenStream>,
    pub(crate) quarantine: Arc<OpenStream>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for StreamHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamHandle").field("stream", self.open.name()).finish_non_exhaustive()
    }
}

impl StreamHandle {
    /// An open stream, for statements that write to it.
    pub(crate) fn of(shared: &Shared, open: &Arc<OpenStream>) -> Result<Self> {
        let quarantine = shared.stream(&quarantine_name()?)?;
        Ok(Self { open: Arc::clone(open), quarantine, clock: Arc::clone(&shared.options.clock) })
    }

    /// The definition as it is now.
    pub fn definition(&self) -> Arc<Stream> {
        Arc::clone(&self.open.definition().stream)
    }

    /// Fills in defaults, then checks NOT NULL and CHECK row by row. Uses the CPU only: for large batches call it
    /// where blocking is allowed.
    pub fn admit(&self, rows: Rows) -> Result<Admitted> {
        self.open.definition().admission.admit(rows, self.now_us())
    }

    /// Writes the refused rows to quarantine and the others to the stream; returns when both are durable.
    ///
    /// With a key, a request that was accepted before adds nothing and gets the first receipt again.
    pub async fn append(
        &self,
        batch: RecordBatch,
        quarantined: Vec<QuarantinedRow>,
        key: Option<IdempotencyKey>,
    ) -> Result<Receipt> {
        let refused = quarantined.len() as u64;
        // Quarantine first: a crash between the two leaves the request unacknowledged, and its retry, with the same
        // key, adds to neither twice.
        if refused > 0 {
            self.quarantine(quarantined, key.as_ref()).await?;
            Counters::add(&self.open.counters.quarantined_rows, refused);
        }
        let rows = batch.num_rows() as u64;
        let key = key.map(|k| log_key("", &k, refused));
        if rows == 0 && key.is_none() {
            let token = PositionToken::of(self.open.name(), &[]);
            return Ok(Receipt { accepted: 0, quarantined: refused, ranges: vec![], duplicate: false, token });
        }
        let appended = match self.open.log().append(self.split(&batch, key)?).await {
            // The stream was altered between the split and the append; the new schema takes the rows too.
            Err(millstream_buffer::Error::Misfit { .. }) => self.open.log().append(self.split(&batch, key)?).await?,
            other => other?,
        };
        let counters = &self.open.counters;
        if appended.duplicate {
            Counters::add(&counters.duplicate_requests, 1);
        } else {
            Counters::add(&counters.accepted_rows, rows);
        }
        let token = PositionToken::of(self.open.name(), &appended.ranges);
        Ok(Receipt {
            accepted: appended.ranges.iter().map(|r| r.end - r.start).sum(),
            quarantined: if appended.duplicate { appended.note } else { refused },
            duplicate: appended.duplicate,
            ranges: appended.ranges,
            token,
        })
    }

    /// Counts unknown JSON fields that a request had and the stream does not keep.
    pub fn count_unknown_fields(&self, fields: u64) {
        if fields > 0 {
            Counters::add(&self.open.counters.unknown_fields, fields);
        }
    }

    fn split(&self, batch: &RecordBatch, key: Option<Key>) -> Result<Append> {
        if batch.num_rows() == 0 {
            return Ok(Append { parts: vec![], key });
        }
        let definition = self.open.definition();
        let batch = fit(batch, &self.open.log().schema())?;
        let parts = definition.partitioner.split(&batch, &self.open.round_robin)?;
        Ok(Append { parts, key })
    }

    /// Writes refused rows to quarantine, waiting for room there.
    pub(crate) async fn set_aside(&self, rows: &[QuarantinedRow], key: Option<&IdempotencyKey>) -> Result<()> {
        loop {
            match self.quarantine(rows.to_vec(), key).await {
                Err(error) if error.code() == Code::Busy => tokio::time::sleep(FULL_PAUSE).await,
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        Counters::add(&self.open.counters.quarantined_rows, rows.len() as u64);
        Ok(())
    }

    async fn quarantine(&self, rows: Vec<QuarantinedRow>, key: Option<&IdempotencyKey>) -> Result<()> {
        let key = key.map(|k| log_key(&self.open.id().to_string(), k, 0));
        set_aside(&self.quarantine, self.open.name(), &rows, key, self.now_us()).await
    }

    fn now_us(&self) -> i64 {
        self.clock.now_us()
    }
}

/// Rows that a view could not compute, into quarantine under its name; with a key that was seen before, none.
pub(crate) async fn quarantine_rows(
    shared: &Shared,
    view: &ObjectName,
    rows: &[QuarantinedRow],
    key: Option<String>,
) -> Result<()> {
    let quarantine = shared.stream(&quarantine_name()?)?;
    let key = key.map(|key| outbox_key(key, rows.len()));
    set_aside(&quarantine, view, rows, key, shared.options.clock.now_us()).await
}

/// Rows of a stream's query, in the stream's schema, to the stream; with a key that was seen before, none.
pub(crate) async fn append_derived(stream: &OpenStream, rows: &RecordBatch, key: Option<String>) -> Result<()> {
    let parts = stream.definition().partitioner.split(rows, &stream.round_robin)?;
    let key = key.map(|key| outbox_key(key, rows.num_rows()));
    let appended = append_patiently(stream, Append { parts, key }).await?;
    if !appended.duplicate {
        Counters::add(&stream.counters.accepted_rows, rows.num_rows() as u64);
    }
    Ok(())
}

fn outbox_key(key: String, rows: usize) -> Key {
    log_key("outbox", &IdempotencyKey { key, content: rows as u64 }, 0)
}

/// Appends, waiting for room among the rows that producers have under way: there is nobody to be sent away.
pub(crate) async fn append_patiently(stream: &OpenStream, append: Append) -> Result<Appended> {
    loop {
        match stream.log().append(append.clone()).await {
            Err(millstream_buffer::Error::Busy { .. }) => tokio::time::sleep(FULL_PAUSE).await,
            other => return Ok(other?),
        }
    }
}

async fn set_aside(
    quarantine: &OpenStream,
    object: &ObjectName,
    rows: &[QuarantinedRow],
    key: Option<Key>,
    now_us: i64,
) -> Result<()> {
    let batch = quarantine_batch(quarantine, object, rows, now_us)?;
    let parts = quarantine.definition().partitioner.split(&batch, &quarantine.round_robin)?;
    let appended = quarantine.log().append(Append { parts, key }).await?;
    if !appended.duplicate {
        quarantine.counters.accepted_rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// A batch admitted under an older definition in the log's present schema: younger columns are NULL.
fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None => new_null_array(field.data_type(), batch.num_rows()),
    });
    let columns: Vec<ArrayRef> = columns.collect();
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|source| {
        Error::rejected(Code::Busy, format!("the stream changed while the rows came in, send them again: {source}"))
    })
}

fn quarantine_batch(
    quarantine: &OpenStream,
    stream: &ObjectName,
    rows: &[QuarantinedRow],
    now_us: i64,
) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|_| stream.to_string()))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.reason))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.text))),
        Arc::new(TimestampMicrosecondArray::from_value(now_us, rows.len()).with_timezone("UTC")),
    ];
    RecordBatch::try_new(Arc::clone(&quarantine.definition().schema), columns)
        .map_err(|e| Error::rejected(Code::Internal, format!("quarantined rows do not fit their stream: {e}")))
}

/// The key as the log keeps it; `scope` tells requests to different streams apart where they share a log.
pub(crate) fn log_key(scope: &str, key: &IdempotencyKey, note: u64) -> Key {
    let text = format!("{scope}\0{}", key.key);
    // Two seeds make 128 bits, so that keys do not collide by chance.
    let [high, low] = [1, 2].map(|seed| u128::from(XxHash64::oneshot(seed, text.as_bytes())));
    Key { id: (high << 64) | low, content: key.content, note }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_prints_and_parses() {
        let text = "flights:0-1500,2-7";
        let token: PositionToken = text.parse().unwrap();
        assert_eq!(token.positions, Positions(vec![1500, 0, 7]));
        assert_eq!(token.to_string(), text);
    }

    #[test]
    fn a_token_that_is_none_is_refused() {
        for bad in ["", "flights", "flights:x", "flights:0-", "flights:99999-1", "a/b:0-1"] {
            assert!(bad.parse::<PositionToken>().is_err(), "{bad:?}");
        }
    }
}

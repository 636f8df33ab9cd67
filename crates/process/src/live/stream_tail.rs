//! Owns following a stream: rows from the lake as far as the log no longer has them, then the log as it grows.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::logical_expr::{col, lit};
use datafusion::prelude::SessionContext;
use millstream_buffer::LogView;
use millstream_catalog::fault::Code;
use millstream_catalog::{OFFSET_COLUMN, ObjectName, PARTITION_COLUMN, Positions};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{push_pieces, stopping};
use crate::engine::{Shared, refuse_table};
use crate::read::{BatchAdapter, ReadPoint, StreamTable, reader_schema};
use crate::stream::OpenStream;
use crate::{Error, PositionToken, Result};

/// Offsets that are read at once: what a follower holds while its client reads.
const AHEAD_ROWS: u64 = 8192;

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailStart {
    /// With the oldest row that is kept.
    Earliest,
    /// With the next row that comes.
    Latest,
    /// Behind these rows. Partitions that it does not name are read from their beginning.
    After(PositionToken),
}

/// What a follower of a stream is told.
#[derive(Debug)]
pub enum TailEvent {
    /// Where the stream is: what follows came later.
    Ready(PositionToken),
    /// Rows, in the order of their partition.
    Rows(TailRows),
}

/// Rows of one partition.
#[derive(Debug)]
pub struct TailRows {
    /// The rows.
    pub batch: RecordBatch,
    stream: ObjectName,
    partition: u32,
    offsets: Vec<u64>,
    /// What was told before, of every partition.
    before: Positions,
}

impl TailRows {
    /// The position behind a row: what another follower begins after.
    pub fn position(&self, row: usize) -> PositionToken {
        let mut positions = self.before.clone();
        positions.set(self.partition, self.offsets[row] + 1);
        PositionToken { stream: self.stream.clone(), positions }
    }
}

/// A stream that is being followed.
#[derive(Debug)]
pub struct StreamTail {
    shared: Arc<Shared>,
    stream: Arc<OpenStream>,
    position: Positions,
    ends: watch::Receiver<Positions>,
    events: VecDeque<TailEvent>,
}

impl StreamTail {
    pub(super) fn begin(shared: &Arc<Shared>, name: &ObjectName, start: TailStart) -> Result<Self> {
        if shared.live.is_cancelled() {
            return Err(stopping());
        }
        let stream = shared.stream(name)?;
        refuse_table(&stream)?;
        let ends = stream.log().subscribe();
        let end = stream.log().view().end().clone();
        let mut events = VecDeque::new();
        let position = match start {
            TailStart::Earliest => Positions::zero(end.0.len() as u32),
            TailStart::Latest => {
                events.push_back(TailEvent::Ready(PositionToken { stream: name.clone(), positions: end.clone() }));
                end
            }
            TailStart::After(token) => positions_of(&token, name, &end)?,
        };
        Ok(Self { shared: Arc::clone(shared), stream, position, ends, events })
    }

    /// The next event, once there is one.
    pub async fn next(&mut self) -> Result<TailEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if self.shared.live.is_cancelled() {
                return Err(stopping());
            }
            if self.stream.closing.is_cancelled() {
                let name = self.stream.name().to_string();
                return Err(millstream_catalog::Error::NotFound { kind: "stream", name }.into());
            }
            self.take().await?;
            if self.events.is_empty() {
                self.changed().await;
            }
        }
    }

    async fn changed(&mut self) {
        let position = self.position.clone();
        tokio::select! {
            _ = self.ends.wait_for(|end| !position.covers(end)) => {}
            () = self.stream.closing.cancelled() => {}
            () = self.shared.live.cancelled() => {}
        }
    }

    /// Takes some of what is new.
    async fn take(&mut self) -> Result<()> {
        while self.events.is_empty() {
            let view = self.stream.log().view();
            if self.position.covers(view.end()) {
                return Ok(());
            }
            let start = view.start().clone();
            let trimmed = (0..start.0.len() as u32).find(|&p| self.position.get(p) < start.get(p));
            match trimmed {
                None => tokio::task::block_in_place(|| self.take_log(view.as_ref()))?,
                Some(partition) => {
                    drop(view);
                    let from = self.position.get(partition);
                    let to = start.get(partition).min(from + AHEAD_ROWS);
                    self.take_history(partition, from..to).await?;
                }
            }
        }
        Ok(())
    }

    fn take_log(&mut self, view: &dyn LogView) -> Result<()> {
        let adapter = BatchAdapter::new(reader_schema(&self.stream.definition().schema));
        let mut rows = 0;
        for batch in view.read(&self.position)? {
            let batch = batch?;
            let end = batch.base_offset + batch.batch.num_rows() as u64;
            let known = self.position.get(batch.partition).saturating_sub(batch.base_offset);
            if known < batch.batch.num_rows() as u64 {
                let all = adapter.adapt(&batch).map_err(|e| Error::from_datafusion(e, ""))?;
                let new = all.slice(known as usize, all.num_rows() - known as usize);
                rows += new.num_rows() as u64;
                self.push(&new, batch.partition, (batch.base_offset + known..end).collect());
                self.position.set(batch.partition, end);
            }
            if rows >= AHEAD_ROWS {
                break;
            }
        }
        Ok(())
    }

    /// Rows that the log no longer has.
    async fn take_history(&mut self, partition: u32, offsets: Range<u64>) -> Result<()> {
        let reading = history(Arc::clone(&self.shared), Arc::clone(&self.stream), partition, offsets.clone());
        let reading = AbortOnDropHandle::new(self.shared.workers.handle().spawn(reading));
        let broken = |e| Error::rejected(Code::Internal, format!("the history could not be read: {e}"));
        for (batch, offsets) in reading.await.map_err(broken)?? {
            if let Some(last) = offsets.last().copied() {
                self.push(&batch, partition, offsets);
                self.position.set(partition, last + 1);
            }
        }
        self.position.set(partition, offsets.end);
        Ok(())
    }

    fn push(&mut self, batch: &RecordBatch, partition: u32, offsets: Vec<u64>) {
        let (stream, before) = (self.stream.name().clone(), self.position.clone());
        push_pieces(&mut self.events, batch, |batch, start| {
            let offsets = offsets[start..start + batch.num_rows()].to_vec();
            TailEvent::Rows(TailRows { batch, stream: stream.clone(), partition, offsets, before: before.clone() })
        });
    }
}

/// The positions of a token, if the stream can have had them.
fn positions_of(token: &PositionToken, name: &ObjectName, end: &Positions) -> Result<Positions> {
    if token.stream != *name || !end.covers(&token.positions) {
        return Err(Error::rejected(
            Code::InvalidRequest,
            format!("position {token} is not one of stream {name}, which ends at {end:?}"),
        ));
    }
    let mut positions = Positions::zero(end.0.len() as u32);
    for partition in 0..end.0.len() as u32 {
        positions.set(partition, token.positions.get(partition));
    }
    Ok(positions)
}

/// The rows of a partition with these offsets, in their order, and the offset of each.
async fn history(
    shared: Arc<Shared>,
    stream: Arc<OpenStream>,
    partition: u32,
    offsets: Range<u64>,
) -> Result<Vec<(RecordBatch, Vec<u64>)>> {
    let wrap = |e| Error::from_datafusion(e, "");
    let mut state = shared.context()?.state();
    state.config_mut().set_extension(Arc::new(ReadPoint::default()));
    let shown = reader_schema(&stream.definition().schema);
    let table = StreamTable::new(shared, stream, true);
    let wanted = col(PARTITION_COLUMN)
        .eq(lit(partition as i32))
        .and(col(OFFSET_COLUMN).gt_eq(lit(offsets.start as i64)))
        .and(col(OFFSET_COLUMN).lt(lit(offsets.end as i64)));
    let rows = SessionContext::new_with_state(state)
        .read_table(Arc::new(table))
        .and_then(|rows| rows.filter(wanted))
        .and_then(|rows| rows.sort(vec![col(OFFSET_COLUMN).sort(true, false)]))
        .map_err(wrap)?;
    let batches = rows.collect().await.map_err(wrap)?;
    let split = batches.iter().map(|batch| {
        let offset = batch.schema().index_of(OFFSET_COLUMN)?;
        let offsets = batch.column(offset).as_primitive::<Int64Type>().values().iter().map(|&o| o as u64).collect();
        let columns = shown.fields().iter().map(|field| batch.schema().index_of(field.name()));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok((batch.project(&columns)?, offsets))
    });
    split.collect::<std::result::Result<Vec<_>, arrow::error::ArrowError>>().map_err(|e| wrap(e.into()))
}

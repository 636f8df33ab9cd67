//! Owns an arrangement at one instant, for readers.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;

use super::rows::Region;
use crate::Result;

/// An arrangement at one instant.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) schema: SchemaRef,
    pub(super) regions: Vec<Region>,
}

impl Snapshot {
    /// The rows that are there, all at once.
    pub(crate) fn batches(self) -> Result<Vec<RecordBatch>> {
        self.parts().collect()
    }

    /// The rows that are there, batch by batch: one that is not in memory is read when its turn comes.
    pub(crate) fn parts(self) -> impl Iterator<Item = Result<RecordBatch>> + Send {
        self.regions.into_iter().filter(|region| region.alive > 0).flat_map(Region::into_living)
    }
}

impl Region {
    /// The living rows of each piece that has such.
    pub(super) fn into_living(self) -> impl Iterator<Item = Result<RecordBatch>> + Send {
        let bits = Buffer::from_slice_ref(self.live.as_slice());
        self.pieces.into_iter().filter_map(move |(start, piece)| {
            let live = BooleanBuffer::new(bits.clone(), start as usize, piece.rows);
            let living = match live.count_set_bits() {
                0 => return None,
                n if n == piece.rows => piece.batch(),
                _ => piece.batch().and_then(|rows| Ok(filter_record_batch(&rows, &BooleanArray::new(live, None))?)),
            };
            Some(living)
        })
    }
}

//! Owns how much memory a batch holds and how much of it is its rows.

use arrow::array::{Array, ArrayData, RecordBatch};
use arrow::buffer::Buffer;

/// Below this the quick estimate, which is never too low, is good enough.
const WORTH_COUNTING: usize = 64 << 10;

/// Bytes of memory that stay allocated while the batch lives; an allocation shared by its columns counts once.
pub(crate) fn held_bytes(batch: &RecordBatch) -> usize {
    let quick = batch.get_array_memory_size();
    if quick < WORTH_COUNTING {
        return quick;
    }
    let mut allocations = Vec::new();
    for column in batch.columns() {
        collect(&column.to_data(), &mut allocations);
    }
    allocations.sort_unstable();
    allocations.dedup();
    allocations.iter().map(|(_, bytes)| bytes).sum()
}

fn collect(data: &ArrayData, allocations: &mut Vec<(usize, usize)>) {
    let mut add = |buffer: &Buffer| allocations.push((buffer.data_ptr().as_ptr() as usize, buffer.capacity()));
    data.buffers().iter().for_each(&mut add);
    data.nulls().map(|n| n.buffer()).into_iter().for_each(&mut add);
    data.child_data().iter().for_each(|child| collect(child, allocations));
}

/// Bytes of the batch's rows alone, counted only where they may be many.
pub(crate) fn content_bytes(batch: &RecordBatch) -> usize {
    let quick = batch.get_array_memory_size();
    if quick < WORTH_COUNTING {
        return quick;
    }
    batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn batch(column: Int64Array) -> RecordBatch {
        let column: ArrayRef = Arc::new(column);
        RecordBatch::try_from_iter([("a", column.clone()), ("b", column)]).unwrap()
    }

    #[test]
    fn an_allocation_that_columns_share_counts_once() {
        let held = held_bytes(&batch((0..100_000i64).collect()));
        assert!((800_000..900_000).contains(&held), "{held}");
    }

    #[test]
    fn a_slice_holds_the_whole_and_contains_little() {
        let slice = batch((0..100_000i64).collect()).slice(10, 10);
        assert!(held_bytes(&slice) >= 800_000);
        assert!(content_bytes(&slice) < 1_000);
    }
}

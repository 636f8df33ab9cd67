//! Owns the rows that tests append and how they read them back.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use millstream_buffer::{Append, Key, Log, LogView, Part};
use millstream_catalog::Positions;

pub const PARTITIONS: u32 = 3;

pub fn schema() -> SchemaRef {
    let fields = vec![Field::new("n", DataType::Int64, false), Field::new("text", DataType::Utf8, true)];
    Arc::new(Schema::new(fields))
}

/// `count` rows numbered from `first` on.
pub fn rows(first: i64, count: usize) -> RecordBatch {
    let numbers = Int64Array::from_iter_values((0..count as i64).map(|i| first + i));
    let text = StringArray::from_iter((0..count as i64).map(|i| (i % 5 != 0).then(|| format!("row {}", first + i))));
    RecordBatch::try_new(schema(), vec![Arc::new(numbers), Arc::new(text)]).unwrap()
}

pub fn append(partition: u32, first: i64, count: usize) -> Append {
    Append { parts: vec![Part { partition, batch: rows(first, count) }], key: None }
}

pub fn key(id: u128, content: u64) -> Key {
    Key { id, content, note: 40 + content }
}

pub fn keyed(partition: u32, first: i64, count: usize, key: Key) -> Append {
    Append { key: Some(key), ..append(partition, first, count) }
}

/// The numbers by partition, from `from` on; checks that offsets follow each other and that the text belongs.
pub fn numbers_from(view: &dyn LogView, from: &Positions) -> BTreeMap<u32, Vec<i64>> {
    let mut found: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    let mut next = from.clone();
    for batch in view.read(from).unwrap() {
        let batch = batch.unwrap();
        assert_eq!(batch.base_offset, next.get(batch.partition), "offsets of partition {}", batch.partition);
        assert!(batch.batch.num_rows() > 0);
        next.set(batch.partition, batch.base_offset + batch.batch.num_rows() as u64);
        let numbers = batch.batch.column(0).as_primitive::<Int64Type>();
        let text = batch.batch.column(1).as_string::<i32>();
        for i in 0..numbers.len() {
            if text.is_valid(i) {
                assert_eq!(text.value(i), format!("row {}", numbers.value(i)));
            }
        }
        found.entry(batch.partition).or_default().extend(numbers.values());
    }
    assert_eq!(&next, view.end());
    found
}

/// All numbers of a partition.
pub fn numbers(log: &dyn Log, partition: u32) -> Vec<i64> {
    let view = log.view();
    numbers_from(&*view, view.start()).remove(&partition).unwrap_or_default()
}

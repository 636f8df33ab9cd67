//! Owns the rows of the table `keyed`: a key of so many, and a value.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// In which order keys come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Each as likely at any time.
    Random,
    /// One after the other, so that so many rows have each of them.
    Sequential,
}

/// The columns.
pub fn keyed_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false), Field::new("value", DataType::Int64, false)]))
}

/// The rows of these numbers over keys from 0.
pub fn keyed(keys: u64, order: Order, numbers: Range<u64>) -> RecordBatch {
    let key = |n: u64| match order {
        Order::Random => mixed(n) % keys.max(1),
        Order::Sequential => n % keys.max(1),
    };
    let keys = Int64Array::from_iter_values(numbers.clone().map(|n| key(n) as i64));
    let values = Int64Array::from_iter_values(numbers.map(|n| (mixed(!n) % 1000) as i64));
    let rows = RecordBatch::try_new(keyed_schema(), vec![Arc::new(keys), Arc::new(values)]);
    rows.expect("the columns are the schema's")
}

/// A number in which every bit hangs on every bit of the other.
pub fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;

    fn counts(order: Order) -> [u32; 10] {
        let batch = keyed(10, order, 0..100_000);
        let mut counts = [0; 10];
        batch.column(0).as_primitive::<Int64Type>().values().iter().for_each(|key| counts[*key as usize] += 1);
        counts
    }

    #[test]
    fn keys_are_about_equally_often() {
        let random = counts(Order::Random);
        assert!(random.iter().all(|n| (9_500..10_500).contains(n)), "{random:?}");
        assert_eq!(counts(Order::Sequential), [10_000; 10]);
        assert_eq!(keyed(10, Order::Random, 500..600), keyed(10, Order::Random, 0..1_000).slice(500, 100));
    }
}

//! Owns the choice of a row's partition.
//!
//! With PARTITION BY, the partition is `XXH64(key, seed 0) mod partitions`, where the key is the columns' values one
//! after the other in this form (little-endian). It depends on nothing else: the same value lies in the same partition
//! for ever, after restarts and on every machine.
//!
//! | value | bytes |
//! | --- | --- |
//! | NULL | `00` |
//! | boolean | `01`, then `00` or `01` |
//! | smallint, int, bigint, date (days), time and timestamps (µs) | `01`, then 8 bytes |
//! | real, double precision | `01`, then the 8 bytes of the double; -0 as 0, every NaN as the quiet one |
//! | decimal | `01`, then the 16 bytes of the unscaled number |
//! | text, uuid, bytea | `01`, the length in 8 bytes, then the bytes |
//!
//! Without PARTITION BY, each request goes to the next partition whole.

use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType as ArrowType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use millstream_buffer::Part;
use millstream_catalog::Stream;
use millstream_catalog::fault::Code;
use twox_hash::XxHash64;

use super::defect;
use crate::{Error, Result};

/// Splits batches by partition.
#[derive(Debug, Clone)]
pub struct Partitioner {
    partitions: u32,
    columns: Vec<usize>,
}

impl Partitioner {
    /// The partitioner of a definition.
    pub fn new(stream: &Stream) -> Self {
        let place = |name: &String| stream.columns.iter().position(|c| c.name == *name);
        Self {
            partitions: stream.options.partitions.max(1),
            columns: stream.partition_by.iter().filter_map(place).collect(),
        }
    }

    /// The rows by partition, in their order; none for an empty batch. `round_robin` counts requests. A batch that
    /// goes to one partition is not copied.
    pub fn split(&self, batch: &RecordBatch, round_robin: &AtomicU64) -> Result<Vec<Part>> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        if self.partitions == 1 {
            return Ok(vec![Part { partition: 0, batch: batch.clone() }]);
        }
        if self.columns.is_empty() {
            let next = round_robin.fetch_add(1, Ordering::Relaxed);
            let partition = (next % u64::from(self.partitions)) as u32;
            return Ok(vec![Part { partition, batch: batch.clone() }]);
        }
        self.split_by_key(batch)
    }

    fn split_by_key(&self, batch: &RecordBatch) -> Result<Vec<Part>> {
        let partitions = self.partition_of_rows(batch)?;
        let first = partitions[0];
        if partitions.iter().all(|p| *p == first) {
            return Ok(vec![Part { partition: first, batch: batch.clone() }]);
        }
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); self.partitions as usize];
        for (row, partition) in partitions.iter().enumerate() {
            rows[*partition as usize].push(row as u32);
        }
        let filled = rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
        filled
            .map(|(partition, rows)| {
                let batch = take_record_batch(batch, &UInt32Array::from(rows)).map_err(defect)?;
                Ok(Part { partition: partition as u32, batch })
            })
            .collect()
    }

    fn partition_of_rows(&self, batch: &RecordBatch) -> Result<Vec<u32>> {
        let keys = self.columns.iter().map(|&i| Key::of(batch.column(i))).collect::<Result<Vec<_>>>()?;
        let mut bytes = Vec::with_capacity(64);
        let partition = |row| {
            bytes.clear();
            keys.iter().for_each(|key| key.write(row, &mut bytes));
            (XxHash64::oneshot(0, &bytes) % u64::from(self.partitions)) as u32
        };
        Ok((0..batch.num_rows()).map(partition).collect())
    }
}

/// A key column, by the form of its values.
enum Key<'a> {
    Boolean(&'a arrow::array::BooleanArray),
    Whole(&'a dyn Array, Vec<i64>),
    Float(&'a dyn Array, Vec<f64>),
    Decimal(&'a PrimitiveArray<Decimal128Type>),
    Text(&'a arrow::array::StringArray),
    Bytes(&'a arrow::array::BinaryArray),
}

impl<'a> Key<'a> {
    fn of(column: &'a ArrayRef) -> Result<Self> {
        fn whole<T: ArrowPrimitiveType>(column: &ArrayRef) -> Key<'_>
        where
            i64: From<T::Native>,
        {
            Key::Whole(column, column.as_primitive::<T>().values().iter().map(|v| i64::from(*v)).collect())
        }
        Ok(match column.data_type() {
            ArrowType::Boolean => Key::Boolean(column.as_boolean()),
            ArrowType::Int16 => whole::<Int16Type>(column),
            ArrowType::Int32 => whole::<Int32Type>(column),
            ArrowType::Int64 => whole::<Int64Type>(column),
            ArrowType::Date32 => whole::<Date32Type>(column),
            ArrowType::Time64(TimeUnit::Microsecond) => whole::<Time64MicrosecondType>(column),
            ArrowType::Timestamp(TimeUnit::Microsecond, _) => whole::<TimestampMicrosecondType>(column),
            ArrowType::Float32 => Key::Float(
                column,
                column.as_primitive::<Float32Type>().values().iter().map(|v| f64::from(*v)).collect(),
            ),
            ArrowType::Float64 => Key::Float(column, column.as_primitive::<Float64Type>().values().to_vec()),
            ArrowType::Decimal128(..) => Key::Decimal(column.as_primitive()),
            ArrowType::Utf8 => Key::Text(column.as_string()),
            ArrowType::Binary => Key::Bytes(column.as_binary()),
            other => {
                let message = format!("rows cannot be partitioned by a column of type {other}");
                return Err(Error::rejected(Code::Internal, message));
            }
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Key::Boolean(a) => a.is_null(row),
            Key::Whole(a, _) | Key::Float(a, _) => a.is_null(row),
            Key::Decimal(a) => a.is_null(row),
            Key::Text(a) => a.is_null(row),
            Key::Bytes(a) => a.is_null(row),
        }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return out.push(0);
        }
        out.push(1);
        match self {
            Key::Boolean(a) => out.push(u8::from(a.value(row))),
            Key::Whole(_, values) => out.extend(values[row].to_le_bytes()),
            Key::Float(_, values) => out.extend(canonical(values[row]).to_le_bytes()),
            Key::Decimal(a) => out.extend(a.value(row).to_le_bytes()),
            Key::Text(a) => write_bytes(a.value(row).as_bytes(), out),
            Key::Bytes(a) => write_bytes(a.value(row), out),
        }
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

/// One bit pattern per value.
fn canonical(value: f64) -> f64 {
    const QUIET_NAN: u64 = 0x7ff8_0000_0000_0000;
    if value.is_nan() {
        f64::from_bits(QUIET_NAN)
    } else if value == 0.0 {
        0.0
    } else {
        value
    }
}

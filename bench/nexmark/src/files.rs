//! Owns the events as CSV files.
//!
//! A folder for each kind, `person/0.csv`, `person/1.csv` …: each part holds every so many thousandth event in turn,
//! so that those who read the parts side by side are at the same event time. There is no header; times are µs since
//! 1970, which every system reads without a format.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::csv::{Writer, WriterBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use millstream_nexmark::Generator;

/// Events that follow each other in one part.
const TURN: u64 = 1_000;

type Part = Writer<BufWriter<File>>;

/// Writes the events, and the side input; gives back the rows of persons, auctions, bids and side input.
pub(crate) fn write(
    generator: &Generator,
    events: u64,
    parts: u64,
    folder: &Path,
) -> Result<[usize; 4], Box<dyn Error>> {
    let mut rows = [0; 4];
    let mut writers = [open(folder, "person", parts)?, open(folder, "auction", parts)?, open(folder, "bid", parts)?];
    for turn in 0..events.div_ceil(TURN) {
        let made = generator.batch(turn * TURN..events.min((turn + 1) * TURN));
        for (kind, batch) in [made.person, made.auction, made.bid].into_iter().enumerate() {
            rows[kind] += batch.num_rows();
            writers[kind][(turn % parts) as usize].write(&with_plain_times(&batch)?)?;
        }
    }
    for writer in writers.into_iter().flatten() {
        writer.into_inner().flush()?;
    }
    let side_input = Generator::side_input();
    rows[3] = side_input.num_rows();
    let mut writer = open(folder, "side_input", 1)?.remove(0);
    writer.write(&side_input)?;
    writer.into_inner().flush()?;
    Ok(rows)
}

fn open(folder: &Path, kind: &str, parts: u64) -> Result<Vec<Part>, Box<dyn Error>> {
    let folder = folder.join(kind);
    std::fs::create_dir_all(&folder)?;
    let open = |part| -> Result<Part, Box<dyn Error>> {
        let file = File::create(folder.join(format!("{part}.csv")))?;
        Ok(WriterBuilder::new().with_header(false).build(BufWriter::with_capacity(1 << 20, file)))
    };
    (0..parts).map(open).collect()
}

/// The batch with its timestamps as numbers.
fn with_plain_times(batch: &RecordBatch) -> Result<RecordBatch, Box<dyn Error>> {
    let is_time = |field: &Field| matches!(field.data_type(), DataType::Timestamp(..));
    let schema = batch.schema();
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let kind = if is_time(field) { DataType::Int64 } else { field.data_type().clone() };
        columns.push(cast(column, &kind)?);
        fields.push(Field::new(field.name(), kind, false));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

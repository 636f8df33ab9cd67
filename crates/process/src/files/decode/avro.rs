//! Owns the rows of Avro files: blocks checked one by one and decoded many at a time.
//!
//! Blocks carry no checksum, and a decoder that loses its way in damaged ones finds rows there that nobody wrote. So
//! the library is not given the blocks as they are, but a file made of them in which each is a record of two fields: the
//! array of its rows, and a mark. Where the mark is found behind the rows, they took up the block's bytes exactly.

mod container;
mod values;

use std::collections::VecDeque;
use std::io::Cursor;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_empty_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_avro::codec::Tz;
use arrow_avro::reader::{Reader, ReaderBuilder};
use futures::StreamExt;

use self::container::{Block, Container, MAGIC, MARKER_BYTES, put_number, put_text};
use super::typed::{BATCH_ROWS, Batches};
use crate::files::bytes::Pieces;
use crate::{Error, Result};

/// Blocks are decoded together until they have so many rows or bytes.
const GROUP_ROWS: u64 = BATCH_ROWS as u64;
const GROUP_BYTES: usize = 4 << 20;
/// What stands behind the rows of each block.
const MARK: [u8; 8] = [0x9d, 0x1c, 0xf3, 0x4b, 0xe6, 0x72, 0xa8, 0x05];

/// The columns and rows of an Avro file.
pub(in crate::files) async fn avro_batches(name: &str, pieces: Pieces) -> Result<(SchemaRef, Batches)> {
    let container = Container::open(name, pieces).await?;
    let refuse = |e: ArrowError| container.damaged_head(&e);
    let decoder = Decoder::new(container.schema()).map_err(refuse)?;
    let schema = decoder.empty().map_err(refuse)?.schema();
    let reader = AvroReader { container, decoder, ready: VecDeque::new() };
    let batches = futures::stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|batch| (batch, reader)))
    });
    Ok((schema, batches.boxed()))
}

struct AvroReader {
    container: Container,
    decoder: Decoder,
    ready: VecDeque<RecordBatch>,
}

impl AvroReader {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            let blocks = self.group().await?;
            if blocks.is_empty() {
                return Ok(None);
            }
            let rows = self.decoder.rows(&blocks).map_err(|e| self.located(&blocks, &e))?;
            let starts = (0..rows.num_rows()).step_by(BATCH_ROWS);
            self.ready.extend(starts.map(|start| rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start))));
        }
    }

    /// The blocks that are decoded next.
    async fn group(&mut self) -> Result<Vec<Block>> {
        let (mut blocks, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while rows < GROUP_ROWS && bytes < GROUP_BYTES {
            let Some(block) = self.container.next().await? else { break };
            rows += block.rows;
            bytes += block.data.len();
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// The error of some blocks, with the one at fault: each is decoded alone.
    fn located(&self, blocks: &[Block], error: &ArrowError) -> Error {
        for block in blocks {
            if let Err(own) = self.decoder.rows(std::slice::from_ref(block)) {
                return self.container.damaged(block.place, &own);
            }
        }
        self.container.damaged(blocks[0].place, error)
    }
}

/// Decodes blocks of one schema.
struct Decoder {
    /// What the file made of blocks begins with.
    head: Vec<u8>,
}

impl Decoder {
    fn new(schema: &str) -> Result<Self, ArrowError> {
        let rows: serde_json::Value =
            serde_json::from_str(schema).map_err(|e| ArrowError::AvroError(format!("its schema is not JSON: {e}")))?;
        let block = serde_json::json!({
            "type": "record",
            "name": "millstream_block",
            "fields": [
                {"name": "rows", "type": {"type": "array", "items": rows}},
                {"name": "mark", "type": {"type": "fixed", "name": "millstream_mark", "size": MARK.len()}},
            ],
        });
        let mut head = MAGIC.to_vec();
        put_number(1, &mut head);
        put_text("avro.schema", &mut head);
        put_text(&block.to_string(), &mut head);
        put_number(0, &mut head);
        head.extend_from_slice(&[0; MARKER_BYTES]);
        Ok(Self { head })
    }

    /// No rows, with their columns.
    fn empty(&self) -> Result<RecordBatch, ArrowError> {
        let reader = reader(self.head.clone(), 1)?;
        let schema = reader.schema();
        let DataType::List(item) = schema.field(0).data_type() else {
            return Err(ArrowError::AvroError("its schema is not one of rows".to_owned()));
        };
        as_rows(item, &new_empty_array(item.data_type()))
    }

    fn rows(&self, blocks: &[Block]) -> Result<RecordBatch, ArrowError> {
        let mut body = Vec::with_capacity(blocks.iter().map(|block| block.data.len() + 32).sum());
        for block in blocks {
            if block.rows > 0 {
                put_number(block.rows as i64, &mut body);
            }
            body.extend_from_slice(&block.data);
            put_number(0, &mut body);
            body.extend_from_slice(&MARK);
        }
        let mut file = Vec::with_capacity(self.head.len() + body.len() + 64);
        file.extend_from_slice(&self.head);
        put_number(blocks.len() as i64, &mut file);
        put_number(body.len() as i64, &mut file);
        file.append(&mut body);
        file.extend_from_slice(&[0; MARKER_BYTES]);
        // It is asked for one batch, which holds all: what is left of a block behind its rows would be asked for forever.
        let lost = || ArrowError::AvroError("its bytes are not the rows that it says it has".to_owned());
        let batch = reader(file, blocks.len())?.next().transpose()?.ok_or_else(lost)?;
        let marks = batch.column(1).as_fixed_size_binary();
        if marks.len() != blocks.len() || marks.iter().any(|mark| mark != Some(MARK.as_slice())) {
            return Err(lost());
        }
        let lists = batch.column(0).as_list::<i32>();
        let DataType::List(item) = lists.data_type() else { return Err(lost()) };
        as_rows(item, lists.values())
    }
}

fn reader(file: Vec<u8>, records: usize) -> Result<Reader<Cursor<Vec<u8>>>, ArrowError> {
    ReaderBuilder::new().with_batch_size(records).with_tz(Tz::Utc).build(Cursor::new(file))
}

/// Records as rows with the columns that they are here; a file of other values has one column of them.
fn as_rows(item: &Field, records: &ArrayRef) -> Result<RecordBatch, ArrowError> {
    let columns: Vec<(Field, ArrayRef)> = match records.as_struct_opt() {
        Some(records) => {
            let columns = records.fields().iter().zip(records.columns());
            columns.map(|(field, values)| values::settled(field, values)).collect::<Result<_, _>>()?
        }
        None => {
            let (field, values) = values::settled(item, records)?;
            vec![(field.with_name("value"), values)]
        }
    };
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(records.len()));
    RecordBatch::try_new_with_options(Schema::new(fields).into(), columns, &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(rows: u64, data: &[u8]) -> Block {
        Block { rows, data: data.to_vec(), place: (1, 0) }
    }

    #[test]
    fn a_block_whose_bytes_are_not_its_rows_is_refused() {
        let schema = r#"{"type": "record", "name": "r", "fields": [{"name": "a", "type": "string"}]}"#;
        let decoder = Decoder::new(schema).unwrap();
        let good = block(2, b"\x02x\x04yz");
        let rows = decoder.rows(&[block(0, b""), good, block(1, b"\x00")]).unwrap();
        assert_eq!(rows.num_rows(), 3);
        assert_eq!(rows.column(0).as_string::<i32>().value(1), "yz");
        for (rows, data) in [(1, &b"\x02x\x04yz"[..]), (3, b"\x02x\x04yz"), (0, b"\x00"), (1, b"\x03x"), (1, b"\x7fx")]
        {
            let error = decoder.rows(&[block(rows, data), block(1, b"\x02w")]).unwrap_err();
            assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn a_file_of_bare_values_has_a_column_of_them() {
        let decoder = Decoder::new("\"long\"").unwrap();
        let rows = decoder.rows(&[block(2, b"\x02\x04")]).unwrap();
        assert_eq!(rows.schema().field(0).name(), "value");
        assert_eq!(rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().as_ref(), &[1, 2]);
    }
}

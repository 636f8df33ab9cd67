//! Owns COPY … TO STDOUT: rows in PostgreSQL's text, CSV and binary forms, a message each.

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use millstream_process::{CopyFormat, CopyOptions, Header, RowStream, put_record};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::{CopyData, CopyDone, CopyOutResponse};

use super::connection::{Connection, Failure};
use super::report::{Report, unwritable};
use super::row::RowFormat;
use super::wire::WireError;

/// What the binary form begins with: its signature, no flags, no extension.
pub(super) const BINARY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What a message has before its body: a type and a length.
const MESSAGE_HEAD_BYTES: usize = 5;

impl Connection {
    /// Sends rows as COPY does.
    pub(super) async fn copy_out(&mut self, mut rows: RowStream, options: &CopyOptions) -> Result<(), Failure> {
        let binary = options.format == CopyFormat::Binary;
        let format = RowFormat::new(&rows.schema(), if binary { &[1] } else { &[] });
        let columns = i16::try_from(format.len()).map_err(|_| Report::new("54011", "there are too many columns"))?;
        let response = CopyOutResponse::new(i8::from(binary), columns, vec![i16::from(binary); format.len()]);
        self.wire.send(PgWireBackendMessage::CopyOutResponse(response))?;
        // The binary form's head goes with the first row, as clients expect it.
        let mut line = if binary { BINARY_HEAD.to_vec() } else { Vec::new() };
        if !binary && options.dialect.header == Header::Yes {
            put_record(&options.dialect, format.names().map(|name| Some(name.as_bytes())), &mut line);
            self.copy_data(&line)?;
            line.clear();
        }
        let mut row = RowText::default();
        let mut count = 0_u64;
        while let Some(batch) = self.wire.while_connected(rows.next()).await?.transpose()? {
            let values = format.columns(&batch).map_err(|e| Failure::Report(unwritable(&e)))?;
            for i in 0..batch.num_rows() {
                if binary {
                    row.message.clear();
                    let put = format.put_row(&values, i, &mut row.cells, &mut row.message);
                    put.map_err(|e| Failure::Report(unwritable(&e)))?;
                    line.put_slice(&row.message[MESSAGE_HEAD_BYTES..]);
                } else {
                    row.clear();
                    format.put_cells(&values, i, &mut row.ends, &mut row.cells);
                    put_record(&options.dialect, row.values(), &mut line);
                }
                self.copy_data(&line)?;
                line.clear();
                self.wire.flush_when_full().await?;
            }
            count += batch.num_rows() as u64;
        }
        if binary {
            line.put_i16(-1);
            self.copy_data(&line)?;
        }
        self.wire.send(PgWireBackendMessage::CopyDone(CopyDone::new()))?;
        Ok(self.complete(format!("COPY {count}"))?)
    }

    fn copy_data(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.wire.send(PgWireBackendMessage::CopyData(CopyData::new(Bytes::copy_from_slice(bytes))))
    }
}

/// A row's values on their way into a line.
#[derive(Default)]
struct RowText {
    cells: Vec<u8>,
    ends: Vec<Option<usize>>,
    message: BytesMut,
}

impl RowText {
    fn clear(&mut self) {
        self.cells.clear();
        self.ends.clear();
    }

    fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let end = (*end)?;
            let value = &self.cells[start..end];
            start = end;
            Some(value)
        })
    }
}

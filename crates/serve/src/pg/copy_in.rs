//! Owns COPY … FROM STDIN: what the client sends goes to the engine as it comes, no faster than it is taken.

use arrow::datatypes::Field;
use bytes::{Buf, Bytes, BytesMut};
use datafusion::common::ScalarValue;
use millstream_process::{CopyIn, Dialect, Outcome, put_record};
use pgwire::messages::copy::CopyInResponse;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::connection::{Connection, Failure};
use super::copy_out::BINARY_HEAD;
use super::oid;
use super::report::{Report, unwritable};
use super::row::RowFormat;
use super::value::Given;
use crate::sql_type::SqlType;

/// The signature at the beginning of the binary form.
const SIGNATURE_BYTES: usize = 11;
/// The longest value that the binary form may announce.
const LONGEST_VALUE: usize = 1 << 30;

impl Connection {
    /// Carries a COPY out that the client takes part in; any other outcome is given back.
    pub(super) async fn copied(&mut self, outcome: Outcome) -> Result<Option<Outcome>, Failure> {
        match outcome {
            Outcome::CopyIn(copy) => self.copy_in(copy).await.map(|()| None),
            Outcome::CopyOut { rows, options } => self.copy_out(rows, &options).await.map(|()| None),
            other => Ok(Some(other)),
        }
    }

    async fn copy_in(&mut self, copy: CopyIn) -> Result<(), Failure> {
        let columns = i16::try_from(copy.columns).map_err(|_| Report::new("54011", "there are too many columns"))?;
        let response = CopyInResponse::new(i8::from(copy.binary), columns, vec![i16::from(copy.binary); copy.columns]);
        self.wire.send(PgWireBackendMessage::CopyInResponse(response))?;
        let mut binary = copy.binary.then(|| BinaryRows::new(&copy));
        let copy = loop {
            match self.wire.receive().await? {
                PgWireFrontendMessage::CopyData(data) => {
                    let text = match &mut binary {
                        None => data.data,
                        Some(rows) => match rows.take(&data.data) {
                            Ok(text) => text,
                            Err(report) => {
                                copy.abort("its binary form is not sound").await;
                                return Err(report.into());
                            }
                        },
                    };
                    if !self.wire.while_connected(copy.send(text)).await? {
                        break copy;
                    }
                }
                PgWireFrontendMessage::CopyDone(_) => {
                    if let Some(report) = binary.as_ref().and_then(BinaryRows::unfinished) {
                        copy.abort("its binary form is not sound").await;
                        return Err(report.into());
                    }
                    let (tag, notices) = self.wire.while_connected(copy.finish()).await??;
                    return Ok(self.done(tag, notices)?);
                }
                PgWireFrontendMessage::CopyFail(fail) => return Err(copy.abort(&fail.message).await.into()),
                // Clients that pipeline have sent these before they knew of the COPY.
                PgWireFrontendMessage::Sync(_) | PgWireFrontendMessage::Flush(_) => {}
                _ => {
                    copy.abort("another message came amid its rows").await;
                    return Err(Report::new("08P01", "this message is not expected during COPY from stdin").into());
                }
            }
        };
        // It has failed, or the rows said that they end here: what the client still sends is passed over.
        let (tag, notices) = self.wire.while_connected(copy.finish()).await??;
        loop {
            match self.wire.receive().await? {
                PgWireFrontendMessage::CopyDone(_) | PgWireFrontendMessage::CopyFail(_) => {
                    return Ok(self.done(tag, notices)?);
                }
                _ => {}
            }
        }
    }
}

/// Rows in the binary form, made into the text form as they come.
struct BinaryRows {
    held: BytesMut,
    begun: bool,
    ended: bool,
    rows: u64,
    columns: Vec<(SqlType, u32)>,
    formats: Vec<RowFormat>,
}

/// The values of a row as they were sent; `None` is NULL.
type Fields = Vec<Option<Vec<u8>>>;

impl BinaryRows {
    fn new(copy: &CopyIn) -> Self {
        let fields: Vec<Field> = copy.types.iter().map(|data_type| data_type.to_field("value", true)).collect();
        let columns = fields.iter().map(|field| {
            let sql_type = SqlType::of(field);
            let oid = oid::of(&sql_type);
            (sql_type, oid)
        });
        let columns = columns.collect();
        let formats = fields.into_iter().map(|field| {
            let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(vec![field]));
            RowFormat::new(&schema, &[])
        });
        Self { held: BytesMut::new(), begun: false, ended: false, rows: 0, columns, formats: formats.collect() }
    }

    /// Takes bytes in; the rows that are whole, as text.
    fn take(&mut self, bytes: &[u8]) -> Result<Bytes, Report> {
        self.held.extend_from_slice(bytes);
        let mut text = Vec::new();
        if !self.begun {
            if self.held.len() < BINARY_HEAD.len() {
                return Ok(Bytes::new());
            }
            self.begin()?;
        }
        while !self.ended {
            let Some((values, taken)) = self.row()? else { break };
            put_record(&Dialect::text(), values.iter().map(Option::as_deref), &mut text);
            self.held.advance(taken);
            self.rows += 1;
        }
        Ok(text.into())
    }

    fn begin(&mut self) -> Result<(), Report> {
        if self.held[..SIGNATURE_BYTES] != BINARY_HEAD[..SIGNATURE_BYTES] {
            return Err(Report::new("22P04", "the rows are not in PostgreSQL's binary form: its signature is missing"));
        }
        let mut head = &self.held[SIGNATURE_BYTES..];
        let (flags, extension) = (head.get_u32(), head.get_u32());
        if flags & 0xffff_0000 != 0 || extension != 0 {
            return Err(Report::new("22P04", "the binary form has flags that are not known"));
        }
        self.held.advance(BINARY_HEAD.len());
        self.begun = true;
        Ok(())
    }

    /// The next row's values as text, and its bytes; `None` while it is not whole.
    fn row(&mut self) -> Result<Option<(Fields, usize)>, Report> {
        let mut rest = &self.held[..];
        let Ok(count) = rest.try_get_i16() else { return Ok(None) };
        if count == -1 {
            self.ended = true;
            return Ok(None);
        }
        if usize::try_from(count) != Ok(self.columns.len()) {
            let message = format!("row {} has {count} values, {} are expected", self.rows + 1, self.columns.len());
            return Err(Report::new("22P04", message));
        }
        let mut values = Vec::with_capacity(self.columns.len());
        for column in 0..self.columns.len() {
            let Ok(length) = rest.try_get_i32() else { return Ok(None) };
            let Ok(length) = usize::try_from(length) else {
                values.push(None);
                continue;
            };
            if length > LONGEST_VALUE {
                return Err(Report::new("22P04", format!("row {} has a value of {length} bytes", self.rows + 1)));
            }
            let Some((value, after)) = rest.split_at_checked(length) else { return Ok(None) };
            values.push(Some(self.text(column, value)?));
            rest = after;
        }
        Ok(Some((values, self.held.len() - rest.len())))
    }

    fn text(&self, column: usize, value: &[u8]) -> Result<Vec<u8>, Report> {
        let (_, oid) = &self.columns[column];
        if matches!(*oid, oid::TEXT | oid::VARCHAR | oid::JSON) {
            return Ok(value.to_vec());
        }
        let given = Given { bytes: Some(value), binary: true, oid: *oid, wanted: None };
        let value: ScalarValue = given.value(column + 1).map_err(|e| Report::of(&e))?;
        let array = value.to_array().map_err(|e| Report::new("22P03", e.strip_backtrace()))?;
        let field = Field::new("value", array.data_type().clone(), true);
        let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(vec![field]));
        let batch = arrow::array::RecordBatch::try_new(schema, vec![array]).map_err(|e| unwritable(&e))?;
        let columns = self.formats[column].columns(&batch).map_err(|e| unwritable(&e))?;
        let (mut ends, mut text) = (Vec::new(), Vec::new());
        self.formats[column].put_cells(&columns, 0, &mut ends, &mut text);
        Ok(text)
    }

    /// What is wrong when no more comes.
    fn unfinished(&self) -> Option<Report> {
        let whole = self.ended || (self.begun && self.held.is_empty());
        (!whole).then(|| Report::new("22P04", format!("the binary form ends within row {}", self.rows + 1)))
    }
}

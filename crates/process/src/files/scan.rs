//! Owns the plan node's part that reads files of text, Arrow and Avro: each partition some files, one after the other.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::StreamExt;
use tokio::sync::mpsc::Sender;

use super::access::File;
use super::decode::{Column, FileReader, Matching, Reading};
use super::failure::{at_line, corrupt};
use super::format::Format;
use crate::{Error, Result};

/// Batches that may wait for the rest of the plan.
const BATCHES_AHEAD: usize = 2;

/// Files that are read one after the other.
#[derive(Debug, Clone)]
pub(super) struct FileScan {
    pub(super) files: Vec<File>,
    pub(super) reading: Reading,
    /// What is wanted of each: for text, the columns' types; the scan's schema says the names.
    pub(super) columns: Vec<Column>,
    pub(super) matching: Matching,
    pub(super) schema: SchemaRef,
    /// Whether records that cannot be read are passed over.
    pub(super) ignore_errors: bool,
}

impl PartitionStream for FileScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut output = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), BATCHES_AHEAD);
        let (scan, rows) = (self.clone(), output.tx());
        output.spawn(async move {
            for file in &scan.files {
                let read = match scan.reading.format {
                    Format::Arrow | Format::Avro => scan.read_values(file, &rows).await,
                    _ => scan.read_text(file, &rows).await,
                };
                if !read? {
                    break;
                }
            }
            Ok(())
        });
        output.build()
    }
}

type Rows = Sender<datafusion::error::Result<RecordBatch>>;

impl FileScan {
    /// Sends a file's rows; whether somebody still wants more.
    async fn read_text(&self, file: &File, rows: &Rows) -> Result<bool> {
        let mut reader = FileReader::open(file, &self.reading, self.columns.clone(), &self.matching).await?;
        while let Some(decoded) = reader.next().await? {
            if let (Some(refused), false) = (decoded.refused.first(), self.ignore_errors) {
                return Err(advised(at_line(&file.name, refused.line, refused.code, &refused.reason)));
            }
            if rows.send(Ok(decoded.batch)).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn read_values(&self, file: &File, rows: &Rows) -> Result<bool> {
        let (_, mut batches) = self.reading.batches(file).await?;
        while let Some(batch) = batches.next().await.transpose()? {
            let batch = self.fitted(&batch).map_err(|e| corrupt(&file.name, self.reading.format.name(), &e))?;
            if rows.send(Ok(batch)).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A batch's columns as the scan's, by name.
    fn fitted(&self, batch: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let columns = self.schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

fn advised(error: Error) -> Error {
    let advice =
        "say the columns' types with columns = 'name type, …', or pass over such lines with ignore_errors = true";
    match error {
        Error::Rejected { code, message, hint: None, position } => {
            Error::Rejected { code, message, hint: Some(advice.to_owned()), position }
        }
        other => other,
    }
}

//! Owns the columns that CREATE … FROM SAMPLE finds in files: as `read_…` finds them, as types that are kept.

use arrow::datatypes::DataType as ArrowType;
use datafusion::catalog::TableProvider;
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, DataType};

use super::arguments::ReadCall;
use super::format::Format;
use super::table::FilesTable;
use crate::engine::Shared;
use crate::views::sql_type;
use crate::{Error, Result};

/// The columns of the files that a path, URL or pattern names.
pub(crate) async fn sample_columns(shared: &Shared, path: &str, format: Format) -> Result<Vec<Column>> {
    let call = ReadCall::of_format(format, path);
    let table = FilesTable::open(&shared.options.files, &shared.context()?.state(), call).await?;
    let columns: Vec<Column> = table
        .schema()
        .fields()
        .iter()
        .map(|field| {
            let data_type = match field.data_type() {
                ArrowType::UInt64 => DataType::Decimal { precision: 20, scale: 0 },
                // What has no type of its own, such as a map, keeps its content as JSON.
                _ => sql_type(field).unwrap_or(DataType::Json),
            };
            Column::new(field.name().clone(), data_type)
        })
        .collect();
    if columns.is_empty() {
        return Err(Error::rejected(
            Code::BadFile,
            format!("file {path:?} has no columns, so there is nothing to make"),
        ));
    }
    Ok(columns)
}

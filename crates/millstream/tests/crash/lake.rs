//! Reads a stream's Delta table as a stranger would: by its Delta log and Parquet files alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use deltalake_core::{DeltaTable, DeltaTableError};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// The rows of the stream's table.
#[derive(Debug, Default)]
pub struct LakeRows {
    /// (writer, seq) by offset, by partition.
    pub partitions: BTreeMap<i64, Vec<(i64, i64)>>,
    /// Files of the newest version.
    pub files: usize,
}

impl LakeRows {
    /// Rows in all partitions.
    pub fn rows(&self) -> usize {
        self.partitions.values().map(Vec::len).sum()
    }
}

/// The newest version's rows; fails when a partition's offsets have a gap or a double. No table is no rows.
pub async fn read(table: &Path) -> LakeRows {
    let mut found: BTreeMap<i64, BTreeMap<i64, (i64, i64)>> = BTreeMap::new();
    let mut files = 0;
    for (path, batches) in self::files(table).await {
        files += 1;
        for batch in batches {
            let column = |name: &str| {
                let column = batch.column_by_name(name).unwrap_or_else(|| panic!("{path} has no {name}"));
                cast(column, &DataType::Int64).expect("it is an integer")
            };
            let columns = [column("_partition"), column("_offset"), column("writer"), column("seq")];
            let [partition, offset, writer, seq] = columns.each_ref().map(|c| c.as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                assert!(partition.is_valid(row) && offset.is_valid(row), "{path} has a row without its offset");
                let rows = found.entry(partition.value(row)).or_default();
                let twice = rows.insert(offset.value(row), (writer.value(row), seq.value(row)));
                assert!(twice.is_none(), "offset {} is in the lake twice", offset.value(row));
            }
        }
    }
    let partitions = found.into_iter().map(|(partition, rows)| {
        assert!(rows.keys().copied().eq(0..rows.len() as i64), "partition {partition} of the lake has a gap");
        (partition, rows.into_values().collect())
    });
    LakeRows { partitions: partitions.collect(), files }
}

/// The newest version's files, with their names. No table is no files.
pub async fn files(table: &Path) -> Vec<(String, Vec<RecordBatch>)> {
    if !table.join("_delta_log").exists() {
        return Vec::new();
    }
    let delta = open(table).await;
    let batches_of = |uri: String| {
        let path = uri.strip_prefix("file://").unwrap_or(&uri).to_owned();
        let file = File::open(&path).unwrap_or_else(|e| panic!("the Delta log names {path}: {e}"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.build());
        let batches = reader.unwrap_or_else(|e| panic!("{path} is not Parquet: {e}"));
        let batches = batches.map(|batch| batch.unwrap_or_else(|e| panic!("{path} is damaged: {e}"))).collect();
        (path, batches)
    };
    delta.get_file_uris().expect("the snapshot is loaded").map(batches_of).collect()
}

/// Opens the table.
pub async fn open(table: &Path) -> DeltaTable {
    let url = url::Url::from_directory_path(table).expect("the path is absolute");
    let mut tries = 0;
    loop {
        tries += 1;
        match deltalake_core::open_table(url.clone()).await {
            Ok(table) => return table,
            Err(error) if tries < 10 && is_gap(&error) => {}
            Err(error) => panic!("a Delta reader opens the table: {error}"),
        }
    }
}

/// Whether the kernel refused a log that grew while it was listed: a folder may then show one commit and not the one
/// before it.
pub fn is_gap(error: &DeltaTableError) -> bool {
    error.to_string().contains("found gap")
}

//! Owns file statistics: from a written file to its `add` action, and from there to the engine.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Schema};
use chrono::{DateTime, Datelike};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use millstream_catalog::{INGEST_TIME_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::schema::same_in_lake;
use crate::table::OffsetRange;

/// Bounds of text and longer ones are cut by the writer to this many bytes.
pub(crate) const TEXT_BOUND_BYTES: usize = 64;

/// The statistics of one file, values still as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileStats {
    /// Number of rows.
    pub rows: Option<u64>,
    /// Columns whose bounds are not values of the file, but beyond them.
    cut: HashSet<String>,
    columns: HashMap<String, ColumnText>,
}

#[derive(Debug, Clone, Default)]
struct ColumnText {
    min: Option<String>,
    max: Option<String>,
    nulls: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatsJson<'a> {
    num_records: Option<u64>,
    #[serde(default, borrow)]
    min_values: HashMap<String, &'a RawValue>,
    #[serde(default, borrow)]
    max_values: HashMap<String, &'a RawValue>,
    #[serde(default, borrow)]
    null_count: HashMap<String, &'a RawValue>,
}

impl FileStats {
    /// Reads the `stats` text of an `add` action and the list of cut columns beside it. Text that cannot be read gives
    /// no statistics: they only help.
    pub fn parse(text: Option<&str>, cut: Option<&str>) -> Self {
        let Some(Ok(json)) = text.map(serde_json::from_str::<StatsJson<'_>>) else { return Self::default() };
        let mut columns: HashMap<String, ColumnText> = HashMap::new();
        for (name, raw) in json.min_values {
            columns.entry(name).or_default().min = scalar_text(raw);
        }
        for (name, raw) in json.max_values {
            columns.entry(name).or_default().max = scalar_text(raw);
        }
        for (name, raw) in json.null_count {
            columns.entry(name).or_default().nulls = raw.get().parse().ok();
        }
        let cut = cut.and_then(|c| serde_json::from_str(c).ok()).unwrap_or_default();
        Self { rows: json.num_records, cut, columns }
    }

    /// The least and greatest value of an integer column.
    pub fn range(&self, column: &str) -> Option<(i64, i64)> {
        let c = self.columns.get(column)?;
        Some((c.min.as_ref()?.parse().ok()?, c.max.as_ref()?.parse().ok()?))
    }

    /// Where the rows are in their stream, if all of them are and in one partition.
    pub fn offset_range(&self) -> Option<OffsetRange> {
        let placed = |column: &str| self.columns.get(column).is_some_and(|c| c.nulls == Some(0));
        let (least, most) = self.range(PARTITION_COLUMN)?;
        let (first, last) = self.range(OFFSET_COLUMN)?;
        let one = least == most && placed(PARTITION_COLUMN) && placed(OFFSET_COLUMN);
        let range = || {
            let end = u64::try_from(last).ok()? + 1;
            Some(OffsetRange { partition: u32::try_from(least).ok()?, start: u64::try_from(first).ok()?, end })
        };
        one.then(range).flatten()
    }

    /// When the newest row was accepted, ms since 1970.
    pub fn newest_ingest_ms(&self) -> Option<i64> {
        let text = self.columns.get(INGEST_TIME_COLUMN)?.max.as_deref()?;
        Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis())
    }

    /// The statistics for the engine, for the columns of `schema`. `own` files are known to have untruncated
    /// timestamps; others' may be cut to milliseconds, so they are no bounds here.
    pub fn to_engine(&self, schema: &Schema, size: u64, own: bool) -> Statistics {
        let rows = self.rows.and_then(|r| usize::try_from(r).ok());
        let column_statistics = schema
            .fields()
            .iter()
            .map(|field| match self.columns.get(field.name()) {
                Some(text) => text.to_engine(field.data_type(), own, own && !self.cut.contains(field.name())),
                None => ColumnStatistics::new_unknown(),
            })
            .collect();
        Statistics {
            num_rows: rows.map_or(Precision::Absent, Precision::Exact),
            total_byte_size: Precision::Inexact(usize::try_from(size).unwrap_or(usize::MAX)),
            column_statistics,
        }
    }
}

impl ColumnText {
    fn to_engine(&self, log: &DataType, own: bool, text_exact: bool) -> ColumnStatistics {
        let mut stats = ColumnStatistics::new_unknown();
        if let Some(nulls) = self.nulls.and_then(|n| usize::try_from(n).ok()) {
            stats.null_count = Precision::Exact(nulls);
        }
        let bounded = same_in_lake(log) && (own || !matches!(log, DataType::Timestamp(..)));
        if bounded {
            stats.min_value = bound(self.min.as_deref(), log, text_exact);
            stats.max_value = bound(self.max.as_deref(), log, text_exact);
        }
        stats
    }
}

/// A bound, exact only where the value is sure to be in the file.
fn bound(text: Option<&str>, log: &DataType, text_exact: bool) -> Precision<ScalarValue> {
    let Some(value) = text.and_then(|t| parse_scalar(t, log)) else { return Precision::Absent };
    let exact = match log {
        DataType::Utf8 | DataType::Utf8View => text_exact,
        DataType::Float32 | DataType::Float64 => false,
        _ => true,
    };
    if exact { Precision::Exact(value) } else { Precision::Inexact(value) }
}

/// A JSON scalar as plain text; strings lose their quotes, `null` and nested values give nothing.
fn scalar_text(raw: &RawValue) -> Option<String> {
    match raw.get().as_bytes().first()? {
        b'"' => serde_json::from_str(raw.get()).ok(),
        b'{' | b'[' | b'n' => None,
        _ => Some(raw.get().to_owned()),
    }
}

fn parse_scalar(text: &str, log: &DataType) -> Option<ScalarValue> {
    Some(match log {
        DataType::Int16 => ScalarValue::Int16(Some(text.parse().ok()?)),
        DataType::Int32 => ScalarValue::Int32(Some(text.parse().ok()?)),
        DataType::Int64 => ScalarValue::Int64(Some(text.parse().ok()?)),
        DataType::Float32 => ScalarValue::Float32(Some(text.parse().ok()?)),
        DataType::Float64 => ScalarValue::Float64(Some(text.parse().ok()?)),
        DataType::Utf8 => ScalarValue::Utf8(Some(text.to_owned())),
        DataType::Utf8View => ScalarValue::Utf8View(Some(text.to_owned())),
        DataType::Date32 | DataType::Decimal128(..) | DataType::Timestamp(..) => {
            ScalarValue::try_from_string(text.to_owned(), log).ok()?
        }
        _ => return None,
    })
}

/// The `stats` text of a file that was just written, from its footer, and the columns whose bounds were cut. `lake` is
/// the schema it was written with.
pub(crate) fn stats_text(metadata: &ParquetMetaData, lake: &Schema) -> (String, Vec<String>) {
    let mut cut = Vec::new();
    let parquet_schema = metadata.file_metadata().schema_descr();
    let (mut mins, mut maxs, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
    for field in lake.fields().iter().filter(|f| !f.data_type().is_nested()) {
        let Ok(converter) = StatisticsConverter::try_new(field.name(), lake, parquet_schema) else { continue };
        let converter = converter.with_missing_null_counts_as_zero(false);
        let key = serde_json::Value::from(field.name().as_str());
        let groups = metadata.row_groups();
        if let Ok(counts) = converter.row_group_null_counts(groups)
            && counts.null_count() == 0
        {
            nulls.push(format!("{key}:{}", counts.iter().flatten().sum::<u64>()));
        }
        let least = converter.row_group_mins(groups).ok().and_then(|a| extreme(&a, std::cmp::Ordering::Less));
        let most = converter.row_group_maxes(groups).ok().and_then(|a| extreme(&a, std::cmp::Ordering::Greater));
        if let (Some(least), Some(most)) = (least, most) {
            mins.push(format!("{key}:{least}"));
            maxs.push(format!("{key}:{most}"));
            let all =
                |exact: parquet::errors::Result<BooleanArray>| exact.is_ok_and(|e| e.iter().all(|e| e == Some(true)));
            let (least_exact, most_exact) =
                (converter.row_group_is_min_value_exact(groups), converter.row_group_is_max_value_exact(groups));
            if !(all(least_exact) && all(most_exact)) {
                cut.push(field.name().clone());
            }
        }
    }
    let text = format!(
        r#"{{"numRecords":{},"minValues":{{{}}},"maxValues":{{{}}},"nullCount":{{{}}}}}"#,
        metadata.file_metadata().num_rows(),
        mins.join(","),
        maxs.join(","),
        nulls.join(",")
    );
    (text, cut)
}

/// The least or greatest of the row groups' bounds as JSON text. A group without a bound leaves the file without one,
/// unless all its values are NULL, which shows as an absent bound too: then no bound is the safe answer.
fn extreme(bounds: &ArrayRef, want: std::cmp::Ordering) -> Option<String> {
    if bounds.is_empty() || bounds.null_count() > 0 {
        return None;
    }
    let mut best = ScalarValue::try_from_array(bounds, 0).ok()?;
    for i in 1..bounds.len() {
        let value = ScalarValue::try_from_array(bounds, i).ok()?;
        if value.partial_cmp(&best)? == want {
            best = value;
        }
    }
    json_scalar(&best)
}

fn json_scalar(value: &ScalarValue) -> Option<String> {
    Some(match value {
        ScalarValue::Int16(Some(v)) => v.to_string(),
        ScalarValue::Int32(Some(v)) => v.to_string(),
        ScalarValue::Int64(Some(v)) => v.to_string(),
        ScalarValue::Float32(Some(v)) if v.is_finite() => serde_json::to_string(v).ok()?,
        ScalarValue::Float64(Some(v)) if v.is_finite() => serde_json::to_string(v).ok()?,
        ScalarValue::Utf8(Some(v)) => serde_json::to_string(v).ok()?,
        ScalarValue::Date32(Some(days)) => {
            let date = DateTime::from_timestamp(i64::from(*days) * 86_400, 0)?;
            ordinary_year(&date)?;
            format!("\"{}\"", date.format("%Y-%m-%d"))
        }
        ScalarValue::TimestampMicrosecond(Some(us), zone) => {
            let time = DateTime::from_timestamp_micros(*us)?;
            ordinary_year(&time)?;
            let zone = if zone.is_some() { "Z" } else { "" };
            format!("\"{}{zone}\"", time.format("%Y-%m-%dT%H:%M:%S%.6f"))
        }
        ScalarValue::Decimal128(Some(_), _, scale) if *scale >= 0 => value.to_string(),
        _ => return None,
    })
}

/// Years that every reader parses.
fn ordinary_year(time: &DateTime<chrono::Utc>) -> Option<()> {
    (1..=9999).contains(&time.year()).then_some(())
}

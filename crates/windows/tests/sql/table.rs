//! Owns the tests' tables and the way of a query through the planner.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};

/// The type of the tests' timestamps.
pub(crate) fn timestamptz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A context with the functions and tables `t` (`k` text, `n` bigint, `ts` of `data_type`) and `other` (`ts` not null).
pub(crate) fn context(rows: &[(Option<&str>, Option<i64>)], data_type: &DataType) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(2).set_bool("datafusion.sql_parser.collect_spans", true);
    let context = SessionContext::new_with_config(config);
    millstream_windows::register(&context).unwrap();
    let fields = vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("n", DataType::Int64, false),
        Field::new("ts", data_type.clone(), true),
    ];
    let schema = Arc::new(Schema::new(fields));
    let k: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|(k, _)| *k)));
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..i64::try_from(rows.len()).unwrap()));
    let ts = Int64Array::from_iter(rows.iter().map(|(_, ts)| *ts));
    let ts = if rows.is_empty() { new_null_array(data_type, 0) } else { cast(&ts, data_type).unwrap() };
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![k, n, ts]).unwrap();
    let half = rows.len() / 2;
    let parts = vec![vec![batch.slice(0, half)], vec![batch.slice(half, rows.len() - half)]];
    context.register_table("t", Arc::new(MemTable::try_new(schema, parts).unwrap())).unwrap();
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("ts", timestamptz(), false),
        Field::new("made", DataType::Date32, true),
    ]));
    context.register_table("other", Arc::new(MemTable::try_new(schema, vec![vec![]]).unwrap())).unwrap();
    context
}

/// The plan of a query, as it is before any optimizing.
pub(crate) async fn plan(context: &SessionContext, sql: &str) -> Result<LogicalPlan> {
    context.state().statement_to_plan(millstream_windows::parse(sql)?).await
}

/// A query's rows.
pub(crate) async fn rows(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    context.execute_logical_plan(plan(context, sql).await?).await?.collect().await
}

/// A query's rows as a table of text.
pub(crate) async fn shown(context: &SessionContext, sql: &str) -> String {
    pretty_format_batches(&rows(context, sql).await.unwrap()).unwrap().to_string()
}

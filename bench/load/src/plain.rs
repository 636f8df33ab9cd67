//! Owns the yardstick for queries: plain DataFusion on given Parquet files, in a process of its own.
//!
//! Each line of standard input is a query over the table `e`; its answer is a line of JSON with the time and the rows.

use std::io::BufRead;
use std::time::Instant;

use datafusion::prelude::{ParquetReadOptions, SessionContext};
use serde_json::json;

use crate::Figures;
use crate::arguments::Arguments;

/// Runs `plain`.
pub async fn run(arguments: Arguments) -> Figures {
    let files: Vec<String> = arguments.text("files")?.split(',').map(str::to_owned).collect();
    let count = files.len();
    let context = SessionContext::new();
    let table = context.read_parquet(files, ParquetReadOptions::default()).await?;
    context.register_table("e", table.into_view())?;
    println!("{}", json!({ "ready": true, "files": count }));
    for line in std::io::stdin().lock().lines() {
        let began = Instant::now();
        let batches = context.sql(&line?).await?.collect().await?;
        let ms = began.elapsed().as_secs_f64() * 1000.0;
        let rows: usize = batches.iter().map(|b| b.num_rows()).sum();
        println!("{}", json!({ "ms": ms, "rows": rows }));
    }
    Ok(json!({ "done": true }))
}

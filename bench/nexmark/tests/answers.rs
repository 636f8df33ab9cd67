//! Runs every query by plain DataFusion over 20,000 events and compares with `answers/`.
//!
//! Each answer is kept as its number of rows, a hash over all of them and the first few, sorted as text: so a change
//! of the generator or of a query shows. With `MILLSTREAM_NEXMARK=update` the answers are written instead of compared.
//!
//! Windows are spelled out as subqueries that need no window function.

#![expect(clippy::unwrap_used, reason = "a test fails where its own preparation fails")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use millstream_nexmark::{Config, Events, Generator, QUERIES, Query};

const EVENTS: u64 = 20_000;
/// Rows that an answer shows.
const SHOWN: usize = 10;

/// The calls of window functions, and subqueries that give the same rows.
const SPELLED_OUT: [(&str, &str); 5] = [
    ("TUMBLE(bid, date_time, INTERVAL '10' SECOND)", TUMBLING_BIDS),
    (
        "TUMBLE(person, date_time, INTERVAL '10' SECOND)",
        "(SELECT *, date_bin(INTERVAL '10 seconds', date_time) AS window_start,
            date_bin(INTERVAL '10 seconds', date_time) + INTERVAL '10 seconds' AS window_end FROM person)",
    ),
    (
        "TUMBLE(auction, date_time, INTERVAL '10' SECOND)",
        "(SELECT *, date_bin(INTERVAL '10 seconds', date_time) AS window_start,
            date_bin(INTERVAL '10 seconds', date_time) + INTERVAL '10 seconds' AS window_end FROM auction)",
    ),
    (
        "HOP(bid, date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND)",
        "(SELECT bid.*, date_bin(INTERVAL '2 seconds', date_time) - back AS window_start,
            date_bin(INTERVAL '2 seconds', date_time) - back + INTERVAL '10 seconds' AS window_end
        FROM bid CROSS JOIN (VALUES (INTERVAL '0 seconds'), (INTERVAL '2 seconds'), (INTERVAL '4 seconds'),
            (INTERVAL '6 seconds'), (INTERVAL '8 seconds')) AS slides(back))",
    ),
    (
        "SESSION(bid PARTITION BY bidder, date_time, INTERVAL '10' SECOND)",
        "(SELECT bidder, min(date_time) OVER session AS window_start,
            max(date_time) OVER session + INTERVAL '10 seconds' AS window_end
        FROM (
            SELECT bidder, date_time,
                count(*) FILTER (WHERE fresh) OVER (PARTITION BY bidder ORDER BY date_time) AS number
            FROM (
                SELECT bidder, date_time, coalesce(
                    lag(date_time) OVER (PARTITION BY bidder ORDER BY date_time) + INTERVAL '10 seconds' <= date_time,
                    true) AS fresh
                FROM bid
            ) AS marked
        ) AS numbered
        WINDOW session AS (PARTITION BY bidder, number))",
    ),
];
const TUMBLING_BIDS: &str = "(SELECT *, date_bin(INTERVAL '10 seconds', date_time) AS window_start,
    date_bin(INTERVAL '10 seconds', date_time) + INTERVAL '10 seconds' AS window_end FROM bid)";

/// 100 s of event time, ten windows, across a midnight: 31 December 2025, 23:59:10 UTC.
fn generator() -> Generator {
    let config =
        Config { seed: 42, first_event_time_us: 1_767_225_550_000_000, events_per_second: 200, ..Config::default() };
    Generator::new(config)
}

/// The events as tables of two partitions, several batches each.
fn session() -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    let generator = generator();
    let parts: Vec<Events> = (0..EVENTS / 5_000).map(|i| generator.batch(i * 5_000..(i + 1) * 5_000)).collect();
    let register = |name: &str, batches: Vec<RecordBatch>| {
        let schema = batches[0].schema();
        let (even, odd): (Vec<_>, Vec<_>) = batches.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
        let partitions = [even, odd].map(|part| part.into_iter().map(|(_, batch)| batch).collect());
        context.register_table(name, Arc::new(MemTable::try_new(schema, partitions.into()).unwrap())).unwrap();
    };
    millstream_windows::register(&context).unwrap();
    register("person", parts.iter().map(|e| e.person.clone()).collect());
    register("auction", parts.iter().map(|e| e.auction.clone()).collect());
    register("bid", parts.iter().map(|e| e.bid.clone()).collect());
    register("side_input", vec![Generator::side_input()]);
    context
}

/// Column names and rows as text, the rows sorted.
async fn rows(context: &SessionContext, sql: &str) -> datafusion::error::Result<(String, Vec<String>)> {
    let plan = context.state().statement_to_plan(millstream_windows::parse(sql)?).await?;
    let frame = context.execute_logical_plan(plan).await?;
    let names = frame.schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(" | ");
    let batches = frame.collect().await?;
    let mut rows: Vec<String> = batches.iter().flat_map(lines).collect();
    rows.sort_unstable();
    Ok((names, rows))
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let columns: Vec<ArrayFormatter<'_>> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let line = |row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" | ");
    (0..batch.num_rows()).map(line).collect()
}

/// The query without window functions.
fn spelled_out(query: &Query) -> String {
    SPELLED_OUT.iter().fold(query.sql.to_owned(), |sql, (call, subquery)| sql.replace(call, subquery))
}

async fn answer(context: &SessionContext, sql: &str) -> String {
    let (names, rows) = match rows(context, sql).await {
        Ok(answer) => answer,
        Err(error) => return format!("error: {error}\n"),
    };
    let mut hash = blake3::Hasher::new();
    rows.iter().for_each(|row| {
        hash.update(row.as_bytes()).update(b"\n");
    });
    let mut text = format!("{} rows, blake3 {}\n{names}\n", rows.len(), hash.finalize().to_hex());
    rows.iter().take(SHOWN).for_each(|row| {
        let _ = writeln!(text, "{row}");
    });
    text
}

#[tokio::test]
async fn every_query_gives_the_answer_it_holds() {
    let update = std::env::var("MILLSTREAM_NEXMARK").is_ok_and(|v| v == "update");
    let context = session();
    let mut wrong = String::new();
    for query in &QUERIES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("answers").join(format!("{}.txt", query.name()));
        let found = answer(&context, &spelled_out(query)).await;
        if found.starts_with("error") {
            let _ = writeln!(wrong, "{}: {found}", query.name());
        } else if update {
            std::fs::write(&path, found).unwrap();
        } else {
            let expected = std::fs::read_to_string(&path).unwrap_or_default();
            if found != expected {
                let _ = writeln!(wrong, "{}: expected\n{expected}found\n{found}", query.name());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nif the new answers are right, run with MILLSTREAM_NEXMARK=update");
}

#[tokio::test]
async fn window_functions_give_the_answers_of_the_subqueries_that_spell_them_out() {
    let context = session();
    for query in QUERIES.iter().filter(|q| q.has_windows()) {
        let expected = answer(&context, &spelled_out(query)).await;
        assert_eq!(answer(&context, query.sql).await, expected, "{}", query.name());
    }
}

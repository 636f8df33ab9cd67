//! Runs every query by plain DataFusion and compares with `answers/`. With `MILLSTREAM_NEXMARK=update` the answers are
//! written instead.
//!
//! Windows are spelled out as subqueries that need no window function.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use millstream_nexmark::{Generator, QUERIES, Query};

use crate::events::parts;
use crate::golden::{difference, path, rendered};

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

/// The events as tables of two partitions, several batches each.
fn session() -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    let parts = parts(5_000);
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

/// The query without window functions.
fn spelled_out(query: &Query) -> String {
    SPELLED_OUT.iter().fold(query.sql.to_owned(), |sql, (call, subquery)| sql.replace(call, subquery))
}

async fn answer(context: &SessionContext, sql: &str) -> String {
    match batches(context, sql).await {
        Ok((names, batches)) => rendered(&names.iter().map(String::as_str).collect::<Vec<_>>(), &batches),
        Err(error) => format!("error: {error}\n"),
    }
}

/// Column names and rows.
async fn batches(context: &SessionContext, sql: &str) -> datafusion::error::Result<(Vec<String>, Vec<RecordBatch>)> {
    let plan = context.state().statement_to_plan(millstream_windows::parse(sql)?).await?;
    let frame = context.execute_logical_plan(plan).await?;
    let names = frame.schema().fields().iter().map(|f| f.name().clone()).collect();
    Ok((names, frame.collect().await?))
}

#[tokio::test]
async fn every_query_gives_the_answer_it_holds() {
    let update = std::env::var("MILLSTREAM_NEXMARK").is_ok_and(|v| v == "update");
    let context = session();
    let mut wrong = String::new();
    for query in &QUERIES {
        let found = answer(&context, &spelled_out(query)).await;
        if update && !found.starts_with("error") {
            std::fs::write(path(query), found).unwrap();
        } else if let Some(difference) = difference(query, &found) {
            let _ = writeln!(wrong, "{difference}");
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

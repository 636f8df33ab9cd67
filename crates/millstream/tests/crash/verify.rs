//! Compares what a restarted node says with what the producers were promised.

use std::collections::BTreeMap;

use crate::lake::LakeRows;
use crate::support::{Client, int, poll, text};
use crate::writer::{Request, Writer, WriterKind};
use crate::{PARTITIONS, STREAM};

/// What a check found, for the log of a run.
#[derive(Debug, Default)]
pub struct Facts {
    rows: u64,
    quarantined: usize,
    in_lake: i64,
}

impl std::fmt::Display for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows, {} in the lake, {} in quarantine", self.rows, self.in_lake, self.quarantined)
    }
}

/// Everything that was acknowledged is there once, and nothing else but what is in doubt. Requests in doubt are then
/// settled: keyed ones by sending them again, the others by looking.
pub async fn check(client: &Client, writers: &mut [Writer]) -> Facts {
    let rows = check_rows(client, writers).await;
    check_offsets(client).await;
    let quarantined = check_quarantine(client, writers).await;
    let in_lake = check_positions(client).await;
    Facts { rows, quarantined, in_lake }
}

async fn check_rows(client: &Client, writers: &mut [Writer]) -> u64 {
    let sql = format!("SELECT writer, count(*), count(DISTINCT seq), sum(seq) FROM {STREAM} GROUP BY writer");
    let found: BTreeMap<i64, Vec<i64>> = client.sql(&sql).await.ints().into_iter().map(|r| (r[0], r)).collect();
    for writer in writers.iter_mut() {
        let none = vec![writer.id.into(), 0, 0, 0];
        let row = found.get(&writer.id.into()).unwrap_or(&none);
        assert_eq!(row[1], row[2], "writer {}: rows are there twice", writer.id);
        let settled = (writer.stored_rows() as i64, writer.stored_sum() as i64);
        let found = (row[1], row[3].max(0));
        if let Some(request) = writer.in_doubt.take() {
            let end = request.first + request.good;
            let sum = (request.first..end).sum::<u64>() as i64;
            let with_it = (settled.0 + request.good as i64, settled.1 + sum);
            assert!(
                found == settled || found == with_it,
                "writer {}: (rows, sum) are {found:?}; acknowledged are {settled:?}, with the request in doubt {with_it:?}",
                writer.id
            );
            settle(client, writer, request, found == with_it).await;
        } else {
            assert_eq!(found, settled, "writer {}: (rows, sum) found and acknowledged", writer.id);
        }
    }
    writers.iter().map(Writer::stored_rows).sum()
}

async fn settle(client: &Client, writer: &mut Writer, request: Request, is_there: bool) {
    match writer.kind {
        WriterKind::Keyed => {
            let headers = [("idempotency-key", request.key.as_str())];
            let reply = client.ingest(STREAM, request.body.clone(), &headers).await.ok();
            let duplicate = reply.body["duplicate"].as_bool().unwrap_or(false);
            assert_eq!(duplicate, is_there, "writer {}: duplicate, and whether the rows were there", writer.id);
            writer.acknowledge(request, reply);
        }
        WriterKind::Unkeyed if is_there => writer.store(&request),
        WriterKind::Unkeyed => {}
    }
}

/// A producer that retries an answered request, restarts notwithstanding, adds nothing and gets the same offsets.
pub async fn check_latest_retries(client: &Client, writers: &[Writer]) {
    for writer in writers.iter().filter(|w| w.kind == WriterKind::Keyed) {
        let Some((request, first)) = &writer.latest else { continue };
        let headers = [("idempotency-key", request.key.as_str())];
        let again = client.ingest(STREAM, request.body.clone(), &headers).await.ok();
        assert_eq!(again.body["duplicate"], true, "writer {}: {}", writer.id, again.text());
        for field in ["accepted", "quarantined", "offsets"] {
            assert_eq!(again.body[field], first[field], "writer {}: {field} of the retry", writer.id);
        }
    }
}

async fn check_offsets(client: &Client) {
    let sql = format!(
        "SELECT _partition, count(*), count(DISTINCT _offset), min(_offset), max(_offset) FROM {STREAM} \
         GROUP BY _partition"
    );
    for row in client.sql(&sql).await.ints() {
        assert!((0..PARTITIONS).contains(&row[0]), "partition {} exists", row[0]);
        assert_eq!((row[1], 0, row[1] - 1), (row[2], row[3], row[4]), "partition {} has gaps or doubles", row[0]);
    }
    let out_of_order = format!(
        "SELECT count(*) FROM (SELECT seq, lag(seq) OVER (PARTITION BY writer, _partition ORDER BY _offset) AS before \
         FROM {STREAM}) AS o WHERE before >= seq"
    );
    assert_eq!(client.number(&out_of_order).await, 0, "rows of one writer are out of order in a partition");
}

async fn check_quarantine(client: &Client, writers: &[Writer]) -> usize {
    let sql = "SELECT original, count(*) FROM system.quarantine WHERE stream LIKE '%events' GROUP BY original";
    let found: BTreeMap<String, i64> =
        client.sql(sql).await.rows.iter().map(|row| (text(&row[0]).to_owned(), int(&row[1]))).collect();
    let mut known = 0;
    for writer in writers.iter().filter(|w| w.kind == WriterKind::Keyed) {
        for bad in &writer.quarantined {
            let times = found.get(bad).copied().unwrap_or(0);
            assert_eq!(times, 1, "quarantine has {bad:?} {times} times");
            known += 1;
        }
        let mark = format!("\"w{}-r", writer.id);
        let there = found.keys().filter(|bad| bad.contains(&mark)).count();
        assert_eq!(there, writer.quarantined.len(), "writer {}: quarantine has rows that were never sent", writer.id);
    }
    for writer in writers.iter().filter(|w| w.kind == WriterKind::Unkeyed) {
        for bad in &writer.quarantined {
            assert_eq!(found.get(bad), Some(&1), "quarantine and {bad:?}");
            known += 1;
        }
    }
    known
}

/// What the lake is said to hold ends at or before the log's end. Returns the rows in the lake.
async fn check_positions(client: &Client) -> i64 {
    let sql = "SELECT * FROM system.streams";
    let streams = client.sql(sql).await;
    let name = streams.columns.iter().position(|c| c == "name" || c == "stream").expect("a column names the stream");
    let row = streams.rows.iter().find(|r| text(&r[name]).ends_with(STREAM)).expect("the stream is listed");
    let (lake, log) = (&row[streams.column("lake_position")], &row[streams.column("log_end")]);
    let (lake, log) = (offsets(lake), offsets(log));
    assert!(lake.iter().zip(&log).all(|(lake, log)| lake <= log), "the lake {lake:?} is ahead of the log {log:?}");
    lake.iter().sum()
}

/// Offsets from a list, or from a text such as `0-12,1-7` or `[12,7]`.
fn offsets(value: &serde_json::Value) -> Vec<i64> {
    match value {
        serde_json::Value::Array(items) => items.iter().map(int).collect(),
        serde_json::Value::String(s) => s
            .trim_matches(['[', ']'])
            .split([',', ' '])
            .filter(|part| !part.is_empty())
            .map(|part| part.rsplit('-').next().unwrap_or(part).parse().expect("an offset is a number"))
            .collect(),
        other => vec![int(other)],
    }
}

/// The lake, read alone, is a prefix of what SQL shows, row by row; and SQL's own lake part did not move backwards.
pub async fn compare_with_lake(client: &Client, lake: &LakeRows) {
    for (&partition, rows) in &lake.partitions {
        let sql = format!(
            "SELECT _offset, writer, seq FROM {STREAM} WHERE _partition = {partition} AND _offset < {} \
             ORDER BY _offset",
            rows.len()
        );
        let found = client.sql(&sql).await.ints();
        assert_eq!(found.len(), rows.len(), "partition {partition}: rows by SQL and in the lake");
        for (offset, (sql, (writer, seq))) in found.iter().zip(rows).enumerate() {
            assert_eq!(sql, &[offset as i64, *writer, *seq], "partition {partition}, offset {offset}");
        }
    }
    let in_lake = lake.rows() as i64;
    poll("the lake position to cover what the lake holds", 20, || async {
        (check_positions(client).await >= in_lake).then_some(())
    })
    .await;
}

//! Owns those who watch while the node runs: readers that never see a gap, and a client that makes and drops objects.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::STREAM;
use crate::support::{Client, Reply, int, table, text};
use crate::writer::Writer;

/// How many rows of each writer have been acknowledged, as of now.
#[derive(Debug)]
pub struct Acknowledged(Vec<AtomicU64>);

impl Acknowledged {
    /// What the writers know for sure.
    pub fn of(writers: &[Writer]) -> Self {
        Self(writers.iter().map(|w| AtomicU64::new(w.stored_rows())).collect())
    }

    /// Takes note of a writer's acknowledged rows.
    pub fn add(&self, writer: u32, rows: u64) {
        self.0[writer as usize].fetch_max(rows, Ordering::SeqCst);
    }

    fn now(&self) -> Vec<u64> {
        self.0.iter().map(|rows| rows.load(Ordering::SeqCst)).collect()
    }
}

/// Asks until the connection breaks: every answer has every row acknowledged before it was asked for, and no gap.
pub async fn read_until_broken(client: Client, killed: Arc<AtomicBool>, acknowledged: Arc<Acknowledged>) {
    let mut turn = 0;
    loop {
        let before = acknowledged.now();
        let by_writer = turn % 2 == 0;
        turn += 1;
        let sql = if by_writer {
            format!("SELECT writer, count(*), count(DISTINCT seq) FROM {STREAM} GROUP BY writer")
        } else {
            format!("SELECT _partition, count(*), min(_offset), max(_offset) FROM {STREAM} GROUP BY _partition")
        };
        let Some(reply) = ask(&client, &sql, &killed).await else { return };
        for row in table(&reply.ok()).ints() {
            if by_writer {
                let floor = before[row[0] as usize] as i64;
                assert!(row[1] >= floor, "writer {}: {} rows of {floor} acknowledged are visible", row[0], row[1]);
                assert_eq!(row[1], row[2], "writer {}: rows are seen twice", row[0]);
            } else {
                assert_eq!((row[2], row[3] + 1), (0, row[1]), "partition {}: a gap or an overlap: {row:?}", row[0]);
            }
        }
    }
}

/// Makes, fills and drops streams, and widens the main one.
#[derive(Debug, Default)]
pub struct DdlClient {
    made: u64,
    /// Streams that exist for sure.
    exist: BTreeSet<String>,
    /// The stream whose CREATE or DROP was not answered.
    in_doubt: Option<String>,
}

impl DdlClient {
    /// Goes on until the connection breaks.
    pub async fn run_until_broken(&mut self, client: &Client, killed: &AtomicBool) {
        loop {
            let name = format!("passing_{}", self.made);
            self.made += 1;
            self.in_doubt = Some(name.clone());
            let create = format!("CREATE STREAM {name} (id BIGINT)");
            let Some(reply) = ask(client, &create, killed).await else { return };
            reply.ok();
            self.exist.insert(name.clone());
            let Ok(reply) = client.try_ingest(&name, "{\"id\":1}\n", &[]).await else {
                assert!(killed.load(Ordering::SeqCst), "the connection broke though the node lives");
                return;
            };
            reply.ok();
            if self.made.is_multiple_of(8) {
                let widen = format!("ALTER STREAM {STREAM} ADD COLUMN extra_{} TEXT", self.made);
                let Some(reply) = ask(client, &widen, killed).await else { return };
                reply.ok();
            }
            let Some(oldest) = self.exist.iter().next().cloned().filter(|_| self.exist.len() > 3) else { continue };
            self.in_doubt = Some(oldest.clone());
            self.exist.remove(&oldest);
            let Some(reply) = ask(client, &format!("DROP STREAM {oldest}"), killed).await else { return };
            reply.ok();
            self.in_doubt = None;
        }
    }

    /// After a restart: what was made is there, what was dropped is not, and everything listed answers.
    pub async fn check(&mut self, client: &Client) {
        let listed = client.sql("SHOW STREAMS").await;
        let column = listed.columns.iter().position(|c| c.contains("name")).unwrap_or(0);
        let names: BTreeSet<String> = listed.rows.iter().map(|row| text(&row[column]).to_owned()).collect();
        let mut passing: BTreeSet<String> = names.iter().filter(|n| n.contains("passing_")).cloned().collect();
        passing = passing.iter().map(|n| n.trim_start_matches("public.").to_owned()).collect();
        if let Some(doubtful) = self.in_doubt.take() {
            match passing.contains(&doubtful) {
                true => self.exist.insert(doubtful),
                false => self.exist.remove(&doubtful),
            };
        }
        assert_eq!(passing, self.exist, "the streams that exist are not the ones that were made");
        for name in &passing {
            let rows = client.number(&format!("SELECT count(*) FROM {name}")).await;
            assert!(rows <= 1, "{name} has {rows} rows");
        }
        let columns = client.sql(&format!("SELECT * FROM {STREAM} LIMIT 1")).await;
        for row in &columns.rows {
            assert!(int(&row[0]) >= 0, "the first column is still the writer");
        }
    }
}

/// A reply of any status; `None` when the node was killed.
async fn ask(client: &Client, sql: &str, killed: &AtomicBool) -> Option<Reply> {
    match client.try_sql(json!({ "sql": sql }), "application/json").await {
        Ok(reply) => Some(reply),
        Err(error) => {
            assert!(killed.load(Ordering::SeqCst), "{sql}: {error:?} though the node lives");
            None
        }
    }
}

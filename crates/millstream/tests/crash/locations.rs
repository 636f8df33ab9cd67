//! A table at a LOCATION, which two nodes write to while one of them is killed again and again, on a disk and on S3:
//! each statement took place as a whole or not at all, and what the other node did stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::place::Place;
use crate::support::{Client, Node, block_on};
use crate::{lake, number_from_env};

/// Rounds unless `MILLSTREAM_CRASH_ROUNDS` says how many.
const ROUNDS: u64 = 6;
const FOLDER: &str = "outside/shared";

#[test]
fn a_table_that_two_nodes_write_to_is_as_before_or_after_each_statement_when_one_is_killed() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = Place::Folder(dir.path().to_owned());
    block_on(run(place, dir.path()));
}

#[test]
fn a_table_on_s3_that_two_nodes_write_to_is_as_before_or_after_each_statement_when_one_is_killed() {
    let test = "a_table_on_s3_that_two_nodes_write_to_is_as_before_or_after_each_statement_when_one_is_killed";
    let Some(place) = Place::bucket(test) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    block_on(run(place, dir.path()));
}

async fn run(place: Place, dir: &std::path::Path) {
    let rounds = number_from_env("MILLSTREAM_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let seed = number_from_env("MILLSTREAM_CRASH_SEED").unwrap_or_else(|| rand::rng().random::<u32>().into());
    println!("locations: MILLSTREAM_CRASH_SEED={seed} repeats this run's choices");
    let mut random = StdRng::seed_from_u64(seed);
    let location = place.url(FOLDER);
    let lives = Node::start(place.setup(&dir.join("lives"), "lake-of-one")).await;
    let create = format!("CREATE TABLE shared (writer BIGINT, id BIGINT, amount BIGINT) LOCATION '{location}'");
    lives.client().sql(&create).await;
    let mut setup = place.setup(&dir.join("killed"), "lake-of-the-other");
    let mut writers = [0, 1].map(|writer| Writer::new(writer, seed));
    let mut round = 0;
    while rounds == 0 || round < rounds {
        let killed = Node::start(setup.clone()).await;
        if round == 0 {
            killed.client().sql(&format!("CREATE TABLE shared LOCATION '{location}'")).await;
        }
        for writer in &mut writers {
            writer.check(&killed.client()).await;
            writer.check(&lives.client()).await;
        }
        let run_for = Duration::from_millis(random.random_range(50..place.lives_ms().0));
        let [a, b] = writers;
        println!("locations, round {round}: {} and {} statements, killed after {run_for:?}", a.done, b.done);
        let stop = Arc::new(AtomicBool::new(false));
        let (a, b) = (a.spawn(killed.client(), &stop), b.spawn(lives.client(), &stop));
        tokio::time::sleep(run_for).await;
        stop.store(true, Ordering::SeqCst);
        setup = killed.kill9();
        let ended = "a writer met something it should not have";
        writers = [a.await.expect(ended), b.await.expect(ended)];
        assert!(writers[1].in_doubt.is_none(), "the node that was not killed did not answer");
        round += 1;
    }
    let killed = Node::start(setup).await;
    for writer in &mut writers {
        writer.check(&killed.client()).await;
        writer.check(&lives.client()).await;
    }
    assert!(writers.iter().any(|writer| writer.done > 0), "nothing was changed in {rounds} rounds");
    drop((killed, lives));
    // As a third program sees it.
    let found = read(&place).await;
    assert_eq!(found, writers.map(|writer| writer.rows));
}

/// Both writers' rows, by the Delta log and its files alone.
async fn read(place: &Place) -> [Rows; 2] {
    let table = place.table(FOLDER).await;
    let mut rows = [Rows::new(), Rows::new()];
    for (file, batches) in lake::files(&table.path).await {
        for batch in batches {
            let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("{file} has no {name}"));
            let [writer, id, amount] = ["writer", "id", "amount"].map(|name| column(name).as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                let twice = rows[writer.value(row) as usize].insert(id.value(row), amount.value(row));
                assert!(twice.is_none(), "row {} of writer {} is there twice", id.value(row), writer.value(row));
            }
        }
    }
    rows
}

/// A writer's rows: amount by id.
type Rows = BTreeMap<i64, i64>;

/// The only one that changes the rows with its number.
#[derive(Debug)]
struct Writer {
    id: i64,
    random: StdRng,
    rows: Rows,
    /// What there is of its rows if the statement that was not answered took place.
    in_doubt: Option<Rows>,
    next_id: i64,
    /// Statements that were answered with a success.
    done: u64,
}

impl Writer {
    fn new(id: i64, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed ^ (id as u64 + 11));
        Self { id, random, rows: Rows::new(), in_doubt: None, next_id: 0, done: 0 }
    }

    fn spawn(mut self, client: Client, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<Self> {
        let stop = Arc::clone(stop);
        tokio::spawn(async move {
            self.run_until(&client, &stop).await;
            self
        })
    }

    async fn run_until(&mut self, client: &Client, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            let (sql, after) = self.statement();
            self.in_doubt = Some(after);
            match client.try_sql(json!({ "sql": sql }), "application/json").await {
                Ok(reply) if reply.status == 200 => {
                    self.rows = self.in_doubt.take().unwrap_or_default();
                    self.done += 1;
                }
                // The other one changed the same files: nothing was changed by this statement.
                Ok(reply) => {
                    drop(reply.refused(409, "serialization_failure"));
                    self.in_doubt = None;
                }
                Err(error) => {
                    assert!(stop.load(Ordering::SeqCst), "{sql}: {error:?} though the node lives");
                    return;
                }
            }
        }
    }

    /// A statement, and what there is of this writer's rows behind it.
    fn statement(&mut self) -> (String, Rows) {
        let (random, mut after, writer) = (&mut self.random, self.rows.clone(), self.id);
        let (modulus, rest) = (random.random_range(2..6), random.random_range(0..3));
        let sql = match random.random_range(0..4) {
            0 => {
                let ids = self.next_id..self.next_id + random.random_range(1..30);
                self.next_id = ids.end;
                after.extend(ids.clone().map(|id| (id, 0)));
                let values: Vec<_> = ids.map(|id| format!("({writer}, {id}, 0)")).collect();
                format!("INSERT INTO shared VALUES {}", values.join(", "))
            }
            1 => {
                after.iter_mut().filter(|(id, _)| **id % modulus == rest).for_each(|(_, amount)| *amount += 1);
                format!("UPDATE shared SET amount = amount + 1 WHERE writer = {writer} AND id % {modulus} = {rest}")
            }
            2 => {
                let id = random.random_range(0..=self.next_id);
                self.next_id = self.next_id.max(id + 1);
                after.insert(id, 7);
                format!(
                    "MERGE INTO shared t USING (VALUES ({id})) AS s (id) ON t.writer = {writer} AND t.id = s.id \
                     WHEN MATCHED THEN UPDATE SET amount = 7 WHEN NOT MATCHED THEN INSERT VALUES ({writer}, s.id, 7)"
                )
            }
            _ => {
                after.retain(|id, _| id % modulus != rest);
                format!("DELETE FROM shared WHERE writer = {writer} AND id % {modulus} = {rest}")
            }
        };
        (sql, after)
    }

    /// The table holds what was acknowledged of its rows.
    async fn check(&mut self, client: &Client) {
        let sql = format!("SELECT id, amount FROM shared WHERE writer = {}", self.id);
        let found: Vec<_> = client.sql(&sql).await.ints().into_iter().map(|row| (row[0], row[1])).collect();
        let rows: Rows = found.iter().copied().collect();
        assert_eq!(found.len(), rows.len(), "rows of writer {} are there twice", self.id);
        if let Some(after) = self.in_doubt.take().filter(|after| *after == rows) {
            self.rows = after;
        }
        assert_eq!(rows, self.rows, "writer {}: neither as before nor as behind the last statement", self.id);
    }
}

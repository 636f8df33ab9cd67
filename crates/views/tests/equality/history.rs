//! Owns histories: which rows come and go at which step, and in which batches.

use arrow::array::{Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_views::{WEIGHT, weighted_schema};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::sync::Arc;

use crate::world::{self, TABLES};

/// A row's life.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) table: usize,
    /// Which of the table's values it has.
    pub(crate) values: usize,
    /// The step in which it comes.
    pub(crate) comes: usize,
    /// The step in which it goes.
    pub(crate) goes: Option<usize>,
}

/// What happens to the dataflow behind a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Luck {
    Nothing,
    Checkpoint,
    Restart,
    CheckpointAndRestart,
}

/// Everything that happens to the tables.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) lives: Vec<Life>,
    pub(crate) steps: usize,
    seed: u64,
    /// By table.
    values: Vec<RecordBatch>,
}

impl History {
    /// Random changes.
    pub(crate) fn random(seed: u64, steps: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut plan = Plan { lives: Vec::new(), ids: vec![vec![]; TABLES.len()], next_id: 0 };
        for step in 0..steps {
            for table in 0..TABLES.len() {
                if random.random_bool(0.7) {
                    plan.change(&mut random, table, step);
                }
            }
        }
        let values = plan.ids.iter().enumerate().map(|(table, ids)| world::rows(&mut random, table, ids)).collect();
        Self { lives: plan.lives, steps, seed, values }
    }

    /// Rows written as `table comes-goes {json}`; `goes` is left out for rows that stay.
    pub(crate) fn written(rows: &[&str]) -> Self {
        let mut values: Vec<RecordBatch> =
            (0..TABLES.len()).map(|table| RecordBatch::new_empty(world::schema(table))).collect();
        let mut lives = Vec::new();
        for row in rows {
            let mut parts = row.splitn(3, ' ');
            let table = world::number(parts.next().unwrap());
            let (comes, goes) = parts.next().unwrap().split_once('-').unwrap();
            let mut reader = ReaderBuilder::new(world::schema(table)).build(parts.next().unwrap().as_bytes()).unwrap();
            let new = reader.next().unwrap().unwrap();
            lives.push(Life {
                table,
                values: values[table].num_rows(),
                comes: comes.parse().unwrap(),
                goes: goes.parse().ok(),
            });
            values[table] = concat_batches(&world::schema(table), [&values[table], &new]).unwrap();
        }
        let last = lives.iter().map(|l| l.goes.unwrap_or(l.comes).max(l.comes)).max().unwrap_or(0);
        Self { lives, steps: last + 1, seed: 0, values }
    }

    /// The rows as [`History::written`] reads them.
    pub(crate) fn write(&self) -> Vec<String> {
        self.lives.iter().map(|life| self.write_life(life)).collect()
    }

    fn write_life(&self, life: &Life) -> String {
        let row = self.values[life.table].slice(life.values, 1);
        let plain: Vec<usize> = (0..row.num_columns()).filter(|i| row.schema().field(*i).name() != "y").collect();
        let mut json = Vec::new();
        let mut writer = LineDelimitedWriter::new(&mut json);
        writer.write(&row.project(&plain).unwrap()).unwrap();
        writer.finish().unwrap();
        drop(writer);
        let mut json = String::from_utf8(json).unwrap().trim().to_owned();
        // JSON has no NaN.
        if let Some(odd) = row.column_by_name("y").filter(|y| y.is_valid(0)) {
            let text = ArrayFormatter::try_new(odd, &FormatOptions::default()).unwrap().value(0).to_string();
            json.truncate(json.len() - 1);
            let comma = if json.len() > 1 { "," } else { "" };
            json.push_str(&format!("{comma}\"y\":\"{text}\"}}"));
        }
        let goes = life.goes.map(|g| g.to_string()).unwrap_or_default();
        format!("{} {}-{goes} {json}", TABLES[life.table], life.comes)
    }

    /// How a table changes in a step: batches with weights.
    pub(crate) fn delta(&self, table: usize, step: usize) -> Vec<RecordBatch> {
        let mut random = StdRng::seed_from_u64(self.seed ^ (table as u64) << 32 ^ (step as u64) << 40);
        let mut changes: Vec<(u32, i64)> = Vec::new();
        for life in self.lives.iter().filter(|l| l.table == table) {
            if life.goes == Some(step) {
                changes.push((life.values as u32, -1));
            }
            if life.comes == step {
                changes.push((life.values as u32, 1));
            }
        }
        if random.random_bool(0.3) {
            changes.shuffle(&mut random);
        }
        let border = if random.random_bool(0.3) { random.random_range(0..=changes.len()) } else { changes.len() };
        let (first, second) = changes.split_at(border);
        let batches = [first, second].into_iter().filter(|part| !part.is_empty() || random.random_bool(0.1));
        batches.map(|part| self.weighted(table, part)).collect()
    }

    fn weighted(&self, table: usize, changes: &[(u32, i64)]) -> RecordBatch {
        let rows: UInt32Array = changes.iter().map(|c| c.0).collect();
        let rows = take_record_batch(&self.values[table], &rows).unwrap();
        let schema = weighted_schema(&rows.schema());
        assert_eq!(schema.fields().last().unwrap().name(), WEIGHT);
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(Int64Array::from_iter_values(changes.iter().map(|c| c.1))));
        RecordBatch::try_new(schema, columns).unwrap()
    }

    /// All values that rows of a table have.
    pub(crate) fn values(&self, table: usize) -> &RecordBatch {
        &self.values[table]
    }

    /// What happens behind a step; written histories restart behind each.
    pub(crate) fn luck(&self, step: usize) -> Luck {
        match self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (step * 3 % 60) & 7 {
            0 => Luck::CheckpointAndRestart,
            1 | 2 => Luck::Checkpoint,
            3 => Luck::Restart,
            _ => Luck::Nothing,
        }
    }

    /// Whether the dataflow has no memory to spare.
    pub(crate) fn tight(&self) -> bool {
        self.seed.is_multiple_of(3)
    }

    /// What a table holds behind a step.
    pub(crate) fn content(&self, table: usize, step: usize) -> RecordBatch {
        let here = |l: &&Life| l.table == table && l.comes <= step && l.goes.is_none_or(|goes| goes > step);
        let rows: UInt32Array = self.lives.iter().filter(here).map(|l| l.values as u32).collect();
        take_record_batch(&self.values[table], &rows).unwrap()
    }

    /// Without a step: what happens in it happens in the one before, or in the first.
    pub(crate) fn without_step(&self, step: usize) -> Self {
        let earlier = |s: usize| if s >= step { s.saturating_sub(1) } else { s };
        let mut shorter = self.clone();
        shorter.steps -= 1;
        for life in &mut shorter.lives {
            life.comes = earlier(life.comes);
            life.goes = life.goes.map(earlier);
        }
        shorter
    }
}

/// A history while it happens.
pub(crate) struct World {
    pub(crate) random: StdRng,
    pub(crate) history: History,
    /// How many steps are done.
    pub(crate) steps: usize,
}

impl World {
    /// Random changes, for up to 12 steps.
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), history: History::random(seed, 12), steps: 0 }
    }

    /// Takes a step: gives each table's delta.
    pub(crate) fn change(&mut self) -> Vec<Vec<RecordBatch>> {
        assert!(self.steps < self.history.steps);
        self.steps += 1;
        (0..TABLES.len()).map(|table| self.history.delta(table, self.steps - 1)).collect()
    }
}

/// A history while it is made.
struct Plan {
    lives: Vec<Life>,
    /// By table: the id of each of its values.
    ids: Vec<Vec<i64>>,
    next_id: i64,
}

impl Plan {
    fn change(&mut self, random: &mut StdRng, table: usize, step: usize) {
        let mut gone: Vec<usize> = Vec::new();
        if !world::grows(table) && random.random_bool(0.5) {
            let share = [0.05, 0.3, 0.3, 1.0][random.random_range(0..4)];
            for life in self.lives.iter_mut().filter(|l| l.table == table && l.goes.is_none()) {
                if random.random_bool(share) {
                    life.goes = Some(step);
                    gone.push(life.values);
                }
            }
        }
        // Some rows come back as they were, or under their id with other values.
        for values in gone {
            match random.random_range(0..6) {
                0 => self.add(table, values, step),
                1 | 2 => {
                    let id = self.ids[table][values];
                    self.add_new(table, id, step);
                }
                _ => {}
            }
        }
        let few = TABLES[table] == "e";
        let n = if few { [0, 0, 1, 2] } else { [0, 1, 3, 14] }[random.random_range(0..4)];
        for _ in 0..n {
            let known = self.ids[table].len();
            let doubles = world::schema(table).index_of("id").is_err();
            if doubles && known > 0 && random.random_bool(0.4) {
                self.add(table, random.random_range(0..known), step);
            } else {
                self.next_id += 1;
                self.add_new(table, self.next_id, step);
            }
        }
        // A row that comes and goes at once leaves nothing behind.
        if !world::grows(table) && random.random_bool(0.1) {
            self.next_id += 1;
            self.add_new(table, self.next_id, step);
            self.lives.last_mut().unwrap().goes = Some(step);
        }
    }

    fn add_new(&mut self, table: usize, id: i64, step: usize) {
        self.ids[table].push(id);
        self.add(table, self.ids[table].len() - 1, step);
    }

    fn add(&mut self, table: usize, values: usize, step: usize) {
        self.lives.push(Life { table, values, comes: step, goes: None });
    }
}

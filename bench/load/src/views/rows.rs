//! Owns the rows that the probe of views feeds, step by step.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_nexmark::{Config, Events, Generator};
use millstream_views::Dataflow;

/// Rows of one kind or the other.
#[derive(Debug)]
pub(super) enum Rows {
    /// The events of each step.
    Nexmark(Vec<Events>),
    /// Keys that are all as likely; made step by step, which costs next to nothing.
    Keyed {
        /// How many there are.
        keys: u64,
        /// How many rows there are in all.
        rows: u64,
    },
}

/// The columns of `keyed`.
pub(super) fn keyed_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false), Field::new("value", DataType::Int64, false)]))
}

impl Rows {
    /// Makes all events.
    pub(super) fn nexmark(events: u64, events_per_second: u64, step_rows: u64) -> Self {
        let generator = Generator::new(Config { seed: 42, events_per_second, ..Config::default() });
        let steps = 0..events.div_ceil(step_rows);
        Self::Nexmark(steps.map(|i| generator.batch(i * step_rows..events.min((i + 1) * step_rows))).collect())
    }

    /// Rows over so many keys.
    pub(super) fn keyed(keys: u64, rows: u64) -> Self {
        Self::Keyed { keys: keys.max(1), rows }
    }

    /// How many steps there are.
    pub(super) fn steps(&self, step_rows: u64) -> u64 {
        match self {
            Self::Nexmark(steps) => steps.len() as u64,
            Self::Keyed { rows, .. } => rows.div_ceil(step_rows),
        }
    }

    /// What the dataflow's inputs hold before the first step.
    pub(super) fn fixed(&self, flow: &Dataflow) -> Vec<Vec<RecordBatch>> {
        let of_table = |table: &str| if table == "side_input" { vec![Generator::side_input()] } else { vec![] };
        flow.inputs().iter().map(|input| of_table(input.table.table())).collect()
    }

    /// What comes to the dataflow's inputs in a step.
    pub(super) fn step(&self, flow: &Dataflow, step: u64, step_rows: u64) -> Vec<Vec<RecordBatch>> {
        flow.inputs().iter().map(|input| self.of_table(input.table.table(), step, step_rows)).collect()
    }

    fn of_table(&self, table: &str, step: u64, step_rows: u64) -> Vec<RecordBatch> {
        match (self, table) {
            (Self::Nexmark(steps), "person") => vec![steps[step as usize].person.clone()],
            (Self::Nexmark(steps), "auction") => vec![steps[step as usize].auction.clone()],
            (Self::Nexmark(steps), "bid") => vec![steps[step as usize].bid.clone()],
            (Self::Keyed { keys, rows }, "keyed") => {
                vec![keyed(*keys, step * step_rows..(*rows).min((step + 1) * step_rows))]
            }
            _ => vec![],
        }
    }
}

/// The rows of these numbers.
fn keyed(keys: u64, numbers: std::ops::Range<u64>) -> RecordBatch {
    let keys = Int64Array::from_iter_values(numbers.clone().map(|n| (mixed(n) % keys) as i64));
    let values = Int64Array::from_iter_values(numbers.map(|n| (mixed(!n) % 1000) as i64));
    let rows = RecordBatch::try_new(keyed_schema(), vec![Arc::new(keys), Arc::new(values)]);
    rows.expect("the columns are the schema's")
}

/// A number in which every bit hangs on every bit of the other.
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn keys_are_about_equally_often() {
        let batch = keyed(10, 0..100_000);
        let mut counts = [0; 10];
        batch.column(0).as_primitive::<Int64Type>().values().iter().for_each(|key| counts[*key as usize] += 1);
        assert!(counts.iter().all(|n| (9_500..10_500).contains(n)), "{counts:?}");
        assert_eq!(keyed(10, 500..600), batch.slice(500, 100));
    }

    #[test]
    fn the_last_step_has_what_is_left() {
        let rows = Rows::nexmark(1_050, 1_000, 500);
        let Rows::Nexmark(steps) = &rows else { panic!("{rows:?}") };
        assert_eq!(steps.iter().map(|s| s.bid.num_rows()).collect::<Vec<_>>(), [460, 460, 46]);
        assert_eq!(Rows::keyed(3, 1_050).steps(500), 3);
    }
}

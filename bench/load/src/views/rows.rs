//! Owns the rows that the probe of views feeds, step by step.

use arrow::array::RecordBatch;
use millstream_nexmark::{Config, Events, Generator};
use millstream_views::Dataflow;

use crate::keyed::{Order, keyed};

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
                vec![keyed(*keys, Order::Random, step * step_rows..(*rows).min((step + 1) * step_rows))]
            }
            _ => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_has_what_is_left() {
        let rows = Rows::nexmark(1_050, 1_000, 500);
        let Rows::Nexmark(steps) = &rows else { panic!("{rows:?}") };
        assert_eq!(steps.iter().map(|s| s.bid.num_rows()).collect::<Vec<_>>(), [460, 460, 46]);
        assert_eq!(Rows::keyed(3, 1_050).steps(500), 3);
    }
}

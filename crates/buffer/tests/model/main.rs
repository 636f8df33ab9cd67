//! Runs a log on a failing disk beside a model of it: random appends, keys, trims, schema changes, full disks, failed
//! syncs, restarts and crashes. No acknowledged row is lost, none is there twice, order is kept, and an append that
//! was not acknowledged is wholly there or wholly absent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod model;
mod run;

use proptest::prelude::*;

use crate::run::{Run, Step};

fn step() -> impl Strategy<Value = Step> {
    let part = (0..run::PARTITIONS, prop_oneof![4 => 1..6usize, 1 => 900..1300usize]);
    let parts = prop::collection::vec(part, 1..3);
    let key = prop_oneof![2 => Just(None), 1 => (0..20u8).prop_map(Some)];
    prop_oneof![
        12 => (parts, key).prop_map(|(parts, key)| Step::Append { parts, key }),
        3 => (2..9usize).prop_map(Step::AppendTogether),
        3 => (0..20u8).prop_map(Step::RetryKey),
        3 => (0..=100u64).prop_map(Step::Trim),
        1 => Just(Step::ChangeSchema),
        1 => (0..3u64, 0..40_000u64).prop_map(|(s, b)| Step::Retain { seconds: s, bytes: b }),
        1 => (0..2000i64).prop_map(Step::Wait),
        1 => (0..4000u64).prop_map(Step::FillDisk),
        1 => (0..4u64).prop_map(Step::FailSync),
        2 => Just(Step::Restart),
        2 => Just(Step::DropAndOpen),
        4 => (0..12u64, any::<u64>()).prop_map(|(after, seed)| Step::Crash { after, seed }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(60),
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_log_keeps_its_promises_through_crashes(steps in prop::collection::vec(step(), 1..60), memory in any::<bool>()) {
        let mut run = Run::new(memory);
        for step in &steps {
            run.take(step);
        }
        run.finish();
    }
}

//! Owns the short form of the fuzz target: random damage to valid files, each by its seed.

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::damage::ValidLog;

#[test]
fn damaged_files_never_make_the_log_panic_or_lie() {
    let logs = [ValidLog::new(false), ValidLog::new(true)];
    assert!(logs.iter().all(|log| log.damage_and_check(&[]) > 100));
    let mut readable = 0;
    for seed in 0..2000u64 {
        println!("seed {seed}");
        let mut dice = StdRng::seed_from_u64(seed);
        let mut instructions = vec![0; dice.random_range(1..40)];
        dice.fill_bytes(&mut instructions);
        readable += usize::from(logs[seed as usize % 2].damage_and_check(&instructions) > 0);
    }
    assert!(readable > 100, "only {readable} damaged logs could be read");
}

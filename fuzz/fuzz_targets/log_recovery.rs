//! Damages the files of a valid log as the input says, opens it and reads it: it must not panic, nor show a row that
//! was not written.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/buffer/tests/damage/mod.rs"]
mod damage;

static LOGS: OnceLock<[damage::ValidLog; 2]> = OnceLock::new();

fuzz_target!(|input: &[u8]| {
    let logs = LOGS.get_or_init(|| [damage::ValidLog::new(false), damage::ValidLog::new(true)]);
    if let Some((which, instructions)) = input.split_first() {
        logs[usize::from(which % 2)].damage_and_check(instructions);
    }
});

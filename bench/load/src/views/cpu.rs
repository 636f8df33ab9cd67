//! Owns what the kernel says of this process: the processor's time and the memory it takes.

use std::time::Duration;

/// Processor time of all threads that there are.
pub(super) fn used() -> Duration {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let of_task = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.flatten().filter_map(of_task).sum())
}

/// Resident bytes.
pub(super) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time_of_the_processor_and_memory() {
        let before = used();
        let sum = (0..50_000_000_u64).fold(0, |sum: u64, i| std::hint::black_box(sum.wrapping_add(i)));
        assert!(std::hint::black_box(sum) > 0);
        assert!(used() > before && resident_bytes() > 100_000);
    }
}

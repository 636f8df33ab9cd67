//! Owns the options about the files that a stream or table has in the lake: where old ones lie, how they are cared for.

use millstream_catalog::LakePolicy;

use super::options::{DURATION, duration, render_bytes, render_duration, size};

/// The options.
pub(super) const NAMES: &[&str] =
    &["warm", "cold", "optimize", "target_file_size", "vacuum_retention", "checkpoint_interval"];

/// One option of the lake's files and the value it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyChange {
    /// `warm`, ms.
    Warm(Option<u64>),
    /// `cold`, a URL.
    Cold(Option<String>),
    /// `optimize`: whether it is off.
    OptimizeOff(bool),
    /// `target_file_size`, bytes.
    TargetFileSize(Option<u64>),
    /// `vacuum_retention`, ms.
    VacuumRetention(Option<u64>),
    /// `checkpoint_interval`, commits.
    CheckpointInterval(Option<u32>),
}

impl PolicyChange {
    /// Makes the change.
    pub fn apply(&self, policy: &mut LakePolicy) {
        match self {
            PolicyChange::Warm(ms) => policy.warm_ms = *ms,
            PolicyChange::Cold(place) => policy.cold.clone_from(place),
            PolicyChange::OptimizeOff(off) => policy.optimize_off = *off,
            PolicyChange::TargetFileSize(bytes) => policy.target_file_bytes = *bytes,
            PolicyChange::VacuumRetention(ms) => policy.vacuum_retention_ms = *ms,
            PolicyChange::CheckpointInterval(commits) => policy.checkpoint_interval = *commits,
        }
    }

    /// What a name and a value say; `None` when no such option has that name, and what the value must be when it is
    /// none.
    pub(super) fn read(name: &str, text: &str) -> Option<Result<Self, &'static str>> {
        const SOME_TIME: &str = "a time such as '7 days' or '36 hours'";
        const SOME_SIZE: &str = "a size such as '128 MB' (1 kB is 1024 bytes)";
        let none = text.eq_ignore_ascii_case("none");
        Some(match name {
            "warm" => duration(text).map(PolicyChange::Warm).ok_or(DURATION),
            "cold" => Ok(PolicyChange::Cold((!none).then(|| text.to_owned()))),
            "optimize" => match text.to_ascii_lowercase().as_str() {
                "auto" => Ok(PolicyChange::OptimizeOff(false)),
                "off" => Ok(PolicyChange::OptimizeOff(true)),
                _ => Err("'auto' or 'off'"),
            },
            "target_file_size" => {
                size(text).flatten().map(|bytes| PolicyChange::TargetFileSize(Some(bytes))).ok_or(SOME_SIZE)
            }
            "vacuum_retention" => {
                duration(text).flatten().map(|ms| PolicyChange::VacuumRetention(Some(ms))).ok_or(SOME_TIME)
            }
            "checkpoint_interval" => text
                .parse()
                .ok()
                .filter(|commits| *commits > 0)
                .map(|commits| PolicyChange::CheckpointInterval(Some(commits)))
                .ok_or("a whole number of commits, 1 or more"),
            _ => return None,
        })
    }

    /// The change that RESET makes.
    pub(super) fn default_of(name: &str) -> Option<Self> {
        Some(match name {
            "warm" => PolicyChange::Warm(None),
            "cold" => PolicyChange::Cold(None),
            "optimize" => PolicyChange::OptimizeOff(false),
            "target_file_size" => PolicyChange::TargetFileSize(None),
            "vacuum_retention" => PolicyChange::VacuumRetention(None),
            "checkpoint_interval" => PolicyChange::CheckpointInterval(None),
            _ => return None,
        })
    }
}

/// The options that are not at their defaults, as they are written.
pub(super) fn rendered(policy: &LakePolicy) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(ms) = policy.warm_ms {
        parts.push(format!("warm = '{}'", render_duration(ms)));
    }
    if let Some(place) = &policy.cold {
        parts.push(format!("cold = {}", super::render::literal(place)));
    }
    if policy.optimize_off {
        parts.push("optimize = 'off'".to_owned());
    }
    if let Some(bytes) = policy.target_file_bytes {
        parts.push(format!("target_file_size = '{}'", render_bytes(bytes)));
    }
    if let Some(ms) = policy.vacuum_retention_ms {
        parts.push(format!("vacuum_retention = '{}'", render_duration(ms)));
    }
    if let Some(commits) = policy.checkpoint_interval {
        parts.push(format!("checkpoint_interval = {commits}"));
    }
    parts
}

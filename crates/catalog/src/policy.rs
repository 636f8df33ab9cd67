//! Owns how the files of one stream or table are looked after: where old ones lie, and what is not as configured.

use serde::{Deserialize, Serialize};

/// The least size that files can be told to have.
const LEAST_FILE_BYTES: u64 = 64 << 10;
/// The greatest.
const MOST_FILE_BYTES: u64 = 4 << 30;
/// The schemes of places for cold files.
const SCHEMES: [&str; 4] = ["s3://", "gs://", "az://", "file:///"];

/// What WITH and SET say about the lake's files of one stream or table. What is `None` is as configured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LakePolicy {
    /// How long files stay in the lake's own place, ms, by the time at which their newest row came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_ms: Option<u64>,
    /// The place that they go to then, as a URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold: Option<String>,
    /// Whether small files are left as they are until OPTIMIZE is asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub optimize_off: bool,
    /// A data file is closed when it has this many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_file_bytes: Option<u64>,
    /// Replaced files stay readable this long, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vacuum_retention_ms: Option<u64>,
    /// A checkpoint of the Delta log is due after this many commits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_interval: Option<u32>,
}

impl LakePolicy {
    /// Whether all is as configured.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What contradicts itself; rows older than `expire_ms` go.
    pub(crate) fn check(&self, expire_ms: Option<u64>) -> Result<(), String> {
        if self.warm_ms.is_some() != self.cold.is_some() {
            return Err("warm and cold go together: set both, warm = '30 days' for when files move and cold = \
                        's3://bucket/place' for where to"
                .into());
        }
        if let (Some(warm), Some(expire)) = (self.warm_ms, expire_ms)
            && expire <= warm
        {
            return Err("expire must be longer than warm: rows would be gone before their files move".into());
        }
        if let Some(cold) = &self.cold {
            check_place(cold)?;
        }
        if self.target_file_bytes.is_some_and(|bytes| !(LEAST_FILE_BYTES..=MOST_FILE_BYTES).contains(&bytes)) {
            return Err("target_file_size must lie between 64 kB and 4 GB".into());
        }
        if self.checkpoint_interval == Some(0) {
            return Err("checkpoint_interval must be 1 or more".into());
        }
        Ok(())
    }
}

/// Refuses a place that no reader could name: Delta logs have it as the beginning of files' URLs.
fn check_place(cold: &str) -> Result<(), String> {
    let Some(rest) = SCHEMES.iter().find_map(|scheme| cold.strip_prefix(scheme)) else {
        return Err(format!("cold = {cold:?} is not a place: write s3://bucket/place, gs://, az:// or file:///folder"));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=".contains(c);
    let dots = rest.split('/').any(|part| part == "." || part == "..");
    if rest.trim_matches('/').is_empty() || !rest.chars().all(plain) || dots || rest.contains("//") {
        return Err(format!(
            "cold = {cold:?} must name a bucket or folder in letters, digits and \"-\", \"_\", \".\", \"=\", \"/\""
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moving(cold: &str) -> LakePolicy {
        LakePolicy { warm_ms: Some(1000), cold: Some(cold.to_owned()), ..LakePolicy::default() }
    }

    #[test]
    fn a_place_for_cold_files_is_one_that_a_url_names_plainly() {
        for good in ["s3://archive", "s3://archive/a/b/", "file:///srv/cold", "gs://b/x=1", "az://box/a-b_c.d"] {
            assert_eq!(moving(good).check(None), Ok(()), "{good}");
        }
        for bad in
            ["archive", "/srv/cold", "file://host/x", "https://x/y", "s3://", "s3://a b", "s3://a//b", "s3://a/../b"]
        {
            assert!(moving(bad).check(None).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let alone = LakePolicy { warm_ms: Some(1000), ..LakePolicy::default() };
        assert!(alone.check(None).unwrap_err().contains("go together"));
        assert!(moving("s3://a").check(Some(1000)).unwrap_err().contains("longer than warm"));
        assert_eq!(moving("s3://a").check(Some(1001)), Ok(()));
        let tiny = LakePolicy { target_file_bytes: Some(1), ..LakePolicy::default() };
        assert!(tiny.check(None).unwrap_err().contains("64 kB"));
        let never = LakePolicy { checkpoint_interval: Some(0), ..LakePolicy::default() };
        assert!(never.check(None).unwrap_err().contains("1 or more"));
    }
}

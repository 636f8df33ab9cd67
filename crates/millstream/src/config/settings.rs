//! Owns the table of settings: from it come the flags, the file's keys, the variables, the defaults and their docs.

/// What a setting's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A path on this machine.
    Path,
    /// An address and port.
    Address,
    /// A URL.
    Url,
    /// A size with a unit.
    Bytes,
    /// A duration with a unit.
    Duration,
    /// A whole number.
    Count,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its key in the file, `section.name` or `name`.
    pub key: &'static str,
    /// Its flag, without the dashes.
    pub flag: &'static str,
    /// Its variable.
    pub variable: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// The value when nothing is said. `store.url` is computed from `data`.
    pub default: &'static str,
    /// What it does, one line.
    pub doc: &'static str,
}

macro_rules! settings {
    ($($key:literal, $flag:literal, $variable:literal, $kind:expr, $default:literal, $doc:literal;)*) => {
        /// Every setting, in the order of the file.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            key: $key, flag: $flag, variable: $variable, kind: $kind, default: $default, doc: $doc,
        },)*];
    };
}

settings! {
    "data", "data", "MILLSTREAM_DATA", Kind::Path, "./millstream-data",
        "the data directory: catalog, logs, spill files and, by default, the lake";
    "listen", "listen", "MILLSTREAM_LISTEN", Kind::Address, "127.0.0.1:7400",
        "where HTTP listens; port 0 takes a free one";
    "pg_listen", "pg-listen", "MILLSTREAM_PG_LISTEN", Kind::Address, "127.0.0.1:7432",
        "where the PostgreSQL wire listens; port 0 takes a free one";
    "store.url", "store-url", "MILLSTREAM_STORE_URL", Kind::Url, "",
        "where the lake lies: file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; by default the folder lake in the data directory";
    "log.format", "log-format", "MILLSTREAM_LOG_FORMAT", Kind::Choice(&["text", "json"]), "text",
        "how log lines are written to stderr: text or json";
    "log.level", "log-level", "MILLSTREAM_LOG", Kind::Text, "info",
        "which log lines are written: a level, or target=level pairs separated by commas";
    "http.max_connections", "http-max-connections", "MILLSTREAM_HTTP_MAX_CONNECTIONS", Kind::Count, "1024",
        "HTTP connections at once; one more is answered with 503";
    "http.read_timeout", "http-read-timeout", "MILLSTREAM_HTTP_READ_TIMEOUT", Kind::Duration, "30s",
        "how long a client may take for a request's head, and pause within its body";
    "pg.max_connections", "pg-max-connections", "MILLSTREAM_PG_MAX_CONNECTIONS", Kind::Count, "500",
        "PostgreSQL connections at once; one more is told so and closed";
    "ingest.max_body", "ingest-max-body", "MILLSTREAM_INGEST_MAX_BODY", Kind::Bytes, "64MiB",
        "the largest body of an ingest request, as it is sent";
    "ingest.max_decoded", "ingest-max-decoded", "MILLSTREAM_INGEST_MAX_DECODED", Kind::Bytes, "256MiB",
        "the largest body of an ingest request, decompressed";
    "ingest.max_row", "ingest-max-row", "MILLSTREAM_INGEST_MAX_ROW", Kind::Bytes, "16MiB",
        "the largest row of an ingest request; a larger one goes to quarantine";
    "ingest.in_flight", "ingest-in-flight", "MILLSTREAM_INGEST_IN_FLIGHT", Kind::Bytes, "512MiB",
        "decompressed bodies under way, all together; beyond it ingest is answered with 429";
    "ingest.max_requests", "ingest-max-requests", "MILLSTREAM_INGEST_MAX_REQUESTS", Kind::Count, "1024",
        "ingest requests at once; one more is answered with 429";
    "ingest.queue", "ingest-queue", "MILLSTREAM_INGEST_QUEUE", Kind::Bytes, "256MiB",
        "decoded rows that may wait for the disk, over all streams; beyond it ingest is answered with 429";
    "buffer.memory", "buffer-memory", "MILLSTREAM_BUFFER_MEMORY", Kind::Bytes, "64MiB",
        "recent rows that each stream keeps in memory for readers";
    "query.memory", "query-memory", "MILLSTREAM_QUERY_MEMORY", Kind::Bytes, "1GiB",
        "memory for all queries together; beyond it they spill to disk, or fail";
    "query.timeout", "query-timeout", "MILLSTREAM_QUERY_TIMEOUT", Kind::Duration, "5min",
        "how long a statement may run";
    "query.max_concurrent", "query-max-concurrent", "MILLSTREAM_QUERY_MAX_CONCURRENT", Kind::Count, "64",
        "queries running at once; one more is answered with 429";
    "views.memory", "views-memory", "MILLSTREAM_VIEWS_MEMORY", Kind::Bytes, "1GiB",
        "memory for the state of each view that sets no `memory` of its own; beyond it state lies on the disk";
    "tier.bytes", "tier-bytes", "MILLSTREAM_TIER_BYTES", Kind::Bytes, "128MiB",
        "rows move from the log to the lake when this many bytes wait";
    "tier.age", "tier-age", "MILLSTREAM_TIER_AGE", Kind::Duration, "60s",
        "rows move from the log to the lake at the latest when they are this old";
    "maintenance.interval", "maintenance-interval", "MILLSTREAM_MAINTENANCE_INTERVAL", Kind::Duration, "5min",
        "how often small files are merged and replaced ones deleted";
    "vacuum.retention", "vacuum-retention", "MILLSTREAM_VACUUM_RETENTION", Kind::Duration, "7d",
        "how long replaced files stay readable for Delta readers that are behind";
    "files.root", "files-root", "MILLSTREAM_FILES_ROOT", Kind::Path, ".",
        "the folder that files in statements must lie under, and that their paths begin at";
    "files.http", "files-http", "MILLSTREAM_FILES_HTTP", Kind::Choice(&["none", "loopback", "any"]), "none",
        "which hosts files in statements may be read from by http://, which is not encrypted: none, loopback or any";
    "shutdown.timeout", "shutdown-timeout", "MILLSTREAM_SHUTDOWN_TIMEOUT", Kind::Duration, "30s",
        "how long requests under way may take to finish after SIGTERM";
}

/// The setting of that key.
pub fn by_key(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.key == key)
}

/// The known key that `key` most looks like, if any does.
pub fn nearest_key(key: &str) -> Option<&'static str> {
    let last = |k: &str| k.rsplit('.').next().unwrap_or_default().to_owned();
    let near = |s: &&Setting| {
        strsim::damerau_levenshtein(s.key, key).min(strsim::damerau_levenshtein(&last(s.key), &last(key)))
    };
    SETTINGS.iter().min_by_key(|s| (near(s), s.key.len())).filter(|s| near(s) <= 3).map(|s| s.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_finds_its_neighbour() {
        assert_eq!(nearest_key("lisen"), Some("listen"));
        assert_eq!(nearest_key("store.ulr"), Some("store.url"));
        assert_eq!(nearest_key("tier.byte"), Some("tier.bytes"));
        assert_eq!(nearest_key("xylophone"), None);
    }

    #[test]
    fn keys_flags_and_variables_follow_one_rule() {
        for s in SETTINGS {
            let flag = s.key.replace(['.', '_'], "-");
            let variable = format!("MILLSTREAM_{}", flag.replace('-', "_").to_uppercase());
            assert_eq!(s.flag, flag);
            assert!(s.variable == variable || s.key == "log.level", "{}", s.variable);
        }
    }

    /// The table of the reference page; `UPDATE_DOCS=1` writes it anew.
    #[test]
    fn the_reference_page_has_every_setting() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once("<!-- settings -->\n").unwrap();
        let (found, after) = rest.split_once("<!-- /settings -->").unwrap();
        let mut table =
            "| key | flag | variable | default | what it does |\n| --- | --- | --- | --- | --- |\n".to_owned();
        for s in SETTINGS {
            let default = if s.default.is_empty() { String::new() } else { format!("`{}`", s.default) };
            table += &format!("| `{}` | `--{}` | `{}` | {default} | {} |\n", s.key, s.flag, s.variable, s.doc);
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{before}<!-- settings -->\n{table}<!-- /settings -->{after}")).unwrap();
        } else {
            assert_eq!(found, table, "docs/configuration.md is behind; UPDATE_DOCS=1 writes it anew");
        }
    }
}

//! Owns the configuration: the settings, where their values come from, and what they are when checked.

mod print;
pub mod quantity;
pub mod settings;
mod sources;

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_process::PlainHttp;
pub use print::to_toml;
use settings::{Kind, by_key};
pub use sources::{Given, Origin, Sources};

/// The configuration's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {reason}", file.display())]
    BadFile {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file has a key that means nothing.
    #[error("{}: unknown key {key:?}{}", file.display(), nearest.map(|n| format!("; did you mean {n:?}?")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A value is not of its kind.
    #[error("{key} ({origin}): {reason}")]
    BadValue {
        /// The setting.
        key: &'static str,
        /// Where the value came from.
        origin: String,
        /// What is wrong and what to write instead.
        reason: String,
    },
}

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// Where HTTP listens.
    pub listen: SocketAddr,
    /// Where the PostgreSQL wire listens.
    pub pg_listen: SocketAddr,
    /// Where the lake lies.
    pub store_url: String,
    /// What the object store is told: the file's `[store.options]`, then `AWS_*` variables.
    pub store_options: BTreeMap<String, String>,
    /// How log lines look and which are written.
    pub log: LogConfig,
    /// HTTP connections at once.
    pub http_max_connections: usize,
    /// How long a client may take for a head and pause within a body.
    pub http_read_timeout: Duration,
    /// PostgreSQL connections at once.
    pub pg_max_connections: usize,
    /// The largest ingest body as it is sent, bytes.
    pub ingest_max_body: usize,
    /// The largest ingest body decompressed, bytes.
    pub ingest_max_decoded: usize,
    /// Decompressed bodies under way, bytes.
    pub ingest_in_flight: usize,
    /// Ingest requests at once.
    pub ingest_max_requests: usize,
    /// The largest ingest row, bytes.
    pub ingest_max_row: usize,
    /// Decoded rows that may wait for the disk, bytes.
    pub ingest_queue: usize,
    /// Recent rows in memory, bytes per stream.
    pub buffer_memory: usize,
    /// Memory for all queries, bytes.
    pub query_memory: usize,
    /// How long a statement may run.
    pub query_timeout: Duration,
    /// Queries running at once.
    pub query_max_concurrent: usize,
    /// Memory for the state of a view, bytes.
    pub views_memory: usize,
    /// Bytes of log that wait before a lake file is written.
    pub tier_bytes: u64,
    /// Age of the oldest waiting row at which a lake file is written.
    pub tier_age: Duration,
    /// How often tables are looked after.
    pub maintenance_interval: Duration,
    /// How long replaced files stay.
    pub vacuum_retention: Duration,
    /// The folder that files in statements must lie under.
    pub files_root: PathBuf,
    /// Which hosts files are read from without encryption.
    pub files_http: PlainHttp,
    /// How long requests may take to finish at shutdown.
    pub shutdown_timeout: Duration,
}

/// How log lines look and which are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// JSON lines, not text.
    pub json: bool,
    /// A level, or `target=level` pairs.
    pub level: String,
}

impl Config {
    /// Checks what was said and gives the configuration, with each value as it was given (`store.url` filled in).
    pub fn resolve(sources: &Sources) -> Result<(Config, Vec<Given>)> {
        let mut given = sources.resolve();
        let values = Values { given: &given };
        let data = values.path("data")?;
        let store_url = values.store_url(&data)?;
        let config = Config {
            listen: values.loopback("listen")?,
            pg_listen: values.loopback("pg_listen")?,
            store_options: store_options(sources),
            log: LogConfig { json: values.choice("log.format")? == "json", level: values.text("log.level").to_owned() },
            http_max_connections: values.count("http.max_connections")?,
            http_read_timeout: values.duration("http.read_timeout")?,
            pg_max_connections: values.count("pg.max_connections")?,
            ingest_max_body: values.bytes("ingest.max_body")? as usize,
            ingest_max_decoded: values.bytes("ingest.max_decoded")? as usize,
            ingest_in_flight: values.bytes("ingest.in_flight")? as usize,
            ingest_max_requests: values.count("ingest.max_requests")?,
            ingest_max_row: values.bytes("ingest.max_row")? as usize,
            ingest_queue: values.bytes("ingest.queue")? as usize,
            buffer_memory: values.bytes("buffer.memory")? as usize,
            query_memory: values.bytes("query.memory")? as usize,
            query_timeout: values.duration("query.timeout")?,
            query_max_concurrent: values.count("query.max_concurrent")?,
            views_memory: values.bytes("views.memory")? as usize,
            tier_bytes: values.bytes("tier.bytes")?,
            tier_age: values.duration("tier.age")?,
            maintenance_interval: values.duration("maintenance.interval")?,
            vacuum_retention: values.duration("vacuum.retention")?,
            files_root: values.path("files.root")?,
            files_http: match values.choice("files.http")? {
                "any" => PlainHttp::Anywhere,
                "loopback" => PlainHttp::Loopback,
                _ => PlainHttp::Nowhere,
            },
            shutdown_timeout: values.duration("shutdown.timeout")?,
            store_url,
            data,
        };
        if let Some(url) = given.iter_mut().find(|g| g.key == "store.url") {
            url.text.clone_from(&config.store_url);
        }
        Ok((config, given))
    }
}

/// The variables of the tools of AWS, Azure and Google Cloud that an object store understands; others, such as `AWS_PROFILE`, are not for it.
const STORE_VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_ALLOW_HTTP",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_REGION",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_SKIP_SIGNATURE",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_TENANT_ID",
    "AZURE_USE_AZURE_CLI",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_BASE_URL",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_SKIP_SIGNATURE",
];

/// The file's `[store.options]`, and variables where the file is silent.
fn store_options(sources: &Sources) -> BTreeMap<String, String> {
    let variables = sources.variables.iter().filter(|(name, _)| STORE_VARIABLES.contains(&name.as_str()));
    let mut options: BTreeMap<String, String> =
        variables.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    for (name, value) in &sources.store_options {
        for cloud in ["aws_", "google_", "azure_", "azure_storage_"] {
            options.remove(&format!("{cloud}{name}"));
        }
        options.insert(name.clone(), value.clone());
    }
    options
}

/// Given values, read as their kinds.
struct Values<'a> {
    given: &'a [Given],
}

impl Values<'_> {
    fn get(&self, key: &str) -> &Given {
        self.given.iter().find(|g| g.key == key).expect("every key that is read is in the table of settings")
    }

    fn parsed<T>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T> {
        let given = self.get(key);
        parse(&given.text).map_err(|reason| Error::BadValue { key: given.key, origin: origin_of(given), reason })
    }

    fn text(&self, key: &str) -> &str {
        &self.get(key).text
    }

    fn path(&self, key: &str) -> Result<PathBuf> {
        self.parsed(key, |text| match text {
            "" => Err("it is empty; name a directory".to_owned()),
            path => Ok(PathBuf::from(path)),
        })
    }

    fn bytes(&self, key: &str) -> Result<u64> {
        self.parsed(key, |text| match quantity::parse_bytes(text)? {
            0 => Err("it must be more than 0".to_owned()),
            bytes => Ok(bytes),
        })
    }

    fn duration(&self, key: &str) -> Result<Duration> {
        self.parsed(key, |text| match quantity::parse_duration(text)? {
            Duration::ZERO => Err("it must be more than 0".to_owned()),
            duration => Ok(duration),
        })
    }

    fn count(&self, key: &str) -> Result<usize> {
        self.parsed(key, |text| match text.parse() {
            Ok(0) | Err(_) => Err(format!("{text:?} is not a whole number from 1 up")),
            Ok(number) => Ok(number),
        })
    }

    fn choice(&self, key: &str) -> Result<&str> {
        let Some(Kind::Choice(words)) = by_key(key).map(|s| s.kind) else {
            return Ok(self.text(key));
        };
        self.parsed(key, |text| match words.contains(&text) {
            true => Ok(()),
            false => Err(format!("{text:?} is not one of {}", words.join(", "))),
        })?;
        Ok(self.text(key))
    }

    /// An address on this machine alone: there is no authentication, so nothing listens further (P10).
    fn loopback(&self, key: &str) -> Result<SocketAddr> {
        self.parsed(key, |text| {
            let mut addresses = text
                .to_socket_addrs()
                .map_err(|e| format!("{text:?} is not an address and port such as 127.0.0.1:7400: {e}"))?;
            let address = addresses.next().ok_or_else(|| format!("{text:?} has no address"))?;
            if address.ip().is_loopback() {
                return Ok(address);
            }
            Err(format!(
                "{text} is reachable from other machines, and there is no authentication yet; \
                 use a loopback address such as 127.0.0.1:{} behind a proxy or tunnel of yours",
                address.port()
            ))
        })
    }

    fn store_url(&self, data: &Path) -> Result<String> {
        self.parsed("store.url", |text| match text {
            "" => {
                let folder = std::path::absolute(data.join("lake")).map_err(|e| e.to_string())?;
                Ok(file_url(&folder))
            }
            url if url.contains("://") => Ok(url.to_owned()),
            other => Err(format!("{other:?} is not a URL; write file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix")),
        })
    }
}

/// `file://` and the path, with what URLs reserve escaped.
fn file_url(path: &Path) -> String {
    let mut url = String::from("file://");
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => url.push(byte as char),
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    url
}

/// Where a value came from, as a person reads it.
fn origin_of(given: &Given) -> String {
    let setting = by_key(given.key).expect("given values carry keys of the table of settings");
    match given.origin {
        Origin::Flag => format!("--{}", setting.flag),
        Origin::File => "file".to_owned(),
        Origin::Variable => setting.variable.to_owned(),
        Origin::Default => "default".to_owned(),
    }
}

#[cfg(test)]
mod tests;

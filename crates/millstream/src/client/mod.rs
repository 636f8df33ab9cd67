//! Owns how the command line talks to a node: requests, and failures as the node tells them.

pub mod problem;

use std::time::Duration;

use millstream_catalog::fault::Code;
use reqwest::{Response, StatusCode};

use crate::failure::{Failure, Result};
pub use problem::Problem;

/// A node, over HTTP.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    /// A client of the node at `url`; nothing is sent yet.
    pub fn new(url: &str) -> Result<Self> {
        if !url.starts_with("http://") {
            return Err(Failure::new(
                Code::InvalidRequest,
                format!("--url {url:?} must begin with http://; nodes do not speak TLS yet"),
            ));
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(5))
            .user_agent(concat!("millstream/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Failure::new(Code::Internal, format!("cannot set up HTTP: {e}")))?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned() })
    }

    /// Runs one statement; the answer's format is `accept`.
    pub async fn sql(&self, sql: &str, accept: &str) -> Result<Response, Problem> {
        let request = self
            .http
            .post(format!("{}/v1/sql", self.url))
            .header("accept", accept)
            .json(&serde_json::json!({ "sql": sql }));
        self.answer(request).await
    }

    /// Sends rows to a stream.
    pub async fn ingest(
        &self,
        stream: &str,
        content_type: &str,
        key: Option<&str>,
        body: bytes::Bytes,
    ) -> Result<Response, Problem> {
        let mut request = self
            .http
            .post(format!("{}/v1/streams/{}", self.url, path_segment(stream)))
            .header("content-type", content_type)
            .body(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.answer(request).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Response, Problem> {
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(Problem::read(response).await)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Problem {
        let cause = innermost(error);
        let detail = match error.is_connect() {
            true => format!("no node answers at {}: {cause}; start one with: millstream serve", self.url),
            false => format!("the connection to {} broke: {cause}", self.url),
        };
        Problem {
            code: Some(Code::IoError),
            status: StatusCode::SERVICE_UNAVAILABLE.as_u16(),
            detail,
            ..Problem::default()
        }
    }
}

/// The failure of a response that broke off.
pub fn broken(error: &reqwest::Error) -> Problem {
    let detail = format!("the answer broke off: {}", innermost(error));
    Problem { code: Some(Code::IoError), detail, ..Problem::default() }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn path_segment(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => escaped.push(byte as char),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

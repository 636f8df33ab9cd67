//! Owns the HTTP side of the tests: requests, replies, and the rows of a JSON answer.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

/// A client of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    /// `http://address`.
    pub base: String,
}

/// A reply of any status.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, if given.
    pub retry_after: Option<String>,
    /// The content type.
    pub content_type: String,
    /// The body.
    pub bytes: Vec<u8>,
    /// The body as JSON; null when it is not.
    pub body: Value,
}

impl Reply {
    /// The same reply, when it is a success; fails with its body otherwise.
    #[track_caller]
    pub fn ok(self) -> Reply {
        assert!((200..300).contains(&self.status), "answered {}: {}", self.status, self.text());
        self
    }

    /// The same reply, when it has this status and problem code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Reply {
        let text = self.text();
        assert_eq!(self.status, status, "expected {status} {code}, was answered: {text}");
        assert_eq!(self.body["code"], code, "expected {status} {code}, was answered: {text}");
        assert!(
            self.content_type.starts_with("application/problem+json"),
            "errors are problem details, this is {:?}: {text}",
            self.content_type
        );
        self
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// A counter of an ingest reply.
    #[track_caller]
    pub fn count(&self, field: &str) -> u64 {
        self.body[field].as_u64().unwrap_or_else(|| panic!("no {field:?} in {}", self.text()))
    }
}

/// A JSON answer to a query.
#[derive(Debug, Clone)]
pub struct Table {
    /// Column names.
    pub columns: Vec<String>,
    /// Values, row by row.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// The index of a column.
    #[track_caller]
    pub fn column(&self, name: &str) -> usize {
        self.columns.iter().position(|c| c == name).unwrap_or_else(|| panic!("no {name:?} in {:?}", self.columns))
    }

    /// The only value.
    #[track_caller]
    pub fn value(&self) -> &Value {
        assert!(self.rows.len() == 1 && self.rows[0].len() == 1, "not a single value: {self:?}");
        &self.rows[0][0]
    }

    /// The rows as integers; NULL is -1.
    #[track_caller]
    pub fn ints(&self) -> Vec<Vec<i64>> {
        self.rows.iter().map(|row| row.iter().map(int).collect()).collect()
    }
}

/// An integer, whether it came as a number or as text; NULL is -1.
#[track_caller]
pub fn int(value: &Value) -> i64 {
    match value {
        Value::Null => -1,
        Value::String(s) => s.parse().unwrap_or_else(|_| panic!("{s:?} is not an integer")),
        other => other.as_i64().unwrap_or_else(|| panic!("{other} is not an integer")),
    }
}

/// A text.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}

impl Client {
    /// A client of the node at that address.
    pub fn new(address: SocketAddr) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .pool_idle_timeout(Duration::from_secs(5))
            .build()
            .expect("a client is made");
        Self { http, base: format!("http://{address}") }
    }

    /// Whether `/readyz` says yes.
    pub async fn is_ready(&self) -> bool {
        let request = self.http.get(format!("{}/readyz", self.base)).timeout(Duration::from_secs(5));
        matches!(request.send().await, Ok(reply) if reply.status().is_success())
    }

    /// GETs a path.
    pub async fn get(&self, path: &str) -> Reply {
        let request = self.http.get(format!("{}{path}", self.base));
        read(request.send().await.expect("the node answers")).await.expect("the reply is whole")
    }

    /// POSTs rows; an error means that nobody knows whether they arrived.
    pub async fn try_ingest(
        &self,
        stream: &str,
        body: impl Into<reqwest::Body>,
        headers: &[(&str, &str)],
    ) -> Result<Reply, reqwest::Error> {
        let mut request = self.http.post(format!("{}/v1/streams/{stream}", self.base)).body(body);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header("content-type", "application/x-ndjson");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.send().await?).await
    }

    /// POSTs rows and expects a reply of any status.
    pub async fn ingest(&self, stream: &str, body: impl Into<reqwest::Body>, headers: &[(&str, &str)]) -> Reply {
        self.try_ingest(stream, body, headers).await.expect("the node answers")
    }

    /// POSTs a statement; an error means that the connection broke.
    pub async fn try_sql(&self, body: Value, accept: &str) -> Result<Reply, reqwest::Error> {
        let request = self.http.post(format!("{}/v1/sql", self.base)).header("accept", accept);
        let request = request.header("content-type", "application/json").body(body.to_string());
        read(request.send().await?).await
    }

    /// Runs a statement and expects a reply of any status.
    pub async fn statement(&self, sql: &str) -> Reply {
        self.try_sql(json!({ "sql": sql }), "application/json").await.expect("the node answers")
    }

    /// Runs a statement that must succeed.
    pub async fn sql(&self, sql: &str) -> Table {
        let reply = self.statement(sql).await;
        assert!(reply.status == 200, "{sql}\nanswered {}: {}", reply.status, reply.text());
        table(&reply)
    }

    /// Runs a query whose answer is one integer.
    pub async fn number(&self, sql: &str) -> i64 {
        int(self.sql(sql).await.value())
    }
}

/// The rows of a JSON answer.
#[track_caller]
pub fn table(reply: &Reply) -> Table {
    assert!(reply.body.get("error").is_none(), "the answer broke off: {}", reply.body["error"]);
    let names = reply.body["columns"].as_array().cloned().unwrap_or_default();
    let columns = names.iter().map(|c| c["name"].as_str().unwrap_or_default().to_owned()).collect();
    let rows = reply.body["rows"].as_array().cloned().unwrap_or_default();
    let rows = rows.into_iter().map(|row| row.as_array().expect("a row is an array").clone()).collect();
    Table { columns, rows }
}

async fn read(reply: reqwest::Response) -> Result<Reply, reqwest::Error> {
    let header = |name: &str| reply.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let (status, retry_after) = (reply.status().as_u16(), header("retry-after"));
    let content_type = header("content-type").unwrap_or_default();
    let bytes = reply.bytes().await?.to_vec();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok(Reply { status, retry_after, content_type, bytes, body })
}

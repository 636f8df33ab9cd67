//! Owns what a request to `POST /v1/sql` says: its body, its query parameters, and the errors in them.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use millstream_catalog::fault::Code;
use millstream_problem::Problem;
use millstream_process::PositionToken;
use serde::Deserialize;
use serde_json::Value;

/// A request to run SQL.
#[derive(Debug)]
pub(super) struct SqlRequest {
    /// One statement, or several with `;` between them.
    pub(super) sql: String,
    /// The values of `$1`, `$2`, ….
    pub(super) params: Vec<Value>,
    /// What must be visible before the statement runs.
    pub(super) after: Vec<PositionToken>,
    /// How long it may run.
    pub(super) timeout: Option<Duration>,
}

/// The body as clients write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    sql: String,
    #[serde(default)]
    params: Option<Vec<Value>>,
    #[serde(default)]
    after: Option<OneOrMany>,
    #[serde(default)]
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// The query parameters: `after` may be given more than once.
pub(super) type QueryParameters = Vec<(String, String)>;

impl SqlRequest {
    /// Reads a request. The body is JSON; as `text/plain` or `application/sql` it is the SQL itself.
    pub(super) fn read(headers: &HeaderMap, query: QueryParameters, body: &[u8]) -> Result<Self, Problem> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let body = match media_type.as_str() {
            "text/plain" | "application/sql" => {
                Body { sql: utf8(body)?.to_owned(), params: None, after: None, timeout_ms: None }
            }
            // What curl says of any body unless told otherwise.
            "" | "application/json" | "application/x-www-form-urlencoded" => json_body(body)?,
            other => {
                return Err(Problem::new(Code::UnsupportedMediaType, format!("a body of type {other:?} is not read"))
                    .hint("send application/json {\"sql\": \"…\"}, or the SQL itself as text/plain"));
            }
        };
        let mut tokens = match body.after {
            None => Vec::new(),
            Some(OneOrMany::One(token)) => vec![token],
            Some(OneOrMany::Many(tokens)) => tokens,
        };
        for (name, value) in query {
            match name.as_str() {
                "after" => tokens.push(value),
                other => {
                    return Err(Problem::new(Code::InvalidRequest, format!("unknown query parameter {other:?}"))
                        .hint("only after is taken"));
                }
            }
        }
        Ok(Self {
            sql: body.sql,
            params: body.params.unwrap_or_default(),
            after: tokens.iter().map(|token| position_token(token)).collect::<Result<_, _>>()?,
            timeout: body.timeout_ms.map(Duration::from_millis),
        })
    }
}

fn utf8(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|e| {
        Problem::new(Code::InvalidEncoding, format!("the body is not valid UTF-8 at byte {}", e.valid_up_to()))
    })
}

fn json_body(body: &[u8]) -> Result<Body, Problem> {
    serde_json::from_str(utf8(body)?).map_err(|e| {
        Problem::new(Code::InvalidRequest, format!("the body is not a SQL request: {e}"))
            .hint("send {\"sql\": \"SELECT …\", \"params\": [], \"after\": \"token\", \"timeout_ms\": 1000}")
    })
}

fn position_token(text: &str) -> Result<PositionToken, Problem> {
    text.parse::<PositionToken>().map_err(|e| Problem::of(&e).hint("give the token as an ingest reply gave it"))
}

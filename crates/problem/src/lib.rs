//! How a failure looks over HTTP: the one problem details response (RFC 9457) that every HTTP door gives.
//!
//! The doors do not know each other, so what both need to answer alike lies here. It knows
//! [`Fault`] and axum; it does not know who failed.
//!
//! ```json
//! {"type": "urn:millstream:problem:too_busy", "title": "too busy", "status": 429, "code": "too_busy",
//!  "sqlstate": "53000", "detail": "256 MiB of request bodies are under way, the limit", "retry_after": 1}
//! ```

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use millstream_catalog::fault::{Code, Fault, Kind};
use serde_json::{Map, Value};

/// The media type of the body.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A failure on its way to an HTTP client. Any [`Fault`] turns into one with `?`.
///
/// It is one pointer wide, so that results with it stay cheap to pass on.
#[derive(Debug, Clone)]
pub struct Problem(Box<Content>);

#[derive(Debug, Clone)]
struct Content {
    code: Code,
    detail: String,
    hint: Option<String>,
    position: Option<usize>,
    retry_after: Option<Duration>,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A failure that is found at the door itself.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Content {
            code,
            detail: detail.into(),
            hint: None,
            position: None,
            retry_after: code.retry_after(),
            members: Map::new(),
            headers: Vec::new(),
        }))
    }

    /// What an error of a deeper room is to the client. Where a part of the platform failed, its causes are told too.
    pub fn of(fault: &dyn Fault) -> Self {
        let code = fault.code();
        let mut detail = fault.to_string();
        if matches!(code.kind(), Kind::Unavailable | Kind::Corrupt | Kind::Internal) {
            append_causes(&mut detail, fault);
        }
        let mut problem = Self::new(code, detail);
        problem.0.hint = fault.hint();
        problem.0.position = fault.position();
        problem
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds a 1-based character position in the request's SQL text.
    pub fn position(mut self, position: usize) -> Self {
        self.0.position = Some(position);
        self
    }

    /// Adds an extension member, such as the line a row stood on.
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a response header, such as `Allow`.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The failure's row in the table of failures.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The body.
    pub fn to_json(&self) -> Value {
        let code = self.0.code.name();
        let mut body = Map::new();
        body.insert("type".into(), format!("urn:millstream:problem:{code}").into());
        body.insert("title".into(), code.replace('_', " ").into());
        body.insert("status".into(), self.0.code.http_status().into());
        body.insert("code".into(), code.into());
        body.insert("sqlstate".into(), self.0.code.sqlstate().into());
        body.insert("detail".into(), self.0.detail.clone().into());
        if let Some(hint) = &self.0.hint {
            body.insert("hint".into(), hint.clone().into());
        }
        if let Some(position) = self.0.position {
            body.insert("position".into(), position.into());
        }
        if let Some(after) = self.0.retry_after {
            body.insert("retry_after".into(), after.as_secs().max(1).into());
        }
        body.extend(self.0.members.clone());
        Value::Object(body)
    }
}

impl<E: Fault> From<E> for Problem {
    fn from(fault: E) -> Self {
        Self::of(&fault)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() =
            StatusCode::from_u16(self.0.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(after) = self.0.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        headers.extend(self.0.headers);
        response
    }
}

/// Puts the chain of causes behind the message, leaving out what it says already.
fn append_causes(detail: &mut String, fault: &dyn Fault) {
    let mut cause = fault.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !detail.contains(&text) {
            detail.push_str(": ");
            detail.push_str(&text);
        }
        cause = error.source();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the log cannot be synced")]
    struct Failed {
        code: Code,
        #[source]
        source: std::io::Error,
    }

    impl Fault for Failed {
        fn code(&self) -> Code {
            self.code
        }
        fn hint(&self) -> Option<String> {
            Some("free some space".into())
        }
    }

    fn failed(code: Code) -> Failed {
        Failed { code, source: std::io::Error::other("no space left") }
    }

    #[test]
    fn a_fault_gives_its_status_code_hint_and_causes() {
        let body = Problem::from(failed(Code::DiskFull)).to_json();
        assert_eq!(body["status"], 507);
        assert_eq!(body["code"], "disk_full");
        assert_eq!(body["sqlstate"], "53100");
        assert_eq!(body["detail"], "the log cannot be synced: no space left");
        assert_eq!(body["hint"], "free some space");
        assert_eq!(body["retry_after"], 5);
    }

    #[test]
    fn a_client_error_hides_inner_causes_and_has_no_retry_after() {
        let response = Problem::from(failed(Code::InvalidRequest)).into_response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[CONTENT_TYPE], MEDIA_TYPE);
        assert!(!response.headers().contains_key(RETRY_AFTER));
        assert_eq!(Problem::from(failed(Code::InvalidRequest)).to_json()["detail"], "the log cannot be synced");
    }

    #[test]
    fn overload_carries_retry_after_and_extra_headers_and_members_are_kept() {
        let problem = Problem::new(Code::Busy, "too much")
            .member("line", 7)
            .header(axum::http::header::ALLOW, HeaderValue::from_static("POST"));
        assert_eq!(problem.to_json()["line"], 7);
        let response = problem.into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(response.headers()["allow"], "POST");
    }
}

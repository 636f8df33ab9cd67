//! Owns what a request's headers say about its body: format, compression, idempotency key.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, ORIGIN};
use millstream_catalog::fault::Code;
use millstream_problem::Problem;

use crate::decode::Format;
use crate::decode::compression::Encoding;

const ACCEPTED: &str = "application/x-ndjson, application/json, text/csv or application/vnd.apache.arrow.stream";
const MAX_KEY_BYTES: usize = 255;
/// An Arrow IPC stream begins with this.
const ARROW_CONTINUATION: &[u8] = &[0xff; 4];

/// The format that `Content-Type` names; `None` when it leaves the choice to the body's first bytes.
///
/// A browser page of any origin can post without asking when it names no type or one of a form's types. Forms' types
/// are refused, and so is a missing one when there is an `Origin`.
pub(super) fn format(headers: &HeaderMap) -> Result<Option<Format>, Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return if headers.contains_key(ORIGIN) { Err(unsupported("no content type")) } else { Ok(None) };
    };
    let text = value.to_str().unwrap_or_default();
    let mut parts = text.split(';').map(|part| part.trim().to_ascii_lowercase());
    let media_type = parts.next().unwrap_or_default();
    for parameter in parts {
        match parameter.split_once('=').map(|(name, value)| (name, value.trim_matches('"'))) {
            Some(("charset", charset)) if !matches!(charset, "utf-8" | "utf8" | "us-ascii") => {
                return Err(unsupported(&format!("charset {charset}")).hint("send UTF-8"));
            }
            Some(("header", "absent")) => return Err(unsupported("CSV without a header")),
            _ => {}
        }
    }
    match media_type.as_str() {
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/x-jsonlines"
        | "application/jsonlines"
        | "application/json-lines" => Ok(Some(Format::JsonLines)),
        "application/json" => Ok(Some(Format::Json)),
        "text/csv" => Ok(Some(Format::Csv)),
        "application/vnd.apache.arrow.stream" => Ok(Some(Format::ArrowStream)),
        "application/octet-stream" => Ok(None),
        other => Err(unsupported(&format!("content type {other:?}"))),
    }
}

/// The format that a body's first bytes show.
pub(super) fn detected(body: &[u8]) -> Format {
    if body.starts_with(ARROW_CONTINUATION) { Format::ArrowStream } else { Format::JsonLines }
}

/// The compression that `Content-Encoding` names.
pub(super) fn encoding(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        "zstd" => Ok(Encoding::Zstd),
        other => Err(Problem::new(Code::UnsupportedMediaType, format!("content encoding {other:?} is not read"))
            .hint("send gzip, zstd or no compression")),
    }
}

/// The key that `Idempotency-Key` gives.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=MAX_KEY_BYTES).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Problem::new(
            Code::InvalidRequest,
            format!("header Idempotency-Key must have 1 to {MAX_KEY_BYTES} visible ASCII characters"),
        )),
    }
}

fn unsupported(what: &str) -> Problem {
    Problem::new(Code::UnsupportedMediaType, format!("{what} is not read")).hint(format!("send {ACCEPTED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    fn named(content_type: &str) -> Result<Option<Format>, u16> {
        format(&headers(&[("content-type", content_type)])).map_err(|p| p.code().http_status())
    }

    #[test]
    fn content_types_name_formats() {
        assert_eq!(named("application/x-ndjson"), Ok(Some(Format::JsonLines)));
        assert_eq!(named("Application/JSON; charset=UTF-8"), Ok(Some(Format::Json)));
        assert_eq!(named("text/csv; header=present"), Ok(Some(Format::Csv)));
        assert_eq!(named("application/vnd.apache.arrow.stream"), Ok(Some(Format::ArrowStream)));
        assert_eq!(named("application/octet-stream"), Ok(None));
    }

    #[test]
    fn other_types_and_what_pages_of_any_origin_can_send_are_refused() {
        for refused in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json; charset=latin1",
            "text/csv; header=absent",
            "",
        ] {
            assert_eq!(named(refused), Err(415), "{refused}");
        }
        assert!(format(&headers(&[])).is_ok());
        assert!(format(&headers(&[("origin", "http://evil.example")])).is_err());
    }

    #[test]
    fn encodings_and_keys_are_checked() {
        assert_eq!(encoding(&headers(&[("content-encoding", "GZIP")])).ok(), Some(Encoding::Gzip));
        assert!(encoding(&headers(&[("content-encoding", "gzip, zstd")])).is_err());
        assert!(encoding(&headers(&[("content-encoding", "br")])).is_err());
        let key = |value: &str| idempotency_key(&headers(&[("idempotency-key", value)])).map_err(|_| ());
        assert_eq!(key("k1"), Ok(Some("k1".into())));
        assert_eq!(key(""), Err(()));
        assert_eq!(key(&"x".repeat(256)), Err(()));
        assert_eq!(key("é"), Err(()));
    }
}

//! Owns the reply to an ingest request.

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use millstream_catalog::fault::Code;
use millstream_problem::Problem;
use millstream_process::Receipt;
use serde::Serialize;

/// At most this many refused rows are told of one by one.
pub(super) const MAX_ERRORS: usize = 10;

/// A refused row, as the reply tells of it.
#[derive(Debug, Serialize)]
pub(super) struct RowError {
    /// From 1; for Arrow the row's number.
    pub line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    pub code: &'static str,
    pub message: String,
}

#[derive(Serialize)]
struct Offsets {
    partition: u32,
    start: u64,
    end: u64,
}

#[derive(Serialize)]
struct Reply<'a> {
    accepted: u64,
    quarantined: u64,
    errors: &'a [RowError],
    unknown_fields: u64,
    offsets: Vec<Offsets>,
    position: String,
    duplicate: bool,
}

/// The reply for what was stored.
pub(super) fn stored(receipt: Receipt, errors: &[RowError], unknown_fields: u64) -> Response {
    let reply = Reply {
        accepted: receipt.accepted,
        quarantined: receipt.quarantined,
        errors,
        unknown_fields,
        offsets: receipt
            .ranges
            .iter()
            .map(|r| Offsets { partition: r.partition, start: r.start, end: r.end })
            .collect(),
        position: receipt.token.to_string(),
        duplicate: receipt.duplicate,
    };
    match serde_json::to_vec(&reply) {
        Ok(json) => {
            let mut response = Response::new(Body::from(json));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => Problem::new(Code::Internal, format!("the reply cannot be written: {error}")).into_response(),
    }
}

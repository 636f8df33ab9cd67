//! The HTTP door for events: `POST /v1/streams/{stream}`.
//!
//! | | |
//! | --- | --- |
//! | formats | `application/x-ndjson`, `application/json`, `text/csv` with a header, `application/vnd.apache.arrow.stream` |
//! | compression | `Content-Encoding: gzip` or `zstd` |
//! | retries | `Idempotency-Key: …`: the same key with the same body adds nothing and gets the first reply's figures |
//!
//! The reply is 200 as soon as something was stored, be it in the stream or in quarantine, or when there was nothing to
//! store; it comes after the rows are as durable as the stream promises. Any other status means that nothing was
//! stored. Memory is bounded: a body by [`Limits::body_bytes`] on the wire and [`Limits::decoded_bytes`] unpacked, all
//! bodies together by [`Limits::in_flight_bytes`]; beyond that the answer is 429 with `Retry-After`.

mod body;
mod budget;
mod ingest;
mod prepare;
mod reply;
mod request;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::ALLOW;
use axum::routing::post;
use millstream_catalog::fault::Code;
use millstream_problem::Problem;
use millstream_process::Engine;

use ingest::Door;

/// What requests may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A larger body on the wire is refused with 413.
    pub body_bytes: usize,
    /// A body that is larger unpacked, or takes more memory as rows, is refused with 413.
    pub decoded_bytes: usize,
    /// A longer row is quarantined, with the beginning of its text.
    pub row_bytes: usize,
    /// All bodies under way, unpacked, may take this much; beyond it requests are refused with 429.
    pub in_flight_bytes: usize,
    /// This many requests may be under way; beyond it they are refused with 429.
    pub requests: usize,
    /// A body that sends nothing for so long is given up.
    pub body_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            decoded_bytes: 256 << 20,
            row_bytes: 16 << 20,
            in_flight_bytes: 512 << 20,
            requests: 1024,
            body_idle: Duration::from_secs(30),
        }
    }
}

/// The routes of this door.
pub fn router(engine: Engine, limits: Limits) -> Router {
    let door = Arc::new(Door::new(engine, limits));
    Router::new().route("/v1/streams/{stream}", post(ingest::ingest).fallback(only_post)).with_state(door)
}

async fn only_post() -> Problem {
    Problem::new(Code::MethodNotAllowed, "events are sent with POST; to read a stream use POST /v1/sql")
        .header(ALLOW, HeaderValue::from_static("POST"))
}

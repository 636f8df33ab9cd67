//! SQL and the node's state over HTTP.
//!
//! | route | |
//! | --- | --- |
//! | `POST /v1/sql` | runs SQL; see [`sql`] |
//! | `GET /v1/views/{view}/changes` | server-sent events; see [`follow`] |
//! | `GET /v1/streams/{stream}/tail` | server-sent events; see [`follow`] |
//! | `GET /healthz` | answers while the process lives |
//! | `GET /readyz` | 200 when it can serve, 503 when not, with what is wrong |
//! | `GET /metrics` | Prometheus text |
//! | `GET /` | what is here |
//!
//! Every failure is a problem document (RFC 9457).

mod encode;
mod events;
pub mod follow;
mod format;
mod request;
pub mod sql;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use millstream_catalog::fault::Code;
use millstream_problem::Problem;
use millstream_process::Engine;
use serde_json::json;

/// The largest body of a SQL request.
const MAX_SQL_BYTES: usize = 16 * 1024 * 1024;

/// The routes of this room, with the answers for paths and methods that nothing else takes.
pub fn router(engine: Engine) -> Router {
    Router::new()
        .route("/", get(index).fallback(only_get))
        .route("/healthz", get(alive).fallback(only_get))
        .route("/readyz", get(ready).fallback(only_get))
        .route("/metrics", get(metrics).fallback(only_get))
        .route("/v1/sql", post(sql::run).fallback(only_post).layer(DefaultBodyLimit::max(MAX_SQL_BYTES)))
        .route("/v1/views/{view}/changes", get(follow::changes).fallback(only_get))
        .route("/v1/streams/{stream}/tail", get(follow::tail).fallback(only_get))
        .fallback(not_found)
        .with_state(engine)
}

async fn index() -> Response {
    Json(json!({
        "name": "millstream",
        "version": env!("CARGO_PKG_VERSION"),
        "routes": {
            "POST /v1/sql": "run SQL: {\"sql\": \"…\", \"params\": […], \"after\": \"token\", \"timeout_ms\": 1000}; \
                             Accept chooses JSON, NDJSON, CSV, Arrow or Parquet",
            "GET /v1/views/{view}/changes": "a view's rows and then its changes, as server-sent events; \
                                             ?snapshot=false, ?after=id",
            "GET /v1/streams/{stream}/tail": "a stream's new rows, as server-sent events; ?from=earliest|latest|token",
            "POST /v1/streams/{stream}": "add rows: NDJSON, JSON, CSV or Arrow; gzip and zstd are taken",
            "GET /healthz": "alive",
            "GET /readyz": "ready to serve, or what is wrong",
            "GET /metrics": "Prometheus metrics",
        },
        "see": ["SHOW STREAMS", "SELECT * FROM system.streams", "SELECT * FROM system.jobs"],
    }))
    .into_response()
}

async fn alive() -> Response {
    Json(json!({"status": "alive"})).into_response()
}

async fn ready(State(engine): State<Engine>) -> Response {
    let health = engine.health();
    let (status, word) = match health.ready {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    (status, Json(json!({"status": word, "problems": health.problems}))).into_response()
}

async fn metrics(State(engine): State<Engine>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], engine.metrics_text()).into_response()
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(Code::UndefinedObject, format!("nothing is at {}", uri.path())).hint("GET / lists what is here")
}

async fn only_get(method: Method, uri: Uri) -> Problem {
    method_not_allowed(&method, &uri, "GET, HEAD")
}

async fn only_post(method: Method, uri: Uri) -> Problem {
    method_not_allowed(&method, &uri, "POST")
}

fn method_not_allowed(method: &Method, uri: &Uri, allowed: &'static str) -> Problem {
    let detail = format!("{method} is not allowed at {}, use {allowed}", uri.path());
    Problem::new(Code::MethodNotAllowed, detail).header(ALLOW, HeaderValue::from_static(allowed))
}

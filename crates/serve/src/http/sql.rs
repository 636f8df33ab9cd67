//! Owns `POST /v1/sql`: from a request to a streamed answer.
//!
//! The body is `{"sql", "params"?, "after"?, "timeout_ms"?}`. The answer's format is chosen by `Accept`:
//! - `application/json`, the default: `{"columns": [{"name", "type"}], "rows": [[…], …]}`. Booleans, integers and
//!   floats are JSON's; decimals are strings, so that no digit is lost; `NaN` and the infinities are strings; dates and
//!   times are ISO 8601 strings; intervals are ISO 8601 durations; bytea is `"\x…"` in hexadecimal; json columns, rows and
//!   arrays are embedded;
//! - `application/x-ndjson`: an object per row, the same values;
//! - `text/csv`: RFC 4180 with a header; NULL is an empty field, empty text is `""`;
//! - `application/vnd.apache.arrow.stream`, `application/vnd.apache.parquet`.
//!
//! Several statements with `;` between them run in order up to the first failure, and the last one's result is the
//! answer; parameters belong to a single statement. A statement without rows answers
//! `{"status": "CREATE STREAM", "notices": []}`.
//!
//! `SELECT … EMIT CHANGES` goes on until the client leaves or `timeout_ms` is over; ask for NDJSON, a line for each row
//! that comes or goes.
//!
//! Rows are written as they are made, at the speed the client reads them. The query ends when the client leaves. A failure
//! early on, within the first 64 KiB, is a problem document with its own status. After that, JSON ends with an `"error"` member beside
//! `"rows"`, NDJSON with a line that holds nothing but `"error"`; in the other formats the connection breaks off.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use arrow::array::RecordBatch;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{FutureExt, StreamExt, stream};
use millstream_catalog::fault::{Code, Fault};
use millstream_problem::Problem;
use millstream_process::{Engine, Outcome, RowStream, RunOptions, Session, Statement};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::encode::{EncodeError, Encoder};
use super::format::Format;
use super::request::{QueryParameters, SqlRequest};
use crate::parameter;

/// What is made of a result before its status is sent: this many bytes, or what is there after this time.
const BEGINNING_BYTES: usize = 64 * 1024;
const BEGINNING_TIME: Duration = Duration::from_millis(250);

/// Rows are encoded in pieces of this many, so that a wide batch does not become one large buffer.
const ROWS_PER_PIECE: usize = 2048;

impl Fault for EncodeError {
    fn code(&self) -> Code {
        match self {
            EncodeError::Arrow(_) => Code::OutOfRange,
            EncodeError::Parquet(_) => Code::Unsupported,
        }
    }
}

/// Runs the request's SQL and streams its result.
pub(super) async fn run(
    State(engine): State<Engine>,
    Query(query): Query<QueryParameters>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let answer = AssertUnwindSafe(answer(engine, query, headers, body)).catch_unwind().await;
    match answer {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => {
            tracing::error!("a SQL request panicked");
            Problem::new(Code::Internal, "the statement hit a defect of Millstream; see the log").into_response()
        }
    }
}

async fn answer(
    engine: Engine,
    query: QueryParameters,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|e| unread_body(&e))?;
    let format = accepted_format(&headers)?;
    let request = SqlRequest::read(&headers, query, &body)?;
    drop(body);
    match run_statements(&engine.session(), request).await? {
        Outcome::Done { tag, notices } => Ok(Json(json!({"status": tag, "notices": notices})).into_response()),
        Outcome::Rows { rows, .. } => stream_rows(rows, format).await,
        Outcome::CopyIn(_) => {
            let message = "COPY FROM STDIN is for the PostgreSQL wire: over HTTP, post rows to /v1/streams/<stream>";
            Err(Problem::new(Code::Unsupported, message))
        }
        Outcome::CopyOut { .. } => {
            let message =
                "COPY TO STDOUT is for the PostgreSQL wire: over HTTP, ask for CSV, Arrow or Parquet by Accept";
            Err(Problem::new(Code::Unsupported, message))
        }
    }
}

fn unread_body(rejection: &BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let limit = super::MAX_SQL_BYTES >> 20;
            Problem::new(Code::TooLarge, format!("the body is larger than {limit} MiB, the limit for SQL"))
        }
        _ => Problem::new(Code::InvalidRequest, format!("the body could not be read: {}", rejection.body_text())),
    }
}

fn accepted_format(headers: &HeaderMap) -> Result<Format, Problem> {
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accept = accept.join(",");
    Format::negotiate(Some(&accept)).ok_or_else(|| {
        let known: Vec<_> = Format::ALL.iter().map(|format| format.media_type()).collect();
        Problem::new(Code::NotAcceptable, format!("no result can be given as {accept:?}"))
            .hint(format!("accept one of {}", known.join(", ")))
    })
}

/// Runs every statement and gives the last one's outcome.
async fn run_statements(session: &Session, request: SqlRequest) -> Result<Outcome, Problem> {
    let mut statements = session.parse(&request.sql)?;
    let Some(last) = statements.pop() else {
        return Err(Problem::new(Code::SyntaxError, "the sql is empty"));
    };
    if !statements.is_empty() && !request.params.is_empty() {
        return Err(Problem::new(Code::InvalidRequest, "params belong to a single statement, and sql holds several")
            .hint("send one request per statement"));
    }
    let options = RunOptions { timeout: request.timeout, after: request.after };
    for statement in &statements {
        if let Outcome::Rows { mut rows, .. } = run_one(session, statement, &[], options.clone()).await? {
            while let Some(batch) = rows.next().await {
                batch?;
            }
        }
    }
    run_one(session, &last, &request.params, options).await
}

async fn run_one(
    session: &Session,
    statement: &Statement,
    params: &[Value],
    options: RunOptions,
) -> Result<Outcome, Problem> {
    let prepared = session.prepare(statement).await?;
    let types = prepared.parameter_types();
    if params.len() != types.len() {
        let (wanted, given) = (types.len(), params.len());
        return Err(Problem::new(
            Code::InvalidRequest,
            format!("the statement has {wanted} parameters and params holds {given} values"),
        ));
    }
    let params = parameter::from_json(params, types)?;
    Ok(session.run(&prepared, &params, options).await?)
}

/// Answers with rows. The beginning is made before the status is sent: a result that is small or fails early is
/// answered in whole, as itself or as a problem.
async fn stream_rows(rows: RowStream, format: Format) -> Result<Response, Problem> {
    if rows.is_live() && format == Format::Parquet {
        let detail = "a query that goes on without end cannot be given as Parquet, whose files have an end";
        return Err(Problem::new(Code::NotAcceptable, detail).hint("accept application/x-ndjson"));
    }
    let (encoder, mut head) = Encoder::start(format, &rows.schema())?;
    let mut pieces = Pieces { rows, encoder: Some(encoder), pending: None };
    let whole = pieces.begin(&mut head).await?;
    let content_type = [(CONTENT_TYPE, format.content_type())];
    if whole {
        return Ok((content_type, head).into_response());
    }
    let body = stream::once(std::future::ready(Ok(Bytes::from(head))))
        .chain(stream::unfold(pieces, Pieces::next))
        .filter(|piece| std::future::ready(!matches!(piece, Ok(bytes) if bytes.is_empty())));
    Ok((content_type, Body::from_stream(body)).into_response())
}

/// A running result. It is polled only when the connection has room, which holds the query back.
struct Pieces {
    rows: RowStream,
    /// None when the answer has ended.
    encoder: Option<Encoder>,
    /// Rows that were taken from the query and not written yet.
    pending: Option<RecordBatch>,
}

type Piece = Result<Bytes, std::io::Error>;

impl Pieces {
    /// Writes the beginning of the result, as much as comes soon; true when that is all.
    async fn begin(&mut self, out: &mut Vec<u8>) -> Result<bool, Problem> {
        let until = Instant::now() + BEGINNING_TIME;
        let live = self.rows.is_live();
        // A query that goes on without end may have nothing to say for long; its client is answered all the same.
        let mut next = match live {
            true => timeout_at(until, self.next_rows()).await.ok().transpose()?,
            false => Some(self.next_rows().await?),
        };
        while let Some(rows) = next {
            let Some(encoder) = &mut self.encoder else { return Ok(true) };
            let Some(rows) = rows else {
                if let Some(encoder) = self.encoder.take() {
                    out.extend(encoder.finish()?);
                }
                return Ok(true);
            };
            out.extend(encoder.batch(&rows)?);
            next = match !live && out.len() < BEGINNING_BYTES {
                true => timeout_at(until, self.next_rows()).await.ok().transpose()?,
                false => None,
            };
        }
        Ok(false)
    }

    /// The next bytes, and what is left to do.
    async fn next(mut self) -> Option<(Piece, Self)> {
        let mut encoder = self.encoder.take()?;
        let piece = match self.next_rows().await {
            Ok(Some(rows)) => encoder.batch(&rows).map_err(|e| Problem::of(&e)),
            Ok(None) => return Some((finish(encoder), self)),
            Err(problem) => Err(problem),
        };
        match piece {
            Ok(bytes) => {
                self.encoder = Some(encoder);
                Some((Ok(Bytes::from(bytes)), self))
            }
            Err(problem) => {
                // What was written before must not be lost with the connection: this lets it be sent.
                tokio::task::yield_now().await;
                Some((fail(encoder, &problem), self))
            }
        }
    }

    async fn next_rows(&mut self) -> Result<Option<RecordBatch>, Problem> {
        let batch = match self.pending.take() {
            Some(batch) => batch,
            None => match self.rows.next().await.transpose()? {
                Some(batch) => batch,
                None => return Ok(None),
            },
        };
        if batch.num_rows() <= ROWS_PER_PIECE {
            return Ok(Some(batch));
        }
        self.pending = Some(batch.slice(ROWS_PER_PIECE, batch.num_rows() - ROWS_PER_PIECE));
        Ok(Some(batch.slice(0, ROWS_PER_PIECE)))
    }
}

fn finish(encoder: Encoder) -> Piece {
    encoder.finish().map(Bytes::from).map_err(std::io::Error::other)
}

fn fail(encoder: Encoder, problem: &Problem) -> Piece {
    let document = problem.to_json();
    tracing::debug!(problem = %document, "a query failed while its rows were streamed");
    match encoder.fail(&document) {
        Some(bytes) => Ok(Bytes::from(bytes)),
        None => Err(std::io::Error::other("the query failed")),
    }
}

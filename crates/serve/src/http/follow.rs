//! Owns `GET /v1/views/{view}/changes` and `GET /v1/streams/{stream}/tail`: following as server-sent events.
//!
//! A view's events are `insert` and `delete`, their data the row as a JSON object; first every row as it is, unless
//! `?snapshot=false`. `ready` says that these are all; what comes behind it are changes. `reset` says that what was told
//! before no longer holds: every row follows anew. A stream's events are `insert`. `error` holds a problem document and
//! is the last event.
//!
//! Each event has an id. A client that comes again with the last one, as `Last-Event-ID` or as `?after=` (a stream:
//! `?from=`), goes on behind it, without a gap and without a row twice.

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use futures::stream;
use millstream_catalog::ObjectName;
use millstream_catalog::fault::Code;
use millstream_problem::Problem;
use millstream_process::{
    ChangeId, Engine, PositionToken, StreamTail, TailEvent, TailStart, ViewChanges, ViewEvent, ViewStart,
};
use serde_json::json;

use super::events::{EventWriter, answer, event};
use super::request::QueryParameters;

const LAST_EVENT_ID: &str = "last-event-id";

/// Follows a view.
pub(super) async fn changes(
    State(engine): State<Engine>,
    Path(view): Path<String>,
    Query(query): Query<QueryParameters>,
    headers: HeaderMap,
) -> Response {
    let follower = view_start(query, &headers).and_then(|start| {
        let name = ObjectName::parse(&view).map_err(|e| Problem::of(&e))?;
        Ok(engine.follow_view(&name, start)?)
    });
    match follower {
        Ok(follower) => {
            answer(stream::unfold((follower, EventWriter::default()), |(mut follower, mut writer)| async {
                let written = next_change(&mut follower, &mut writer).await;
                Some((written, (follower, writer)))
            }))
        }
        Err(problem) => problem.into_response(),
    }
}

async fn next_change(follower: &mut ViewChanges, writer: &mut EventWriter) -> Result<Vec<u8>, Problem> {
    Ok(match follower.next().await? {
        ViewEvent::Reset => event("reset", None, &json!({})),
        ViewEvent::Ready(id) => event("ready", Some(&id), &json!({})),
        ViewEvent::Rows(rows) => {
            let name = if rows.come { "insert" } else { "delete" };
            writer.rows(name, &rows.batch, |row| rows.id(row))?
        }
    })
}

fn view_start(query: QueryParameters, headers: &HeaderMap) -> Result<ViewStart, Problem> {
    let mut start = ViewStart::Snapshot;
    for (name, value) in query {
        match (name.as_str(), value.as_str()) {
            ("after", id) => start = ViewStart::After(id.parse::<ChangeId>()?),
            ("snapshot", "false") if start == ViewStart::Snapshot => start = ViewStart::Now,
            ("snapshot", "true" | "false") => {}
            ("snapshot", other) => {
                return Err(Problem::new(Code::InvalidRequest, format!("snapshot is true or false, not {other:?}")));
            }
            (other, _) => return Err(unknown(other, "snapshot and after are taken")),
        }
    }
    // A client that comes again sends it beside the parameters that it began with.
    match last_event_id(headers)? {
        Some(id) => Ok(ViewStart::After(id.parse::<ChangeId>()?)),
        None => Ok(start),
    }
}

/// Follows a stream.
pub(super) async fn tail(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    Query(query): Query<QueryParameters>,
    headers: HeaderMap,
) -> Response {
    let follower = tail_start(query, &headers).and_then(|start| {
        let name = ObjectName::parse(&name).map_err(|e| Problem::of(&e))?;
        Ok(engine.follow_stream(&name, start)?)
    });
    match follower {
        Ok(follower) => {
            answer(stream::unfold((follower, EventWriter::default()), |(mut follower, mut writer)| async {
                let written = next_rows(&mut follower, &mut writer).await;
                Some((written, (follower, writer)))
            }))
        }
        Err(problem) => problem.into_response(),
    }
}

async fn next_rows(follower: &mut StreamTail, writer: &mut EventWriter) -> Result<Vec<u8>, Problem> {
    Ok(match follower.next().await? {
        TailEvent::Ready(position) => event("ready", Some(&position), &json!({})),
        TailEvent::Rows(rows) => writer.rows("insert", &rows.batch, |row| rows.position(row))?,
    })
}

fn tail_start(query: QueryParameters, headers: &HeaderMap) -> Result<TailStart, Problem> {
    let mut start = TailStart::Latest;
    for (name, value) in query {
        start = match (name.as_str(), value.as_str()) {
            ("from", "earliest") => TailStart::Earliest,
            ("from", "latest") => TailStart::Latest,
            ("from", token) => TailStart::After(token.parse::<PositionToken>()?),
            (other, _) => return Err(unknown(other, "only from is taken")),
        };
    }
    match last_event_id(headers)? {
        Some(token) => Ok(TailStart::After(token.parse::<PositionToken>()?)),
        None => Ok(start),
    }
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else { return Ok(None) };
    // Browsers send names beyond ASCII as they are.
    let text = std::str::from_utf8(value.as_bytes());
    text.map(Some).map_err(|_| Problem::new(Code::InvalidEncoding, "Last-Event-ID is not valid UTF-8"))
}

fn unknown(parameter: &str, hint: &str) -> Problem {
    Problem::new(Code::InvalidRequest, format!("unknown query parameter {parameter:?}")).hint(hint)
}

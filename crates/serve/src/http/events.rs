//! Owns how server-sent events are written: rows as events, comments while nothing happens.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use millstream_problem::Problem;
use serde_json::Value;
use tokio::time::timeout;

use super::encode::{EncodeError, TextEncoder};
use super::format::Format;

/// How long nothing may happen before a comment tells client and proxies that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Writes events; knows the columns of the rows it wrote last.
#[derive(Default)]
pub(super) struct EventWriter {
    rows: Option<(SchemaRef, TextEncoder)>,
}

impl EventWriter {
    /// An event for each row, with its id.
    pub(super) fn rows<I: Display>(
        &mut self,
        name: &str,
        batch: &RecordBatch,
        id: impl Fn(usize) -> I,
    ) -> Result<Vec<u8>, EncodeError> {
        let schema = batch.schema();
        let (_, encoder) = match self.rows.take() {
            Some(known) if known.0 == schema => self.rows.insert(known),
            _ => self.rows.insert((schema.clone(), TextEncoder::new(Format::NdJson, &schema))),
        };
        let columns = encoder.columns_of(batch)?;
        let (mut out, mut row) = (Vec::new(), Vec::new());
        for i in 0..batch.num_rows() {
            row.clear();
            encoder.put_object_row(&columns, i, &mut row);
            put(name, Some(&id(i)), &row, &mut out);
        }
        Ok(out)
    }
}

/// An event that is about no row.
pub(super) fn event(name: &str, id: Option<&dyn Display>, data: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put(name, id, data.to_string().as_bytes(), &mut out);
    out
}

fn put(name: &str, id: Option<&dyn Display>, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    if let Some(id) = id {
        out.extend_from_slice(b"\nid: ");
        // Writing to memory does not fail.
        let _ = write!(out, "{id}");
    }
    out.extend_from_slice(b"\ndata: ");
    // JSON has line ends only between its parts, in json columns as they were sent; here they would end the field.
    out.extend(data.trim_ascii_end().iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    out.extend_from_slice(b"\n\n");
}

/// Answers with events as they come, and comments while none comes. What fails is the last event.
pub(super) fn answer(events: impl Stream<Item = Result<Vec<u8>, Problem>> + Send + 'static) -> Response {
    let beating = stream::unfold(Some(Box::pin(events)), |events| async move {
        let mut events = events?;
        match timeout(HEARTBEAT, events.next()).await {
            Err(_) => Some((Bytes::from_static(b":\n\n"), Some(events))),
            Ok(Some(Ok(bytes))) => Some((Bytes::from(bytes), Some(events))),
            Ok(Some(Err(problem))) => Some((Bytes::from(event("error", None, &problem.to_json())), None)),
            Ok(None) => None,
        }
    });
    // The first comment sends the answer's head.
    let began = stream::once(std::future::ready(Bytes::from_static(b":\n\n")));
    let body = Body::from_stream(began.chain(beating).map(Ok::<_, std::io::Error>));
    ([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_with_line_ends_stays_one_line() {
        let mut out = Vec::new();
        put("insert", Some(&"7-1"), b"{\"a\":{\n\"b\":1}}\n", &mut out);
        assert_eq!(out, b"event: insert\nid: 7-1\ndata: {\"a\":{ \"b\":1}}\n\n");
    }
}

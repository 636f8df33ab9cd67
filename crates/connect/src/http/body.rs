//! Owns how a request's body is taken in: whole, within its limit, or not at all.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH};
use axum::http::{HeaderMap, HeaderValue};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use millstream_catalog::fault::Code;
use millstream_problem::Problem;

use super::Limits;
use super::budget::Charge;

/// Reads the whole body. A body that breaks off or stalls gives an error, and nothing of it is used.
pub(super) async fn read(
    body: Body,
    headers: &HeaderMap,
    limits: &Limits,
    charge: &mut Charge,
) -> Result<Bytes, Problem> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limits.body_bytes) {
        return Err(too_large(limits));
    }
    if !charge.grow(declared.unwrap_or(0)) {
        return Err(no_room(limits));
    }
    let mut frames = body.into_data_stream();
    let Some(first) = next_frame(&mut frames, limits.body_idle).await? else { return Ok(Bytes::new()) };
    check(first.len(), limits, charge)?;
    let Some(second) = next_frame(&mut frames, limits.body_idle).await? else { return Ok(first) };
    let mut whole = BytesMut::with_capacity(declared.unwrap_or(first.len() + second.len()));
    whole.extend_from_slice(&first);
    let mut frame = Some(second);
    while let Some(bytes) = frame {
        check(whole.len() + bytes.len(), limits, charge)?;
        whole.extend_from_slice(&bytes);
        frame = next_frame(&mut frames, limits.body_idle).await?;
    }
    Ok(whole.freeze())
}

async fn next_frame(frames: &mut axum::body::BodyDataStream, idle: Duration) -> Result<Option<Bytes>, Problem> {
    match tokio::time::timeout(idle, frames.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
        Ok(Some(Err(error))) => Err(broken_off(&error.to_string())),
        Err(_) => Err(broken_off(&format!("nothing came for {} s", idle.as_secs()))),
    }
}

fn check(length: usize, limits: &Limits, charge: &mut Charge) -> Result<(), Problem> {
    if length > limits.body_bytes {
        Err(too_large(limits))
    } else if !charge.grow_to(length) {
        Err(no_room(limits))
    } else {
        Ok(())
    }
}

fn broken_off(reason: &str) -> Problem {
    Problem::new(Code::InvalidRequest, format!("the body broke off, nothing was stored: {reason}"))
        .header(CONNECTION, HeaderValue::from_static("close"))
}

fn too_large(limits: &Limits) -> Problem {
    let detail = format!("the body has more than {} bytes, the limit; send it in parts", limits.body_bytes);
    Problem::new(Code::TooLarge, detail).header(CONNECTION, HeaderValue::from_static("close"))
}

fn no_room(limits: &Limits) -> Problem {
    let detail = format!("request bodies under way take {} bytes together, the limit", limits.in_flight_bytes);
    Problem::new(Code::Busy, detail).header(CONNECTION, HeaderValue::from_static("close"))
}

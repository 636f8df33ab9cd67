//! Owns the life of an ingest request: checked, taken in, prepared, stored, answered.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use millstream_catalog::fault::Code;
use millstream_catalog::{ObjectName, Stream, StreamId};
use millstream_problem::Problem;
use millstream_process::{Engine, IdempotencyKey};
use tokio::sync::Semaphore;
use twox_hash::XxHash64;

use super::budget::Budget;
use super::prepare::{Prepared, Work};
use super::{Limits, body, reply, request};
use crate::decode::compression::Encoding;
use crate::decode::{DecodeLimits, Plan};

/// Bodies up to this size are decoded where they arrive: handing them to another thread would cost more.
const INLINE_BYTES: usize = 64 << 10;
/// Part of what is stored with a key: another seed makes every retry look like another body.
const CONTENT_HASH_SEED: u64 = 0;
/// Plans of this many streams are kept.
const MAX_PLANS: usize = 4096;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Door {
    engine: Engine,
    limits: Limits,
    budget: Budget,
    requests: Semaphore,
    /// Large bodies that may be decoded at once.
    decoders: Semaphore,
    plans: RwLock<HashMap<StreamId, Arc<Plan>>>,
}

impl Door {
    pub fn new(engine: Engine, limits: Limits) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            engine,
            budget: Budget::new(limits.in_flight_bytes),
            requests: Semaphore::new(limits.requests),
            decoders: Semaphore::new(cores),
            plans: RwLock::default(),
            limits,
        }
    }

    fn plan(&self, stream: &Stream) -> Arc<Plan> {
        let plans = self.plans.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&stream.id)
            && plan.version() == stream.version
        {
            return Arc::clone(plan);
        }
        drop(plans);
        let plan = Arc::new(Plan::new(stream));
        let mut plans = self.plans.write().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= MAX_PLANS {
            plans.clear();
        }
        plans.insert(stream.id, Arc::clone(&plan));
        plan
    }
}

/// `POST /v1/streams/{stream}`.
pub(super) async fn ingest(
    State(door): State<Arc<Door>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Response, Problem> {
    let name = stream_name(name)?;
    let stream = door.engine.stream(&name)?;
    let (format, encoding) = (request::format(&headers)?, request::encoding(&headers)?);
    let key = request::idempotency_key(&headers)?;
    let _request = door.requests.try_acquire().map_err(|_| too_many(&door.limits))?;
    let mut charge = door.budget.open();
    let body = body::read(sent, &headers, &door.limits, &mut charge).await?;
    let key = key.map(|key| IdempotencyKey { key, content: XxHash64::oneshot(CONTENT_HASH_SEED, &body) });
    let work = Work {
        plan: door.plan(&stream.definition()),
        stream: stream.clone(),
        format,
        encoding,
        body,
        limits: DecodeLimits { max_row_bytes: door.limits.row_bytes, max_decoded_bytes: door.limits.decoded_bytes },
        charge,
    };
    let prepared = prepared(&door, work).await?;
    let receipt = stream.append(prepared.batch, prepared.quarantined, key).await?;
    if !receipt.duplicate {
        stream.count_unknown_fields(prepared.unknown_fields);
    }
    Ok(reply::stored(receipt, &prepared.errors, prepared.unknown_fields))
}

/// Prepares a small body here, a large one on a thread of its own.
async fn prepared(door: &Door, work: Work) -> Result<Prepared, Problem> {
    if work.encoding == Encoding::Identity && work.body.len() <= INLINE_BYTES {
        return work.prepare();
    }
    let _decoder = door.decoders.acquire().await;
    tokio::task::spawn_blocking(move || work.prepare())
        .await
        .map_err(|_| Problem::new(Code::Internal, "decoding the body failed; nothing was stored"))?
}

fn stream_name(path: Result<Path<String>, PathRejection>) -> Result<ObjectName, Problem> {
    let Path(text) = path.map_err(|e| Problem::new(Code::InvalidName, e.body_text()))?;
    let name = ObjectName::parse(&text)?;
    if name.is_system() {
        let detail = format!("stream {name} is the platform's own; only the platform writes to it");
        return Err(Problem::new(Code::Denied, detail));
    }
    Ok(name)
}

fn too_many(limits: &Limits) -> Problem {
    Problem::new(Code::Busy, format!("{} ingest requests are under way, the limit", limits.requests))
}

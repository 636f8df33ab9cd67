//! Owns the running of OPTIMIZE and VACUUM.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_catalog::ObjectName;
use millstream_catalog::fault::Code;
use millstream_store::LakeTable;

use super::commands::rows_of;
use super::{Outcome, Session};
use crate::background::{age_once, open_table, tier_once, vacuum_retention};
use crate::ddl::Command;
use crate::external::refuse_others;
use crate::rounds::Round;
use crate::stream::OpenStream;
use crate::{Error, Result};

pub(super) const OPTIMIZE: [&str; 5] = ["name", "files_removed", "files_added", "bytes_removed", "bytes_added"];
pub(super) const TEMPERATURE: [&str; 5] = ["name", "files_moved", "bytes_moved", "files_expired", "rows_expired"];
pub(super) const VACUUM: [&str; 3] = ["name", "files_deleted", "bytes_deleted"];
pub(super) const VACUUM_DRY_RUN: [&str; 1] = ["path"];
/// Runs a command that looks after a table's files.
pub(super) async fn run(session: &Session, command: &Command) -> Result<Outcome> {
    match command {
        Command::Optimize { name, zorder } => optimize(session, name, zorder).await,
        Command::OptimizeTemperature { name } => temperature(session, name).await,
        Command::Vacuum { name, retain_ms, dry_run } => vacuum(session, name, *retain_ms, *dry_run).await,
        other => Err(Error::rejected(Code::Internal, format!("{other:?} does not look after the lake"))),
    }
}

/// The table or stream of that name, and its Delta table. What waits for the lake is taken in first; from then on the
/// files that a table's log names are known, and not taken for leftovers.
async fn lake_table(session: &Session, name: &ObjectName) -> Result<(Arc<OpenStream>, LakeTable)> {
    let stream = match session.shared.kind_of(name) {
        Some("table" | "stream") => session.shared.stream(name)?,
        Some(kind) => {
            let message = format!("{name} is a {kind}: OPTIMIZE and VACUUM take a table or a stream");
            return Err(Error::rejected(Code::WrongObjectType, message));
        }
        None => return Err(millstream_catalog::Error::NotFound { kind: "table", name: name.to_string() }.into()),
    };
    refuse_others(&stream, "OPTIMIZE and VACUUM are for what lies in the lake", "do it where the table was made")?;
    tier_once(&session.shared, &stream).await?;
    if let Some(table) = stream.table() {
        table.look(&session.shared, &stream).await?;
    }
    let table = open_table(&session.shared, &stream).await?;
    Ok((stream, table))
}

async fn optimize(session: &Session, name: &ObjectName, zorder: &[String]) -> Result<Outcome> {
    let shared = &session.shared;
    let (stream, table) = lake_table(session, name).await?;
    check_columns(&stream, zorder)?;
    // A dropped table's folder goes when this lock is free, and must not be written to again.
    let _one_at_a_time = stream.care_lock.lock().await;
    still_there(&stream)?;
    let _permit = shared.care_permits.acquire().await;
    let began = Instant::now();
    let order = (!zorder.is_empty()).then(|| zorder.to_vec());
    let done = table.optimize(order, shared.options.clock.now_us() / 1000).await;
    shared.rounds.record(Round::of("optimize", name, began.elapsed(), &done));
    let report = done?;
    let row = [report.files_compacted, report.files_written, report.bytes_compacted, report.bytes_written];
    let row = std::iter::once(Some(name.to_string())).chain(row.iter().map(|n| Some(n.to_string())));
    rows_of(&OPTIMIZE, vec![row.collect()], "OPTIMIZE")
}

/// Rows are ordered by columns that are there.
fn check_columns(stream: &OpenStream, zorder: &[String]) -> Result<()> {
    let columns = &stream.definition().stream.columns;
    match zorder.iter().find(|name| columns.iter().all(|column| column.name != **name)) {
        None => Ok(()),
        Some(name) => {
            let known: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let (kind, of) = (stream.kind(), stream.name());
            let message =
                format!("column {name:?} of {kind} {of} does not exist; the columns are {}", known.join(", "));
            Err(Error::rejected(Code::UndefinedColumn, message))
        }
    }
}

/// Moves and expires what is due by the table's options.
async fn temperature(session: &Session, name: &ObjectName) -> Result<Outcome> {
    let (stream, _) = lake_table(session, name).await?;
    still_there(&stream)?;
    let aged = age_once(&session.shared, &stream, "temperature").await?;
    let row = [aged.cooled.files, aged.cooled.bytes, aged.expired.files, aged.expired.rows];
    let row = std::iter::once(Some(name.to_string())).chain(row.iter().map(|n| Some(n.to_string())));
    rows_of(&TEMPERATURE, vec![row.collect()], "OPTIMIZE")
}

async fn vacuum(session: &Session, name: &ObjectName, retain_ms: Option<u64>, dry_run: bool) -> Result<Outcome> {
    let shared = &session.shared;
    let (stream, table) = lake_table(session, name).await?;
    let _one_at_a_time = stream.care_lock.lock().await;
    still_there(&stream)?;
    let _permit = shared.care_permits.acquire().await;
    let retention = retain_ms.map_or_else(|| vacuum_retention(shared, &stream), Duration::from_millis);
    let began = Instant::now();
    let done = table.vacuum(retention, shared.options.clock.now_us() / 1000, dry_run).await;
    if dry_run {
        let rows = done?.files.into_iter().map(|path| vec![Some(path)]);
        return rows_of(&VACUUM_DRY_RUN, rows.collect(), "VACUUM");
    }
    let report = done.map(|v| (v.files.len() as u64, v.bytes));
    shared.rounds.record(Round::of_vacuum(name, began.elapsed(), &report));
    let (files, bytes) = report?;
    rows_of(&VACUUM, vec![vec![Some(name.to_string()), Some(files.to_string()), Some(bytes.to_string())]], "VACUUM")
}

fn still_there(stream: &OpenStream) -> Result<()> {
    match stream.closing.is_cancelled() {
        false => Ok(()),
        true => {
            let name = stream.name().to_string();
            Err(millstream_catalog::Error::NotFound { kind: stream.kind(), name }.into())
        }
    }
}

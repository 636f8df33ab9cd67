//! Owns time travel: a table as it was at a version of its Delta table, or at a time.
//!
//! A version holds what was merged into the lake by then. A time between two versions is read from the earlier one and
//! the log after it, as long as the log has those records; else it is what the earlier version holds.

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime};
use millstream_catalog::Positions;
use millstream_catalog::fault::Code;
use millstream_store::LakeSnapshot;

use super::hot::Hot;
use super::state::TableSnapshot;
use crate::background::open_table;
use crate::engine::Shared;
use crate::read::{BatchAdapter, reader_schema};
use crate::stream::OpenStream;
use crate::{Error, Result};

/// A point in a table's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AsOf {
    /// A version of the Delta table.
    Version(i64),
    /// A time, µs since 1970.
    Time(i64),
}

/// Stands between a table's name and the point in its history, in names that the planner sees, and messages.
const MARK: &str = " as of ";
const VERSION: &str = "version ";
const TIME: &str = "%Y-%m-%d %H:%M:%S%.f";

impl AsOf {
    /// The name that stands for the table at that point.
    pub(crate) fn name_for(self, table: &str) -> String {
        match self {
            AsOf::Version(version) => format!("{table}{MARK}{VERSION}{version}"),
            AsOf::Time(us) => match DateTime::from_timestamp_micros(us) {
                Some(time) => format!("{table}{MARK}{}", time.naive_utc().format(TIME)),
                None => format!("{table}{MARK}{us} µs"),
            },
        }
    }

    /// The table and the point that such a name stands for.
    pub(crate) fn of_name(name: &str) -> Option<(&str, AsOf)> {
        let (table, point) = name.rsplit_once(MARK)?;
        let point = match (point.strip_prefix(VERSION), point.strip_suffix(" µs")) {
            (Some(version), _) => AsOf::Version(version.parse().ok()?),
            (None, Some(us)) => AsOf::Time(us.parse().ok()?),
            (None, None) => AsOf::Time(NaiveDateTime::parse_from_str(point, TIME).ok()?.and_utc().timestamp_micros()),
        };
        Some((table, point))
    }
}

/// The table as it was at that point.
pub(crate) async fn snapshot_as_of(
    shared: &Arc<Shared>,
    table: &Arc<OpenStream>,
    point: AsOf,
) -> Result<TableSnapshot> {
    let lake_table = open_table(shared, table).await?;
    let until_us = match point {
        AsOf::Version(version) => {
            let lake = lake_table.snapshot_at(version).await.map_err(|e| gone(table, e))?;
            let reshaped = same_columns(table, &lake, &format!("version {version}"))?;
            let hot = Arc::new(Hot::at(lake.positions.get(0)));
            return Ok(TableSnapshot { hot, table: lake_table, lake, reshaped });
        }
        AsOf::Time(us) => us,
    };
    if until_us > shared.options.clock.now_us() {
        let message = format!("table {} cannot be read as of a time that is still to come", table.name());
        return Err(Error::rejected(Code::InvalidRequest, message));
    }
    // The log is pinned first: what it loses meanwhile is in a later version, which is not wanted.
    let view = table.log().view();
    let version = lake_table.version_at(until_us.div_euclid(1000)).await.map_err(|e| gone(table, e))?;
    let lake = lake_table.snapshot_at(version).await.map_err(|e| gone(table, e))?;
    let reshaped = same_columns(table, &lake, "its state then")?;
    let seam = lake.positions.get(0);
    let mut hot = Hot::at(seam);
    if view.start().get(0) <= seam && seam < view.end().get(0) {
        let adapter = BatchAdapter::new(reader_schema(&table.definition().full_schema));
        let lake = lake_table.clone();
        let read = move || {
            for batch in view.read(&Positions(vec![seam]))? {
                let batch = batch?;
                if batch.ingest_time_us > until_us {
                    break;
                }
                hot.take(&batch, &adapter, &lake)?;
            }
            Ok::<_, Error>(hot)
        };
        hot = tokio::task::spawn_blocking(read)
            .await
            .map_err(|e| Error::rejected(Code::Internal, format!("reading a table's log ended early: {e}")))??;
    }
    Ok(TableSnapshot { hot: Arc::new(hot), table: lake_table, lake, reshaped })
}

/// Refuses what was before the table's columns became what they are, other than by adding some.
fn same_columns(table: &OpenStream, lake: &LakeSnapshot, what: &str) -> Result<u32> {
    let stream = Arc::clone(&table.definition().stream);
    let since = stream.table.as_ref().and_then(|spec| spec.reshape.as_ref()).map_or(0, |reshape| reshape.since);
    if lake.reshaped() >= since {
        return Ok(stream.reshaped());
    }
    Err(Error::Rejected {
        code: Code::InvalidRequest,
        message: format!(
            "{what} of table {} cannot be read: a column was dropped, renamed or given another type since",
            table.name()
        ),
        hint: Some(format!("DESCRIBE HISTORY {} tells when; versions behind that can be read", table.name())),
        position: None,
    })
}

/// What the lake says of a version that it cannot give, in the words of SQL.
fn gone(table: &OpenStream, error: millstream_store::Error) -> Error {
    match error {
        millstream_store::Error::NoVersion { what, why, oldest, newest, .. } => Error::Rejected {
            code: Code::InvalidRequest,
            message: format!("{what} of table {} cannot be read: {why}", table.name()),
            hint: Some(format!("versions {oldest} to {newest} can; DESCRIBE HISTORY {} tells of them", table.name())),
            position: None,
        },
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_the_table_and_the_point() {
        assert_eq!(AsOf::Time(1_767_225_600_500_000).name_for("o"), "o as of 2026-01-01 00:00:00.500");
        for point in [AsOf::Version(12), AsOf::Time(-5), AsOf::Time(1_767_225_600_000_000), AsOf::Time(i64::MAX)] {
            assert_eq!(AsOf::of_name(&point.name_for("orders")), Some(("orders", point)));
        }
        assert_eq!(AsOf::of_name("orders"), None);
        assert_eq!(AsOf::of_name("orders as of old"), None);
    }
}

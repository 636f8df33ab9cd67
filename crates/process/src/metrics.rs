//! Owns the metrics in Prometheus' text format.

use std::fmt::Write;

use crate::engine::{Engine, Shared};
use crate::stream::{Counters, OpenStream};

/// A metric: name, `counter` or `gauge`, help, and its value for one stream.
type StreamMetric = (&'static str, &'static str, &'static str, fn(&OpenStream) -> u64);

const STREAM_METRICS: [StreamMetric; 13] = [
    ("millstream_stream_rows", "gauge", "Rows ever accepted.", |s| s.log().stats().end.total()),
    ("millstream_stream_lag_rows", "gauge", "Rows that are not in the lake yet.", |s| {
        s.log().stats().end.rows_since(&s.lake_positions())
    }),
    ("millstream_stream_log_bytes", "gauge", "Bytes of the log on disk.", |s| s.log().stats().disk_bytes),
    ("millstream_stream_memory_bytes", "gauge", "Bytes of recent rows in memory.", |s| s.log().stats().memory_bytes),
    ("millstream_stream_fsyncs_total", "counter", "Fsyncs of the log.", |s| s.log().stats().fsyncs),
    ("millstream_stream_accepted_rows_total", "counter", "Rows accepted.", |s| {
        Counters::get(&s.counters.accepted_rows)
    }),
    ("millstream_stream_quarantined_rows_total", "counter", "Rows sent to quarantine.", |s| {
        Counters::get(&s.counters.quarantined_rows)
    }),
    ("millstream_stream_duplicate_requests_total", "counter", "Requests that repeated a key.", |s| {
        Counters::get(&s.counters.duplicate_requests)
    }),
    ("millstream_stream_unknown_fields_total", "counter", "JSON fields that were not kept.", |s| {
        Counters::get(&s.counters.unknown_fields)
    }),
    ("millstream_stream_tiered_rows_total", "counter", "Rows moved to the lake.", |s| {
        Counters::get(&s.counters.tiered_rows)
    }),
    ("millstream_stream_lake_bytes", "gauge", "Bytes of the lake's files.", |s| {
        s.lake_table().map_or(0, |t| t.snapshot().bytes)
    }),
    ("millstream_stream_lake_files", "gauge", "Number of the lake's files.", |s| {
        s.lake_table().map_or(0, |t| t.snapshot().files)
    }),
    ("millstream_stream_writes_refused", "gauge", "1 while writes are refused.", |s| {
        u64::from(s.log().stats().poisoned.is_some())
    }),
];

impl Engine {
    /// The metrics in Prometheus text format, `millstream_…`.
    pub fn metrics_text(&self) -> String {
        let mut text = String::new();
        node_metrics(&self.shared, &mut text);
        let streams = self.shared.streams();
        for (name, kind, help, value) in STREAM_METRICS {
            head(&mut text, name, kind, help);
            for stream in &streams {
                // Stream names hold nothing that needs escaping in a label.
                let _ = writeln!(text, "{name}{{stream=\"{}\"}} {}", stream.name(), value(stream));
            }
        }
        job_metrics(&self.shared, &mut text);
        text
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn node_metrics(shared: &Shared, text: &mut String) {
    let (running, started, failed) = shared.queries.counts();
    let uptime_us = (shared.options.clock.now_us() - shared.started_us).max(0) as u64;
    let memory = shared.context().map_or(0, |c| c.runtime_env().memory_pool.reserved() as u64);
    let metrics = [
        ("millstream_uptime_seconds", "gauge", "Seconds since the node started.", uptime_us / 1_000_000),
        ("millstream_queries_running", "gauge", "Queries that are running.", running),
        ("millstream_queries_total", "counter", "Queries that were started.", started),
        ("millstream_queries_failed_total", "counter", "Queries that failed.", failed),
        ("millstream_query_memory_bytes", "gauge", "Memory that queries hold.", memory),
        (
            "millstream_streams_broken",
            "gauge",
            "Streams that could not be opened.",
            shared.broken("stream").len() as u64,
        ),
        ("millstream_tables_broken", "gauge", "Tables that could not be opened.", shared.broken("table").len() as u64),
    ];
    for (name, kind, help, value) in metrics {
        head(text, name, kind, help);
        let _ = writeln!(text, "{name} {value}");
    }
}

fn job_metrics(shared: &Shared, text: &mut String) {
    let jobs = shared.jobs.list();
    let name = "millstream_job_failures_in_a_row";
    head(text, name, "gauge", "Failed runs of a background task since its last success.");
    for job in &jobs {
        let (kind, object) = (job.kind, &job.object);
        let _ = writeln!(text, "{name}{{kind=\"{kind}\",object=\"{object}\"}} {}", job.failures_in_a_row);
    }
}

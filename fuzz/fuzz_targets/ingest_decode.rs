//! Feeds the ingest decoder any bytes, in every format: it must not panic, must account for every line, and must
//! decode each accepted row to the same values when it is sent alone.
#![no_main]

use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Once};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_catalog::{Column, DataType, ObjectName, RowField, Stream, StreamId, StreamOptions};

/// The decoder alone, without its crate and what that depends on.
#[path = "../../crates/connect/src"]
#[allow(dead_code, unused_imports, reason = "the target asks for less than the doors do")]
mod connect {
    pub mod decode;
}

use connect::decode;
use decode::compression::{Encoding, decompress};
use decode::{DecodeLimits, Decoded, Format, Plan};

static PLAN: LazyLock<Plan> = LazyLock::new(|| Plan::new(&stream()));

const LIMITS: DecodeLimits = DecodeLimits { max_row_bytes: 4096, max_decoded_bytes: 8 << 20 };

/// Whether the decoder catches panics just now: the Arrow library's, on streams that it does not check.
static CATCHES: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// libFuzzer ends the process in its hook at every panic, caught or not; those that come through end it anyway.
fn let_caught_panics_pass() {
    panic::set_hook(Box::new(|panic| {
        if !CATCHES.load(Ordering::Relaxed) {
            eprintln!("{panic}");
        }
    }));
}

fuzz_target!(|input: &[u8]| {
    HOOK.call_once(let_caught_panics_pass);
    let Some((choice, body)) = input.split_first() else { return };
    match choice % 6 {
        0 => lines(body),
        1 => drop(run(Format::Json, body)),
        2 => drop(run(Format::Csv, body)),
        3 => {
            CATCHES.store(true, Ordering::Relaxed);
            drop(run(Format::ArrowStream, body));
            CATCHES.store(false, Ordering::Relaxed);
        }
        4 => drop(decompress(Encoding::Gzip, body, 1 << 20, |_| true)),
        _ => drop(decompress(Encoding::Zstd, body, 1 << 20, |_| true)),
    }
});

fn run(format: Format, body: &[u8]) -> Option<Decoded> {
    let decoded = decode::decode(&PLAN, format, &Bytes::copy_from_slice(body), LIMITS).ok()?;
    let mut origins = decoded.origins.reader(body);
    for row in 0..decoded.batch.num_rows().min(64) {
        assert!(origins.locate(row).0 > 0, "every row stood on a line");
    }
    Some(decoded)
}

fn lines(body: &[u8]) {
    let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r');
    let first = body.iter().find(|b| !blank(b) && **b != b'\n');
    if matches!(first, None | Some(b'[')) || body.starts_with(b"\xef\xbb\xbf") {
        return;
    }
    let Some(decoded) = run(Format::JsonLines, body) else { return };
    let blanks = body.split(|b| *b == b'\n').filter(|line| line.iter().all(blank)).count();
    let total = body.split(|b| *b == b'\n').count();
    assert_eq!(decoded.batch.num_rows() + decoded.rejected.len() + blanks, total, "every line is accounted for");
    let mut origins = decoded.origins.reader(body);
    for row in 0..decoded.batch.num_rows() {
        let (_, text) = origins.locate(row);
        let alone = run(Format::JsonLines, text.as_bytes()).expect("a row that was accepted is within the limits");
        assert_eq!(alone.batch, decoded.batch.slice(row, 1), "a row does not depend on its neighbours");
    }
}

/// A column of every type, and `_rest`.
fn stream() -> Stream {
    let row = DataType::Row(vec![
        RowField { name: "a".into(), data_type: DataType::Int },
        RowField { name: "b".into(), data_type: DataType::Array(Box::new(DataType::Text)) },
    ]);
    let types = [
        DataType::Boolean,
        DataType::SmallInt,
        DataType::Int,
        DataType::BigInt,
        DataType::Real,
        DataType::Double,
        DataType::Decimal { precision: 12, scale: 3 },
        DataType::Text,
        DataType::Bytea,
        DataType::Date,
        DataType::Time,
        DataType::Timestamp,
        DataType::TimestampTz,
        DataType::Interval,
        DataType::Uuid,
        DataType::Json,
        DataType::Array(Box::new(row.clone())),
        row,
    ];
    let mut columns: Vec<Column> =
        types.into_iter().enumerate().map(|(i, data_type)| Column::new(format!("c{i}"), data_type)).collect();
    columns.push(Column::new("_rest", DataType::Json));
    Stream {
        id: StreamId(uuid::Uuid::nil()),
        name: ObjectName::public("s").expect("a good name"),
        columns,
        checks: Vec::new(),
        watermark: None,
        partition_by: Vec::new(),
        options: StreamOptions { rest: true, ..StreamOptions::default() },
        comment: None,
        version: 1,
        created_at_ms: 0,
    }
}

//! Owns the form of answers as `answers/` holds them: the number of rows, a hash over all of them and the first few,
//! sorted as text. So a change of the generator or of a query shows.

use std::fmt::Write as _;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_nexmark::Query;

/// Rows that an answer shows.
const SHOWN: usize = 10;

/// Where a query's answer is.
pub(crate) fn path(query: &Query) -> PathBuf {
    let file = format!("{}.txt", query.name());
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("answers").join(file)
}

/// What differs from the answer that a query holds.
pub(crate) fn difference(query: &Query, found: &str) -> Option<String> {
    let expected = std::fs::read_to_string(path(query)).unwrap_or_default();
    (found != expected).then(|| format!("{}: expected\n{expected}found\n{found}", query.name()))
}

/// An answer in that form.
pub(crate) fn rendered(names: &[&str], batches: &[RecordBatch]) -> String {
    let mut rows: Vec<String> = batches.iter().flat_map(lines).collect();
    rows.sort_unstable();
    let mut hash = blake3::Hasher::new();
    rows.iter().for_each(|row| {
        hash.update(row.as_bytes()).update(b"\n");
    });
    let mut text = format!("{} rows, blake3 {}\n{}\n", rows.len(), hash.finalize().to_hex(), names.join(" | "));
    rows.iter().take(SHOWN).for_each(|row| {
        let _ = writeln!(text, "{row}");
    });
    text
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let columns: Vec<ArrayFormatter<'_>> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let line = |row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" | ");
    (0..batch.num_rows()).map(line).collect()
}

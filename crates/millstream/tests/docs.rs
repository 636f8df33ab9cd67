//! Holds the reference pages to the code: the table of failures is what the code says.
//!
//! `UPDATE_DOCS=1 cargo test -p millstream --test docs` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use millstream_catalog::fault::{Code, Kind};

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

/// Compares what lies between `<!-- name -->` and `<!-- /name -->` in a page with `expected`.
fn hold(file: &str, name: &str, expected: &str) {
    let path = page(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&open).unwrap_or_else(|| panic!("{file} has no {open}"));
    let (found, after) = rest.split_once(&close).unwrap_or_else(|| panic!("{file} has no {close}"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{open}{expected}{close}{after}")).unwrap();
    } else {
        assert_eq!(found, expected, "{file} is not what the code says; UPDATE_DOCS=1 writes it anew");
    }
}

#[test]
fn the_table_of_failures_is_the_codes() {
    let mut table =
        String::from("| code | status | SQLSTATE | exit code | try again? |\n| --- | --- | --- | --- | --- |\n");
    for code in Code::ALL {
        let again = match (code.kind(), code.retry_after()) {
            (_, Some(after)) => format!("after {} s", after.as_secs()),
            (Kind::Unavailable, None) => "if it matters".to_owned(),
            _ => "no".to_owned(),
        };
        let (name, status, state, exit) = (code.name(), code.http_status(), code.sqlstate(), code.exit_code());
        writeln!(table, "| `{name}` | {status} | {state} | {exit} | {again} |").unwrap();
    }
    hold("http.md", "failures", &table);
}

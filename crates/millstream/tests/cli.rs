//! The command line as scripts see it: what it prints, what it refuses, how it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// A node of a test's own; killed when dropped.
struct Node {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    url: String,
}

fn millstream(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MILLSTREAM_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    millstream(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl Node {
    /// Starts and waits for the line that says where it listens.
    fn start(data: &Path) -> Self {
        let data = data.to_str().unwrap();
        let args = ["serve", "--data", data, "--listen", "127.0.0.1:0", "--pg-listen", "127.0.0.1:0"];
        let mut child = millstream(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.split_whitespace().find(|w| w.starts_with("http://")).expect("an address is printed").to_owned();
        Self { child, _stdout: stdout, url }
    }

    fn sql(&self, args: &[&str]) -> Output {
        output(&[&["sql", "--url", &self.url], args].concat())
    }

    fn rows(&self, sql: &str) -> String {
        let output = self.sql(&["--format", "csv", "-c", sql]);
        assert!(output.status.success(), "{sql}: {}", text(&output.stderr));
        text(&output.stdout).lines().skip(1).collect::<Vec<_>>().join("\n")
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn ingest(&self, stream: &str, file: &Path) -> Output {
        output(&["ingest", stream, file.to_str().unwrap(), "--url", &self.url])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn config_prints_every_value_and_where_it_came_from() {
    let output = millstream(&["config", "--tier-age", "5s"]).env("MILLSTREAM_LOG", "debug").output().unwrap();
    let printed = text(&output.stdout);
    assert!(printed.lines().any(|l| l.starts_with("age = \"5s\"") && l.ends_with("# --tier-age")), "{printed}");
    assert!(
        printed.lines().any(|l| l.starts_with("level = \"debug\"") && l.ends_with("# MILLSTREAM_LOG")),
        "{printed}"
    );
    assert!(
        printed.lines().any(|l| l.starts_with("listen = \"127.0.0.1:7400\"") && l.ends_with("# default")),
        "{printed}"
    );
}

#[test]
fn listening_beyond_loopback_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = output(&["serve", "--listen", "0.0.0.0:0", "--data", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there is no authentication yet"), "{}", text(&output.stderr));
}

#[test]
fn sql_prints_tables_json_and_csv_and_ends_with_the_failures_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path());
    let sql = "SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, NULL ORDER BY 1";
    assert_eq!(text(&node.sql(&["-c", sql]).stdout), " a |  b\n---+------\n 1 | x\n 2 | NULL\n(2 rows)\n");
    let json: serde_json::Value = serde_json::from_slice(&node.sql(&["--format", "json", "-c", sql]).stdout).unwrap();
    assert_eq!(json, serde_json::json!([{"a": 1, "b": "x"}, {"a": 2, "b": null}]));
    assert_eq!(text(&node.sql(&["--format", "csv", "-c", sql]).stdout).replace('\r', ""), "a,b\n1,x\n2,\n");

    let failed = node.sql(&["-c", "SELECT 1;\nSELEC 2"]);
    assert_eq!(failed.status.code(), Some(2), "{}", text(&failed.stderr));
    assert!(text(&failed.stdout).contains("(1 row)"));
    let missing = node.sql(&["-c", "SELECT * FROM nowhere"]);
    assert_eq!(missing.status.code(), Some(3), "{}", text(&missing.stderr));
}

#[test]
fn sql_reads_statements_from_a_file_and_from_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path());
    let file = folder.path().join("a.sql");
    std::fs::write(&file, "-- first\nCREATE STREAM s (a integer);\nSELECT count(*) AS n FROM s;").unwrap();
    let from_file = node.sql(&["--format", "csv", "-f", file.to_str().unwrap()]);
    assert_eq!(text(&from_file.stdout).replace('\r', ""), "n\n0\n", "{}", text(&from_file.stderr));
    let mut child = millstream(&["sql", "--url", &node.url, "--format", "csv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"SELECT 7 AS n").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout).replace('\r', ""), "n\n7\n");
}

#[test]
fn without_a_node_the_message_says_how_to_start_one() {
    let output = output(&["sql", "--url", "http://127.0.0.1:9", "-c", "SELECT 1"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(text(&output.stderr).contains("millstream serve"), "{}", text(&output.stderr));
}

#[test]
fn files_are_loaded_once_however_often_they_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    node.rows("CREATE STREAM s (a integer NOT NULL, b text)");
    let ndjson = folder.path().join("a.ndjson");
    let lines: String = (0..25_000).map(|i| format!("{{\"a\": {i}, \"b\": \"x\"}}\n")).collect();
    std::fs::write(&ndjson, lines + "{\"a\": \"bad\"}\n").unwrap();
    let csv = folder.path().join("b.csv");
    std::fs::write(&csv, "a,b\n-1,\"two\nlines\"\nbad,x\n-2,y\n").unwrap();

    let first = node.ingest("s", &ndjson);
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert!(
        text(&first.stdout).starts_with("s: 25,000 rows added, 0 there already, 1 in quarantine"),
        "{}",
        text(&first.stdout)
    );
    assert!(text(&first.stderr).contains("line 25001: "), "{}", text(&first.stderr));
    let again = node.ingest("s", &ndjson);
    assert!(text(&again.stdout).starts_with("s: 0 rows added, 25,000 there already"), "{}", text(&again.stdout));
    let other = node.ingest("s", &csv);
    assert!(
        text(&other.stdout).starts_with("s: 2 rows added, 0 there already, 1 in quarantine"),
        "{}",
        text(&other.stdout)
    );
    assert!(text(&other.stderr).contains("line 4: "), "{}", text(&other.stderr));

    assert_eq!(node.rows("SELECT count(*), count(DISTINCT a), min(a), max(a) FROM s"), "25002,25002,-2,24999");
    assert_eq!(node.rows("SELECT count(*) FROM system.quarantine"), "2");
}

#[test]
fn a_load_that_was_cut_off_is_finished_by_running_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = folder.path().join("a.ndjson");
    let lines: String = (0..100_000).map(|i| format!("{{\"a\": {i}}}\n")).collect();
    std::fs::write(&file, lines).unwrap();
    let node = Node::start(&data);
    node.rows("CREATE STREAM s (a integer)");
    let mut load = millstream(&["ingest", "s", file.to_str().unwrap(), "--url", &node.url, "--parallel", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while node.rows("SELECT count(*) FROM s") == "0" {
        assert!(load.try_wait().unwrap().is_none(), "the load ended before a row was seen");
    }
    load.kill().unwrap();
    load.wait().unwrap();
    node.signal("-KILL");
    drop(node);

    let node = Node::start(&data);
    let again = node.ingest("s", &file);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert_eq!(node.rows("SELECT count(*), count(DISTINCT a) FROM s"), "100000,100000");
}

#[test]
fn an_unknown_stream_is_named_with_the_exit_code_for_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"));
    let file = folder.path().join("a.ndjson");
    std::fs::write(&file, "{}\n").unwrap();
    let output = node.ingest("nowhere", &file);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("nowhere"), "{}", text(&output.stderr));
}

#[test]
fn the_demo_replays_a_year_of_flights_twice_and_its_answers_are_the_expected_ones() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("demo");
    let blueprint = concat!(env!("CARGO_MANIFEST_DIR"), "/../../blueprints/flights");
    let demo = || {
        let args = ["demo", "--once", "--blueprint", blueprint, "--data", data.to_str().unwrap()];
        let ports = ["--listen", "127.0.0.1:0", "--pg-listen", "127.0.0.1:0"];
        let output = output(&[&args[..], &ports].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let first = demo();
    assert!(first.contains("flights: 336,776 rows added ("), "{first}");
    assert!(first.contains("EWR    | CAE  | Columbia Metropolitan |     104 |      44.59"), "{first}");
    let second = demo();
    assert!(second.contains("flights: 0 rows added, 336,776 were there already"), "{second}");
}

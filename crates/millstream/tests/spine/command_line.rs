//! The command line against a running node: queries, and files taken in exactly once.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{LOG_ONLY, Node, Setup, block_on};

fn run(node: &Node, dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(arguments).current_dir(dir).env("MILLSTREAM_URL", format!("http://{}", node.http)).env("HOME", dir);
    command.output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn sql_prints_tables_json_and_csv_and_exits_by_the_error() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let node = Node::start(Setup::new(dir.path(), LOG_ONLY)).await;
        let csv = run(&node, dir.path(), &["sql", "--format", "csv", "-c", "SELECT 1 AS a, 'x' AS b"]);
        assert_eq!(stdout(&csv).replace("\r\n", "\n"), "a,b\n1,x\n");
        let json = run(&node, dir.path(), &["sql", "--format", "json", "-c", "SELECT 1 AS a"]);
        assert!(stdout(&json).contains("\"a\""), "{}", stdout(&json));
        let plain = run(&node, dir.path(), &["sql", "-c", "SELECT 41 + 1 AS answer"]);
        assert!(stdout(&plain).contains("answer") && stdout(&plain).contains("42"), "{}", stdout(&plain));
        std::fs::write(dir.path().join("two.sql"), "SELECT 1;\nSELECT 2 AS second;\n").expect("a file is written");
        let file = run(&node, dir.path(), &["sql", "-f", "two.sql"]);
        assert!(stdout(&file).contains("second"), "{}", stdout(&file));
        let wrong = run(&node, dir.path(), &["sql", "-c", "SELECT * FROM nowhere"]);
        assert_eq!(wrong.status.code(), Some(3), "{}", String::from_utf8_lossy(&wrong.stderr));
    });
}

#[test]
fn a_file_taken_in_twice_is_there_once() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let node = Node::start(Setup::new(dir.path(), LOG_ONLY)).await;
        let client = node.client();
        client.sql("CREATE STREAM filed (id BIGINT NOT NULL, name TEXT)").await;
        let ndjson: String = (0..20_000).map(|id| format!("{{\"id\":{id},\"name\":\"n{id}\"}}\n")).collect();
        let csv: String = (20_000..21_000).map(|id| format!("{id},n{id}\n")).collect();
        std::fs::write(dir.path().join("a.ndjson"), ndjson).expect("a file is written");
        std::fs::write(dir.path().join("b.csv"), format!("id,name\n{csv}")).expect("a file is written");
        for _ in 0..2 {
            stdout(&run(&node, dir.path(), &["ingest", "filed", "a.ndjson", "b.csv"]));
            let found = client.sql("SELECT count(*), count(DISTINCT id), max(id) FROM filed").await.ints();
            assert_eq!(found, [[21_000, 21_000, 20_999]]);
        }
    });
}

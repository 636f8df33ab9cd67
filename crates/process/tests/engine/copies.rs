//! COPY between files, streams and tables: what is taken, what is refused, what is there once.

use millstream_catalog::fault::{Code, Fault};
use millstream_process::Outcome;
use proptest::prelude::*;

use crate::files::{batch, write_parquet};
use crate::harness::Node;

const BOTH: [&str; 2] = ["s", "t"];

/// A node with a stream `s` and a table `t` of the same columns.
async fn node() -> Node {
    let node = Node::start().await;
    for (kind, name) in [("STREAM", "s"), ("TABLE", "t")] {
        let sql = format!(
            "CREATE {kind} {name} (id BIGINT NOT NULL, name TEXT, n SMALLINT DEFAULT 7, CONSTRAINT small CHECK (id < 1000000))"
        );
        node.ask(&sql).await.unwrap();
    }
    node
}

async fn count(node: &Node, relation: &str) -> i64 {
    node.number(&format!("SELECT count(*) FROM {relation}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_format_are_copied_by_name() {
    let node = node().await;
    let dir = node.dir.path();
    write_parquet(&dir.join("a.parquet"), &batch(0, 250));
    std::fs::write(dir.join("a.csv"), "name,ID\nx,300\n,301\n").unwrap();
    std::fs::write(dir.join("b.csv"), "302,y,1\n").unwrap();
    std::fs::write(dir.join("a.ndjson"), "{\"id\": 303, \"n\": null}\n{\"name\": \"z\", \"id\": 304}\n").unwrap();
    for target in BOTH {
        for (source, rows) in [
            ("'a.parquet'", 250),
            ("['a.csv']", 2),
            ("'b.csv' CSV", 1),
            ("'a.ndjson' WITH (FORMAT json)", 2),
            ("'**/a.parquet'", 250),
        ] {
            let tag = node.ask(&format!("COPY {target} FROM {source}")).await.unwrap();
            assert_eq!(tag, format!("COPY {rows}"), "{target} {source}");
        }
        assert_eq!(count(&node, target).await, 505);
        let defaults = format!("SELECT count(*) FROM {target} WHERE n = 7");
        assert_eq!(node.number(&defaults).await, 503, "a column that is not there takes its default");
        node.ask(&format!("COPY {target} (name, id) FROM 'b2.csv'")).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_does_not_fit_is_told_and_nothing_is_added() {
    let node = node().await;
    let dir = node.dir.path();
    let good: String = (0..20_000).map(|i| format!("{i},a,1\n")).collect();
    std::fs::write(dir.join("late.csv"), format!("id,name,n\n{good}20000,b,70000\n20001,c,2\n")).unwrap();
    std::fs::write(dir.join("null.csv"), "id,name,n\n,b,1\n").unwrap();
    std::fs::write(dir.join("check.ndjson"), "{\"id\": 1}\n{\"id\": 2000000}\n").unwrap();
    std::fs::write(dir.join("strange.csv"), "id,colour\n1,red\n").unwrap();
    std::fs::write(dir.join("short.csv"), "id,name,n\n1,a\n").unwrap();
    write_parquet(&dir.join("a.parquet"), &batch(999_999, 2));
    for target in BOTH {
        for (file, code, parts) in [
            ("late.csv", Code::OutOfRange, &["\"late.csv\", line 20002", "column \"n\"", "\"70000\"", "smallint"][..]),
            ("null.csv", Code::NotNullViolation, &["line 2", "\"id\""]),
            ("check.ndjson", Code::CheckViolation, &["line 2", "small"]),
            ("strange.csv", Code::UndefinedColumn, &["colour", "id, name, n"]),
            ("short.csv", Code::BadFile, &["line 2", "2 values, 3"]),
            ("a.parquet", Code::CheckViolation, &["a.parquet", "line 2", "small"]),
            ("none.csv", Code::UndefinedFile, &["none.csv"]),
        ] {
            let error = node.ask(&format!("COPY {target} FROM '{file}'")).await.unwrap_err();
            assert_eq!(error.code(), code, "{target} {file}: {error}");
            for part in parts {
                assert!(error.to_string().contains(part), "{file}: {error} does not say {part}");
            }
        }
        assert_eq!(count(&node, target).await, 0);
        let tag = node.ask(&format!("COPY {target} FROM 'late.csv' WITH (ON_ERROR quarantine)")).await.unwrap();
        assert_eq!(tag, "COPY 20001");
        let set_aside = format!(
            "SELECT count(*) FROM system.quarantine WHERE stream = '{target}' AND original = '20000,b,70000' \
             AND reason LIKE 'late.csv, line 20002: %'"
        );
        assert_eq!(node.number(&set_aside).await, 1);
    }
    for (sql, code) in [
        ("COPY nothing FROM 'late.csv'", Code::UndefinedObject),
        ("COPY s (colour) FROM 'late.csv'", Code::UndefinedColumn),
        ("COPY s (id, id) FROM 'late.csv'", Code::DuplicateColumn),
        ("COPY system.quarantine FROM 'late.csv'", Code::Denied),
        ("COPY s FROM 'late.csv' (FORMT csv)", Code::InvalidRequest),
        ("COPY s FROM 'late.orc'", Code::InvalidRequest),
        ("COPY s FROM PROGRAM 'ls'", Code::Unsupported),
        ("COPY s", Code::SyntaxError),
    ] {
        let error = node.ask(sql).await.unwrap_err();
        assert_eq!(error.code(), code, "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_loaded_once_through_restarts() {
    let mut node = node().await;
    write_parquet(&node.dir.path().join("a.parquet"), &batch(0, 20_000));
    node.ask("CREATE TABLE k (id BIGINT PRIMARY KEY, name TEXT)").await.unwrap();
    for target in ["s", "t", "k"] {
        let copy = format!("COPY {target} FROM '*.parquet' WITH (once = true)");
        assert_eq!(node.ask(&copy).await.unwrap(), "COPY 20000");
        assert_eq!(node.ask(&copy).await.unwrap(), "COPY 0", "{target}");
        node = node.restart().await;
        assert_eq!(node.ask(&copy).await.unwrap(), "COPY 0", "{target}");
        write_parquet(&node.dir.path().join("b.parquet"), &batch(20_000, 10));
        assert_eq!(node.ask(&copy).await.unwrap(), "COPY 10", "only the file that is new");
        std::fs::remove_file(node.dir.path().join("b.parquet")).unwrap();
        assert_eq!(count(&node, target).await, 20_010);
    }
    write_parquet(&node.dir.path().join("a.parquet"), &batch(0, 5));
    let changed = node.ask("COPY s FROM 'a.parquet' (once)").await.unwrap();
    assert_eq!(changed, "COPY 5", "a file that changed is another file");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_rows_than_wait_in_memory_are_added_whole_or_not_at_all() {
    let node = node().await;
    let dir = node.dir.path();
    let text = "x".repeat(200);
    let lines: String = (0..150_000).map(|i| format!("{i},{text}\n")).collect();
    std::fs::write(dir.join("big.csv"), &lines).unwrap();
    std::fs::write(dir.join("bad.csv"), format!("{lines}oops,a\n")).unwrap();
    for target in BOTH {
        let error = node.ask(&format!("COPY {target} (id, name) FROM 'bad.csv'")).await.unwrap_err();
        assert!(error.to_string().contains("line 150001"), "{error}");
        assert_eq!(count(&node, target).await, 0);
        assert_eq!(node.ask(&format!("COPY {target} (id, name) FROM 'big.csv'")).await.unwrap(), "COPY 150000");
        let sum = node.number(&format!("SELECT sum(id) FROM {target}")).await;
        assert_eq!(sum, 150_000 * 149_999 / 2);
    }
    let left = std::fs::read_dir(dir.join("spill")).unwrap();
    let left = left.filter(|entry| entry.as_ref().unwrap().path().is_file()).count();
    assert_eq!(left, 0, "what waited on the disk is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_to_a_file_is_read_back() {
    let node = Node::start().await;
    node.ask(
        "CREATE STREAM w (id BIGINT, t TEXT, b BYTEA, d DECIMAL(10,2), at TIMESTAMPTZ, day DATE, f DOUBLE PRECISION, \
         ok BOOLEAN, j JSON, l INT[], u UUID, h TIME)",
    )
    .await
    .unwrap();
    let rows = [
        r#"{"id": 1, "t": "a,\"b\"\n\\N\t", "d": 12.5, "at": "2026-11-21T05:06:07.25Z", "day": "2026-11-21", "f": 0.1}"#,
        r#"{"id": 2, "t": "", "ok": true, "j": {"k": [1, "x"]}, "l": [1, null], "h": "05:06:07.5"}"#,
        r#"{"id": 3, "u": "0b7b8a7e-0f0f-4c3c-9d4b-1c2d3e4f5a6b", "b": "\\x00ff"}"#,
    ];
    std::fs::write(node.dir.path().join("in.ndjson"), rows.join("\n")).unwrap();
    assert_eq!(node.ask("COPY w FROM 'in.ndjson'").await.unwrap(), "COPY 3");
    let before = node.ask("SELECT * FROM w ORDER BY id").await.unwrap();
    for name in ["a.csv", "a.csv.gz", "a.tsv.zst", "a.parquet", "a.ndjson", "a.arrow", "sub/a.json.gz"] {
        assert_eq!(node.ask(&format!("COPY w TO 'out/{name}'")).await.unwrap(), "COPY 3", "{name}");
        node.ask("DROP STREAM IF EXISTS v").await.unwrap();
        node.ask(
            "CREATE STREAM v (id BIGINT, t TEXT, b BYTEA, d DECIMAL(10,2), at TIMESTAMPTZ, day DATE, \
             f DOUBLE PRECISION, ok BOOLEAN, j JSON, l INT[], u UUID, h TIME)",
        )
        .await
        .unwrap();
        assert_eq!(node.ask(&format!("COPY v FROM 'out/{name}'")).await.unwrap(), "COPY 3", "{name}");
        assert_eq!(node.ask("SELECT * FROM v ORDER BY id").await.unwrap(), before, "{name}");
    }
    let query = "COPY (SELECT id AS \"the id\", t FROM w WHERE id > 1 ORDER BY id) TO 'out/q.csv'";
    assert_eq!(node.ask(query).await.unwrap(), "COPY 2");
    assert_eq!(std::fs::read_to_string(node.dir.path().join("out/q.csv")).unwrap(), "the id,t\n2,\"\"\n3,\n");
    let error = node.ask("COPY w TO '/tmp/outside.csv'").await.unwrap_err();
    assert_eq!(error.code(), Code::Denied, "{error}");
    let error = node.ask("COPY (SELECT 1/(id-2) FROM w) TO 'out/bad.csv'").await.unwrap_err();
    assert_eq!(error.code(), Code::DivisionByZero, "{error}");
    let parts = std::fs::read_dir(node.dir.path().join("out")).unwrap();
    let names: Vec<String> = parts.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|n| n.contains("bad") || n.ends_with(".part")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn intervals_zones_and_numbers_that_json_has_not_are_read_back() {
    let node = Node::start().await;
    let columns = "id BIGINT, f DOUBLE PRECISION, r REAL, i INTERVAL, at TIMESTAMP, l DOUBLE PRECISION[]";
    node.ask(&format!("CREATE TABLE w ({columns})")).await.unwrap();
    node.ask(
        "INSERT INTO w VALUES (1, 'NaN', 'NaN', '1 day 01:30:00', '2020-01-01 10:00+05', array[1.5, 'NaN'::double precision]), \
         (2, 'Infinity', '-Infinity', '-1 year -2 mons +3 days -04:05:06.5', NULL, NULL), \
         (3, 0.1, 0.1, NULL, NULL, NULL)",
    )
    .await
    .unwrap();
    let before = node.ask("SELECT * FROM w ORDER BY id").await.unwrap();
    assert!(before.contains("2020-01-01T10:00:00"), "{before}");
    for name in ["a.csv", "a.ndjson", "a.parquet"] {
        let written = if name == "a.parquet" { "id, f, r, at, l" } else { "*" };
        let tag = node.ask(&format!("COPY (SELECT {written} FROM w) TO 'out/{name}'")).await.unwrap();
        assert_eq!(tag, "COPY 3", "{name}");
        node.ask("DROP TABLE IF EXISTS v").await.unwrap();
        node.ask(&format!("CREATE TABLE v ({columns})")).await.unwrap();
        assert_eq!(node.ask(&format!("COPY v FROM 'out/{name}'")).await.unwrap(), "COPY 3", "{name}");
        let (then, now) =
            (format!("SELECT {written} FROM w ORDER BY id"), format!("SELECT {written} FROM v ORDER BY id"));
        assert_eq!(node.ask(&now).await.unwrap(), node.ask(&then).await.unwrap(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_there_is_told_with_its_line() {
    let node = Node::start().await;
    node.ask("CREATE TABLE k (id INT PRIMARY KEY, n INT CHECK (n > 0))").await.unwrap();
    node.ask("INSERT INTO k VALUES (3, 1)").await.unwrap();
    std::fs::write(node.dir.path().join("a.csv"), "id,n\n1,1\n\n2,0\n4,1\n3,2\n").unwrap();
    std::fs::write(node.dir.path().join("b.csv"), "id,n\n7,1\n8,1\n7,2\n").unwrap();
    let error = node.ask("COPY k FROM 'a.csv' WITH (on_error = quarantine)").await.unwrap_err();
    assert_eq!(error.code(), Code::UniqueViolation);
    assert!(error.to_string().starts_with("file \"a.csv\", line 6: primary key"), "{error}");
    let error = node.ask("COPY k FROM 'b.csv'").await.unwrap_err();
    assert!(error.to_string().starts_with("file \"b.csv\", line 4: primary key"), "{error}");
    assert_eq!(count(&node, "k").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_or_leaves_adds_nothing() {
    let node = node().await;
    let begin = |sql: &'static str| {
        let session = node.engine.session();
        async move {
            let Outcome::CopyIn(copy) = session.execute(sql).await.unwrap() else { panic!("no COPY") };
            copy
        }
    };
    for target in ["COPY s FROM STDIN", "COPY t FROM STDIN"] {
        let copy = begin(target).await;
        assert!(copy.send("1\ta\t2\n".into()).await);
        let error = copy.abort("thought better of it").await;
        assert!(error.to_string().contains("thought better of it"), "{error}");
        let copy = begin(target).await;
        copy.send("1\ta\t2\n".into()).await;
        drop(copy);
        let copy = begin(target).await;
        // A record that is cut anywhere comes together again.
        for piece in ["5\tx\\", "ty\t", "\\N\n6\t\\N\t1\n\\.\n", "ignored"] {
            copy.send(piece.into()).await;
        }
        assert_eq!(copy.finish().await.unwrap().0, "COPY 2");
    }
    for target in BOTH {
        assert_eq!(node.number(&format!("SELECT sum(id) FROM {target}")).await, 11);
        assert_eq!(count(&node, &format!("{target} WHERE name = E'x\\ty' AND n IS NULL")).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_shows_in_the_jobs_while_it_runs() {
    let node = node().await;
    let session = node.engine.session();
    let Outcome::CopyIn(copy) = session.execute("COPY s FROM STDIN").await.unwrap() else { panic!("no COPY") };
    let jobs =
        "SELECT count(*) FROM system.jobs WHERE kind = 'copy' AND object LIKE 's from stdin%' AND status = 'running'";
    while node.number(jobs).await == 0 {
        copy.send("1\ta\t2\n".into()).await;
    }
    let told = "SELECT min(j.rows) FROM system.jobs AS j JOIN system.queries AS q ON q.id = j.query \
                WHERE q.sql = 'COPY s FROM STDIN' AND j.started IS NOT NULL AND j.bytes >= 6 * j.rows";
    while node.number(told).await < 100 {
        copy.send("1\ta\t2\n".repeat(100_000).into()).await;
    }
    copy.finish().await.unwrap();
    assert_eq!(node.number("SELECT count(*) FROM system.jobs WHERE kind = 'copy'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_take_long_show_in_the_jobs_while_they_run() {
    let node = node().await;
    node.ask("CREATE TABLE n (id BIGINT)").await.unwrap();
    for (kind, object, sql) in [
        ("create table", "big", "CREATE TABLE big AS SELECT value FROM generate_series(1, 100000000000)"),
        ("insert", "n", "INSERT INTO n SELECT value FROM generate_series(1, 100000000000)"),
        (
            "merge",
            "n",
            "MERGE INTO n USING (SELECT value FROM generate_series(1, 100000000000)) AS g ON n.id = g.value \
             WHEN NOT MATCHED THEN INSERT (id) VALUES (g.value)",
        ),
    ] {
        let session = node.engine.session();
        let running = tokio::spawn(async move { session.execute(sql).await.map(drop) });
        let rows = format!(
            "SELECT coalesce(max(rows), 0) FROM system.jobs WHERE kind = '{kind}' AND object LIKE '{object} (#%' \
             AND status = 'running' AND started IS NOT NULL AND total_bytes IS NULL"
        );
        while node.number(&rows).await == 0 {
            assert!(!running.is_finished(), "{kind} is done already");
        }
        running.abort();
        let left = format!("SELECT count(*) FROM system.jobs WHERE kind = '{kind}'");
        while node.number(&left).await > 0 {}
    }
    assert_eq!(count(&node, "n").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_for_a_stream_that_are_too_many_for_one_append_are_refused() {
    let node = Node::with_query_memory(32 << 20).await;
    node.ask("CREATE STREAM s (id BIGINT, name TEXT)").await.unwrap();
    let rows = "SELECT value, concat('a name of some length, so that rows are large ', value)";
    let error = node.ask(&format!("INSERT INTO s {rows} FROM generate_series(1, 1000000)")).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfMemory, "{error}");
    assert!(error.to_string().contains("INSERT into stream s are too many"), "{error}");
    assert!(error.hint().unwrap().contains("COPY it"), "{error}");
    assert_eq!(count(&node, "s").await, 0);
    node.ask(&format!("INSERT INTO s {rows} FROM generate_series(1, 1000)")).await.unwrap();
    assert_eq!(count(&node, "s").await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_ends_within_its_appends_says_how_far_it_was() {
    let node = node().await;
    let session = node.engine.session();
    let sql = "COPY s FROM STDIN (ON_ERROR quarantine)";
    let Outcome::CopyIn(copy) = session.execute(sql).await.unwrap() else { panic!("no COPY") };
    while count(&node, "s").await == 0 {
        copy.send("1\ta\t2\n".repeat(1000).into()).await;
    }
    let error = copy.abort("enough").await;
    let added = count(&node, "s").await;
    assert!(error.to_string().ends_with(&format!("enough; {added} rows were added to s before")), "{error}");
    assert!(error.hint().unwrap().contains("what was added stays"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_loaded_are_told_with_the_place_and_the_fix() {
    let node = node().await;
    let dir = node.dir.path();
    let lines: String = (0..50_000).map(|i| format!("{i},name {i},1\n")).collect();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, format!("id,name,n\n{lines}").as_bytes()).unwrap();
    let packed = gz.finish().unwrap();
    std::fs::write(dir.join("cut.csv.gz"), &packed[..packed.len() / 2]).unwrap();
    std::fs::write(dir.join("no.csv.gz"), "id,name,n\n1,a,1\n").unwrap();
    std::fs::write(dir.join("wide.csv"), "id,name,n\n1,a,1\n2,b,1,what\n3,c\n4,d,1\n").unwrap();
    write_parquet(&dir.join("a.parquet"), &batch(0, 20_000));
    let whole = std::fs::read(dir.join("a.parquet")).unwrap();
    std::fs::write(dir.join("cut.parquet"), &whole[..whole.len() / 2]).unwrap();
    let mut corrupt = whole.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle..middle + 3000].fill(0xff);
    std::fs::write(dir.join("middle.parquet"), corrupt).unwrap();
    std::fs::create_dir(dir.join("folder")).unwrap();
    for target in BOTH {
        for (file, code, parts) in [
            ("cut.csv.gz", Code::BadFile, &["\"cut.csv.gz\"", "gzip", "write it again"][..]),
            ("no.csv.gz", Code::BadFile, &["\"no.csv.gz\"", "gzip", "compression = 'none'"]),
            ("wide.csv", Code::BadFile, &["\"wide.csv\", line 3", "4 values, 3"]),
            ("cut.parquet", Code::BadFile, &["\"cut.parquet\"", "Parquet", "write it again, or leave it out"]),
            ("middle.parquet", Code::BadFile, &["\"middle.parquet\"", "behind row", "write it again, or leave it out"]),
            ("folder", Code::InvalidRequest, &["\"folder\"", "FORMAT"]),
            ("folder' (FORMAT csv) --", Code::InvalidRequest, &["\"folder\" is a folder", "'folder/*.parquet'"]),
            ("/etc/hosts' (FORMAT csv) --", Code::Denied, &["/etc/hosts", "files.root"]),
            ("folder/*.csv", Code::UndefinedFile, &["no file matches \"folder/*.csv\"", "files.root"]),
        ] {
            let error = node.ask(&format!("COPY {target} FROM '{file}'")).await.unwrap_err();
            assert_eq!(error.code(), code, "{target} {file}: {error}");
            for part in parts {
                assert!(error.to_string().contains(part), "{file}: {error} does not say {part}");
            }
        }
        assert_eq!(count(&node, target).await, 0, "nothing was added to {target}");
        assert_eq!(node.ask(&format!("COPY {target} FROM 'wide.csv' (ON_ERROR quarantine)")).await.unwrap(), "COPY 2");
        let set_aside = format!(
            "SELECT count(*) FROM system.quarantine WHERE stream = '{target}' AND (original = '2,b,1,what' AND reason \
             LIKE 'wide.csv, line 3: %' OR original = '3,c' AND reason LIKE 'wide.csv, line 4: %')"
        );
        assert_eq!(node.number(&set_aside).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_goes_away_while_it_is_read_is_named() {
    let node = node().await;
    let dir = node.dir.path();
    let lines: String = (0..100_000).map(|i| format!("{i},name {i}\n")).collect();
    let names: Vec<String> = (0..8).map(|i| format!("{i}.csv")).collect();
    names.iter().for_each(|name| std::fs::write(dir.join(name), format!("id,name\n{lines}")).unwrap());
    let Outcome::Rows { mut rows, .. } = node.engine.session().execute("SELECT * FROM '*.csv'").await.unwrap() else {
        panic!("no rows")
    };
    assert!(futures::StreamExt::next(&mut rows).await.unwrap().is_ok());
    names.iter().for_each(|name| std::fs::remove_file(dir.join(name)).unwrap());
    let error = loop {
        match futures::StreamExt::next(&mut rows).await.expect("it ends with an error") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::UndefinedFile, "{error}");
    assert!(error.to_string().contains(".csv\" went away while it was read"), "{error}");
}

fn cell() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        1 => Just(None),
        4 => "[a-c,;\"'\\\\N\\.\\t\\n\\r é]{0,6}".prop_map(Some),
        1 => ".*".prop_filter("text has no NUL", |s| !s.contains('\0')).prop_map(Some),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_text_comes_back_from_csv_and_text_as_it_was(rows in prop::collection::vec((cell(), cell()), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let node = Node::start().await;
            node.ask("CREATE STREAM a (i BIGINT, x TEXT, y TEXT)").await.unwrap();
            let lines: Vec<String> = rows.iter().enumerate()
                .map(|(i, (x, y))| serde_json::json!({"i": i, "x": x, "y": y}).to_string()).collect();
            std::fs::write(node.dir.path().join("in.ndjson"), lines.join("\n")).unwrap();
            node.ask("COPY a FROM 'in.ndjson'").await.unwrap();
            let before = node.ask("SELECT * FROM a ORDER BY i").await.unwrap();
            for (i, options) in [
                "FORMAT csv", "FORMAT text", "FORMAT csv, QUOTE '''', DELIMITER ';', NULL 'N'", "FORMAT csv, ESCAPE '\\'",
            ].into_iter().enumerate() {
                node.ask(&format!("COPY (SELECT * FROM a ORDER BY i) TO 'f{i}' ({options})")).await.unwrap();
                node.ask(&format!("CREATE STREAM b{i} (i BIGINT, x TEXT, y TEXT)")).await.unwrap();
                let tag = node.ask(&format!("COPY b{i} FROM 'f{i}' ({options})")).await.unwrap();
                assert_eq!(tag, format!("COPY {}", rows.len()), "{options}");
                assert_eq!(node.ask(&format!("SELECT * FROM b{i} ORDER BY i")).await.unwrap(), before, "{options}");
            }
            node.engine.shutdown().await;
        });
    }
}

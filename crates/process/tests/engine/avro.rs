//! Avro files and samples: what comes back of each type and packing, what is said of files that are damaged.

use std::path::Path;

use millstream_catalog::fault::{Code, Fault};

use crate::files::{batch, write_parquet};
use crate::harness::Node;

const ALL_TYPES: &str = "id BIGINT, ok BOOLEAN, n INT, x REAL, y DOUBLE PRECISION, d DECIMAL(12,2), s TEXT, b BYTEA, \
                         day DATE, t TIME, at TIMESTAMP, atz TIMESTAMPTZ, u UUID, tags TEXT[], o ROW(a INT, b TEXT)";
const A_ROW: &str = "(1, true, -7, 1.5, 2.25, -12.30, 'é \"q\"', '\\x00ff', DATE '1969-12-31', TIME '05:06:07.25', \
                     TIMESTAMP '2026-11-22 01:02:03.000004', TIMESTAMPTZ '2026-11-22 01:02:03+02', \
                     '0b7b8a7e-0f0f-4c3c-9d4b-1c2d3e4f5a6b', ARRAY['a', NULL], ROW(1, 'x'))";

/// A table `t` of all types: a row with values, and rows of NULL but for their number.
async fn table_of_all_types(node: &Node) {
    node.ask(&format!("CREATE TABLE t ({ALL_TYPES})")).await.unwrap();
    node.ask(&format!("INSERT INTO t VALUES {A_ROW}")).await.unwrap();
    node.ask("INSERT INTO t (id) SELECT value FROM generate_series(2, 20000)").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back_from_avro_however_it_is_packed() {
    let node = Node::start().await;
    table_of_all_types(&node).await;
    let before = node.ask("SELECT * FROM t WHERE id < 4 ORDER BY id").await.unwrap();
    for (i, packing) in
        ["", ", COMPRESSION deflate", ", COMPRESSION snappy", ", COMPRESSION zstd", ", COMPRESSION none"]
            .into_iter()
            .enumerate()
    {
        let tag = node.ask(&format!("COPY t TO 'out/t{i}.avro' (FORMAT avro{packing})")).await.unwrap();
        assert_eq!(tag, "COPY 20000", "{packing}");
        let read =
            node.ask(&format!("SELECT * FROM read_avro('out/t{i}.avro') WHERE id < 4 ORDER BY id")).await.unwrap();
        assert_eq!(read, before, "{packing}");
        let made = node.ask(&format!("CREATE TABLE c{i} FROM SAMPLE 'out/t{i}.avro'")).await.unwrap();
        for column in
            ["d decimal(12,2)", "t time", "at timestamp", "atz timestamptz", "u uuid", "tags text[]", "o row("]
        {
            assert!(made.contains(column), "{column}: {made}");
        }
        assert_eq!(node.ask(&format!("COPY c{i} FROM 'out/t{i}.avro'")).await.unwrap(), "COPY 20000", "{packing}");
        assert_eq!(node.ask(&format!("SELECT * FROM c{i} WHERE id < 4 ORDER BY id")).await.unwrap(), before);
        assert_eq!(node.number(&format!("SELECT sum(id) FROM c{i}")).await, 200_010_000);
    }
    assert_eq!(node.number("SELECT count(DISTINCT id) FROM 'out/*.avro'").await, 20_000);
    node.ask("COPY (SELECT count(*), 1 AS \"a b\", 2 AS a_b FROM t) TO 'names.avro'").await.unwrap();
    let names = node.ask("SELECT * FROM 'names.avro'").await.unwrap();
    assert!(names.contains("a_b_2") && names.contains("20000"), "{names}");
}

/// Writes a file again with a change.
fn damage(path: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path.with_file_name(name), bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_avro_file_is_told_with_its_block() {
    let node = Node::start().await;
    let dir = node.dir.path();
    node.ask("CREATE TABLE t (id BIGINT, name TEXT)").await.unwrap();
    let rows = "SELECT value AS id, concat('n', value) AS name FROM generate_series(1, 30000)";
    node.ask(&format!("COPY ({rows}) TO 'good.avro' (COMPRESSION none)")).await.unwrap();
    node.ask(&format!("COPY ({rows}) TO 'snappy.avro' (COMPRESSION snappy)")).await.unwrap();
    let good = dir.join("good.avro");
    let length = std::fs::metadata(&good).unwrap().len() as usize;
    damage(&good, "empty.avro", Vec::clear);
    damage(&good, "text.avro", |bytes| *bytes = b"id,name\n1,a\n".to_vec());
    damage(&good, "head.avro", |bytes| bytes.truncate(40));
    damage(&good, "short.avro", |bytes| bytes.truncate(length - 3));
    damage(&good, "marker.avro", |bytes| *bytes.last_mut().unwrap() ^= 1);
    damage(&good, "length.avro", |bytes| {
        // The text of the last row is said to be longer than it is.
        let at = bytes.windows(6).rposition(|w| w == b"n30000").unwrap();
        bytes[at - 1] += 2;
    });
    damage(&dir.join("snappy.avro"), "sum.avro", |bytes| {
        let end = bytes.len() - 20;
        bytes[end] ^= 1;
    });
    damage(&good, "bzip2.avro", |bytes| {
        let codec = bytes.windows(10).position(|w| w == b"avro.codec").unwrap() + 10;
        bytes.splice(codec..codec + 5, *b"\x0abzip2");
    });
    for (file, part) in [
        ("empty.avro", "does not begin as an Avro file"),
        ("text.avro", "does not begin as an Avro file"),
        ("head.avro", "EOF"),
        ("short.avro", "it is cut off"),
        ("marker.avro", "not the file's marker"),
        ("length.avro", "behind row"),
        ("sum.avro", "checksum"),
        ("bzip2.avro", "null, deflate, snappy and zstandard"),
    ] {
        for sql in [format!("SELECT * FROM read_avro('{file}')"), format!("COPY t FROM '{file}'")] {
            let error = node.ask(&sql).await.unwrap_err();
            let message = error.to_string();
            assert_eq!(error.code(), Code::BadFile, "{sql}: {message}");
            assert!(message.contains(file) && message.contains(part), "{sql}: {message}");
        }
    }
    assert_eq!(node.number("SELECT count(*) FROM t").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_there_is_made_of_a_sample_of_every_format() {
    let node = Node::start().await;
    let dir = node.dir.path();
    let airports = "blueprints/flights/data/airports.parquet";
    std::fs::create_dir_all(dir.join(airports).parent().unwrap()).unwrap();
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(airports), dir.join(airports)).unwrap();
    let error = node.ask(&format!("COPY airports FROM '{airports}';")).await.unwrap_err();
    assert_eq!(error.code(), Code::UndefinedObject, "{error}");
    let hint = error.hint().unwrap_or_default();
    let fix = format!("CREATE TABLE airports FROM SAMPLE '{airports}'");
    assert!(hint.contains(&fix), "{error} {hint}");
    let made = node.ask(&fix).await.unwrap();
    assert!(made.contains("faa text") && made.contains("lat double precision"), "{made}");
    let loaded = node.ask(&format!("COPY airports FROM '{airports}'")).await.unwrap();
    let there = node.number(&format!("SELECT count(*) FROM '{airports}'")).await;
    assert_eq!(loaded, format!("COPY {there}"));
    let content = node.ask("SELECT * FROM airports ORDER BY 1").await.unwrap();
    for (format, place) in
        [("avro", "a.avro"), ("arrow", "a.arrow"), ("csv", "a.csv.gz"), ("json", "a.ndjson"), ("parquet", "sample.x")]
    {
        node.ask(&format!("COPY (SELECT * FROM airports) TO '{place}' (FORMAT {format})")).await.unwrap();
        let with = if place == "sample.x" { " WITH (format = 'parquet')" } else { "" };
        for kind in ["TABLE", "STREAM"] {
            node.ask(&format!("CREATE {kind} {format}_{kind} FROM SAMPLE '{place}'{with}")).await.unwrap();
            let copy = format!("COPY {format}_{kind} FROM '{place}' (FORMAT {format})");
            assert_eq!(node.ask(&copy).await.unwrap(), loaded, "{kind} of {format}");
            let read = node.ask(&format!("SELECT * FROM {format}_{kind} ORDER BY 1")).await.unwrap();
            assert_eq!(read, content, "{kind} of {format}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_that_cannot_be_read_makes_nothing() {
    let node = Node::start().await;
    let dir = node.dir.path();
    write_parquet(&dir.join("a.parquet"), &batch(0, 3));
    std::fs::write(dir.join("empty.csv"), "").unwrap();
    std::fs::write(dir.join("broken.ndjson"), "{\"a\": 1}\n{\"a\": \n").unwrap();
    std::fs::write(dir.join("cut.parquet"), "PAR1").unwrap();
    for (path, code, part) in [
        ("none.parquet", Code::UndefinedFile, "none.parquet"),
        ("/etc/passwd.csv", Code::Denied, "files.root"),
        ("empty.csv", Code::BadFile, "empty"),
        ("broken.ndjson", Code::BadFile, "line 2"),
        ("cut.parquet", Code::BadFile, "cut.parquet"),
        ("a.dat", Code::InvalidRequest, "WITH (format"),
    ] {
        let error = node.ask(&format!("CREATE TABLE made FROM SAMPLE '{path}'")).await.unwrap_err();
        assert_eq!(error.code(), code, "{path}: {error}");
        assert!(error.to_string().contains(part), "{path}: {error}");
    }
    node.ask("CREATE TABLE made FROM SAMPLE '*.parquet'").await.unwrap_err();
    std::fs::remove_file(dir.join("cut.parquet")).unwrap();
    node.ask("CREATE TABLE made FROM SAMPLE '*.parquet'").await.unwrap();
}

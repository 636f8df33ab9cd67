//! Files in SQL: what `read_…` finds, and what it says of files that are not what they should be.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use millstream_catalog::fault::{Code, Fault};
use millstream_process::Error;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use crate::harness::Node;

/// Rows `id`, `name` with ids from `first`.
pub fn batch(first: i64, rows: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + rows));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((first..first + rows).map(|id| format!("n{id}"))));
    RecordBatch::try_from_iter([("id", ids), ("name", names)]).unwrap()
}

/// Writes a Parquet file of those rows, in row groups of 100.
pub fn write_parquet(path: &Path, rows: &RecordBatch) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

fn refused(result: Result<String, Error>) -> (Code, String) {
    let error = result.unwrap_err();
    (error.code(), error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_is_read_where_a_table_can_stand() {
    let node = Node::start().await;
    let dir = node.dir.path();
    write_parquet(&dir.join("a.parquet"), &batch(0, 250));
    let file = std::fs::File::create(dir.join("a.arrow")).unwrap();
    let mut writer = FileWriter::try_new(file, &batch(0, 1).schema()).unwrap();
    writer.write(&batch(0, 30)).unwrap();
    writer.finish().unwrap();
    let file = std::fs::File::create(dir.join("a.arrows")).unwrap();
    let mut writer = StreamWriter::try_new(file, &batch(0, 1).schema()).unwrap();
    writer.write(&batch(30, 10)).unwrap();
    writer.finish().unwrap();
    std::fs::write(dir.join("a.csv"), "id,name\n1,\"x\ny\"\n2,\n").unwrap();
    std::fs::write(dir.join("a.ndjson"), "{\"id\": 1, \"o\": {\"k\": [1, 2]}}\n\n{\"id\": 2, \"name\": \"b\"}\n")
        .unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(b"id;name\n7;seven\n").unwrap();
    std::fs::write(dir.join("b.csv.gz"), gz.finish().unwrap()).unwrap();
    for (query, expected) in [
        ("SELECT count(*) FROM read_parquet('a.parquet') WHERE id >= 200", 50),
        ("SELECT count(*) FROM 'a.parquet'", 250),
        ("SELECT sum(a.id) FROM 'a.parquet' JOIN 'a.csv' AS c ON a.id = c.id", 3),
        ("SELECT count(*) FROM read_arrow('a.arrow')", 30),
        ("SELECT sum(id) FROM read_arrow(['a.arrow', 'a.arrows'])", 780),
        ("SELECT max(length(name)) FROM read_csv('a.csv', header => true)", 3),
        ("SELECT count(*) FROM read_csv('a.csv') WHERE name IS NULL", 1),
        ("SELECT count(*) FROM read_csv('a.csv', header = false)", 3),
        ("SELECT id FROM read_csv('b.*', delimiter = ';')", 7),
        ("SELECT a FROM read_csv('b.csv.gz', delim := ';', columns = {'a': 'INTEGER', 'b': 'VARCHAR'})", 7),
        ("WITH j AS (SELECT * FROM read_json('a.ndjson')) SELECT o['k'][2] FROM j WHERE id = 1", 2),
        ("SELECT count(*) FROM read_json('a.ndjson') WHERE name = 'b'", 1),
        ("SELECT (SELECT count(*) FROM read_parquet('**/*.parquet'))", 250),
    ] {
        assert_eq!(node.number(query).await, expected, "{query}");
    }
    let plan = node.ask("EXPLAIN SELECT name FROM read_parquet('a.parquet') WHERE id = 3").await.unwrap();
    assert!(plan.contains("pruning_predicate=") && plan.contains("a.parquet"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_sees_files_that_came_later() {
    let node = Node::start().await;
    let dir = node.dir.path();
    write_parquet(&dir.join("a.parquet"), &batch(0, 10));
    let session = node.engine.session();
    let count = &session.parse("SELECT count(*) FROM read_parquet('*.parquet')").unwrap()[0];
    let prepared = session.prepare(count).await.unwrap();
    write_parquet(&dir.join("b.parquet"), &batch(10, 10));
    let outcome = session.run(&prepared, &[], Default::default()).await.unwrap();
    let millstream_process::Outcome::Rows { rows, .. } = outcome else { panic!("no rows") };
    let batches: Vec<RecordBatch> = futures::TryStreamExt::try_collect(rows).await.unwrap();
    let counts = batches[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    assert_eq!(counts.value(0), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_is_told_with_its_place() {
    let node = Node::start().await;
    let dir = node.dir.path();
    std::fs::write(dir.join("bad.csv"), "id,name\n1,a\n2,b,c\n").unwrap();
    let many: String = (0..30_000).map(|i| format!("{i},a\n")).collect();
    std::fs::write(dir.join("late.csv"), format!("id,name\n{many}x,b\n")).unwrap();
    std::fs::write(dir.join("bad.ndjson"), "{\"id\": 1}\n{\"id\": \n").unwrap();
    std::fs::write(dir.join("bad.csv.gz"), "no gzip").unwrap();
    write_parquet(&dir.join("bad.parquet"), &batch(0, 500));
    let mut bytes = std::fs::read(dir.join("bad.parquet")).unwrap();
    bytes[10..2000].fill(0xff);
    std::fs::write(dir.join("bad.parquet"), bytes).unwrap();
    std::fs::write(dir.join("short.parquet"), "PAR1").unwrap();
    for (query, code, parts) in [
        ("SELECT * FROM read_csv('bad.csv')", Code::BadFile, &["\"bad.csv\", line 3", "3 values, 2"][..]),
        (
            "SELECT * FROM read_csv('late.csv')",
            Code::InvalidValue,
            &["\"late.csv\", line 30002", "\"x\" is not a valid"],
        ),
        ("SELECT * FROM read_json('bad.ndjson')", Code::BadFile, &["bad.ndjson", "line 2"]),
        ("SELECT * FROM read_csv('bad.csv.gz')", Code::BadFile, &["bad.csv.gz", "gzip"]),
        ("SELECT * FROM read_parquet('bad.parquet')", Code::BadFile, &["bad.parquet", "Parquet"]),
        ("SELECT * FROM read_parquet('short.parquet')", Code::BadFile, &["short.parquet", "Parquet"]),
        ("SELECT * FROM read_parquet('none.parquet')", Code::UndefinedFile, &["none.parquet", "files.root"]),
        ("SELECT * FROM read_csv('*.tsv')", Code::UndefinedFile, &["no file matches", "*.tsv"]),
        ("SELECT * FROM read_csv('/etc/passwd')", Code::Denied, &["/etc/passwd", "files.root"]),
        ("SELECT * FROM read_csv('../../etc/passwd')", Code::Denied, &["outside of", "files.root"]),
        ("COPY (SELECT 1 AS a) TO 'a.orc' (FORMAT orc)", Code::Unsupported, &["orc", "parquet, csv, json"]),
        ("SELECT * FROM read_csv('bad.csv', headr = true)", Code::InvalidRequest, &["headr", "did you mean header"]),
        ("SELECT * FROM read_csv(1)", Code::InvalidRequest, &["read_csv takes a file"]),
        ("SELECT * FROM 'notes.doc'", Code::InvalidRequest, &["notes.doc", "formats"]),
        ("CREATE MATERIALIZED VIEW v AS SELECT * FROM read_csv('late.csv')", Code::Unsupported, &["read_csv"]),
    ] {
        let (found, message) = refused(node.ask(query).await);
        assert_eq!(found, code, "{query}: {message}");
        for part in parts {
            assert!(message.contains(part), "{query}: {message:?} does not say {part:?}");
        }
    }
    assert_eq!(node.number("SELECT count(*) FROM read_csv('bad.csv', ignore_errors = true)").await, 1);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_link_does_not_lead_out_of_the_root() {
    let node = Node::start().await;
    std::os::unix::fs::symlink("/etc/passwd", node.dir.path().join("link.csv")).unwrap();
    let (code, message) = refused(node.ask("SELECT * FROM read_csv('*.csv')").await);
    assert_eq!(code, Code::Denied, "{message}");
}

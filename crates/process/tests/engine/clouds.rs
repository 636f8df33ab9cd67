//! Files and tables in the stores of other clouds: files are written, found by pattern, read, loaded once; tables are made,
//! changed, and written to by two engines.

use millstream_catalog::fault::{Code, Fault};

use crate::external::{life, lose_nothing};
use crate::harness::Node;
use crate::servers::{Cloud, CloudServer};

#[tokio::test(flavor = "multi_thread")]
async fn files_on_azure_are_written_found_and_loaded() {
    files(Cloud::Azure, "files_on_azure_are_written_found_and_loaded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_on_google_cloud_are_written_found_and_loaded() {
    files(Cloud::Google, "files_on_google_cloud_are_written_found_and_loaded").await;
}

async fn files(cloud: Cloud, test: &str) {
    let Some(server) = CloudServer::shared(cloud, test) else { return };
    let node = Node::with_store_options(server.options()).await;
    let place = server.new_place();
    let rows = "SELECT value AS id, concat('n', value) AS name FROM generate_series(1, 3000)";
    for file in ["a/1.parquet", "a/2.parquet", "b/1.parquet", "b/1.csv.gz", "b/1.avro"] {
        assert_eq!(node.ask(&format!("COPY ({rows}) TO '{place}/{file}'")).await.unwrap(), "COPY 3000", "{file}");
    }
    for (pattern, count) in [("a/*.parquet", 6000), ("**/*.parquet", 9000), ("b/1.csv.gz", 3000), ("b/1.avro", 3000)] {
        assert_eq!(node.number(&format!("SELECT count(*) FROM '{place}/{pattern}'")).await, count, "{pattern}");
    }
    assert_eq!(node.number(&format!("SELECT count(*) FROM '{place}/a/1.parquet' WHERE id > 2990")).await, 10);
    node.ask(&format!("CREATE TABLE t FROM SAMPLE '{place}/a/*.parquet'")).await.unwrap();
    let copy = format!("COPY t FROM '{place}/a/*.parquet' WITH (once = true)");
    assert_eq!(node.ask(&copy).await.unwrap(), "COPY 6000");
    assert_eq!(node.ask(&copy).await.unwrap(), "COPY 0");
    for (file, code, part) in [
        ("none.parquet", Code::UndefinedFile, "there is no file"),
        ("a/*.csv", Code::UndefinedFile, "no file matches"),
        ("a' (FORMAT csv) --", Code::InvalidRequest, "is a folder"),
    ] {
        let error = node.ask(&format!("COPY t FROM '{place}/{file}'")).await.unwrap_err();
        assert_eq!(error.code(), code, "{file}: {error}");
        assert!(error.to_string().contains(part), "{file}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_at_a_location_on_azure_is_read_and_changed() {
    tables(Cloud::Azure, "a_table_at_a_location_on_azure_is_read_and_changed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_at_a_location_on_google_cloud_is_read_and_changed() {
    tables(Cloud::Google, "a_table_at_a_location_on_google_cloud_is_read_and_changed").await;
}

async fn tables(cloud: Cloud, test: &str) {
    let Some(server) = CloudServer::shared(cloud, test) else { return };
    let node = || Node::with_store_options(server.options());
    life(node().await, &server.new_place()).await;
    let (one, other) = tokio::join!(node(), node());
    lose_nothing(one, other, &server.new_place(), 5).await;
}

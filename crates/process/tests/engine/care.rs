//! OPTIMIZE and VACUUM, and the record of what was done.

use millstream_catalog::fault::{Code, Fault};

use crate::harness::Node;

async fn three_files() -> Node {
    let node = Node::start().await;
    node.create_s(1).await;
    for i in 0..3 {
        node.write(i * 10..i * 10 + 10).await;
        node.tier().await;
    }
    node
}

#[tokio::test]
async fn small_files_are_merged_and_deleted_on_demand() {
    let node = three_files().await;
    let done = node.ask("OPTIMIZE s").await.unwrap();
    assert!(done.contains("| s    | 3             | 1           |"), "{done}");
    let named = node.ask("VACUUM s DRY RUN").await.unwrap();
    assert_eq!(named.matches(".parquet").count(), 3, "{named}");
    assert_eq!(node.ask("VACUUM s RETAIN 24 HOURS DRY RUN").await.unwrap().matches(".parquet").count(), 0);
    let deleted = node.ask("VACUUM s").await.unwrap();
    assert!(deleted.contains("| s    | 3             |"), "{deleted}");
    assert_eq!(node.number("SELECT count(*) FROM s").await, 30);
    let record = node
        .ask("SELECT kind, object, files_merged, files_written, files_deleted FROM system.maintenance ORDER BY ended_at, kind")
        .await
        .unwrap();
    assert!(record.contains("| optimize | s      | 3            | 1             | 0             |"), "{record}");
    assert!(record.contains("| vacuum   | s      | 0            | 0             | 3             |"), "{record}");
}

#[tokio::test]
async fn rows_can_be_put_in_an_order() {
    let node = three_files().await;
    for by in ["name", "name, id"] {
        let done = node.ask(&format!("OPTIMIZE TABLE s ZORDER BY ({by})")).await.unwrap();
        assert!(done.contains("| s    | "), "{done}");
        assert_eq!(node.number("SELECT sum(id) FROM s").await, 435);
    }
    let error = node.ask("OPTIMIZE s ZORDER BY (missing)").await.unwrap_err();
    assert_eq!(error.code(), Code::UndefinedColumn);
    assert!(error.to_string().starts_with("column \"missing\" of stream s does not exist"), "{error}");
    assert_eq!(node.ask("OPTIMIZE nothing").await.unwrap_err().code(), Code::UndefinedObject);
    assert_eq!(node.number("SELECT count(*) FROM system.maintenance WHERE error IS NOT NULL").await, 0);
}

//! What EXPLAIN ANALYZE tells of tables: the files that went by their partition and by what they are sorted by.

use millstream_catalog::fault::{Code, Fault};

use crate::harness::Node;

#[tokio::test(flavor = "multi_thread")]
async fn explain_analyze_tells_which_files_of_a_table_went() {
    let node = Node::start().await;
    node.ask("CREATE TABLE p (day DATE, id BIGINT, x TEXT) PARTITIONED BY (day) ORDER BY (id)").await.unwrap();
    for round in 0..2 {
        let rows = format!(
            "INSERT INTO p SELECT DATE '2026-01-01' + CAST(value % 3 AS INT), {round} * 1000 + value, 'x' \
             FROM generate_series(0, 299)"
        );
        node.ask(&rows).await.unwrap();
        node.ask("FLUSH").await.unwrap();
    }
    let analyzed = |filter: &'static str| {
        let node = &node;
        async move { node.ask(&format!("EXPLAIN ANALYZE SELECT x FROM p WHERE {filter}")).await.unwrap() }
    };
    let told = analyzed("day = DATE '2026-01-02' AND id >= 1100").await;
    assert!(told.contains("lake_files_pruned_partitions(day)=6 total → 2 matched"), "{told}");
    assert!(told.contains("lake_files_pruned_statistics(sorted by id)=2 total → 1 matched"), "{told}");
    assert!(told.contains("row_groups_pruned_statistics"), "{told}");
    let told = analyzed("id < 10").await;
    assert!(told.contains("lake_files_pruned_partitions(day)=6 total → 6 matched"), "{told}");
    assert!(told.contains("lake_files_pruned_statistics(sorted by id)=6 total → 3 matched"), "{told}");
    assert_eq!(node.number("SELECT count(*) FROM p WHERE day = DATE '2026-01-02' AND id >= 1100").await, 67);
    for statement in ["UPDATE p SET x = 'y'", "DELETE FROM p", "INSERT INTO p (id) VALUES (1)"] {
        let plan = node.ask(&format!("EXPLAIN {statement}")).await.unwrap();
        assert!(plan.contains("plan"), "{plan}");
        let error = node.ask(&format!("EXPLAIN ANALYZE {statement}")).await.unwrap_err();
        assert_eq!(error.code(), Code::Unsupported, "{error}");
        assert!(error.to_string().contains("EXPLAIN ANALYZE does not run statements that change rows"), "{error}");
    }
}

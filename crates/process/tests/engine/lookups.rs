//! Lookup joins: each row has what was there when it came, and later changes of that correct nothing.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, TimestampMicrosecondArray};
use millstream_catalog::ObjectName;
use millstream_process::Rows;

use crate::harness::Node;

const NOW: &str = "FOR SYSTEM_TIME AS OF PROCTIME()";

/// Appends rows to a stream of two BIGINT columns.
async fn write(node: &Node, stream: &str, rows: &[(i64, i64)]) {
    let stream = node.engine.stream(&ObjectName::public(stream).unwrap()).unwrap();
    let first = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
    let second = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
    let columns = vec![Arc::new(first) as _, Arc::new(second) as _];
    let batch = RecordBatch::try_new(stream.definition().schema(), columns).unwrap();
    let admitted = stream.admit(Rows { missing: vec![None; 2], batch }).unwrap();
    stream.append(admitted.batch, vec![], None).await.unwrap();
}

/// Appends sales: a product, and minutes.
async fn sell(node: &Node, rows: &[(i64, i64)]) {
    let stream = node.engine.stream(&ObjectName::public("sales").unwrap()).unwrap();
    let products = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
    let at = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.1 * 60_000_000));
    let columns = vec![Arc::new(products) as _, Arc::new(at) as _];
    let batch = RecordBatch::try_new(stream.definition().schema(), columns).unwrap();
    let admitted = stream.admit(Rows { missing: vec![None; 2], batch }).unwrap();
    stream.append(admitted.batch, vec![], None).await.unwrap();
}

/// Orders, and the last rate of each product.
async fn shop() -> Node {
    let node = Node::start().await;
    node.ask("CREATE STREAM orders (id BIGINT, product BIGINT)").await.unwrap();
    node.ask("CREATE STREAM prices (product BIGINT, price BIGINT)").await.unwrap();
    let last = "SELECT product, last_value(price ORDER BY price) AS price FROM prices GROUP BY product";
    node.ask(&format!("CREATE MATERIALIZED VIEW rates AS {last}")).await.unwrap();
    node
}

async fn shown(node: &Node, name: &str) -> Vec<String> {
    node.ask("FLUSH").await.unwrap();
    let table = node.ask(&format!("SELECT id, price FROM {name} ORDER BY id, price")).await.unwrap();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
    rows.map(|line| {
        line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" ").trim_end().to_owned()
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_keep_what_they_looked_up_through_changes_and_restarts() {
    let mut node = shop().await;
    write(&node, "prices", &[(1, 10), (2, 20)]).await;
    write(&node, "orders", &[(100, 1), (101, 3)]).await;
    let inner = format!("SELECT o.id, r.price FROM orders AS o JOIN rates {NOW} AS r ON o.product = r.product");
    let left = inner.replace(" JOIN ", " LEFT JOIN ") + " AND r.price < 40";
    node.ask(&format!("CREATE MATERIALIZED VIEW priced AS {inner}")).await.unwrap();
    node.ask(&format!("CREATE STREAM all_priced AS {left}")).await.unwrap();
    assert_eq!(shown(&node, "priced").await, ["100 10"], "history meets the present");
    assert_eq!(shown(&node, "all_priced").await, ["100 10", "101"]);
    write(&node, "prices", &[(1, 11), (3, 30)]).await;
    write(&node, "orders", &[(102, 1), (103, 3)]).await;
    assert_eq!(shown(&node, "priced").await, ["100 10", "102 11", "103 30"]);
    assert_eq!(shown(&node, "all_priced").await, ["100 10", "101", "102 11", "103 30"]);
    for round in 0..3 {
        node = node.restart().await;
        write(&node, "prices", &[(1, 12 + round), (3, 40 + round)]).await;
        write(&node, "orders", &[(104 + round, 1), (204 + round, 3)]).await;
        let priced = shown(&node, "priced").await;
        assert_eq!(priced[..3], ["100 10", "102 11", "103 30"]);
        assert!(priced.contains(&format!("{} {}", 104 + round, 12 + round)), "{priced:?}");
        let all = shown(&node, "all_priced").await;
        assert!(all.contains(&format!("{}", 204 + round)), "{all:?}");
        assert_eq!(all.len() as i64, 4 + 2 * (round + 1));
    }
    // Asked once, it reads what is there now.
    let now = node
        .number(&format!(
            "SELECT r.price FROM orders o JOIN rates {NOW} AS r ON o.product = r.product WHERE o.id = 100"
        ))
        .await;
    assert_eq!(now, 14);
    assert_eq!(node.number(&format!("SELECT price FROM rates {NOW} WHERE product = 2")).await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_sees_every_price_that_was_acknowledged_before_it() {
    let node = shop().await;
    let query = format!("SELECT o.id, r.price FROM orders o LEFT JOIN rates {NOW} r ON o.product = r.product");
    node.ask(&format!("CREATE MATERIALIZED VIEW priced AS {query}")).await.unwrap();
    node.ask(&format!("CREATE STREAM sold AS {query}")).await.unwrap();
    for n in 0..200 {
        write(&node, "prices", &[(n % 7, 1000 + n)]).await;
        write(&node, "orders", &[(n, n % 7)]).await;
    }
    node.ask("FLUSH").await.unwrap();
    for name in ["priced", "sold"] {
        let older = format!("SELECT count(*) FROM {name} WHERE price IS NULL OR price < 1000 + id");
        assert_eq!(node.number(&older).await, 0, "{name}");
        assert_eq!(node.number(&format!("SELECT count(*) FROM {name}")).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn left_rows_that_go_take_back_what_they_gave() {
    let mut node = shop().await;
    write(&node, "prices", &[(1, 10), (2, 20)]).await;
    let counts = "SELECT product, count(*) AS id FROM orders GROUP BY product";
    node.ask(&format!("CREATE MATERIALIZED VIEW counts AS {counts}")).await.unwrap();
    let query = format!("SELECT c.id, r.price FROM counts c LEFT JOIN rates {NOW} AS r USING (product)");
    node.ask(&format!("CREATE MATERIALIZED VIEW priced AS {query}")).await.unwrap();
    write(&node, "orders", &[(1, 1), (2, 2), (3, 1), (4, 9)]).await;
    assert_eq!(shown(&node, "priced").await, ["1 20", "1", "2 10"]);
    write(&node, "prices", &[(1, 15), (2, 25), (9, 90)]).await;
    assert_eq!(shown(&node, "priced").await, ["1 20", "1", "2 10"]);
    node = node.restart().await;
    write(&node, "orders", &[(5, 1)]).await;
    assert_eq!(shown(&node, "priced").await, ["1 20", "1", "3 15"]);
    write(&node, "orders", &[(6, 9)]).await;
    assert_eq!(shown(&node, "priced").await, ["1 20", "2 90", "3 15"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_that_closed_look_up_once() {
    let node = Node::start().await;
    node.ask("CREATE STREAM prices (product BIGINT, price BIGINT)").await.unwrap();
    node.ask("CREATE MATERIALIZED VIEW rates AS SELECT product, max(price) AS price FROM prices GROUP BY product")
        .await
        .unwrap();
    let sql = "CREATE STREAM sales (product BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)";
    node.ask(sql).await.unwrap();
    let sql = format!(
        "CREATE STREAM hourly AS SELECT w.n AS id, r.price FROM (SELECT product, window_end, count(*) AS n \
         FROM TUMBLE(sales, ts, INTERVAL '1' HOUR) GROUP BY product, window_end) w \
         LEFT JOIN rates {NOW} AS r ON w.product = r.product EMIT ON WINDOW CLOSE"
    );
    let explained = node.ask(&format!("EXPLAIN {sql}")).await.unwrap();
    let nodes = [
        "Lookup: left join",
        "Close: rows come",
        "Source: sales (rows only come; late by ts",
        "Source: prices (rows only come)",
    ];
    assert!(nodes.iter().all(|part| explained.contains(part)), "{explained}");
    node.ask(&sql).await.unwrap();
    write(&node, "prices", &[(1, 10)]).await;
    sell(&node, &[(1, 5), (2, 6), (1, 7)]).await;
    assert_eq!(shown(&node, "hourly").await, Vec::<String>::new(), "its window is open");
    write(&node, "prices", &[(1, 11)]).await;
    sell(&node, &[(1, 61)]).await;
    assert_eq!(shown(&node, "hourly").await, ["1", "2 11"], "the price when the window closed");
    let node = node.restart().await;
    write(&node, "prices", &[(1, 12), (2, 22)]).await;
    sell(&node, &[(2, 62), (2, 150)]).await;
    assert_eq!(shown(&node, "hourly").await, ["1 12", "1 22", "1", "2 11"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_up_is_refused() {
    let node = shop().await;
    let query = |right: &str| format!("SELECT o.id, r.price FROM orders o JOIN {right} AS r ON o.product = r.product");
    let make = |query: String| format!("CREATE MATERIALIZED VIEW v AS {query}");
    let error = node.ask(&make(query(&format!("prices {NOW}")))).await.unwrap_err().to_string();
    assert!(error.starts_with("stream prices cannot be looked up (FOR SYSTEM_TIME AS OF PROCTIME())"), "{error}");
    let error = node.ask(&make(query("rates FOR SYSTEM_TIME AS OF now()"))).await.unwrap_err().to_string();
    assert!(error.contains("rates has no versions"), "{error}");
    node.ask(&make(query(&format!("rates {NOW}")))).await.unwrap();
    let error = node.ask("CREATE STREAM w AS SELECT id FROM v").await.unwrap_err().to_string();
    assert!(error.contains("v has what its rows looked up when they came"), "{error}");
    node.ask("CREATE MATERIALIZED VIEW w AS SELECT count(*) AS id, 1 AS price FROM v").await.unwrap();
    write(&node, "prices", &[(1, 10)]).await;
    write(&node, "orders", &[(1, 1), (2, 1)]).await;
    assert_eq!(shown(&node, "w").await, ["2 1"]);
}

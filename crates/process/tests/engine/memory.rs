//! Statements over more rows than fit into memory end with the right answer.

use millstream_catalog::fault::{Code, Fault};

use crate::harness::Node;

/// Rows of some 200 bytes that do not compress.
const ROWS: i64 = 1_000_000;
/// Memory of all queries together, a sixth of the rows' size.
const MEMORY: usize = 32 << 20;
/// Rows of such a size of each side of what changes rows,
const SOME: i64 = 80_000;
/// and the memory of all queries together then, a third of one side.
const LITTLE: usize = 6 << 20;

async fn numbers(node: &Node, table: &str) -> (i64, i64, i64) {
    let of = async |what: &str| node.number(&format!("SELECT {what} FROM {table}")).await;
    (of("count(*)").await, of("sum(id)").await, of("sum(length(pad))").await)
}

/// An expression of 192 characters that do not compress, other ones for each `i`.
fn pad() -> String {
    (0..6).map(|n| format!("md5(CAST(i * 7 + {n} AS TEXT))")).collect::<Vec<_>>().join(" || ")
}

/// A table of rows `first..=last`, their numbers in an order of their own; `n` is 1 in all of them.
async fn filled(node: &Node, table: &str, key: &str, first: i64, last: i64) {
    node.ask(&format!("CREATE TABLE {table} (id BIGINT {key}, n BIGINT, pad TEXT)")).await.unwrap();
    let (rows, pad) = (last - first + 1, pad());
    // 7919 is prime and divides no number of rows here, so that each number comes once.
    let ids = format!("SELECT {first} + (g.i * 7919) % {rows} AS i FROM generate_series(0, {rows} - 1) AS g(i)");
    let rows = format!("INSERT INTO {table} SELECT i, 1, {pad} FROM ({ids}) AS ids");
    node.ask(&rows).await.unwrap();
}

/// How many rows there are, the sums of `id` and `n`, and how many rows have the text of their `id`.
async fn content(node: &Node, table: &str) -> [i64; 4] {
    let right = format!("count(CASE WHEN pad = {} THEN 1 END)", pad().replace("i *", "id *"));
    let mut numbers = [0; 4];
    for (number, what) in numbers.iter_mut().zip(["count(*)", "sum(id)", "sum(n)", &right]) {
        *number = node.number(&format!("SELECT {what} FROM {table}")).await;
    }
    numbers
}

/// Some statement had most of the memory that there is.
async fn assert_was_short(node: &Node, limit: usize) {
    let peak = node.number("SELECT max(peak_memory_bytes) FROM system.queries").await;
    assert!(peak >= limit as i64 / 2, "{peak} bytes at the most, of {limit}");
}

fn sum(first: i64, last: i64) -> i64 {
    (first..=last).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_memory_is_copied_and_made() {
    let node = Node::with_query_memory(MEMORY).await;
    let rows = format!("SELECT i AS id, {} AS pad FROM generate_series(1, {ROWS}) AS g(i)", pad());
    node.ask(&format!("COPY ({rows}) TO 'big.parquet'")).await.unwrap();
    node.ask("CREATE TABLE t (id BIGINT PRIMARY KEY, pad TEXT)").await.unwrap();
    assert_eq!(node.ask("COPY t FROM 'big.parquet'").await.unwrap(), format!("COPY {ROWS}"));
    let all = (ROWS, ROWS * (ROWS + 1) / 2, ROWS * 192);
    assert_eq!(numbers(&node, "t").await, all);
    node.ask("CREATE TABLE u AS SELECT id, upper(pad) AS pad FROM t").await.unwrap();
    assert_eq!(numbers(&node, "u").await, all);
    let node = node.restart().await;
    node.ask("FLUSH").await.unwrap();
    assert_eq!(numbers(&node, "t").await, all);
    assert_eq!(numbers(&node, "u").await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_of_two_sides_that_are_larger_than_memory_changes_each_row_once() {
    let node = Node::with_query_memory(LITTLE).await;
    let half = SOME / 2;
    filled(&node, "t", "", 1, SOME).await;
    filled(&node, "s", "", half + 1, half + SOME).await;
    let merge = "MERGE INTO t USING s ON t.id = s.id \
                 WHEN MATCHED AND s.id % 2 = 0 THEN DELETE \
                 WHEN MATCHED THEN UPDATE SET n = t.n + s.n, pad = s.pad \
                 WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.n, s.pad)";
    assert_eq!(node.ask(merge).await.unwrap(), format!("MERGE {SOME}"));
    let odd: i64 = (half + 1..=SOME).filter(|id| id % 2 == 1).sum();
    let after = [SOME + half / 2, sum(1, half) + odd + sum(SOME + 1, half + SOME), SOME + half, SOME + half / 2];
    assert_eq!(content(&node, "t").await, after);
    node.ask("FLUSH").await.unwrap();
    assert_eq!(content(&node, "t").await, after);
    // One row of the source that comes twice, however far apart, and nothing is changed.
    node.ask(&format!("INSERT INTO s SELECT id, n, pad FROM s WHERE id = {}", half + 1)).await.unwrap();
    let error = node.ask(merge).await.unwrap_err();
    assert_eq!(error.code(), Code::CardinalityViolation, "{error}");
    assert_eq!(content(&node, "t").await, after);
    assert_was_short(&node, LITTLE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_and_a_delete_by_a_table_larger_than_memory_change_what_meets_it() {
    let node = Node::with_query_memory(LITTLE).await;
    let half = SOME / 2;
    filled(&node, "t", "", 1, SOME).await;
    filled(&node, "s", "", half + 1, half + SOME).await;
    let update = "UPDATE t SET n = t.n + s.n, pad = s.pad FROM s WHERE t.id = s.id";
    assert_eq!(node.ask(update).await.unwrap(), format!("UPDATE {half}"));
    assert_eq!(content(&node, "t").await, [SOME, sum(1, SOME), SOME + half, SOME]);
    let delete = "DELETE FROM t USING s WHERE t.id = s.id AND t.pad = s.pad AND t.n = 2";
    assert_eq!(node.ask(delete).await.unwrap(), format!("DELETE {half}"));
    assert_eq!(content(&node, "t").await, [half, sum(1, half), half, half]);
    assert_was_short(&node, LITTLE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_larger_than_memory_take_the_places_of_those_that_have_their_keys() {
    let node = Node::with_query_memory(LITTLE).await;
    let half = SOME / 2;
    filled(&node, "t", "PRIMARY KEY", 1, SOME).await;
    filled(&node, "s", "", half + 1, half + SOME).await;
    let all = [SOME + half, sum(1, half + SOME)];
    let insert = "INSERT INTO t SELECT id, n, pad FROM s ON CONFLICT (id) DO";
    assert_eq!(node.ask(&format!("{insert} NOTHING")).await.unwrap(), format!("INSERT 0 {half}"));
    assert_eq!(content(&node, "t").await, [all[0], all[1], all[0], all[0]]);
    let replace = format!("{insert} UPDATE SET n = excluded.n, pad = excluded.pad");
    assert_eq!(node.ask(&replace).await.unwrap(), format!("INSERT 0 {SOME}"));
    assert_eq!(content(&node, "t").await, [all[0], all[1], all[0], all[0]]);
    let add = format!("{insert} UPDATE SET n = t.n + excluded.n WHERE excluded.id % 2 = 0");
    assert_eq!(node.ask(&add).await.unwrap(), format!("INSERT 0 {half}"));
    let after = [all[0], all[1], all[0] + half, all[0]];
    assert_eq!(content(&node, "t").await, after);
    node.ask(&format!("INSERT INTO s SELECT id, n, pad FROM s WHERE id = {}", half + 1)).await.unwrap();
    for statement in [add, replace] {
        let error = node.ask(&statement).await.unwrap_err();
        assert_eq!(error.code(), Code::CardinalityViolation, "{error}");
    }
    assert_eq!(content(&node, "t").await, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_of_sorted_joined_and_grouped_rows_larger_than_memory() {
    let node = Node::with_query_memory(LITTLE).await;
    filled(&node, "t", "", 1, SOME).await;
    node.ask("CREATE TABLE sorted AS SELECT id, n, pad FROM t ORDER BY pad DESC, id").await.unwrap();
    let all = [SOME, sum(1, SOME), SOME, SOME];
    assert_eq!(content(&node, "sorted").await, all);
    let joined = "SELECT t.id, sorted.n, sorted.pad FROM t JOIN sorted ON t.pad = sorted.pad";
    node.ask(&format!("CREATE TABLE joined AS {joined} ORDER BY t.id")).await.unwrap();
    assert_eq!(content(&node, "joined").await, all);
    let grouped = "SELECT max(id) AS id, count(*) AS n, pad FROM (SELECT * FROM t UNION ALL SELECT * FROM joined)";
    node.ask(&format!("CREATE TABLE grouped AS {grouped} GROUP BY pad")).await.unwrap();
    assert_eq!(content(&node, "grouped").await, [SOME, sum(1, SOME), 2 * SOME, SOME]);
    assert_was_short(&node, LITTLE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_of_rows_of_which_few_fit_into_memory_at_once_changes_each_row_once() {
    let node = Node::with_query_memory(LITTLE).await;
    let rows = |first: i64, last: i64| {
        format!(
            "SELECT i AS id, repeat(md5(CAST(i AS TEXT)), 500) AS pad FROM generate_series({first}, {last}) AS g(i)"
        )
    };
    node.ask(&format!("CREATE TABLE t AS {}", rows(1, 1_000))).await.unwrap();
    node.ask(&format!("CREATE TABLE s AS {}", rows(501, 1_500))).await.unwrap();
    let merge = "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET pad = s.pad || '!' \
                 WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.pad)";
    assert_eq!(node.ask(merge).await.unwrap(), "MERGE 1000");
    assert_eq!(numbers(&node, "t").await, (1_500, sum(1, 1_500), 1_500 * 16_000 + 500));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_spill_at_once_all_end() {
    let node = Node::with_query_memory(LITTLE).await;
    filled(&node, "s", "", 1, SOME).await;
    for table in ["a", "b", "c"] {
        filled(&node, table, "", SOME / 2 + 1, SOME / 2 + SOME).await;
    }
    let merge = async |table: &str| {
        let sql = format!(
            "MERGE INTO {table} USING s ON {table}.id = s.id WHEN MATCHED THEN UPDATE SET n = 2, pad = s.pad \
             WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.n, s.pad)"
        );
        node.ask(&sql).await
    };
    let merged = tokio::join!(merge("a"), merge("b"), merge("c"));
    for (table, merged) in [("a", merged.0), ("b", merged.1), ("c", merged.2)] {
        assert_eq!(merged.unwrap(), format!("MERGE {SOME}"));
        let all = SOME + SOME / 2;
        assert_eq!(content(&node, table).await, [all, sum(1, all), all + SOME / 2, all]);
    }
    assert_was_short(&node, LITTLE).await;
}

//! Owns the tests of what goes on without end: EMIT CHANGES on both wires, and server-sent events.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use millstream_catalog::ObjectName;
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::fixture::Node;

const PATIENCE: Duration = Duration::from_secs(20);

/// A node with a stream `s` of id and word, and a view that counts its words.
async fn node_with_view() -> Node {
    let node = Node::start().await;
    node.sql("CREATE STREAM s (id BIGINT, word TEXT) WITH (partitions = 2)").await;
    node.insert("s", json!([{"id": 1, "word": "a"}, {"id": 2, "word": "b"}])).await;
    let made = node.sql("CREATE MATERIALIZED VIEW words AS SELECT word, count(*) AS n FROM s GROUP BY word").await;
    assert_eq!(made["status"], "CREATE MATERIALIZED VIEW", "{made}");
    node
}

/// One event as a client sees it.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

/// A client of server-sent events.
struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    async fn open(node: &Node, path: &str, last: Option<&str>) -> Self {
        let mut request = reqwest::Client::new().get(format!("{}{path}", node.http));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    async fn next(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("no event came")
    }

    async fn read(&mut self) -> Event {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if !event.starts_with(':') {
                    return parsed(&event);
                }
            }
            let chunk = self.response.chunk().await.unwrap().expect("the stream ended");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The events up to and with the first of that name.
    async fn until(&mut self, name: &str) -> Vec<Event> {
        let mut events = vec![];
        loop {
            events.push(self.next().await);
            if events.last().is_some_and(|e| e.name == name) {
                return events;
            }
        }
    }

    /// Takes in changes until the rows are these.
    async fn until_rows(&mut self, rows: &mut BTreeMap<String, i64>, wanted: &Value) -> Vec<Event> {
        let mut events = vec![];
        while json!(rows) != *wanted {
            let event = self.next().await;
            apply(rows, &event);
            events.push(event);
        }
        events
    }
}

fn parsed(text: &str) -> Event {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let data = serde_json::from_str(&field("data: ").unwrap()).unwrap();
    Event { name: field("event: ").unwrap(), id: field("id: "), data }
}

fn apply(rows: &mut BTreeMap<String, i64>, event: &Event) {
    let word = || event.data["word"].as_str().unwrap().to_owned();
    match event.name.as_str() {
        "reset" => rows.clear(),
        "insert" => assert_eq!(rows.insert(word(), event.data["n"].as_i64().unwrap()), None, "{event:?}"),
        "delete" => assert_eq!(rows.remove(&word()), event.data["n"].as_i64(), "{event:?}"),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_views_rows_come_first_and_then_its_changes() {
    let node = node_with_view().await;
    let mut events = Events::open(&node, "/v1/views/words/changes", None).await;
    let mut rows = BTreeMap::new();
    let first = events.until("ready").await;
    assert_eq!(first.len(), 3, "{first:?}");
    first.iter().for_each(|event| apply(&mut rows, event));
    assert_eq!(json!(rows), json!({"a": 1, "b": 1}));
    node.insert("s", json!([{"id": 3, "word": "a"}, {"id": 4, "word": "c"}])).await;
    events.until_rows(&mut rows, &json!({"a": 2, "b": 1, "c": 1})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_any_event_a_view_is_followed_without_gap_or_repeat() {
    let node = node_with_view().await;
    let mut events = Events::open(&node, "/v1/views/words/changes?snapshot=false", None).await;
    let ready = events.next().await;
    assert_eq!(ready.name, "ready");
    let mut all = vec![ready];
    let mut rows = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 1)]);
    for (id, n) in [(3, 2), (4, 3)] {
        node.insert("s", json!([{"id": id, "word": "a"}, {"id": id, "word": "b"}])).await;
        all.extend(events.until_rows(&mut rows, &json!({"a": n, "b": n})).await);
    }
    assert_eq!(all.len(), 9, "{all:?}");
    for (i, event) in all.iter().enumerate() {
        let mut again = Events::open(&node, "/v1/views/words/changes", event.id.as_deref()).await;
        for expected in &all[i + 1..] {
            assert_eq!(again.next().await, *expected);
        }
    }
    let id = all[4].id.clone().unwrap();
    let mut again = Events::open(&node, &format!("/v1/views/words/changes?after={id}"), None).await;
    assert_eq!(again.next().await, all[5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_an_event_that_is_gone_a_view_begins_anew() {
    let node = node_with_view().await;
    for id in ["abc-0", "abc-7.1", "abc-snapshot"] {
        let mut events = Events::open(&node, "/v1/views/words/changes", Some(id)).await;
        let names: Vec<String> = events.until("ready").await.into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["reset", "insert", "insert", "ready"], "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_behind_the_retention_is_reset() {
    let node = node_with_view().await;
    node.sql(
        "CREATE MATERIALIZED VIEW few WITH (retention_size = '1 B') AS SELECT word, count(*) AS n FROM s GROUP BY word",
    )
    .await;
    let mut events = Events::open(&node, "/v1/views/few/changes?snapshot=false", None).await;
    let ready = events.next().await;
    drop(events);
    for id in 3..6 {
        node.insert("s", json!([{"id": id, "word": "a"}])).await;
        node.sql("FLUSH").await;
    }
    let mut again = Events::open(&node, "/v1/views/few/changes", ready.id.as_deref()).await;
    let mut rows = BTreeMap::new();
    let told = again.until("ready").await;
    assert_eq!(told[0].name, "reset", "{told:?}");
    told.iter().for_each(|event| apply(&mut rows, event));
    assert_eq!(json!(rows), json!({"a": 4, "b": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_view_ends_its_events_with_the_reason() {
    let node = node_with_view().await;
    let mut events = Events::open(&node, "/v1/views/words/changes?snapshot=false", None).await;
    events.until("ready").await;
    node.sql("DROP MATERIALIZED VIEW words").await;
    let last = events.next().await;
    assert_eq!((last.name.as_str(), &last.data["code"]), ("error", &json!("undefined_object")));
    assert!(events.response.chunk().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_is_a_problem() {
    let node = node_with_view().await;
    for (path, status) in [
        ("/v1/views/nowhere/changes", 404),
        ("/v1/views/s/changes", 400),
        ("/v1/views/words/changes?after=nonsense", 400),
        ("/v1/views/words/changes?snapshot=perhaps", 400),
        ("/v1/views/words/changes?since=1", 400),
        ("/v1/streams/nowhere/tail", 404),
        ("/v1/streams/s/tail?from=nonsense", 400),
        ("/v1/streams/s/tail?from=t:0-1", 400),
        ("/v1/streams/s/tail?from=s:0-999", 400),
    ] {
        let answer = reqwest::get(format!("{}{path}", node.http)).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_what_is_live_ends_its_clients() {
    let node = node_with_view().await;
    let mut events = Events::open(&node, "/v1/views/words/changes", None).await;
    let mut tail = Events::open(&node, "/v1/streams/s/tail", None).await;
    events.until("ready").await;
    tail.until("ready").await;
    node.engine.end_live();
    assert_eq!(events.next().await.data["code"], "shutting_down");
    assert_eq!(tail.next().await.data["code"], "shutting_down");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_followed_from_the_lake_into_the_log_and_behind_any_row() {
    let node = node_with_view().await;
    let more: Vec<Value> = (3..40).map(|id| json!({"id": id, "word": "x"})).collect();
    node.insert("s", json!(more)).await;
    node.engine.tier(&ObjectName::parse("s").unwrap()).await.unwrap();
    node.insert("s", json!([{"id": 40, "word": "log"}])).await;
    let mut events = Events::open(&node, "/v1/streams/s/tail?from=earliest", None).await;
    let mut all = vec![];
    for _ in 1..=40 {
        all.push(events.next().await);
    }
    node.insert("s", json!([{"id": 41, "word": "new"}])).await;
    all.push(events.next().await);
    let mut ids: Vec<i64> = all.iter().map(|e| e.data["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=41).collect::<Vec<_>>());
    for i in [0, 7, 25, 39] {
        let mut again = Events::open(&node, "/v1/streams/s/tail", all[i].id.as_deref()).await;
        let mut rest = vec![];
        for _ in i + 1..all.len() {
            rest.push(again.next().await.data["id"].as_i64().unwrap());
        }
        let mut expected: Vec<i64> = all[i + 1..].iter().map(|e| e.data["id"].as_i64().unwrap()).collect();
        rest.sort_unstable();
        expected.sort_unstable();
        assert_eq!(rest, expected, "behind {:?}", all[i].id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streams_tail_begins_with_what_comes_next() {
    let node = node_with_view().await;
    let mut events = Events::open(&node, "/v1/streams/s/tail", None).await;
    let ready = events.next().await;
    assert_eq!(ready.name, "ready");
    node.insert("s", json!([{"id": 3, "word": "next"}])).await;
    let next = events.next().await;
    assert_eq!((next.name.as_str(), &next.data), ("insert", &json!({"id": 3, "word": "next"})));
    let token = ready.id.unwrap();
    let mut again = Events::open(&node, &format!("/v1/streams/s/tail?from={token}"), None).await;
    assert_eq!(again.next().await, next);
}

const LIVE: &str = "SELECT word, count(*) AS n FROM s GROUP BY word EMIT CHANGES";

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_over_http_line_by_line_and_end_with_their_client() {
    let node = node_with_view().await;
    let mut response = node.post("application/x-ndjson", json!({"sql": LIVE})).await;
    let mut text = String::new();
    let mut insert = Some(json!([{"id": 3, "word": "a"}]));
    while !text.contains(r#"{"_change":"insert","word":"a","n":2}"#) {
        let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        if text.lines().count() == 2
            && let Some(rows) = insert.take()
        {
            node.insert("s", rows).await;
        }
    }
    assert!(text.contains(r#"{"_change":"delete","word":"a","n":1}"#), "{text}");
    drop(response);
    node.until_no_query_runs().await;
    let asked = json!({"sql": "SELECT * FROM s WHERE id > 99 EMIT CHANGES"});
    let silent = node.post("application/x-ndjson", asked.clone()).await;
    assert_eq!(silent.status(), 200, "a query with nothing to say yet is answered");
    drop(silent);
    node.until_no_query_runs().await;
    assert_eq!(node.post("application/vnd.apache.parquet", asked).await.status(), 406);
    let asked = json!({"sql": "SELECT * FROM s WHERE id > 99 EMIT CHANGES", "timeout_ms": 300});
    let ended = node.post("application/x-ndjson", asked).await.text().await.unwrap();
    assert!(ended.contains("statement_timeout"), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_over_the_simple_protocol_until_they_are_cancelled() {
    let node = node_with_view().await;
    let client = node.connect().await;
    client.simple_query("SET statement_timeout = '100ms'").await.unwrap();
    let cancel = client.cancel_token();
    let rows = client.simple_query_raw(LIVE).await.unwrap();
    pin_mut!(rows);
    let mut seen = vec![];
    let mut inserted = false;
    while seen.last().is_none_or(|row| row != "insert a 2") {
        match tokio::time::timeout(PATIENCE, rows.next()).await.unwrap().unwrap().unwrap() {
            SimpleQueryMessage::Row(row) => {
                let cells: Vec<&str> = (0..3).map(|i| row.get(i).unwrap()).collect();
                seen.push(cells.join(" "));
            }
            _ => continue,
        }
        if seen.len() == 2 && !inserted {
            inserted = true;
            tokio::time::sleep(Duration::from_millis(200)).await;
            node.insert("s", json!([{"id": 3, "word": "a"}])).await;
        }
    }
    let running = node.sql("SELECT sql FROM system.queries WHERE status = 'running' AND sql LIKE '%EMIT%'").await;
    assert_eq!(running["rows"].as_array().unwrap().len(), 2, "it and the one that asks: {running}");
    cancel.cancel_query(NoTls).await.unwrap();
    let ended = loop {
        match tokio::time::timeout(PATIENCE, rows.next()).await.unwrap().unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(ended.code(), Some(&SqlState::QUERY_CANCELED));
    client.simple_query("SELECT 1").await.unwrap();
    node.until_no_query_runs().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_over_the_extended_protocol_and_end_with_their_client() {
    let node = node_with_view().await;
    let config = format!("host=127.0.0.1 port={} user=a", node.pg.port());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    {
        let rows = client.query_raw::<_, i64, _>(LIVE, []).await.unwrap();
        pin_mut!(rows);
        for _ in 0..2 {
            tokio::time::timeout(PATIENCE, rows.next()).await.unwrap().unwrap().unwrap();
        }
        node.insert("s", json!([{"id": 3, "word": "c"}])).await;
        let row = tokio::time::timeout(PATIENCE, rows.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, i64>(2)), ("insert", "c", 1));
    }
    connection.abort();
    drop(client);
    tokio::time::timeout(Duration::from_secs(1), node.until_no_query_runs()).await.expect("it still runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_queries_leave_room_for_the_others() {
    let node = node_with_view().await;
    let mut live = vec![];
    for _ in 0..20 {
        live.push(node.post("application/x-ndjson", json!({"sql": "SELECT id FROM s EMIT CHANGES"})).await);
    }
    assert_eq!(node.sql("SELECT count(*) FROM s").await["rows"], json!([[2]]));
}

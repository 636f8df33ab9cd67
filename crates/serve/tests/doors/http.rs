//! Owns the tests of `POST /v1/sql`'s requests and errors, and of the routes that tell the node's state.

use serde_json::{Value, json};

use crate::fixture::Node;

#[tokio::test(flavor = "multi_thread")]
async fn a_query_answers_columns_with_sql_types_and_rows() {
    let node = Node::start().await;
    let answer = node.sql("SELECT 1 AS a, 'x' AS b, 1.5 AS c, NULL AS d, true AS e").await;
    assert_eq!(answer["columns"][0], json!({"name": "a", "type": "bigint"}));
    assert_eq!(answer["columns"][1], json!({"name": "b", "type": "text"}));
    assert_eq!(answer["columns"][2]["type"], "double precision");
    assert_eq!(answer["rows"], json!([[1, "x", 1.5, null, true]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_take_the_types_of_their_places() {
    let node = Node::start().await;
    let body = json!({"sql": "SELECT column1 FROM (VALUES (1), (2), (3)) WHERE column1 > $1 AND column1 < $2", "params": [1, "3"]});
    let answer: Value = node.post("*/*", body).await.json().await.unwrap();
    assert_eq!(answer["rows"], json!([[2]]), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_does_not_fit_is_named() {
    let node = Node::start().await;
    let body = json!({"sql": "SELECT column1 FROM (VALUES (1)) WHERE column1 > $1", "params": ["x"]});
    let response = node.post("*/*", body).await;
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["code"], "invalid_value");
    assert!(problem["detail"].as_str().unwrap().starts_with("parameter $1: \"x\" is not a bigint"), "{problem}");
    let body = json!({"sql": "SELECT 1", "params": [1]});
    let problem: Value = node.post("*/*", body).await.json().await.unwrap();
    assert_eq!(problem["detail"], "the statement has 0 parameters and params holds 1 values");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_before_the_first_row_is_a_problem_document() {
    let node = Node::start().await;
    let response = node.post("text/csv", json!({"sql": "SELEC 1"})).await;
    assert_eq!(response.status(), 400);
    let problem: Value = response.json().await.unwrap();
    assert_eq!((problem["code"].as_str(), problem["sqlstate"].as_str()), (Some("syntax_error"), Some("42601")));
    let response = node.post("*/*", json!({"sql": "SELECT * FROM nowhere"})).await;
    assert_eq!(response.status(), 404);
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["sqlstate"], "42P01");
    let response = node.post("*/*", json!({"sql": "SELECT 1 / 0"})).await;
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["code"], "division_by_zero", "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_among_the_rows_ends_json_with_an_error_member() {
    let node = Node::start().await;
    let sql = "SELECT 10 / (300000 - value) FROM generate_series(1, 400000)";
    let answer: Value = node.post("application/json", json!({"sql": sql})).await.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "division_by_zero", "{}", answer["error"]);
    assert!(!answer["rows"].as_array().unwrap().is_empty());
    let text = node.post("application/x-ndjson", json!({"sql": sql})).await.text().await.unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "division_by_zero");
    let csv = node.post("text/csv", json!({"sql": sql})).await;
    assert_eq!(csv.status(), 200);
    assert!(csv.text().await.is_err(), "the connection should have broken off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_a_small_result_is_a_problem_document() {
    let node = Node::start().await;
    let sql = "SELECT 10 / (9000 - value) AS v FROM generate_series(1, 10000)";
    for format in ["application/json", "text/csv"] {
        assert_eq!(node.post(format, json!({"sql": sql})).await.status(), 400, "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_without_rows_answers_its_status_and_notices() {
    let node = Node::start().await;
    let create = "CREATE STREAM IF NOT EXISTS events (id BIGINT, at TIMESTAMPTZ)";
    assert_eq!(node.sql(create).await, json!({"status": "CREATE STREAM", "notices": []}));
    let again = node.sql(create).await;
    assert_eq!(again["status"], "CREATE STREAM");
    assert_eq!(again["notices"].as_array().unwrap().len(), 1, "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_statements_run_in_order_and_the_last_answers() {
    let node = Node::start().await;
    let answer = node.sql("CREATE STREAM a (x BIGINT); SELECT 1; SELECT count(*) AS n FROM a;").await;
    assert_eq!(answer["rows"], json!([[0]]), "{answer}");
    let answer = node.sql("SELECT 1; SELECT broken; CREATE STREAM b (x BIGINT)").await;
    assert_eq!(answer["code"], "undefined_column", "{answer}");
    assert_eq!(node.sql("SELECT * FROM b").await["code"], "undefined_object");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_say_what_is_wrong() {
    let node = Node::start().await;
    let post = |content_type: &'static str, body: &'static str| {
        reqwest::Client::new()
            .post(format!("{}/v1/sql", node.http))
            .header("content-type", content_type)
            .body(body)
            .send()
    };
    let unknown_member = post("application/json", r#"{"sql": "SELECT 1", "parms": []}"#).await.unwrap();
    assert_eq!(unknown_member.status(), 400);
    assert!(unknown_member.text().await.unwrap().contains("parms"));
    let empty = post("application/json", r#"{"sql": " ; "}"#).await.unwrap();
    assert_eq!(empty.status(), 400);
    assert_eq!(post("application/xml", "<sql/>").await.unwrap().status(), 415);
    assert_eq!(post("text/plain", "SELECT 1").await.unwrap().status(), 200);
    let not_acceptable = node.post("image/png", json!({"sql": "SELECT 1"})).await;
    assert_eq!(not_acceptable.status(), 406);
    let bad_token = node.post("*/*", json!({"sql": "SELECT 1", "after": "nonsense"})).await;
    assert_eq!(bad_token.status(), 400);
    let bad_parameter = reqwest::Client::new().post(format!("{}/v1/sql?befor=1", node.http)).body("{}").send().await;
    assert_eq!(bad_parameter.unwrap().status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_over_its_timeout_is_ended() {
    let node = Node::start().await;
    let sql = "SELECT count(*) FROM generate_series(1, 100000000000)";
    let response = node.post("*/*", json!({"sql": sql, "timeout_ms": 50})).await;
    assert_eq!(response.status(), 504);
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["sqlstate"], "57014");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_its_query() {
    let node = Node::start().await;
    let sql = json!({"sql": "SELECT * FROM generate_series(1, 100000000000)"});
    let mut response = node.post("text/csv", sql.clone()).await;
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    node.until_no_query_runs().await;
    let counting = json!({"sql": "SELECT count(*) FROM generate_series(1, 100000000000)"});
    let waiting = node.post("text/csv", counting);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), waiting).await.is_err());
    node.until_no_query_runs().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_state_is_told() {
    let node = Node::start().await;
    let get = |path: &str| reqwest::get(format!("{}{path}", node.http));
    assert_eq!(get("/healthz").await.unwrap().status(), 200);
    let ready = get("/readyz").await.unwrap();
    assert_eq!(ready.status(), 200);
    assert_eq!(ready.json::<Value>().await.unwrap()["status"], "ready");
    let metrics = get("/metrics").await.unwrap();
    assert!(metrics.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text().await.unwrap().contains("millstream_"));
    assert_eq!(get("/").await.unwrap().json::<Value>().await.unwrap()["name"], "millstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_methods_are_problems_too() {
    let node = Node::start().await;
    let missing = reqwest::get(format!("{}/nothing", node.http)).await.unwrap();
    assert_eq!(missing.status(), 404);
    assert_eq!(missing.headers()["content-type"], "application/problem+json");
    let wrong = reqwest::get(format!("{}/v1/sql", node.http)).await.unwrap();
    assert_eq!(wrong.status(), 405);
    assert_eq!(wrong.headers()["allow"], "POST");
    assert_eq!(wrong.json::<Value>().await.unwrap()["status"], 405);
}

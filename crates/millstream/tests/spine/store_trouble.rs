//! A lake that fails or hangs: ingest and queries go on, the jobs table says so, and all is well when it comes back.

use tokio::net::TcpListener;

use crate::support::{Client, Node, RESTLESS, Setup, block_on, poll};

async fn ingest_rows(client: &Client, from: u64, to: u64) {
    let body: String = (from..to).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    client.ingest("stored", body, &[]).await.ok();
}

async fn expect_rows(client: &Client, rows: i64) {
    let found = client.sql("SELECT count(*), count(DISTINCT id), max(id) FROM stored").await.ints();
    assert_eq!(found, [vec![rows, rows, rows - 1]]);
}

async fn wait_for_a_failed_job(client: &Client) -> String {
    poll("system.jobs to name the failure", 120, || async {
        let sql = "SELECT last_error FROM system.jobs WHERE kind = 'tiering' AND object LIKE '%stored' \
                   AND failures_in_a_row > 0";
        let failed = client.sql(sql).await;
        failed.rows.first().and_then(|row| row[0].as_str().map(str::to_owned))
    })
    .await
}

#[test]
fn a_lake_that_fails_stops_nothing_and_is_caught_up_with_later() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let lake = dir.path().join("lake");
        let setup = Setup::new(dir.path(), RESTLESS).with("MILLSTREAM_STORE_URL", format!("file://{}", lake.display()));
        let node = Node::start(setup).await;
        let client = node.client();
        client.sql("CREATE STREAM stored (id BIGINT NOT NULL)").await;
        ingest_rows(&client, 0, 1000).await;
        let settled = || async {
            let lag = client.number("SELECT lag_rows FROM system.streams WHERE name = 'stored'").await;
            (lag == 0).then_some(())
        };
        poll("the first rows to reach the lake", 30, settled).await;

        // A file where the folder was: even root cannot write below it.
        let (away, schema) = (dir.path().join("away"), lake.join("public"));
        std::fs::rename(&schema, &away).expect("the lake goes away");
        std::fs::write(&schema, "not a folder").expect("a file takes its place");
        ingest_rows(&client, 1000, 2000).await;
        let reason = wait_for_a_failed_job(&client).await;
        assert!(!reason.is_empty());
        ingest_rows(&client, 2000, 3000).await;
        let tail = client.number("SELECT count(*) FROM system.streams WHERE name = 'stored' AND lag_rows = 2000").await;
        assert_eq!(tail, 1, "what is not in the lake stays in the log");

        std::fs::remove_file(&schema).expect("the file goes");
        std::fs::rename(&away, &schema).expect("the lake comes back");
        poll("the lake to catch up", 60, settled).await;
        expect_rows(&client, 3000).await;
        let (status, setup) = node.terminate().await;
        assert!(status.success(), "{}", setup.whole_output());
        let node = Node::start(setup).await;
        expect_rows(&node.client(), 3000).await;
    });
}

#[test]
fn a_lake_that_hangs_stops_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let black_hole = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let endpoint = format!("http://{}", black_hole.local_addr().expect("it is bound"));
        let swallow = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((connection, _)) = black_hole.accept().await {
                held.push(connection);
            }
        });
        let setup = Setup::new(dir.path(), RESTLESS)
            .with("MILLSTREAM_STORE_URL", "s3://bucket/prefix")
            .with("AWS_ENDPOINT_URL", endpoint)
            .with("AWS_ALLOW_HTTP", "true")
            .with("AWS_REGION", "us-east-1")
            .with("AWS_ACCESS_KEY_ID", "test")
            .with("AWS_SECRET_ACCESS_KEY", "test");
        let node = Node::start(setup).await;
        let client = node.client();
        client.sql("CREATE STREAM stored (id BIGINT NOT NULL)").await;
        for round in 0..10 {
            ingest_rows(&client, round * 100, (round + 1) * 100).await;
            expect_rows(&client, (round as i64 + 1) * 100).await;
        }
        wait_for_a_failed_job(&client).await;
        expect_rows(&client, 1000).await;
        let setup = node.kill9();
        let node = Node::start(setup).await;
        expect_rows(&node.client(), 1000).await;
        let (status, setup) = node.terminate().await;
        assert!(status.success(), "a hanging lake does not hold the exit up: {}", setup.whole_output());
        swallow.abort();
    });
}

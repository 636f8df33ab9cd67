//! Starting, stopping, and who may use a data directory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{Client, LOG_ONLY, Node, RESTLESS, Setup, block_on, poll};

/// Sends single rows until the node is gone; returns the acknowledged ones.
async fn write_until_gone(client: Client, sequence: Arc<AtomicU64>) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    loop {
        let id = sequence.fetch_add(1, Ordering::SeqCst);
        match client.try_ingest("drained", format!("{{\"id\":{id}}}\n"), &[]).await {
            Ok(reply) if reply.status == 200 => acknowledged.push(id),
            Ok(reply) => {
                reply.refused(503, "shutting_down");
                return acknowledged;
            }
            Err(_) => return acknowledged,
        }
    }
}

#[test]
fn sigterm_finishes_what_was_accepted_and_exits_0() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let node = Node::start(Setup::new(dir.path(), RESTLESS)).await;
        node.client().sql("CREATE STREAM drained (id BIGINT NOT NULL)").await;
        let sequence = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..8).map(|_| tokio::spawn(write_until_gone(node.client(), sequence.clone()))).collect();
        poll("some rows to be written", 30, || async { (sequence.load(Ordering::SeqCst) > 200).then_some(()) }).await;
        let (status, setup) = node.terminate().await;
        assert_eq!(status.code(), Some(0), "{}", setup.whole_output());
        let mut acknowledged = Vec::new();
        for writer in writers {
            acknowledged.extend(writer.await.expect("the writer ends"));
        }
        let node = Node::start(setup).await;
        let found = node.client().sql("SELECT id FROM drained ORDER BY id").await.ints().concat();
        acknowledged.sort_unstable();
        let missing: Vec<_> = acknowledged.iter().filter(|id| found.binary_search(&(**id as i64)).is_err()).collect();
        assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
        assert!(found.windows(2).all(|w| w[0] < w[1]), "a row is there twice");
    });
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let node = Node::start(Setup::new(dir.path(), LOG_ONLY)).await;
        let second = Setup { output: dir.path().join("second.log"), ..node.setup().clone() };
        let mut child = second.command().spawn().expect("the binary starts");
        let status = poll("the second process to end", 30, || {
            let status = child.try_wait().expect("the child is ours");
            async move { status }
        });
        let status = status.await;
        assert!(!status.success(), "it went on");
        let output = second.whole_output();
        assert!(output.contains("in use"), "{output}");
        assert!(node.client().is_ready().await, "the first one goes on");
    });
}

#[test]
fn everything_is_still_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let node = Node::start(Setup::new(dir.path(), LOG_ONLY)).await;
        let client = node.client();
        client
            .sql(
                "CREATE STREAM kept (id BIGINT NOT NULL DEFAULT 5, name TEXT, at TIMESTAMPTZ, CHECK (id < 100), \
                 WATERMARK FOR at AS at - INTERVAL '5' SECOND) PARTITION BY (id) WITH (partitions = 2)",
            )
            .await;
        client.sql("COMMENT ON STREAM kept IS 'what remains'").await;
        client.sql("ALTER STREAM kept ADD COLUMN later TEXT").await;
        client.ingest("kept", "{\"id\":1,\"later\":\"l\"}\n{}\n{\"id\":1000}\n", &[]).await.ok();
        let questions = ["SHOW CREATE STREAM kept", "DESCRIBE kept", "SELECT * FROM kept ORDER BY id", "SHOW STREAMS"];
        let mut before = Vec::new();
        for question in questions {
            before.push(client.sql(question).await);
        }
        let (status, setup) = node.terminate().await;
        assert!(status.success(), "{}", setup.whole_output());
        let node = Node::start(setup).await;
        for (question, before) in questions.iter().zip(before) {
            let after = node.client().sql(question).await;
            assert_eq!((after.columns, after.rows), (before.columns, before.rows), "{question}");
        }
        node.client().sql("DROP STREAM kept").await;
        node.client().statement("SELECT * FROM kept").await.refused(404, "undefined_object");
        node.client().sql("CREATE STREAM kept (other INT)").await;
        assert_eq!(node.client().number("SELECT count(*) FROM kept").await, 0, "a new stream is empty");
    });
}

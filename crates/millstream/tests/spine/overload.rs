//! Too much at once is answered, not buffered: 429 with Retry-After, and memory that stays flat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{LOG_ONLY, Node, RESTLESS, Setup, block_on, poll};

#[test]
fn overload_is_answered_with_429_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let setup = Setup::new(dir.path(), LOG_ONLY).with("MILLSTREAM_INGEST_QUEUE", "64KiB");
        let node = Node::start(setup).await;
        node.client().sql("CREATE STREAM busy (id BIGINT NOT NULL, noise TEXT)").await;
        let noise = "n".repeat(100);
        let body: String = (0..500).map(|id| format!("{{\"id\":{id},\"noise\":\"{noise}\"}}\n")).collect();
        let mut writers = tokio::task::JoinSet::new();
        // A fast disk empties the queue between two requests: the writers go on until they met each other in it.
        let met = Arc::new(AtomicBool::new(false));
        for _ in 0..32 {
            let (client, body, met) = (node.client(), body.clone(), Arc::clone(&met));
            writers.spawn(async move {
                let (mut accepted, mut refused) = (0, 0);
                let deadline = Instant::now() + Duration::from_secs(20);
                while (accepted < 5 * 500 || !met.load(Ordering::Relaxed)) && Instant::now() < deadline {
                    let reply = client.ingest("busy", body.clone(), &[]).await;
                    if reply.status == 429 {
                        assert!(reply.retry_after.is_some(), "429 comes with Retry-After");
                        reply.refused(429, "too_busy");
                        refused += 1;
                        met.store(true, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    } else {
                        accepted += reply.ok().count("accepted");
                    }
                }
                (accepted, refused)
            });
        }
        let (mut accepted, mut refused) = (0, 0);
        while let Some(done) = writers.join_next().await {
            let (a, r) = done.expect("the writer ends");
            (accepted, refused) = (accepted + a, refused + r);
        }
        assert!(accepted > 0, "nothing was taken");
        assert!(refused > 0, "nothing was refused: {accepted} rows were taken");
        assert_eq!(node.client().number("SELECT count(*) FROM busy").await, accepted as i64);
    });
}

#[test]
fn memory_stays_flat_during_a_large_ingest() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let setup = Setup::new(dir.path(), RESTLESS).with("MILLSTREAM_BUFFER_MEMORY", "16MiB");
        let node = Node::start(setup.with("MILLSTREAM_TIER_BYTES", "8MiB")).await;
        let client = node.client();
        client.sql("CREATE STREAM large (id BIGINT NOT NULL, noise TEXT)").await;
        let (requests, rows) = (200u64, 5000u64);
        let mut early = 0;
        for request in 0..requests {
            let first = request * rows;
            let body: String = (first..first + rows)
                .map(|id| format!("{{\"id\":{id},\"noise\":\"{:0128x}\"}}\n", id * 7919))
                .collect();
            client.ingest("large", body, &[]).await.ok();
            if request == requests / 4 {
                early = node.resident_bytes();
            }
        }
        let late = node.resident_bytes();
        assert!(
            late < early + (128 << 20),
            "memory was {} MiB after a quarter and {} MiB at the end",
            early >> 20,
            late >> 20
        );
        let all = (requests * rows) as i64;
        assert_eq!(client.sql("SELECT count(*), max(id) FROM large").await.ints(), [vec![all, all - 1]]);
        poll("the lake to catch up", 60, || async {
            let lag = client.number("SELECT lag_rows FROM system.streams WHERE name = 'large'").await;
            (lag == 0).then_some(())
        })
        .await;
        assert_eq!(client.sql("SELECT count(*), max(id) FROM large").await.ints(), [vec![all, all - 1]]);
    });
}

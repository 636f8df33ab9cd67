//! The lake on S3: its whole life, beside other writers, and when the store has trouble.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use millstream_catalog::Positions;
use millstream_store::{Error, Lake, LakeOptions, LakeTable, store_from_url};

use crate::durable::whole_life;
use crate::fixture::*;
use crate::servers::{KEY, S3Server, python};

/// A lake as one process has it.
fn lake_at(server: &S3Server, bucket: &str) -> Lake {
    let (url, store) = store_from_url(&format!("s3://{bucket}/lake"), &server.options()).unwrap();
    Lake::new(url, store)
}

/// An error with its causes.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_on_s3_lives_through_its_whole_life() {
    let Some(server) = S3Server::shared("a_lake_on_s3_lives_through_its_whole_life") else { return };
    whole_life(lake_at(server, &server.new_bucket())).await;
}

/// Appends ten rows at a time.
async fn append_rounds(table: &LakeTable, rounds: u64) {
    for round in 1..=rounds {
        append_to(table, &at([round * 10])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_and_a_third_by_others_lose_no_commit_on_s3() {
    const ROUNDS: u64 = 12;
    let Some(server) = S3Server::shared("two_writers_and_a_third_by_others_lose_no_commit_on_s3") else { return };
    let bucket = server.new_bucket();
    let options = LakeOptions { compact_min_files: 3, checkpoint_every: 5, ..LakeOptions::default() };
    let one = lake_at(server, &bucket).with_options(options).open(&name(), ID, schema()).await.unwrap();
    let other = lake_at(server, &bucket).with_options(options).open(&name(), ID, schema()).await.unwrap();
    let mut foreign = Command::new(python().unwrap())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/s3/append.py"))
        .args([format!("s3://{bucket}/lake/public/events"), ROUNDS.to_string()])
        .envs(server.variables())
        .envs([("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", KEY)])
        .spawn()
        .unwrap();
    let appends = {
        let one = one.clone();
        tokio::spawn(async move { append_rounds(&one, ROUNDS).await })
    };
    let mut merged = 0;
    let mut exited = false;
    while !exited || !appends.is_finished() {
        let now_ms = chrono::Utc::now().timestamp_millis();
        merged += other.maintain(Duration::from_secs(3600), now_ms).await.unwrap().files_compacted;
        exited = foreign.try_wait().unwrap().is_some();
    }
    appends.await.unwrap();
    assert!(foreign.wait().unwrap().success(), "the other program's appends fail");
    append_to(&one, &at([ROUNDS * 10 + 1])).await;
    let reopened = lake_at(server, &bucket).open(&name(), ID, schema()).await.unwrap();
    for table in [&one, &reopened] {
        let (theirs, ours): (Vec<_>, Vec<_>) = places(table).await.into_iter().partition(|(p, ..)| *p == 9);
        assert_eq!(ours, model(&at([ROUNDS * 10 + 1])));
        assert_eq!(theirs, (0..ROUNDS as i64).map(|n| (9, n, n)).collect::<Vec<_>>());
    }
    assert!(merged > 0, "nothing was merged meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_on_s3_that_append_the_same_range_commit_once() {
    let Some(server) = S3Server::shared("two_handles_on_s3_that_append_the_same_range_commit_once") else { return };
    let bucket = server.new_bucket();
    let one = lake_at(server, &bucket).open(&name(), ID, schema()).await.unwrap();
    let other = lake_at(server, &bucket).open(&name(), ID, schema()).await.unwrap();
    for round in 0..10 {
        let (start, end) =
            if round == 0 { (Positions::default(), at([5])) } else { (at([round * 5]), at([round * 5 + 5])) };
        let (a, b) =
            tokio::join!(one.append(&start, &end, rows(&start, &end)), other.append(&start, &end, rows(&start, &end)));
        assert_eq!((a.unwrap().positions.clone(), b.unwrap().positions.clone()), (end.clone(), end.clone()));
        assert_is(&one, &end).await;
        assert_eq!(other.snapshot().version, round as i64 + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_that_answers_503_or_500_a_few_times_is_asked_again() {
    if S3Server::shared("an_s3_that_answers_503_or_500_a_few_times_is_asked_again").is_none() {
        return;
    }
    let server = S3Server::start(0);
    let lake = lake_at(&server, &server.new_bucket());
    server.trouble(503, 3);
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    for (round, status) in [503, 500, 502, 429].into_iter().enumerate() {
        server.trouble(status, 3);
        append_to(&table, &at([round as u64 * 10 + 10])).await;
        server.trouble(status, 2);
        assert_is(&table, &at([round as u64 * 10 + 10])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_that_is_down_is_named_and_is_used_when_it_comes() {
    let Some(shared) = S3Server::shared("an_s3_that_is_down_is_named_and_is_used_when_it_comes") else { return };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut options = shared.options();
    options.insert("aws_endpoint_url".to_owned(), format!("http://127.0.0.1:{port}"));
    let (url, store) = store_from_url("s3://bucket/lake", &options).unwrap();
    let lake = Lake::new(url, store);
    let error = told(&lake.open(&name(), ID, schema()).await.unwrap_err());
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("endpoint"), "{error}");
    let server = S3Server::start(port);
    server.make_bucket("bucket");
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    append_to(&table, &at([10])).await;
    assert_is(&table, &at([10])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_and_keys_that_are_refused_are_told() {
    if S3Server::shared("a_bucket_that_is_not_there_and_keys_that_are_refused_are_told").is_none() {
        return;
    }
    let server = S3Server::start(0);
    let error = told(&lake_at(&server, "no-such-bucket").open(&name(), ID, schema()).await.unwrap_err());
    assert!(error.contains("no-such-bucket") && error.contains("make the bucket"), "{error}");
    let lake = lake_at(&server, &server.new_bucket());
    server.trouble(403, 1);
    let error = told(&lake.open(&name(), ID, schema()).await.unwrap_err());
    assert!(error.contains("AWS_ACCESS_KEY_ID"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_a_containers_credentials_when_none_are_given() {
    let Some(server) = S3Server::shared("keys_come_from_a_containers_credentials_when_none_are_given") else { return };
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "let me in").unwrap();
    let credentials = format!("{}/_credentials", server.endpoint);
    let token = token.display().to_string();
    let given =
        [("aws_container_credentials_full_uri", credentials), ("aws_container_authorization_token_file", token)];
    assert_signs_with("from-container", server, given).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_the_instances_role_when_nothing_is_given() {
    let Some(server) = S3Server::shared("keys_come_from_the_instances_role_when_nothing_is_given") else { return };
    assert_signs_with("from-instance", server, [("aws_metadata_endpoint", server.endpoint.clone())]).await;
}

/// A lake that is given no keys, and this instead, signs its requests with that key.
async fn assert_signs_with<const N: usize>(key: &str, server: &S3Server, given: [(&str, String); N]) {
    let mut options: BTreeMap<_, _> = server.options();
    options.retain(|name, _| !name.contains("access_key"));
    options.extend(given.map(|(name, value)| (name.to_owned(), value)));
    let (url, store) = store_from_url(&format!("s3://{}/lake", server.new_bucket()), &options).unwrap();
    let table = Lake::new(url, store).open(&name(), ID, schema()).await.unwrap();
    append_to(&table, &at([5])).await;
    assert!(server.keys().contains(&key.to_owned()), "{:?}", server.keys());
}

//! The lake on S3, where `MILLSTREAM_TEST_S3_ENDPOINT` names a server; its bucket is `millstream-test` by default.

use std::collections::BTreeMap;

use millstream_store::{Lake, store_from_url};

use crate::durable::whole_life;

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_on_s3_lives_through_its_whole_life() {
    let Ok(endpoint) = std::env::var("MILLSTREAM_TEST_S3_ENDPOINT") else {
        println!("SKIPPED: a_lake_on_s3_lives_through_its_whole_life: MILLSTREAM_TEST_S3_ENDPOINT is not set");
        return;
    };
    let bucket = std::env::var("MILLSTREAM_TEST_S3_BUCKET").unwrap_or_else(|_| "millstream-test".into());
    let options = BTreeMap::from([
        ("aws_endpoint".to_owned(), endpoint),
        ("aws_region".to_owned(), "us-east-1".to_owned()),
        ("aws_access_key_id".to_owned(), "test".to_owned()),
        ("aws_secret_access_key".to_owned(), "test".to_owned()),
    ]);
    let prefix = uuid::Uuid::new_v4();
    let (url, store) = store_from_url(&format!("s3://{bucket}/{prefix}"), &options).unwrap();
    whole_life(Lake::new(url, store)).await;
}

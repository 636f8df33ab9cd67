//! The lake on the stores of other clouds: its whole life, and writers that meet.

use millstream_catalog::Positions;
use millstream_store::{Lake, store_from_url};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

use crate::durable::whole_life;
use crate::fixture::*;
use crate::servers::{Cloud, CloudServer};

fn lake_at(server: &CloudServer, place: &str) -> Lake {
    let (url, store) = store_from_url(place, &server.options()).unwrap();
    Lake::new(url, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_on_azure_lives_through_its_whole_life() {
    lives(Cloud::Azure, "a_lake_on_azure_lives_through_its_whole_life").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_on_google_cloud_lives_through_its_whole_life() {
    lives(Cloud::Google, "a_lake_on_google_cloud_lives_through_its_whole_life").await;
}

async fn lives(cloud: Cloud, test: &str) {
    let Some(server) = CloudServer::shared(cloud, test) else { return };
    whole_life(lake_at(server, &server.new_place())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_on_azure_that_append_the_same_range_commit_once() {
    meet(Cloud::Azure, "two_handles_on_azure_that_append_the_same_range_commit_once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_on_google_cloud_that_append_the_same_range_commit_once() {
    meet(Cloud::Google, "two_handles_on_google_cloud_that_append_the_same_range_commit_once").await;
}

async fn meet(cloud: Cloud, test: &str) {
    let Some(server) = CloudServer::shared(cloud, test) else { return };
    let place = server.new_place();
    let (_, store) = store_from_url(&place, &server.options()).unwrap();
    let probe = Path::from(format!("{}/probe", place.rsplit('/').next().unwrap()));
    store.put_opts(&probe, "1".into(), PutMode::Create.into()).await.unwrap();
    let again = store.put_opts(&probe, "2".into(), PutMode::Create.into()).await;
    assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })), "{again:?}");
    assert_eq!(store.get(&probe).await.unwrap().bytes().await.unwrap(), "1".as_bytes());
    let one = lake_at(server, &place).open(&name(), ID, schema()).await.unwrap();
    let other = lake_at(server, &place).open(&name(), ID, schema()).await.unwrap();
    for round in 0..5 {
        let (start, end) =
            if round == 0 { (Positions::default(), at([5])) } else { (at([round * 5]), at([round * 5 + 5])) };
        let (a, b) =
            tokio::join!(one.append(&start, &end, rows(&start, &end)), other.append(&start, &end, rows(&start, &end)));
        assert_eq!((a.unwrap().positions.clone(), b.unwrap().positions.clone()), (end.clone(), end.clone()));
        assert_is(&one, &end).await;
        assert_eq!(other.snapshot().version, round as i64 + 1);
    }
}

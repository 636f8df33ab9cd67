//! Owns how a store's URL becomes an object store.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::{Position, Url};

use crate::synced::SyncedLocal;
use crate::{Error, Result};

/// One request's limit, bodies included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After this long an operation is not tried again here: a store that hangs is soon seen as failed, and who asked for
/// the operation asks again later.
const RETRY_TIMEOUT: Duration = Duration::from_secs(25);
/// Tries after the first.
const RETRIES: usize = 6;

/// The object store that a URL names, and the URL as the lake wants it (absolute, ending in `/`).
///
/// `file:///folder` is made when it is not there, and everything written to it is synced. `s3://bucket/prefix` takes
/// credentials, region and endpoint from the `AWS_*` environment and then from `options`, whose keys are
/// `object_store`'s (`aws_endpoint`, `aws_region`, `aws_access_key_id`, …); an `http://` endpoint is allowed.
pub fn store_from_url(url: &str, options: &BTreeMap<String, String>) -> Result<(Url, Arc<dyn ObjectStore>)> {
    let bad = |reason: String| Error::BadUrl { url: url.to_owned(), reason };
    let parsed = Url::parse(url).map_err(|e| bad(format!("{e}; {WRITE_INSTEAD}")))?;
    match parsed.scheme() {
        "file" => local(url, &parsed),
        "s3" | "s3a" => s3(url, parsed, options),
        other => Err(bad(format!("scheme {other:?} is not one that is read; {WRITE_INSTEAD}"))),
    }
}

const WRITE_INSTEAD: &str = "write file:///absolute/folder or s3://bucket/prefix";

fn local(text: &str, url: &Url) -> Result<(Url, Arc<dyn ObjectStore>)> {
    let bad = |reason: String| Error::BadUrl { url: text.to_owned(), reason };
    let folder = url.to_file_path().map_err(|()| {
        bad(format!("it names a host or a relative folder; {WRITE_INSTEAD}, with three slashes after file:"))
    })?;
    let unusable = |e: std::io::Error| {
        bad(format!("cannot use folder {}: {e}; make it writable or name another one", folder.display()))
    };
    let store = SyncedLocal::new();
    store.make_folder(&folder).map_err(unusable)?;
    let folder = std::fs::canonicalize(&folder).map_err(unusable)?;
    store.sweep_staging(&folder);
    let url = Url::from_directory_path(&folder)
        .map_err(|()| bad(format!("folder {} has no URL; {WRITE_INSTEAD}", folder.display())))?;
    Ok((url, Arc::new(store)))
}

fn s3(text: &str, mut url: Url, options: &BTreeMap<String, String>) -> Result<(Url, Arc<dyn ObjectStore>)> {
    let bad = |reason: String| Error::BadUrl { url: text.to_owned(), reason };
    let Some(bucket) = url.host_str().filter(|h| !h.is_empty()) else {
        return Err(bad("it names no bucket; write s3://bucket/prefix".into()));
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_client_options(client())
        .with_retry(retry())
        .with_conditional_put(S3ConditionalPut::ETagMatch);
    for (key, value) in options.iter().filter(|(key, _)| !is_of_others(key)) {
        let known = AmazonS3ConfigKey::from_str(key)
            .map_err(|_| bad(format!("option {key:?} is not known; write for example aws_endpoint or aws_region")))?;
        builder = builder.with_config(known, value);
    }
    let store = builder.build().map_err(|e| bad(format!("{e}; check the AWS_* variables and [store] options")))?;
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok((url, Arc::new(store)))
}

/// The object store that a file's URL names, as a whole bucket, container or host: `s3://bucket/…`, `gs://bucket/…`,
/// `az://container/…`, `https://host/…`.
///
/// Options are those of [`store_from_url`]; `google_…` and `azure_…` are those of the other clouds.
pub fn remote_store(url: &Url, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>> {
    let bad = |reason: String| Error::BadUrl { url: url.to_string(), reason };
    match url.scheme() {
        "s3" | "s3a" => Ok(s3(url.as_str(), url.clone(), options)?.1),
        "gs" => {
            let mut builder = GoogleCloudStorageBuilder::new()
                .with_url(url.as_str())
                .with_client_options(client())
                .with_retry(retry());
            for (key, value) in options {
                if let Ok(known) = GoogleConfigKey::from_str(key) {
                    builder = builder.with_config(known, value);
                }
            }
            let store = builder.build().map_err(|e| bad(format!("{e}; check the GOOGLE_* variables")))?;
            Ok(Arc::new(store))
        }
        "az" | "azure" | "abfs" | "abfss" => {
            let mut builder =
                MicrosoftAzureBuilder::new().with_url(url.as_str()).with_client_options(client()).with_retry(retry());
            for (key, value) in options {
                if let Ok(known) = AzureConfigKey::from_str(key) {
                    builder = builder.with_config(known, value);
                }
            }
            let store = builder.build().map_err(|e| bad(format!("{e}; check the AZURE_* variables")))?;
            Ok(Arc::new(store))
        }
        "http" | "https" => {
            let builder = HttpBuilder::new().with_url(&url[..Position::BeforePath]);
            let store = builder.with_client_options(client()).with_retry(retry()).build();
            Ok(Arc::new(store.map_err(|e| bad(e.to_string()))?))
        }
        other => Err(bad(format!("scheme {other:?} is not one that files are read from: s3, gs, az, https, file"))),
    }
}

/// Whether an option is one of another cloud.
fn is_of_others(key: &str) -> bool {
    key.starts_with("google_") || key.starts_with("azure_")
}

fn client() -> ClientOptions {
    ClientOptions::new().with_allow_http(true).with_timeout(REQUEST_TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT)
}

fn retry() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };
    RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_url_says_what_to_write_instead() {
        for (url, part) in [
            ("lake", "write file:///absolute/folder"),
            ("/var/lake", "write file:///absolute/folder"),
            ("gs://bucket", "scheme \"gs\""),
            ("file://host/lake", "three slashes"),
            ("s3://", "write s3://bucket/prefix"),
        ] {
            let error = store_from_url(url, &BTreeMap::new()).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
        let options = BTreeMap::from([("aws_colour".to_owned(), "blue".to_owned())]);
        assert!(store_from_url("s3://b", &options).unwrap_err().to_string().contains("aws_colour"));
    }

    #[test]
    fn a_missing_folder_is_made() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a b/c");
        let (url, _) = store_from_url(&format!("file://{}", folder.display()), &BTreeMap::new()).unwrap();
        assert!(folder.is_dir());
        assert!(url.path().ends_with("/c/"), "{url}");
    }
}

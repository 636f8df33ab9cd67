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
use url::Url;

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
/// `file:///folder` is made when it is not there, and everything written to it is synced. `s3://bucket/prefix`,
/// `gs://bucket/prefix` and `az://container/prefix` take credentials, regions and endpoints from `options`, whose keys
/// are `object_store`'s (`aws_endpoint`, `google_service_account`, `azure_storage_account_name`, …, or without the
/// cloud's name before them); an `http://` endpoint is allowed.
pub fn store_from_url(url: &str, options: &BTreeMap<String, String>) -> Result<(Url, Arc<dyn ObjectStore>)> {
    let bad = |reason: String| Error::BadUrl { url: url.to_owned(), reason };
    let mut parsed = Url::parse(url).map_err(|e| bad(format!("{e}; {WRITE_INSTEAD}")))?;
    if parsed.scheme() == "file" {
        return local(url, &parsed);
    }
    let Some(cloud) = Cloud::of(&parsed) else {
        return Err(bad(format!("scheme {:?} is not one that is read; {WRITE_INSTEAD}", parsed.scheme())));
    };
    let store = cloud.open(&parsed, options, Unknown::Refused)?;
    if !parsed.path().ends_with('/') {
        parsed.set_path(&format!("{}/", parsed.path()));
    }
    Ok((parsed, store))
}

/// The object store that a file's URL names, as a whole bucket, container or host: `s3://bucket/…`, `gs://bucket/…`,
/// `az://container/…`, `https://host/…`.
///
/// Options are those of [`store_from_url`]; one that is another cloud's is passed over.
pub fn remote_store(url: &Url, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>> {
    if let Some(cloud) = Cloud::of(url) {
        return cloud.open(url, options, Unknown::PassedOver);
    }
    let bad = |reason: String| Error::BadUrl { url: url.to_string(), reason };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad(format!(
            "scheme {:?} is not one that files are read from: s3, gs, az, https, file",
            url.scheme()
        )));
    }
    // What a server is asked beside the path goes with each request.
    let mut base = url.clone();
    base.set_path("/");
    base.set_fragment(None);
    let builder = HttpBuilder::new().with_url(base).with_client_options(client()).with_retry(retry());
    Ok(Arc::new(builder.build().map_err(|e| bad(e.to_string()))?))
}

const WRITE_INSTEAD: &str =
    "write file:///absolute/folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";

/// Whose store a URL is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cloud {
    Amazon,
    Google,
    Azure,
}

/// What becomes of options that a cloud does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Refused,
    PassedOver,
}

impl Cloud {
    fn of(url: &Url) -> Option<Self> {
        match url.scheme() {
            "s3" | "s3a" => Some(Self::Amazon),
            "gs" => Some(Self::Google),
            "az" | "azure" | "abfs" | "abfss" => Some(Self::Azure),
            _ => None,
        }
    }

    /// What its options begin with, and an example.
    fn prefix(self) -> (&'static str, &'static str) {
        match self {
            Self::Amazon => ("aws_", "aws_endpoint or aws_region"),
            Self::Google => ("google_", "google_service_account"),
            Self::Azure => ("azure_", "azure_storage_account_name"),
        }
    }

    /// The URL's bucket or container.
    fn open(self, url: &Url, options: &BTreeMap<String, String>, unknown: Unknown) -> Result<Arc<dyn ObjectStore>> {
        let bad = |reason: String| Error::BadUrl { url: url.to_string(), reason };
        if url.host_str().is_none_or(str::is_empty) {
            let what = if self == Self::Azure { "container" } else { "bucket" };
            return Err(bad(format!("it names no {what}; write {}://{what}/prefix", url.scheme())));
        }
        match self {
            Self::Amazon => amazon(url, &self.own(url, options, unknown)?),
            Self::Google => google(url, &self.own(url, options, unknown)?),
            Self::Azure => azure(url, &self.own(url, options, unknown)?),
        }
        .map_err(|e| bad(format!("{e}; check the {}* variables and [store.options]", self.prefix().0.to_uppercase())))
    }

    /// The options that are its own: those with its name, and those without a cloud's name that it knows.
    fn own<K: FromStr>(
        self,
        url: &Url,
        options: &BTreeMap<String, String>,
        unknown: Unknown,
    ) -> Result<Vec<(K, String)>> {
        let (prefix, example) = self.prefix();
        let others = [Self::Amazon, Self::Google, Self::Azure].map(|cloud| cloud.prefix().0);
        let mut own = Vec::new();
        for (key, value) in options {
            let named = key.starts_with(prefix);
            if !named && others.iter().any(|other| key.starts_with(other)) {
                continue;
            }
            match K::from_str(key) {
                Ok(known) => own.push((known, value.clone())),
                Err(_) if !named && unknown == Unknown::PassedOver => {}
                Err(_) => {
                    let reason = format!("option {key:?} is not known; write for example {example}");
                    return Err(Error::BadUrl { url: url.to_string(), reason });
                }
            }
        }
        Ok(own)
    }
}

type Opened = object_store::Result<Arc<dyn ObjectStore>>;

fn amazon(url: &Url, options: &[(AmazonS3ConfigKey, String)]) -> Opened {
    let builder = AmazonS3Builder::new()
        .with_bucket_name(url.host_str().unwrap_or_default())
        .with_client_options(client())
        .with_retry(retry())
        .with_conditional_put(S3ConditionalPut::ETagMatch);
    let builder = options.iter().fold(builder, |builder, (key, value)| builder.with_config(*key, value));
    Ok(Arc::new(builder.build()?))
}

fn google(url: &Url, options: &[(GoogleConfigKey, String)]) -> Opened {
    let builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(url.host_str().unwrap_or_default())
        .with_client_options(client())
        .with_retry(retry());
    let builder = options.iter().fold(builder, |builder, (key, value)| builder.with_config(*key, value));
    Ok(Arc::new(builder.build()?))
}

fn azure(url: &Url, options: &[(AzureConfigKey, String)]) -> Opened {
    let builder = MicrosoftAzureBuilder::new().with_url(url.as_str()).with_client_options(client()).with_retry(retry());
    let builder = options.iter().fold(builder, |builder, (key, value)| builder.with_config(*key, value));
    Ok(Arc::new(builder.build()?))
}

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
            ("ftp://bucket", "scheme \"ftp\""),
            ("file://host/lake", "three slashes"),
            ("s3://", "write s3://bucket/prefix"),
            ("gs://", "write gs://bucket/prefix"),
            ("az://", "write az://container/prefix"),
        ] {
            let error = store_from_url(url, &BTreeMap::new()).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
        let options = BTreeMap::from([("aws_colour".to_owned(), "blue".to_owned())]);
        assert!(store_from_url("s3://b", &options).unwrap_err().to_string().contains("aws_colour"));
    }

    #[test]
    fn each_cloud_takes_its_own_options_and_passes_over_those_of_others() {
        let options = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let all = options(&[
            ("aws_region", "us-east-1"),
            ("aws_access_key_id", "a"),
            ("aws_secret_access_key", "b"),
            ("google_skip_signature", "true"),
            ("azure_storage_account_name", "account"),
            ("azure_storage_account_key", "a2V5"),
        ]);
        for url in
            ["s3://bucket/lake", "gs://bucket/lake", "az://container/lake", "abfss://fs@acc.dfs.core.windows.net/x"]
        {
            let (whole, _) = store_from_url(url, &all).unwrap();
            assert_eq!(whole.as_str(), format!("{url}/"));
            remote_store(&Url::parse(url).unwrap(), &all).unwrap();
        }
        let plain = options(&[("region", "us-east-1"), ("skip_signature", "true")]);
        remote_store(&Url::parse("gs://bucket").unwrap(), &plain).unwrap();
        assert!(store_from_url("gs://bucket", &plain).unwrap_err().to_string().contains("\"region\" is not known"));
        let error = store_from_url("az://container", &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("Account") && error.contains("AZURE_* variables"), "{error}");
        let error = remote_store(&Url::parse("ftp://host/x").unwrap(), &all).unwrap_err().to_string();
        assert!(error.contains("s3, gs, az, https, file"), "{error}");
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

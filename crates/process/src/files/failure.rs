//! Owns how failures to read a file are told: which file, where in it, what to do.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::ParquetSource;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use millstream_catalog::fault::Code;
use object_store::ObjectMeta;
use parquet::errors::ParquetError;

use super::access::File;
use super::decode::parquet_batches;
use crate::Error;

/// An object store's failure to give a file.
pub(super) fn store_error(file: &str, error: &object_store::Error) -> Error {
    let (code, message) = match error {
        object_store::Error::NotFound { .. } => (Code::UndefinedFile, format!("there is no file {file:?}")),
        object_store::Error::Precondition { .. } => {
            (Code::IoError, format!("file {file:?} was changed while it was read; run the statement again"))
        }
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            (Code::Denied, format!("file {file:?} may not be read: {error}; {}", credentials(file)))
        }
        object_store::Error::NotSupported { .. } if file.starts_with("http") => {
            let message = format!(
                "file {file:?} cannot be read in parts: its server gives whole files alone, which do for csv, json, \
                 arrow and avro; copy it to another place first"
            );
            (Code::IoError, message)
        }
        _ => (Code::IoError, format!("file {file:?} cannot be read: {error}")),
    };
    Error::rejected(code, message)
}

/// A failure to read on in a file that was there before.
pub(super) fn read_error(file: &str, error: &object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => {
            let message = format!("file {file:?} went away while it was read; put it back, or run the statement again");
            Error::rejected(Code::UndefinedFile, message)
        }
        other => store_error(file, other),
    }
}

/// Where the credentials for a file come from.
fn credentials(file: &str) -> String {
    let variables = match file.split_once("://").map(|(scheme, _)| scheme) {
        Some("s3" | "s3a") => "AWS_*",
        Some("gs") => "GOOGLE_*",
        Some("az" | "azure" | "abfs" | "abfss") => "AZURE_*",
        Some(_) => return "its server asks who reads it, and takes what stands in the URL alone".to_owned(),
        None => return "the node's user must be allowed to read it".to_owned(),
    };
    format!("check the credentials in [store.options] or {variables}")
}

/// A failure to read a Parquet file: that of its store, or what is wrong with it.
pub(super) fn parquet_error(file: &str, error: ParquetError, behind: Option<usize>) -> Error {
    if let ParquetError::External(inner) = &error
        && let Some(of_store) = inner.downcast_ref::<object_store::Error>()
    {
        return read_error(file, of_store);
    }
    match behind {
        Some(rows) => corrupt(file, "Parquet", &format!("{}, behind row {rows}", one_line(&error))),
        None => corrupt(file, "Parquet", &error),
    }
}

/// A failure of the engine to look into a Parquet file.
pub(super) fn parquet_head_error(file: &str, error: DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::ObjectStore(of_store) => store_error(file, of_store),
        DataFusionError::ParquetError(inner) if matches!(**inner, ParquetError::External(_)) => match &**inner {
            ParquetError::External(cause) => match cause.downcast_ref::<object_store::Error>() {
                Some(of_store) => store_error(file, of_store),
                None => corrupt(file, "Parquet", cause),
            },
            other => corrupt(file, "Parquet", other),
        },
        _ => corrupt(file, "Parquet", &Error::from_datafusion(error, "")),
    }
}

/// A file that is not what it should be.
pub(super) fn corrupt(file: &str, format: &str, error: &dyn std::fmt::Display) -> Error {
    Error::rejected(
        Code::BadFile,
        format!("file {file:?} is not sound {format}: {}; write it again, or leave it out", one_line(error)),
    )
}

/// An error with the file that it was met in.
pub(super) fn in_file(file: &str, error: Error) -> Error {
    match error {
        Error::Rejected { code, message, hint, position } if !message.contains(file) => {
            Error::Rejected { code, message: format!("file {file:?}, {message}"), hint, position }
        }
        other => other,
    }
}

/// A place in a file at which something is wrong.
pub(super) fn at_line(file: &str, line: u64, code: Code, reason: &str) -> Error {
    Error::rejected(code, format!("file {file:?}, line {line}: {reason}"))
}

/// A library's message without what is for its own developers.
fn one_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.trim_end_matches('.').trim_start_matches("Parquet error: ").to_owned()
}

/// The error of a query, told with the file at fault where it is one of those that the plan reads.
///
/// A plan does not say which file it was reading: each is read once more.
pub(crate) async fn explained(error: Error, plan: &Arc<dyn ExecutionPlan>, runtime: &RuntimeEnv) -> Error {
    let Error::Query { code: Code::DataCorrupted | Code::Internal, .. } = &error else { return error };
    for (store_url, meta) in parquet_files(plan) {
        let Ok(store) = runtime.object_store(&store_url) else { continue };
        let name = match store_url.as_str() {
            "file:///" => format!("/{}", meta.location),
            url => format!("{}/{}", url.trim_end_matches('/'), meta.location),
        };
        let file = File::new(name, store, store_url, meta);
        if let Err(fault) = read_through(&file).await {
            return fault;
        }
    }
    error
}

async fn read_through(file: &File) -> Result<(), Error> {
    let (_, mut batches) = parquet_batches(file).await?;
    while batches.next().await.transpose()?.is_some() {}
    Ok(())
}

/// The files that a plan scans.
fn parquet_files(plan: &Arc<dyn ExecutionPlan>) -> Vec<(ObjectStoreUrl, ObjectMeta)> {
    let mut files = Vec::new();
    let _ = plan.apply(|node| {
        let any: &dyn Any = node.as_ref();
        if let Some(scan) = any.downcast_ref::<DataSourceExec>()
            && let Some((config, _)) = scan.downcast_to_file_source::<ParquetSource>()
        {
            let of_group = config.file_groups.iter().flat_map(|group| group.iter());
            files.extend(of_group.map(|file| (config.object_store_url.clone(), file.object_meta.clone())));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    files.sort_by(|a, b| a.1.location.cmp(&b.1.location));
    files.dedup_by(|a, b| a.1.location == b.1.location);
    files
}

//! Owns COPY TO a file: rows in its format under another name, which is the file's once all of them are there.

mod encoder;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use millstream_catalog::fault::Code;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use self::encoder::Encoder;
use super::CopyOptions;
use crate::engine::Shared;
use crate::files::access::{Target, target};
use crate::files::failure::store_error;
use crate::files::format::Compression;
use crate::jobs::Measure;
use crate::sql::RowStream;
use crate::{Error, Result};

/// Encoded rows are written when there are so many bytes of them.
const WRITE_BYTES: usize = 1 << 20;
/// A part of an object, and how many are under way.
const PART_BYTES: usize = 8 << 20;
const PARTS_AHEAD: usize = 4;

/// Writes rows to a file; how many there were.
pub(crate) async fn copy_to(
    shared: &Arc<Shared>,
    mut rows: RowStream,
    name: &str,
    options: &CopyOptions,
    measure: &Measure,
) -> Result<u64> {
    let runtime = shared.context()?.runtime_env();
    let compression = options.compression.unwrap_or_else(|| Compression::of_name(name));
    let mut encoder = Encoder::new(&rows.schema(), options, compression)?;
    let mut output = match target(&shared.options.files, &runtime, name).await? {
        Target::Local(path) => Output::Local(LocalFile::create(name, path).await?),
        Target::Remote(store, path) => Output::remote(name, store, path).await?,
    };
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let encoded = match batch {
            Ok(batch) => {
                count += batch.num_rows() as u64;
                measure.add_rows(batch.num_rows() as u64);
                encoder.write(&batch)
            }
            Err(error) => Err(error),
        };
        match encoded {
            Ok(()) if encoder.waiting() < WRITE_BYTES => {}
            Ok(()) => output.write(&encoder.take()).await?,
            Err(error) => {
                output.give_up().await;
                return Err(error);
            }
        }
    }
    let rest = encoder.finish()?;
    output.write(&rest).await?;
    output.finish().await?;
    Ok(count)
}

enum Output {
    Local(LocalFile),
    Remote { name: String, upload: WriteMultipart },
}

impl Output {
    async fn remote(name: &str, store: Arc<dyn ObjectStore>, path: object_store::path::Path) -> Result<Self> {
        let upload = store.put_multipart(&path).await.map_err(|e| store_error(name, &e))?;
        Ok(Self::Remote { name: name.to_owned(), upload: WriteMultipart::new_with_chunk_size(upload, PART_BYTES) })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Local(file) => file.write(bytes).await,
            Self::Remote { name, upload } => {
                upload.wait_for_capacity(PARTS_AHEAD).await.map_err(|e| store_error(name, &e))?;
                upload.write(bytes);
                Ok(())
            }
        }
    }

    async fn finish(self) -> Result<()> {
        match self {
            Self::Local(file) => file.finish().await,
            Self::Remote { name, upload } => {
                upload.finish().await.map_err(|e| store_error(&name, &e))?;
                Ok(())
            }
        }
    }

    async fn give_up(self) {
        if let Self::Remote { upload, .. } = self {
            // What was sent so far goes with the store's own care for uploads that do not end.
            let _ = upload.abort().await;
        }
    }
}

/// A file that gets its name at the end; dropped before, it is gone.
struct LocalFile {
    name: String,
    path: PathBuf,
    temporary: PathBuf,
    file: tokio::fs::File,
}

impl LocalFile {
    async fn create(name: &str, path: PathBuf) -> Result<Self> {
        let file_name = path.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
        let temporary = path.with_file_name(format!(".{file_name}.{}.part", Uuid::new_v4()));
        let file = tokio::fs::File::create_new(&temporary).await.map_err(|e| unwritable(name, &e))?;
        Ok(Self { name: name.to_owned(), path, temporary, file })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).await.map_err(|e| unwritable(&self.name, &e))
    }

    async fn finish(mut self) -> Result<()> {
        let failed = |e: std::io::Error| unwritable(&self.name, &e);
        self.file.flush().await.map_err(failed)?;
        self.file.sync_all().await.map_err(failed)?;
        tokio::fs::rename(&self.temporary, &self.path).await.map_err(failed)?;
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let folder = tokio::fs::File::open(folder).await.map_err(failed)?;
        folder.sync_all().await.map_err(failed)
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        // Once it has its own name there is nothing under this one.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

fn unwritable(name: &str, error: &std::io::Error) -> Error {
    let code = if error.kind() == std::io::ErrorKind::StorageFull { Code::DiskFull } else { Code::IoError };
    Error::rejected(code, format!("file {name:?} cannot be written: {error}"))
}

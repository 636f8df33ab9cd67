//! Owns how a file's bytes come: in large pieces, read ahead, decompressed.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::error::DataFusionError;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use millstream_catalog::fault::Code;
use object_store::{GetOptions, GetRange, ObjectStore};
use tokio::sync::mpsc;

use super::access::File;
use super::failure::read_error;
use super::format::Compression;
use crate::{Error, Result};

/// One read.
const PIECE_BYTES: u64 = 4 << 20;
/// Pieces under way at once.
const PIECES_AHEAD: usize = 2;

/// Bytes in pieces, as they come.
pub(crate) type Pieces = BoxStream<'static, Result<Bytes>>;

/// The bytes of a file, decompressed. They must all be of one version of it.
pub(crate) async fn pieces(file: &File, compression: Compression) -> Result<Pieces> {
    let raw = raw_pieces(file).await?;
    let name = file.name.clone();
    if compression == Compression::None {
        return Ok(raw);
    }
    let raw = raw.map_err(|e| DataFusionError::External(Box::new(e))).boxed();
    let plain = compression.coder().convert_stream(raw).map_err(|e| Error::from_datafusion(e, ""))?;
    Ok(plain.map_err(move |e| not_compressed(&name, compression, e)).boxed())
}

async fn raw_pieces(file: &File) -> Result<Pieces> {
    let name = file.name.clone();
    if file.is_web() {
        // Not every server gives parts.
        let whole = file.store.get_opts(&file.meta.location, GetOptions::default()).await;
        let whole = whole.map_err(|e| read_error(&name, &e))?;
        let (pieces, file) = (whole.into_stream(), file.clone());
        return Ok(pieces
            .inspect_ok(move |piece| file.count_fetched(piece.len()))
            .map_err(move |e| read_error(&name, &e))
            .boxed());
    }
    let size = file.meta.size;
    let starts = (0..size.div_ceil(PIECE_BYTES)).map(|i| i * PIECE_BYTES);
    let (store, location, tag) = (Arc::clone(&file.store), file.meta.location.clone(), file.meta.e_tag.clone());
    let piece = move |start: u64| {
        let (store, location, name) = (Arc::clone(&store), location.clone(), name.clone());
        let options = GetOptions {
            range: Some(GetRange::Bounded(start..size.min(start + PIECE_BYTES))),
            if_match: tag.clone(),
            ..GetOptions::default()
        };
        async move {
            let got = store.get_opts(&location, options).await.map_err(|e| read_error(&name, &e))?;
            got.bytes().await.map_err(|e| read_error(&name, &e))
        }
    };
    let pieces = futures::stream::iter(starts).map(piece).buffered(PIECES_AHEAD);
    let file = file.clone();
    Ok(pieces.inspect_ok(move |piece| file.count_fetched(piece.len())).boxed())
}

/// What somebody sends.
#[derive(Debug)]
pub(crate) enum Sent {
    /// Some bytes.
    Bytes(Bytes),
    /// That was all.
    End,
    /// There will be no more, and this is why.
    Failed(Error),
}

/// Bytes that somebody sends. Who leaves before the end has failed.
pub(crate) fn sent(pieces: mpsc::Receiver<Sent>) -> Pieces {
    let pieces = futures::stream::unfold(Some(pieces), |pieces| async move {
        let mut pieces = pieces?;
        match pieces.recv().await {
            Some(Sent::Bytes(bytes)) => Some((Ok(bytes), Some(pieces))),
            Some(Sent::End) => None,
            Some(Sent::Failed(error)) => Some((Err(error), None)),
            None => Some((Err(Error::rejected(Code::Cancelled, "the client left before its rows ended")), None)),
        }
    });
    pieces.boxed()
}

fn not_compressed(file: &str, compression: Compression, error: DataFusionError) -> Error {
    match Error::from_datafusion(error, "") {
        own @ Error::Rejected { .. } => own,
        other => {
            let how = if compression == Compression::Gzip { "gzip" } else { "zstd" };
            let message = format!(
                "file {file:?} does not decompress as {how}: {other}; write it again, or say what it is with \
                 compression = 'none'"
            );
            Error::rejected(Code::BadFile, message)
        }
    }
}

//! Owns a segment's file: its name, and values read from it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::Place;
use crate::{Error, Result};

pub(super) const SUFFIX: &str = ".state";

/// A segment that is there.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) length: u64,
    /// Bytes of values in it that are still named, with their padding.
    pub(super) live: u64,
}

/// The file of a segment.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}{SUFFIX}"))
}

/// A value, checked.
pub(super) fn read(file: &File, path: &Path, place: &Place) -> Result<Bytes> {
    let mut bytes = vec![0; place.length as usize];
    file.read_exact_at(&mut bytes, place.position).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::damaged(path, place.position, "the file ends within a value"),
        _ => Error::disk(path, e),
    })?;
    if crc32c::crc32c(&bytes) != place.crc {
        return Err(Error::damaged(path, place.position, "a value does not fit its checksum"));
    }
    Ok(Bytes::from(bytes))
}

//! Owns a segment's file: its name, and values read from it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{Part, Place};
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

/// Parts with so few bytes between them are read together.
const GAP: u64 = 2048;
/// So many bytes at most are read together, unless one part has more.
const TOGETHER: u64 = 256 * 1024;

/// Parts of a value that begins at a position, in their order.
pub(super) fn visit_parts(
    file: &File,
    position: u64,
    parts: &[Part],
    visit: &mut dyn FnMut(usize, &[u8]),
) -> std::io::Result<()> {
    let end = |part: &Part| part.begin + part.length as u64;
    let mut bytes = Vec::new();
    let mut next = 0;
    while let Some(first) = parts.get(next) {
        let begin = first.begin;
        let (mut last, mut to) = (next, end(first));
        while let Some(part) = parts.get(last + 1)
            && part.begin <= to + GAP
            && end(part).max(to) - begin <= TOGETHER
            && part.begin >= begin
        {
            last += 1;
            to = to.max(end(part));
        }
        bytes.resize((to - begin) as usize, 0);
        file.read_exact_at(&mut bytes, position + begin)?;
        for (n, part) in parts.iter().enumerate().take(last + 1).skip(next) {
            let at = (part.begin - begin) as usize;
            visit(n, &bytes[at..at + part.length]);
        }
        next = last + 1;
    }
    Ok(())
}

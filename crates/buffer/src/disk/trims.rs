//! Owns the file that tells what trims took away: how far they went, and the producer keys of what they removed.
//!
//! ```text
//! trims = chunk*          one chunk per trim, synced before the trim removes a segment
//! chunk = MTRM u32 │ crc u32 │ length u64 │ first kept sequence u64 │ marks u32 │ zero u32 │ marks │ zeros to 64
//! ```
//!
//! The last chunk's sequence is the log's floor: segments before it are gone or about to go, and the one that begins
//! at it must be there. The file is written anew, with the newest keys only, when it holds twice as many as are
//! remembered.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{ALIGNMENT, Flaw, decode_marks, encode_marks};
use super::index::{WriteStep, write_whole};
use super::octets::{Octets, Taker};
use super::segment::io_error;
use crate::device::{Disk, DiskFile};
use crate::keys::Mark;
use crate::{Error, Result};

const MAGIC: u32 = u32::from_le_bytes(*b"MTRM");
const FIXED: usize = 32;
/// Chunks after which the file is written anew, whatever they hold.
const CHUNK_LIMIT: usize = 4096;

/// The trims of a log.
#[derive(Debug)]
pub(super) struct Trims {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    length: u64,
    /// The first sequence that is kept.
    pub floor: u64,
    marks: usize,
    chunks: usize,
}

/// What a trims file held.
#[derive(Debug, Default)]
struct Content {
    floor: u64,
    marks: Vec<Mark>,
    chunks: usize,
    length: usize,
}

impl Trims {
    /// Reads the file and gives its keys, oldest first. A torn last chunk is cut: its trim had removed nothing.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<(Self, Vec<Mark>)> {
        let path = dir.join("trims");
        let file = match disk.open(&path) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(io_error("open", &path, e)),
        };
        let mut content = Content::default();
        if let Some(file) = &file {
            content = read(&**file, &path)?;
            let size = file.size().map_err(|e| io_error("read", &path, e))?;
            if size > content.length as u64 {
                file.set_size(content.length as u64).map_err(|e| io_error("cut", &path, e))?;
            }
            file.sync().map_err(|e| io_error("sync", &path, e))?;
        }
        let trims = Self {
            disk,
            path,
            file,
            length: content.length as u64,
            floor: content.floor,
            marks: content.marks.len(),
            chunks: content.chunks,
        };
        Ok((trims, content.marks))
    }

    /// Notes, durably, that everything before `floor` goes, and the keys that lay there.
    pub fn note(&mut self, floor: u64, marks: &[Mark], key_limit: usize) -> Result<(), (WriteStep, Error)> {
        let chunk = encode(floor, marks);
        if self.file.is_none() || self.marks + marks.len() > 2 * key_limit || self.chunks >= CHUNK_LIMIT {
            return self.rewrite(floor, marks, key_limit);
        }
        let Some(file) = &self.file else {
            return Ok(());
        };
        if let Err(e) = file.write_at(&mut [IoSlice::new(&chunk)], self.length) {
            let failed = io_error("write", &self.path, e);
            return match file.set_size(self.length) {
                Ok(()) => Err((WriteStep::Write, failed)),
                Err(e) => Err((WriteStep::Sync, io_error("cut", &self.path, e))),
            };
        }
        file.sync().map_err(|e| (WriteStep::Sync, io_error("sync", &self.path, e)))?;
        self.length += chunk.len() as u64;
        self.floor = floor;
        self.marks += marks.len();
        self.chunks += 1;
        Ok(())
    }

    /// Writes a new file with the newest keys.
    fn rewrite(&mut self, floor: u64, marks: &[Mark], key_limit: usize) -> Result<(), (WriteStep, Error)> {
        let mut kept = match &self.file {
            Some(file) => read(&**file, &self.path).map_err(|e| (WriteStep::Write, e))?.marks,
            None => Vec::new(),
        };
        kept.extend_from_slice(marks);
        let kept = &kept[kept.len().saturating_sub(key_limit)..];
        let chunk = encode(floor, kept);
        let file = write_whole(&*self.disk, &self.path, &chunk)
            .map_err(|(step, e)| (step, io_error("write", &self.path, e)))?;
        self.file = Some(file);
        self.length = chunk.len() as u64;
        self.floor = floor;
        self.marks = kept.len();
        self.chunks = 1;
        Ok(())
    }
}

fn encode(floor: u64, marks: &[Mark]) -> Vec<u8> {
    let mut table = Octets::default();
    encode_marks(&mut table, marks);
    let length = (FIXED + table.0.len()).next_multiple_of(ALIGNMENT);
    let mut out = Octets::default();
    out.u32(MAGIC).u32(0).u64(length as u64).u64(floor).u32(marks.len() as u32).u32(0);
    out.bytes(&table.0).pad(ALIGNMENT);
    let crc = crc32c::crc32c(&out.0[8..]);
    out.put_u32(4, crc);
    out.0
}

fn read(file: &dyn DiskFile, path: &Path) -> Result<Content> {
    let size = file.size().map_err(|e| io_error("read", path, e))? as usize;
    let mut bytes = vec![0; size];
    file.read_at(&mut bytes, 0).map_err(|e| io_error("read", path, e))?;
    let mut content = Content::default();
    while content.length < size {
        match decode(&bytes[content.length..]) {
            Ok((floor, marks, length)) => {
                content.floor = floor;
                content.marks.extend(marks);
                content.chunks += 1;
                content.length += length;
            }
            Err(flaw) => {
                let later = (content.length..size).step_by(ALIGNMENT).skip(1).any(|at| decode(&bytes[at..]).is_ok());
                if later {
                    let segment = path.display().to_string();
                    return Err(Error::Corrupt { segment, position: content.length as u64, reason: flaw.into() });
                }
                break;
            }
        }
    }
    Ok(content)
}

fn decode(bytes: &[u8]) -> Result<(u64, Vec<Mark>, usize), Flaw> {
    let short = "the chunk is cut short";
    let mut taker = Taker(bytes);
    if taker.u32().ok_or(short)? != MAGIC {
        return Err("no chunk begins here");
    }
    let crc = taker.u32().ok_or(short)?;
    let length = taker.u64().ok_or(short)? as usize;
    if length < FIXED || crc32c::crc32c(bytes.get(8..length).ok_or(short)?) != crc {
        return Err("the chunk's checksum does not match");
    }
    let floor = taker.u64().ok_or(short)?;
    let count = taker.u32().ok_or(short)? as usize;
    taker.u32().ok_or(short)?;
    let marks = decode_marks(&mut taker, count).ok_or(short)?;
    Ok((floor, marks, length))
}

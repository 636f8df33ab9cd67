//! Owns the contract of a state store: where a dataflow's checkpoints lie.

mod disk;
mod memory;

use bytes::Bytes;

use crate::Result;

pub use disk::{DiskOptions, DiskStore, DiskUse};
pub use memory::MemoryStore;

/// What a commit does to one key: a value, or `None` to remove it.
pub type Change = (Vec<u8>, Option<Bytes>);

/// A part of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its first byte.
    pub begin: u64,
    /// Its bytes.
    pub length: usize,
}

/// Keys and values, changed in commits.
///
/// - *Atomic.* After any crash a commit is there whole or not at all.
/// - *Ordered.* A commit is there only if all before it are. Of two changes to one key in a commit the later counts.
/// - *Durable* against the end of the process when [`StateStore::commit`] returns, against the end of the machine when
///   a later [`StateStore::sync`] does.
/// - After an error of `commit` it is unknown whether the commit is there; the same changes may be committed again.
/// - What cannot be read as it was written is an error, never another value.
///
/// One dataflow uses a store at a time.
pub trait StateStore: Send + Sync + std::fmt::Debug {
    /// Makes the changes, all or none.
    fn commit(&self, changes: Vec<Change>) -> Result<()>;
    /// Makes every commit so far survive a loss of power.
    fn sync(&self) -> Result<()>;
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;
    /// Shows parts of a value, given in their order, each with its number; `false` if there is no such key, or if it
    /// ends before. Parts are not checked: whoever writes values that are read so puts checksums into them.
    fn visit_parts(&self, key: &[u8], parts: &[Part], visit: &mut dyn FnMut(usize, &[u8])) -> Result<bool> {
        let Some(value) = self.get(key)? else { return Ok(false) };
        for (n, part) in parts.iter().enumerate() {
            let Some(bytes) = value.get(part.begin as usize..part.begin as usize + part.length) else {
                return Ok(false);
            };
            visit(n, bytes);
        }
        Ok(true)
    }
    /// The keys that begin so, in order.
    fn keys(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>>;
}

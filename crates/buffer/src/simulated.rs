//! Owns a disk for tests that behaves as badly as disks may: it loses what was not synced, tears writes, fills up,
//! fails a sync, and loses power between any two operations.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::device::{Disk, DiskFile};

/// What a disk writes at once: a torn write has whole sectors, some new, some old.
const SECTOR: usize = 512;

/// A file system in memory, with faults. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Names as programs see them.
    names: BTreeMap<PathBuf, u64>,
    /// Names that a crash leaves.
    durable_names: BTreeMap<PathBuf, u64>,
    /// What happened to names since their folder was synced, in order.
    pending: Vec<(PathBuf, Option<u64>)>,
    inodes: HashMap<u64, Inode>,
    next_inode: u64,
    operations: u64,
    syncs: u64,
    capacity_bytes: Option<u64>,
    failing_sync: Option<u64>,
    power_fails_at: Option<u64>,
}

#[derive(Debug, Default, Clone)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
}

impl SimulatedDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on all files together hold at most this many bytes.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity_bytes = bytes;
    }

    /// Bytes in all files.
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().used_bytes()
    }

    /// The sync after the next `count` ones fails.
    pub fn fail_sync_after(&self, count: u64) {
        let mut state = self.0.lock();
        state.failing_sync = Some(state.syncs.saturating_add(count));
    }

    /// The power fails after the next `count` operations that change something, in the midst of the one after. Reads
    /// go on: programs see what the operating system has in memory.
    pub fn cut_power_after(&self, count: u64) {
        let mut state = self.0.lock();
        state.power_fails_at = Some(state.operations + count);
    }

    /// Whether the power has failed.
    pub fn is_down(&self) -> bool {
        self.0.lock().is_down()
    }

    /// The disk as it is when power comes back. `seed` chooses which unsynced changes are there.
    pub fn after_crash(&self, seed: u64) -> SimulatedDisk {
        let mut state = self.0.lock();
        state.power_fails_at = Some(0);
        let mut dice = Dice(seed);
        let mut names = state.durable_names.clone();
        let survivors = dice.below(state.pending.len() as u64 + 1) as usize;
        for (path, inode) in &state.pending[..survivors] {
            set_name(&mut names, path, *inode);
        }
        let mut inodes = HashMap::new();
        for inode in names.values() {
            if let Some(old) = state.inodes.get(inode) {
                let content = old.torn(&mut dice);
                inodes.insert(*inode, Inode { durable: content.clone(), content });
            }
        }
        let next_inode = state.next_inode;
        let durable_names = names.clone();
        SimulatedDisk(Arc::new(Mutex::new(State { names, durable_names, inodes, next_inode, ..State::default() })))
    }

    /// A file's bytes.
    pub fn file(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.0.lock();
        state.names.get(path).and_then(|inode| state.inodes.get(inode)).map(|inode| inode.content.clone())
    }

    /// Replaces a file's bytes, durably and behind every program's back. `None` removes it.
    pub fn set_file(&self, path: &Path, content: Option<Vec<u8>>) {
        let mut state = self.0.lock();
        let inode = content.map(|content| state.add_inode(Inode { durable: content.clone(), content }));
        set_name(&mut state.names, path, inode);
        set_name(&mut state.durable_names, path, inode);
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.lock().names.keys().cloned().collect()
    }
}

fn set_name(names: &mut BTreeMap<PathBuf, u64>, path: &Path, inode: Option<u64>) {
    match inode {
        Some(inode) => names.insert(path.to_path_buf(), inode),
        None => names.remove(path),
    };
}

impl State {
    fn used_bytes(&self) -> u64 {
        let named: BTreeSet<&u64> = self.names.values().collect();
        named.iter().filter_map(|i| self.inodes.get(i)).map(|i| i.content.len() as u64).sum()
    }

    fn is_down(&self) -> bool {
        self.power_fails_at.is_some_and(|at| self.operations > at)
    }

    fn add_inode(&mut self, inode: Inode) -> u64 {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, inode);
        self.next_inode
    }

    /// Counts an operation that changes something; fails from the moment the power does.
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.is_down() { Err(no_power()) } else { Ok(()) }
    }

    fn check_power(&self) -> io::Result<()> {
        if self.is_down() { Err(no_power()) } else { Ok(()) }
    }

    fn sync_step(&mut self) -> io::Result<()> {
        self.step()?;
        self.syncs += 1;
        if self.failing_sync.is_some_and(|at| self.syncs > at) {
            self.failing_sync = None;
            return Err(io::Error::other("the simulated sync failed"));
        }
        Ok(())
    }

    fn rename_pending(&mut self, path: &Path, inode: Option<u64>) {
        set_name(&mut self.names, path, inode);
        self.pending.push((path.to_path_buf(), inode));
    }

    fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

fn no_power() -> io::Error {
    io::Error::other("the simulated power failed")
}

impl Inode {
    /// What a crash leaves: of each sector the synced or the newest bytes, of the length something between.
    fn torn(&self, dice: &mut Dice) -> Vec<u8> {
        let (short, long) = (self.durable.len().min(self.content.len()), self.durable.len().max(self.content.len()));
        let length = match dice.below(4) {
            0 => self.durable.len(),
            1 => self.content.len(),
            _ => short + dice.below((long - short) as u64 + 1) as usize,
        };
        let mut torn = vec![0; length];
        for start in (0..length).step_by(SECTOR) {
            let source = if dice.below(2) == 0 { &self.durable } else { &self.content };
            let end = (start + SECTOR).min(length).min(source.len());
            if start < end {
                torn[start..end].copy_from_slice(&source[start..end]);
            }
        }
        torn
    }
}

/// Numbers that look random and follow from a seed.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.0.lock().check_power()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        let names = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| path.file_name()).map(|n| n.to_string_lossy().into_owned()).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.step()?;
        let inode = state.add_inode(Inode::default());
        state.rename_pending(path, Some(inode));
        Ok(Arc::new(SimulatedFile { disk: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.0.lock();
        let inode = *state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        let inode = *state.names.get(from).ok_or(ErrorKind::NotFound)?;
        state.rename_pending(to, Some(inode));
        state.rename_pending(from, None);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        if !state.names.contains_key(path) {
            return Err(ErrorKind::NotFound.into());
        }
        state.rename_pending(path, None);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        state.names.retain(|path, _| !path.starts_with(dir));
        state.durable_names.retain(|path, _| !path.starts_with(dir));
        state.pending.retain(|(path, _)| !path.starts_with(dir));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.sync_step()?;
        let pending = std::mem::take(&mut state.pending);
        for (path, inode) in pending {
            if path.parent() == Some(dir) {
                set_name(&mut state.durable_names, &path, inode);
            } else {
                state.pending.push((path, inode));
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    inode: u64,
}

impl DiskFile for SimulatedFile {
    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.0.lock();
        Ok(state.inode(self.inode)?.content.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let content = &state.inode(self.inode)?.content;
        let start = position as usize;
        let bytes = content.get(start..start + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.check_power()?;
        let mut bytes: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
        let stepped = state.step();
        let mut full = false;
        if let Some(capacity) = state.capacity_bytes {
            let room = capacity.saturating_sub(state.used_bytes()) as usize;
            full = bytes.len() > room;
            bytes.truncate(room);
        }
        let inode = state.inode(self.inode)?;
        let start = position as usize;
        let length = inode.content.len().max(start + bytes.len());
        inode.content.resize(length, 0);
        inode.content[start..start + bytes.len()].copy_from_slice(&bytes);
        stepped?;
        if full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.step()?;
        state.inode(self.inode)?.content.resize(bytes as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.sync_step()?;
        let inode = state.inode(self.inode)?;
        inode.durable = inode.content.clone();
        Ok(())
    }
}

//! Owns a piece: a batch that never changes, in memory or to be read back from the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::delta::conform;
use crate::store::{Change, StateStore};
use crate::{Error, Result};

/// What the pieces of one dataflow may take in memory together, and where those go that find no room.
#[derive(Debug)]
pub(crate) struct Memory {
    store: Option<Arc<dyn StateStore>>,
    limit: usize,
    /// What the indexes leave of the limit.
    allowance: AtomicUsize,
    resident: AtomicUsize,
    /// Whether a piece was read and found no room since the last time room was made.
    missed: AtomicBool,
    /// Steps, to tell which pieces were used lately.
    clock: AtomicU64,
    /// Whether everything in the store is this dataflow's.
    owned: AtomicBool,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            store: None,
            limit: usize::MAX,
            allowance: AtomicUsize::new(usize::MAX),
            resident: AtomicUsize::new(0),
            missed: AtomicBool::new(false),
            clock: AtomicU64::new(0),
            owned: AtomicBool::new(false),
        }
    }
}

impl Memory {
    /// Pieces beyond `limit` bytes go to the store.
    pub(crate) fn limited(store: Arc<dyn StateStore>, limit: usize) -> Self {
        Self { store: Some(store), limit, allowance: AtomicUsize::new(limit), ..Self::default() }
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.store.is_some()
    }

    /// A step ended, and indexes take so many bytes of the limit. Pieces always have an eighth of it.
    pub(crate) fn begin_next(&self, index_bytes: usize) {
        let allowance = self.limit.saturating_sub(index_bytes).max(self.limit / 8);
        self.allowance.store(allowance, Ordering::Relaxed);
        self.clock.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes that have to go so that there is some room again.
    pub(crate) fn excess(&self) -> usize {
        let allowance = self.allowance.load(Ordering::Relaxed);
        let resident = self.resident.load(Ordering::Relaxed);
        if resident > allowance || self.missed.load(Ordering::Relaxed) {
            return resident.saturating_sub(allowance - allowance / 8);
        }
        0
    }

    /// Room was made.
    pub(crate) fn relieved(&self) {
        self.missed.store(false, Ordering::Relaxed);
    }

    /// Whether everything in the store is this dataflow's.
    pub(crate) fn is_owned(&self) -> bool {
        self.owned.load(Ordering::Relaxed)
    }

    /// Everything in the store is this dataflow's.
    pub(crate) fn own(&self) {
        self.owned.store(true, Ordering::Relaxed);
    }

    /// Whether pieces go to this store.
    pub(crate) fn goes_to(&self, store: &dyn StateStore) -> bool {
        self.store.as_ref().is_none_or(|own| std::ptr::addr_eq(Arc::as_ptr(own), store))
    }

    /// Writes pieces ahead of their checkpoint.
    pub(super) fn write(&self, changes: Vec<Change>) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        if !self.is_owned() {
            store.commit(store.keys(b"")?.into_iter().map(|key| (key, None)).collect())?;
            self.own();
        }
        store.commit(changes)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.resident.load(Ordering::Relaxed).saturating_add(bytes) <= self.allowance.load(Ordering::Relaxed)
    }
}

/// Rows in columns, with a name of their own.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Unique in its arrangement, also among those that are gone.
    pub(super) id: u64,
    pub(super) rows: usize,
    /// Where it lies in the store, once it does.
    pub(super) key: Vec<u8>,
    schema: SchemaRef,
    bytes: usize,
    batch: Mutex<Option<RecordBatch>>,
    /// Whether the store has it for certain.
    stored: AtomicBool,
    used: AtomicU64,
    memory: Arc<Memory>,
}

impl Piece {
    pub(super) fn new(id: u64, key: Vec<u8>, batch: RecordBatch, memory: &Arc<Memory>) -> Self {
        let bytes = bytes_of(&batch);
        memory.resident.fetch_add(bytes, Ordering::Relaxed);
        Self {
            id,
            rows: batch.num_rows(),
            key,
            schema: batch.schema(),
            bytes,
            batch: Mutex::new(Some(batch)),
            stored: AtomicBool::new(false),
            used: AtomicU64::new(memory.clock.load(Ordering::Relaxed)),
            memory: Arc::clone(memory),
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        if self.batch.lock().is_some() { self.bytes } else { 0 }
    }

    /// When it was used last.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn is_stored(&self) -> bool {
        self.stored.load(Ordering::Relaxed)
    }

    /// The store has it for certain.
    pub(crate) fn set_stored(&self) {
        self.stored.store(true, Ordering::Relaxed);
    }

    /// What puts it into the store.
    pub(crate) fn change(&self) -> Result<Change> {
        Ok((self.key.clone(), Some(encode(&self.batch()?)?)))
    }

    /// The rows, if they are in memory.
    pub(super) fn resident(&self) -> Option<RecordBatch> {
        self.used.store(self.memory.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        self.batch.lock().clone()
    }

    /// The rows; when they are read, memory does not keep them.
    pub(super) fn batch(&self) -> Result<RecordBatch> {
        if let Some(batch) = self.batch.lock().clone() {
            return Ok(batch);
        }
        let bytes = match &self.memory.store {
            Some(store) => store.get(&self.key)?,
            None => None,
        };
        let unusable = |reason: String| Error::State { node: format!("piece {}", self.id), reason };
        let bytes = bytes.ok_or_else(|| unusable("the store does not have it".into()))?;
        let batch = decode(bytes, &self.schema).map_err(|e| unusable(e.to_string()))?;
        if batch.num_rows() != self.rows {
            return Err(unusable("the store has another number of rows".into()));
        }
        Ok(batch)
    }

    /// Keeps rows that were read, if there is room.
    pub(super) fn keep(&self, read: &RecordBatch) -> bool {
        if !self.memory.has_room(self.bytes) {
            self.memory.missed.store(true, Ordering::Relaxed);
            return false;
        }
        if self.batch.lock().replace(read.clone()).is_none() {
            self.memory.resident.fetch_add(self.bytes, Ordering::Relaxed);
        }
        true
    }

    /// Drops the rows from memory, if the store has them.
    pub(crate) fn leave(&self) {
        if self.is_stored() {
            self.forget();
        }
    }

    fn forget(&self) {
        if self.batch.lock().take().is_some() {
            self.memory.resident.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.forget();
    }
}

/// As the store keeps rows.
fn encode(batch: &RecordBatch) -> Result<Bytes> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options)?;
    writer.write(batch)?;
    Ok(writer.into_inner()?.into())
}

pub(super) fn decode(bytes: Bytes, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut buffer = Buffer::from(bytes);
    let batch = StreamDecoder::new().decode(&mut buffer)?;
    let batch = batch.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(schema)));
    conform(&batch, schema)
}

/// What the rows take, without what their buffers hold besides.
fn bytes_of(batch: &RecordBatch) -> usize {
    let of_column = |column: &dyn Array| {
        let texts: usize = match column.data_type() {
            DataType::Utf8View => column.as_string_view().data_buffers().iter().map(|b| b.len()).sum(),
            DataType::BinaryView => column.as_binary_view().data_buffers().iter().map(|b| b.len()).sum(),
            _ => 0,
        };
        texts + column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    size_of::<Piece>() + batch.columns().iter().map(|column| of_column(column)).sum::<usize>()
}

//! Owns a piece: a batch that never changes, in memory or to be read back from the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use parking_lot::Mutex;

use super::TimeOf;
use super::form::{Form, Lies, ReadRows, read_rows};
use super::memory::Memory;
use crate::store::Change;
use crate::{Error, Result};

/// Of a piece that is not in memory, single rows are read where they are fewer than one in so many.
const FEW: usize = 4;
/// A piece of which more than one row in so many is wanted goes back to memory, if there is room.
const MANY: usize = 32;

/// Rows in columns, with a name of their own.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Unique in its arrangement, also among those that are gone.
    pub(super) id: u64,
    pub(super) rows: usize,
    /// Where it lies in the store, once it does.
    pub(super) key: Vec<u8>,
    form: Arc<Form>,
    bytes: usize,
    batch: Mutex<Option<RecordBatch>>,
    /// How it lies in the store, or will when it is written.
    lies: Mutex<Lies>,
    /// Whether the store has it for certain.
    stored: AtomicBool,
    used: AtomicU64,
    /// No row has an earlier time than that.
    lowest: Mutex<Option<(TimeOf, i64)>>,
    memory: Arc<Memory>,
}

impl Piece {
    pub(super) fn new(id: u64, key: Vec<u8>, batch: RecordBatch, form: &Arc<Form>, memory: &Arc<Memory>) -> Self {
        let bytes = bytes_of(&batch);
        memory.begin(bytes);
        Self {
            id,
            rows: batch.num_rows(),
            key,
            form: Arc::clone(form),
            bytes,
            batch: Mutex::new(Some(batch)),
            lies: Mutex::new(Lies::Packed),
            stored: AtomicBool::new(false),
            used: AtomicU64::new(memory.now()),
            lowest: Mutex::new(None),
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

    /// It lies so in the store.
    pub(super) fn set_lies(&self, lies: Lies) {
        *self.lies.lock() = lies;
    }

    /// Whether it has to be written again before its rows may leave memory: packed, they would be read with all others.
    pub(super) fn must_be_written(&self) -> bool {
        !self.is_stored() || *self.lies.lock() == Lies::Packed && self.form.has_rows()
    }

    /// What puts it into the store.
    pub(crate) fn change(&self) -> Result<Change> {
        self.change_to(self.memory.is_tight())
    }

    /// What puts it into the store, as rows or packed.
    pub(super) fn change_to(&self, as_rows: bool) -> Result<Change> {
        let (bytes, lies) = self.form.encode(&self.batch()?, as_rows)?;
        self.set_lies(lies);
        Ok((self.key.clone(), Some(bytes)))
    }

    /// The rows, if they are in memory.
    pub(super) fn resident(&self) -> Option<RecordBatch> {
        self.used.store(self.memory.now(), Ordering::Relaxed);
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
        let bytes = bytes.ok_or_else(|| self.unusable("the store does not have it"))?;
        let (batch, _) = self.form.decode(bytes).map_err(|reason| self.unusable(reason))?;
        if batch.num_rows() != self.rows {
            return Err(self.unusable("the store has another number of rows"));
        }
        Ok(batch)
    }

    /// All rows, where so many of them are wanted that reading single ones does not pay. They stay in memory if there
    /// is room and many are wanted.
    pub(super) fn batch_for(&self, wanted: usize) -> Result<Option<RecordBatch>> {
        if let Some(batch) = self.resident() {
            return Ok(Some(batch));
        }
        let stays = wanted * MANY > self.rows && self.memory.has_room(self.bytes);
        if !stays && wanted * FEW < self.rows && *self.lies.lock() != Lies::Packed {
            return Ok(None);
        }
        let batch = self.batch()?;
        if stays && self.batch.lock().replace(batch.clone()).is_none() {
            self.memory.enter(self.bytes);
        }
        Ok(Some(batch))
    }

    /// Reads single rows from the store, behind others. They are given in their order.
    pub(super) fn read_rows(&self, rows: &[u32], read: &mut ReadRows) -> Result<()> {
        let Some(store) = &self.memory.store else { return Err(self.unusable("it has no store")) };
        let lies = *self.lies.lock();
        match read_rows(store.as_ref(), &self.key, (lies, self.rows), rows, read)? {
            true => Ok(()),
            false => Err(self.unusable("the store does not have its rows as they were written")),
        }
    }

    fn unusable(&self, reason: impl Into<String>) -> Error {
        Error::State { node: format!("piece {}", self.id), reason: reason.into() }
    }

    /// A time before which no row has its own, if it was noted.
    pub(super) fn lowest(&self, time: TimeOf) -> Option<i64> {
        self.lowest.lock().filter(|(of, _)| *of == time).map(|(_, lowest)| lowest)
    }

    pub(super) fn note_lowest(&self, time: TimeOf, lowest: i64) {
        *self.lowest.lock() = Some((time, lowest));
    }

    /// Drops the rows from memory, if the store has them.
    pub(crate) fn leave(&self) {
        if !self.must_be_written() {
            self.forget();
        }
    }

    fn forget(&self) {
        if self.batch.lock().take().is_some() {
            self.memory.leave(self.bytes);
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.memory.end(self.bytes, self.batch.lock().is_some());
    }
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

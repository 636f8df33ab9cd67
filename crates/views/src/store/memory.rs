//! Owns a state store in memory, for tests and for state that need not outlive the process.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Change, StateStore};
use crate::Result;

/// A map.
#[derive(Debug, Default)]
pub struct MemoryStore {
    values: Mutex<BTreeMap<Vec<u8>, Bytes>>,
}

impl StateStore for MemoryStore {
    fn commit(&self, changes: Vec<Change>) -> Result<()> {
        let mut values = self.values.lock();
        for (key, value) in changes {
            match value {
                Some(value) => values.insert(key, value),
                None => values.remove(&key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.values.lock().get(key).cloned())
    }

    fn keys(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
        let values = self.values.lock();
        let from = values.range(prefix.to_vec()..);
        Ok(from.map(|(key, _)| key).take_while(|key| key.starts_with(prefix)).cloned().collect())
    }
}

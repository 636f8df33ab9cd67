//! Owns the memory of producer keys: which were seen, with what content, and where their rows went.

use std::collections::{HashMap, VecDeque};

use crate::{Append, Appended, Error, Key, OffsetRange, Result};

/// A key and where its append's rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub key: Key,
    pub ranges: Box<[OffsetRange]>,
}

impl Mark {
    /// The answer to another append with this mark's key.
    pub fn answer(&self, again: &Key) -> Result<Appended> {
        if again.content != self.key.content {
            return Err(Error::KeyReused);
        }
        Ok(Appended { ranges: self.ranges.to_vec(), duplicate: true, note: self.key.note })
    }
}

/// The newest keys of a log, up to a limit; the oldest is forgotten first.
#[derive(Debug)]
pub(crate) struct KeyMemory {
    known: HashMap<u128, Known>,
    order: VecDeque<u128>,
    limit: usize,
}

#[derive(Debug)]
struct Known {
    content: u64,
    note: u64,
    ranges: Box<[OffsetRange]>,
}

impl KeyMemory {
    pub fn new(limit: usize) -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), limit: limit.max(1) }
    }

    /// The answer to `key` if it was seen.
    pub fn recall(&self, key: &Key) -> Option<Result<Appended>> {
        let known = self.known.get(&key.id)?;
        if known.content != key.content {
            return Some(Err(Error::KeyReused));
        }
        Some(Ok(Appended { ranges: known.ranges.to_vec(), duplicate: true, note: known.note }))
    }

    /// Remembers a mark as the newest. A key that is known already keeps its first answer.
    pub fn remember(&mut self, mark: Mark) {
        if self.known.contains_key(&mark.key.id) {
            return;
        }
        if self.order.len() >= self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(mark.key.id);
        let known = Known { content: mark.key.content, note: mark.key.note, ranges: mark.ranges };
        self.known.insert(mark.key.id, known);
    }
}

/// Refuses an append that no log with `partitions` partitions could take.
pub(crate) fn check_parts(append: &Append, partitions: u32) -> Result<()> {
    for (i, part) in append.parts.iter().enumerate() {
        if part.partition >= partitions {
            return Err(Error::Misfit {
                reason: format!("partition {} does not exist, there are {partitions}", part.partition),
            });
        }
        if append.parts[..i].iter().any(|p| p.partition == part.partition) {
            return Err(Error::Misfit { reason: format!("partition {} is named twice", part.partition) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(id: u128) -> Mark {
        Mark { key: Key { id, content: 1, note: 7 }, ranges: Box::new([]) }
    }

    #[test]
    fn the_oldest_key_is_forgotten_first() {
        let mut keys = KeyMemory::new(2);
        for id in 1..=3 {
            keys.remember(mark(id));
        }
        assert!(keys.recall(&mark(1).key).is_none());
        assert_eq!(keys.recall(&mark(3).key).unwrap().unwrap().note, 7);
    }

    #[test]
    fn a_key_with_other_content_is_refused() {
        let mut keys = KeyMemory::new(2);
        keys.remember(mark(1));
        let other = Key { id: 1, content: 2, note: 0 };
        assert!(matches!(keys.recall(&other), Some(Err(Error::KeyReused))));
    }
}

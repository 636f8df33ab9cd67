//! Owns compaction: living rows move together, so that the dead take no more room than they.
//!
//! A few regions are compacted at a time, those with the most dead first: each row that dies costs at most some rows
//! moved, and a step moves no more than a few regions' rows, whatever died in it.

use std::collections::HashMap;
use std::ops::Range;

use arrow::compute::concat_batches;

use super::index::Chains;
use super::rows::{REGION_ROWS, Region, parts_of};
use super::table::NO_ROW;
use super::{Arrangement, Goes};
use crate::Result;

/// Dead rows that are not worth a compaction.
const FEW_DEAD: usize = 4096;
/// Rows that one change moves, about.
const AT_ONCE: usize = 4 * REGION_ROWS;

impl Arrangement {
    /// Compacts while more rows are dead than alive, but not too much at once.
    pub(super) fn compact_if_due(&mut self) -> Result<()> {
        let mut moved = 0;
        while self.rows.dead() > self.rows.alive() + FEW_DEAD && moved <= AT_ONCE {
            moved += self.compact(self.rows.worth_compacting())?;
        }
        Ok(())
    }

    /// Moves the living rows of neighbours to a new region; says how many.
    fn compact(&mut self, range: Range<usize>) -> Result<usize> {
        let (mut old, mut living) = (Vec::new(), Vec::new());
        for region in self.rows.regions().skip(range.start).take(range.len()) {
            let places = (0..region.rows).filter(|place| region.is_live(*place));
            old.extend(places.map(|place| region.base() + place as u32));
            for batch in region.clone().into_living() {
                living.push(batch?);
            }
        }
        let living = concat_batches(self.schema(), &living)?;
        let keys = self.prints(self.key.encode(&living)?.iter());
        let contents = match &self.contents {
            Some(contents) => contents.prints(&living)?,
            None => Vec::new(),
        };
        let (gone, base) = self.rows.exchange(range, old.len())?;
        if !old.is_empty() {
            self.begin_region(base, old.len());
            let moved = Moved::new(&gone, &old, base);
            if self.goes == Goes::ByKey {
                self.index.put_each(&keys, base);
            } else {
                for newest in moved.relink(&mut self.chains) {
                    self.index.put(&keys[newest], base + newest as u32);
                }
            }
            if let Some(kept) = &mut self.contents {
                for newest in moved.relink(&mut kept.chains) {
                    kept.index.put(&contents[newest], base + newest as u32);
                }
            }
            self.rows.fill(base, living);
        }
        for region in gone {
            self.end_region(region.id);
        }
        if self.rows.memory().excess() > 0 {
            self.relieve()?;
        }
        Ok(old.len())
    }

    /// Makes room for what is kept beside the rows of a region.
    pub(super) fn begin_region(&mut self, base: u32, rows: usize) {
        self.unsaved.rows(base, rows);
        if matches!(self.goes, Goes::Never | Goes::ByContent) {
            self.chains.reserve(base, rows);
        }
        if let Some(contents) = &mut self.contents {
            contents.chains.reserve(base, rows);
        }
    }

    fn end_region(&mut self, id: u32) {
        self.unsaved.changed();
        self.chains.forget(id);
        if let Some(contents) = &mut self.contents {
            contents.chains.forget(id);
        }
    }
}

/// Rows that got other numbers.
struct Moved<'m> {
    old: &'m [u32],
    base: u32,
    /// By region, where each place went.
    new: HashMap<usize, Vec<u32>>,
}

impl<'m> Moved<'m> {
    fn new(gone: &[Region], old: &'m [u32], base: u32) -> Self {
        let mut new: HashMap<usize, Vec<u32>> =
            gone.iter().map(|region| (region.id as usize, vec![NO_ROW; region.rows])).collect();
        for (n, row) in old.iter().enumerate() {
            let (region, place) = parts_of(*row);
            if let Some(places) = new.get_mut(&region) {
                places[place] = base + n as u32;
            }
        }
        Self { old, base, new }
    }

    fn new_of(&self, row: u32) -> u32 {
        if row == NO_ROW {
            return NO_ROW;
        }
        let (region, place) = parts_of(row);
        self.new.get(&region).map_or(row, |places| places[place])
    }

    /// Gives the rows their places in their chains under the new numbers. Tells which are the newest of theirs.
    fn relink(&self, chains: &mut Chains) -> Vec<usize> {
        let mut newest = Vec::new();
        for (n, old) in self.old.iter().enumerate() {
            let row = self.base + n as u32;
            let neighbours = chains.neighbours(*old);
            let (older, newer) = (self.new_of(neighbours.older), self.new_of(neighbours.newer));
            chains.link(row, older, newer);
            if newer == NO_ROW {
                newest.push(n);
            }
        }
        newest
    }
}

//! Owns the rows of an arrangement: their numbers, which of them are alive, and the pieces they lie in.
//!
//! ```text
//! number     region 16 bits │ place 16 bits
//! regions    2: [ piece: places 0..16384 ][ piece ][ piece ]     up to 65536 places, a bit each: alive or dead
//!            0: [ piece ][ piece ]
//!            3: [ piece ] ─ ─                                     the last in order takes new rows
//! ```
//!
//! Rows keep their numbers until their region is compacted: then the living rows of some neighbours move to a new
//! region in their place, so that regions in their order always have rows in the order in which these came.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use hashbrown::HashMap;

use super::form::{Form, ReadRows};
use super::memory::Memory;
use super::piece::Piece;
use super::save::piece_key;
use super::state;
use crate::Result;
use crate::delta::{conform, taken, without_columns};

/// Bits of a place in its region; few in the tests of this module, so that they have many regions.
const PLACE_BITS: u32 = if cfg!(test) { 8 } else { 16 };
/// Places in a region.
pub(super) const REGION_ROWS: usize = 1 << PLACE_BITS;
/// Numbers of regions: the last one has [`super::NO_ROW`].
const REGIONS: usize = (1 << (32 - PLACE_BITS)) - 1;
/// Pieces up to this many rows are merged with their neighbours.
const PIECE_ROWS: usize = 16 * 1024;

/// Region and place of a row.
pub(super) fn parts_of(row: u32) -> (usize, usize) {
    ((row >> PLACE_BITS) as usize, row as usize % REGION_ROWS)
}

/// Rows that are numbered together.
#[derive(Debug, Clone)]
pub(super) struct Region {
    pub(super) id: u32,
    /// Each with the place of its first row.
    pub(super) pieces: Vec<(u32, Arc<Piece>)>,
    /// Places that are taken, by the living and the dead.
    pub(super) rows: usize,
    pub(super) alive: usize,
    pub(super) live: Arc<Vec<u64>>,
}

impl Region {
    fn new(id: u32) -> Self {
        Self { id, pieces: Vec::new(), rows: 0, alive: 0, live: Arc::default() }
    }

    /// The number of its first row.
    pub(super) fn base(&self) -> u32 {
        self.id << PLACE_BITS
    }

    pub(super) fn is_live(&self, place: usize) -> bool {
        self.live[place / 64] >> (place % 64) & 1 == 1
    }

    fn dead(&self) -> usize {
        self.rows - self.alive
    }

    /// Rows of the pieces.
    fn stored_rows(&self) -> usize {
        self.pieces.last().map_or(0, |(start, piece)| *start as usize + piece.rows)
    }

    fn piece_of(&self, place: usize) -> &(u32, Arc<Piece>) {
        &self.pieces[self.pieces.partition_point(|(start, _)| *start as usize <= place) - 1]
    }
}

/// The rows of an arrangement.
#[derive(Debug)]
pub(super) struct Rows {
    form: Arc<Form>,
    regions: Vec<Option<Region>>,
    /// Regions in the order of their rows.
    order: Vec<u32>,
    free: Vec<u32>,
    rows: usize,
    alive: usize,
    next_piece: u64,
    /// The number of the arrangement in its dataflow.
    number: u32,
    memory: Arc<Memory>,
}

impl Rows {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self {
            form: Arc::new(Form::new(schema)),
            regions: Vec::new(),
            order: Vec::new(),
            free: Vec::new(),
            rows: 0,
            alive: 0,
            next_piece: 0,
            number: 0,
            memory: Arc::default(),
        }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        self.form.schema()
    }

    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// The number of the arrangement in its dataflow.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Pieces that come from now on belong to arrangement `number` of a dataflow with this memory.
    pub(super) fn belong_to(&mut self, number: u32, memory: Arc<Memory>) {
        self.number = number;
        self.memory = memory;
    }

    /// The living.
    pub(super) fn alive(&self) -> usize {
        self.alive
    }

    pub(super) fn dead(&self) -> usize {
        self.rows - self.alive
    }

    /// The id of the next piece.
    pub(super) fn next_piece(&self) -> u64 {
        self.next_piece
    }

    /// Ids of pieces below this one were given.
    pub(super) fn reserve_pieces(&mut self, next: u64) {
        self.next_piece = self.next_piece.max(next);
    }

    /// Regions in the order of their rows.
    pub(super) fn regions(&self) -> impl Iterator<Item = &Region> {
        self.order.iter().filter_map(|id| self.region(*id))
    }

    /// Numbers up to which there were regions.
    pub(super) fn region_numbers(&self) -> usize {
        self.regions.len()
    }

    pub(super) fn region(&self, id: u32) -> Option<&Region> {
        self.regions.get(id as usize)?.as_ref()
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = &Arc<Piece>> {
        self.regions().flat_map(|region| region.pieces.iter().map(|(_, piece)| piece))
    }

    /// Bytes in memory, of the pieces.
    pub(super) fn bytes(&self) -> usize {
        self.pieces().map(|piece| piece.bytes()).sum()
    }

    /// Bytes of the bits.
    pub(super) fn live_bytes(&self) -> usize {
        self.order.len() * REGION_ROWS / 8
    }

    pub(super) fn is_live(&self, row: u32) -> bool {
        let (region, place) = parts_of(row);
        self.regions[region].as_ref().is_some_and(|region| region.is_live(place))
    }

    /// Whether it was alive.
    pub(super) fn kill(&mut self, row: u32) -> bool {
        let (region, place) = parts_of(row);
        let Some(region) = &mut self.regions[region] else { return false };
        if !region.is_live(place) {
            return false;
        }
        Arc::make_mut(&mut region.live)[place / 64] &= !(1 << (place % 64));
        region.alive -= 1;
        self.alive -= 1;
        true
    }

    /// Numbers for so many rows that are about to be pushed; the first of them. At most a region's.
    pub(super) fn begin(&mut self, rows: usize) -> Result<u32> {
        let last = self.order.last().and_then(|id| self.region(*id));
        let id = match last.filter(|region| region.rows + rows <= REGION_ROWS) {
            Some(region) => region.id,
            None => self.new_region()?,
        };
        if self.order.last() != Some(&id) {
            self.order.push(id);
        }
        self.rows += rows;
        self.alive += rows;
        let Some(region) = &mut self.regions[id as usize] else { return Err(state("a region is missing")) };
        let begin = region.rows;
        region.rows += rows;
        region.alive += rows;
        let live = Arc::make_mut(&mut region.live);
        live.resize(region.rows.div_ceil(64), 0);
        (begin..region.rows).for_each(|place| live[place / 64] |= 1 << (place % 64));
        Ok(region.base() + begin as u32)
    }

    fn new_region(&mut self) -> Result<u32> {
        let id = self.free.pop().unwrap_or(self.regions.len() as u32);
        if id as usize == REGIONS {
            return Err(state("it has more than 4 billion rows"));
        }
        if id as usize == self.regions.len() {
            self.regions.push(None);
        }
        self.regions[id as usize] = Some(Region::new(id));
        Ok(id)
    }

    /// Keeps rows that [`Rows::begin`] gave numbers. The last pieces of the region are merged while they are of about
    /// one size, so that a row is copied a few times at most, and there are few pieces.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let mut batch = without_spare(&conform(&batch, self.schema())?)?;
        let Some(id) = self.order.last().copied() else { return Err(state("a region is missing")) };
        let Some(region) = &mut self.regions[id as usize] else { return Err(state("a region is missing")) };
        let mut from = region.pieces.len();
        let mut behind = batch.num_rows();
        while from > 0 && region.pieces[from - 1].1.rows <= 2 * behind && behind < PIECE_ROWS {
            from -= 1;
            behind += region.pieces[from].1.rows;
        }
        if from < region.pieces.len() {
            let before = region.pieces[from..].iter().map(|(_, piece)| piece.batch()).collect::<Result<Vec<_>>>()?;
            batch = concat_batches(self.form.schema(), before.iter().chain([&batch]))?;
            region.pieces.truncate(from);
        }
        self.append(id, self.next_piece, batch);
        Ok(())
    }

    /// Adds a piece behind the others of a region.
    fn append(&mut self, region: u32, id: u64, batch: RecordBatch) -> Option<Arc<Piece>> {
        self.next_piece = self.next_piece.max(id + 1);
        let piece = Arc::new(Piece::new(id, piece_key(self.number, id), batch, &self.form, &self.memory));
        let region = self.regions[region as usize].as_mut()?;
        region.pieces.push((region.stored_rows() as u32, Arc::clone(&piece)));
        Some(piece)
    }

    /// Adds a region as it was saved, behind the others, without its pieces.
    pub(super) fn restore_region(&mut self, id: u32, rows: usize, live: Vec<u64>) -> bool {
        let at = id as usize;
        if at >= REGIONS || rows > REGION_ROWS || self.region(id).is_some() {
            return false;
        }
        while self.regions.len() <= at {
            self.free.push(self.regions.len() as u32);
            self.regions.push(None);
        }
        self.free.retain(|free| *free != id);
        let alive = live.iter().map(|word| word.count_ones() as usize).sum();
        self.rows += rows;
        self.alive += alive;
        self.order.push(id);
        self.regions[at] = Some(Region { id, pieces: Vec::new(), rows, alive, live: Arc::new(live) });
        true
    }

    /// Adds a piece of the region restored last; the number of its first row.
    pub(super) fn restore_piece(&mut self, id: u64, batch: RecordBatch) -> Option<(u32, Arc<Piece>)> {
        let region = self.order.last().and_then(|id| self.region(*id))?;
        let base = region.base() + region.stored_rows() as u32;
        let piece = self.append(region.id, id, batch)?;
        Some((base, piece))
    }

    /// Whether the region restored last has all its pieces.
    pub(super) fn is_whole(&self) -> bool {
        self.order.last().and_then(|id| self.region(*id)).is_none_or(|region| region.stored_rows() == region.rows)
    }

    /// The neighbours that are best compacted together: the region with the most dead, and those beside it that would
    /// gain too and whose living rows find room in one region.
    pub(super) fn worth_compacting(&self) -> Range<usize> {
        let at = |position: usize| self.region(self.order[position]);
        let share = |region: &Region| region.dead() * 1000 / region.rows.max(1);
        let worst = (0..self.order.len()).max_by_key(|position| at(*position).map(share));
        let Some(worst) = worst else { return 0..0 };
        let (mut begin, mut end) = (worst, worst + 1);
        let mut alive = at(worst).map_or(0, |region| region.alive);
        let mut joins = |position: usize| {
            let fits = at(position).is_some_and(|region| {
                alive + region.alive <= REGION_ROWS
                    && (region.dead() * 3 > region.rows || region.rows < REGION_ROWS / 8)
            });
            alive += if fits { at(position).map_or(0, |region| region.alive) } else { 0 };
            fits
        };
        while begin > 0 && joins(begin - 1) {
            begin -= 1;
        }
        while end < self.order.len() && joins(end) {
            end += 1;
        }
        begin..end
    }

    /// Takes regions out, and puts a new one with so many rows, all alive, in their place. Gives those taken out, and
    /// the number of the first new row.
    pub(super) fn exchange(&mut self, range: Range<usize>, rows: usize) -> Result<(Vec<Region>, u32)> {
        let new = if rows > 0 { Some(self.new_region()?) } else { None };
        let old: Vec<u32> = self.order.splice(range, new).collect();
        let taken: Vec<Region> = old.iter().filter_map(|id| self.regions[*id as usize].take()).collect();
        self.free.extend(old);
        self.rows -= taken.iter().map(|region| region.rows).sum::<usize>();
        self.alive -= taken.iter().map(|region| region.alive).sum::<usize>();
        let Some(region) = new.and_then(|id| self.regions[id as usize].as_mut()) else { return Ok((taken, 0)) };
        region.rows = rows;
        region.alive = rows;
        let mut live = vec![u64::MAX; rows.div_ceil(64)];
        if let Some(last) = live.last_mut() {
            *last >>= live_rest(rows);
        }
        region.live = Arc::new(live);
        self.rows += rows;
        self.alive += rows;
        Ok((taken, region.base()))
    }

    /// The rows of a new region.
    pub(super) fn fill(&mut self, base: u32, batch: RecordBatch) {
        self.append(base >> PLACE_BITS, self.next_piece, batch);
    }

    /// The rows of these numbers, in this order.
    pub(super) fn gather(&self, rows: &[u32]) -> Result<RecordBatch> {
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(self.schema())));
        }
        if self.schema().fields().is_empty() {
            return Ok(without_columns(self.schema(), rows.len()));
        }
        let mut wanted = Wanted::default();
        for row in rows {
            let (region, place) = parts_of(*row);
            let Some(region) = &self.regions[region] else { return Err(state("a row is wanted that is gone")) };
            wanted.add(region, place);
        }
        wanted.read(&self.form)
    }
}

/// Bits of the last word that have no row.
fn live_rest(rows: usize) -> usize {
    rows.next_multiple_of(64) - rows
}

/// Rows that are wanted, by piece.
#[derive(Default)]
struct Wanted<'r> {
    /// Pieces by the number of their first row. Only those that are needed take part: there may be thousands.
    numbers: HashMap<u32, usize>,
    pieces: Vec<&'r Arc<Piece>>,
    /// How many rows of each.
    counts: Vec<usize>,
    /// Piece and row in it.
    places: Vec<(usize, usize)>,
}

impl<'r> Wanted<'r> {
    fn add(&mut self, region: &'r Region, place: usize) {
        let (start, piece) = region.piece_of(place);
        let n = *self.numbers.entry(region.base() + start).or_insert_with(|| {
            self.pieces.push(piece);
            self.counts.push(0);
            self.pieces.len() - 1
        });
        self.counts[n] += 1;
        self.places.push((n, place - *start as usize));
    }

    fn read(mut self, form: &Form) -> Result<RecordBatch> {
        let mut batches = Vec::with_capacity(self.pieces.len() + 1);
        let mut numbers = vec![usize::MAX; self.pieces.len()];
        for (n, piece) in self.pieces.iter().enumerate() {
            if let Some(batch) = piece.batch_for(self.counts[n])? {
                numbers[n] = batches.len();
                batches.push(batch);
            }
        }
        if batches.len() < self.pieces.len() {
            batches.push(self.read_rows(form, &mut numbers, batches.len())?);
        } else {
            self.places.iter_mut().for_each(|(piece, _)| *piece = numbers[*piece]);
        }
        if let [only] = batches.as_slice() {
            let places: Vec<u32> = self.places.iter().map(|(_, place)| *place as u32).collect();
            return taken(only, &places);
        }
        Ok(interleave_record_batch(&batches.iter().collect::<Vec<_>>(), &self.places)?)
    }

    /// Reads single rows of the pieces that have no number yet, as the batch of number `last`.
    fn read_rows(&mut self, form: &Form, numbers: &mut [usize], last: usize) -> Result<RecordBatch> {
        let mut by_piece: Vec<(usize, u32, usize)> = Vec::new();
        for (at, (piece, place)) in self.places.iter_mut().enumerate() {
            if numbers[*piece] == usize::MAX {
                by_piece.push((*piece, *place as u32, at));
            } else {
                *piece = numbers[*piece];
            }
        }
        by_piece.sort_unstable();
        let mut read = ReadRows::default();
        let mut rows = Vec::new();
        for some in by_piece.chunk_by(|one, other| one.0 == other.0) {
            rows.clear();
            rows.extend(some.iter().map(|(_, place, _)| *place));
            self.pieces[some[0].0].read_rows(&rows, &mut read)?;
        }
        by_piece.iter().enumerate().for_each(|(n, (_, _, at))| self.places[*at] = (last, n));
        form.batch(&read)
    }
}

/// The same rows without text that they do not show: views into long buffers keep the whole of them.
fn without_spare(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(|column| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => Arc::clone(column),
        }
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns.collect(), &options)?)
}

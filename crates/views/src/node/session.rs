//! Owns the session node: it holds rows until the watermark has passed the end of their session, and then gives them
//! out with their session's columns.
//!
//! A session ends a gap behind its last row; a row that comes later begins another. So the rows of a session that has
//! ended go through the engine's operators by themselves, once, and are forgotten.

use std::collections::BTreeMap;

use arrow::array::{AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use async_trait::async_trait;
use hashbrown::HashMap;

use super::keyed::KeyedInput;
use super::{Description, Frontier, Node, Turn};
use crate::Result;
use crate::arrangement::Arrangement;
use crate::delta::{conform, rows_of, weighted};
use crate::fragment::Fragment;

/// Rows of sessions that are open.
#[derive(Debug)]
pub(crate) struct Session {
    open: KeyedInput,
    fragment: Fragment,
    output: SchemaRef,
    span: Span,
    /// Keys by the time at which a session of theirs may have ended.
    due: Due,
    /// Whether `due` knows of all rows: not behind a restart.
    known: bool,
}

/// What makes a session, in ticks of the column of times.
#[derive(Debug)]
pub(crate) struct Span {
    /// The column of times.
    pub(crate) column: usize,
    pub(crate) gap: i64,
    /// The lowest time that a row can still come with.
    pub(crate) frontier: Frontier,
}

#[derive(Debug, Default)]
struct Due {
    by_time: BTreeMap<i64, Vec<Vec<u8>>>,
    of_key: HashMap<Vec<u8>, i64>,
}

impl Due {
    fn add(&mut self, key: &[u8], at: i64) {
        match self.of_key.get_mut(key) {
            Some(known) if *known <= at => return,
            Some(known) => *known = at,
            None => _ = self.of_key.insert(key.to_vec(), at),
        }
        self.by_time.entry(at).or_default().push(key.to_vec());
    }

    /// The keys of which a session may have ended at `at`.
    fn take(&mut self, at: i64) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        while let Some(first) = self.by_time.first_entry().filter(|first| *first.key() <= at) {
            let time = *first.key();
            for key in first.remove() {
                // An entry that an earlier one took the place of is passed over.
                if self.of_key.get(&key) == Some(&time) {
                    self.of_key.remove(&key);
                    keys.push(key);
                }
            }
        }
        keys
    }
}

impl Session {
    /// The fragment gives the columns of sessions to rows.
    pub(crate) fn new(open: KeyedInput, fragment: Fragment, output: SchemaRef, span: Span) -> Self {
        Self { open, fragment, output, span, due: Due::default(), known: true }
    }

    fn schedule(&mut self, rows: &RecordBatch) -> Result<()> {
        let keys = self.open.rows.key().encode(rows)?;
        let times = self.span.times(rows)?;
        for (key, time) in keys.iter().zip(times.values()) {
            self.due.add(key, time.saturating_add(self.span.gap));
        }
        Ok(())
    }

    /// Takes away the rows of sessions that have ended.
    fn ended(&mut self, at: i64) -> Result<RecordBatch> {
        let keys = self.due.take(at);
        let found = self.open.rows.find_keys(keys.iter().map(Vec::as_slice));
        let rows = self.open.rows.gather(&found.rows)?;
        let times = self.span.times(&rows)?;
        let mut ended: Vec<u32> = Vec::new();
        let mut begin = 0;
        while begin < found.probe.len() {
            let key = found.probe[begin];
            let end = begin + found.probe[begin..].iter().take_while(|probe| **probe == key).count();
            let mut order: Vec<u32> = (begin as u32..end as u32).collect();
            order.sort_by_key(|row| times.value(*row as usize));
            if let Some(open_until) = self.span.closed(&order, &times, at, &mut ended) {
                self.due.add(&keys[key as usize], open_until);
            }
            begin = end;
        }
        let numbers: Vec<u32> = ended.iter().map(|row| found.rows[*row as usize]).collect();
        let rows = take_record_batch(&rows, &UInt32Array::from(ended))?;
        self.open.rows.remove_numbered(&numbers, &rows)?;
        Ok(rows)
    }
}

impl Span {
    fn times(&self, rows: &RecordBatch) -> Result<Int64Array> {
        Ok(cast(rows.column(self.column), &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    }

    /// Adds the rows of the sessions that have ended at `at`, of a key's rows in order of time; gives the end of the
    /// first one that has not.
    fn closed(&self, order: &[u32], times: &Int64Array, at: i64, ended: &mut Vec<u32>) -> Option<i64> {
        let time = |row: &u32| times.value(*row as usize);
        for session in order.chunk_by(|a, b| time(b) < time(a).saturating_add(self.gap)) {
            let end = session.last().map_or(i64::MAX, |last| time(last).saturating_add(self.gap));
            if end > at {
                return Some(end);
            }
            ended.extend(session);
        }
        None
    }
}

#[async_trait]
impl Node for Session {
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let delta = self.open.node.step(turn).await?;
        self.open.take_in(&delta)?;
        if self.known {
            for batch in &delta {
                self.schedule(&rows_of(batch)?)?;
            }
        } else {
            for rows in self.open.rows.snapshot().parts() {
                self.schedule(&rows?)?;
            }
            self.known = true;
        }
        let Some(at) = self.span.frontier.at(&turn.watermarks)? else { return Ok(vec![]) };
        let rows = self.ended(at)?;
        if rows.num_rows() == 0 {
            return Ok(vec![]);
        }
        let rows = self.fragment.run(vec![vec![rows]], &turn.context).await?;
        rows.iter().map(|rows| conform(&weighted(rows, 1)?, &self.output)).collect()
    }

    fn describe(&self) -> Description {
        let state = vec![format!("rows, {}, until the watermark passes", self.open.key_names())];
        Description { title: "Session: rows come when their sessions close".into(), state }
    }

    fn children(&self) -> Vec<&dyn Node> {
        vec![self.open.node.as_ref()]
    }

    fn children_mut(&mut self) -> Vec<&mut Box<dyn Node>> {
        vec![&mut self.open.node]
    }

    fn visit_state(&mut self, visit: &mut dyn FnMut(&mut Arrangement) -> Result<()>) -> Result<()> {
        self.open.node.visit_state(visit)?;
        visit(&mut self.open.rows)?;
        // What a restore brings is not scheduled.
        self.known &= self.open.rows.len() == 0 || !self.due.of_key.is_empty();
        Ok(())
    }
}

//! Owns the keyed node: the rows kept under the keys that changed go through the engine's operator again.
//!
//! What came out for a key the last time is kept too, and compared with what comes out now. So an operator whose
//! answer depends on the order of its rows (a tie in `row_number`, the last digits of a sum of floats) never takes
//! back a row that it did not give.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use hashbrown::HashSet;

use super::salvage::Salvage;
use super::{Description, Expiry, Node, Turn};
use crate::Result;
use crate::arrangement::{Arrangement, Goes};
use crate::compile::Sealed;
use crate::delta::{conform, consolidate, repeated, weighted, weighted_schema};
use crate::fragment::Fragment;
use crate::key::{EncodedRows, Key};

/// A node below, and its rows under the key.
#[derive(Debug)]
pub(crate) struct KeyedInput {
    pub(crate) node: Box<dyn Node>,
    pub(crate) rows: Arrangement,
    grows: bool,
}

impl KeyedInput {
    pub(crate) fn new(input: Sealed, keys: Vec<usize>) -> Result<Self> {
        let schema = Arc::new(input.schema.as_arrow().clone());
        let key = Key::of_columns(&schema, &keys)?;
        let goes = if input.grows { Goes::Never } else { Goes::ByContent };
        let rows = Arrangement::new(schema, key, goes)?;
        Ok(Self { node: input.node, rows, grows: input.grows })
    }

    /// Keeps what came, forgets what went.
    pub(crate) fn take_in(&mut self, delta: &[RecordBatch]) -> Result<()> {
        if self.grows {
            return delta.iter().try_for_each(|batch| self.rows.insert(repeated(batch)?));
        }
        // A row may come in one batch and go in another.
        let schema = weighted_schema(self.rows.schema());
        self.rows.apply(&consolidate(&schema, delta)?)
    }

    pub(crate) fn key_names(&self) -> String {
        let columns = self.rows.key().columns();
        if columns.is_empty() {
            return "all under one key".into();
        }
        let names: Vec<&str> = columns.iter().map(|c| self.rows.schema().field(*c).name().as_str()).collect();
        format!("by {}", names.join(", "))
    }
}

/// An operator that runs again for the keys that changed.
#[derive(Debug)]
pub(crate) struct Keyed {
    label: String,
    fragment: Fragment,
    inputs: Vec<KeyedInput>,
    /// What came out, under the same key.
    emitted: Arrangement,
    output: SchemaRef,
    /// Only rows that came out can ever come out again, and their first columns, so many, are the input's: no other
    /// rows are kept.
    prune: Option<usize>,
    salvage: Salvage,
    /// By input, and of what came out.
    expiry: (Vec<Expiry>, Expiry),
}

impl Keyed {
    pub(crate) fn new(
        label: String,
        fragment: Fragment,
        inputs: Vec<KeyedInput>,
        schema: SchemaRef,
        output_key: Key,
        prune: Option<usize>,
    ) -> Result<Self> {
        let output = weighted_schema(&schema);
        let emitted = Arrangement::new(schema, output_key, Goes::ByContent)?;
        Ok(Self {
            label,
            fragment,
            inputs,
            emitted,
            output,
            prune,
            salvage: Salvage::of_input(0),
            expiry: Default::default(),
        })
    }

    /// A row that fails together with one of another input is left out of this one.
    pub(crate) fn leaving_out_of(self, input: usize) -> Self {
        Self { salvage: Salvage::of_input(input), ..self }
    }

    /// Forgets keys that no row can reach any more.
    pub(crate) fn expiring(self, expiry: Expiry) -> Self {
        let inputs = self.inputs.iter().map(|_| expiry.clone()).collect();
        self.expiring_apart(inputs, expiry)
    }

    /// Forgets rows of each input, and of what came out, that no row can reach any more. Rows of one input must not go
    /// while what they make of rows of another is still there.
    pub(crate) fn expiring_apart(self, inputs: Vec<Expiry>, emitted: Expiry) -> Self {
        Self { expiry: (inputs, emitted), ..self }
    }

    async fn changed(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let mut touched = Touched::default();
        let mut deltas = Vec::with_capacity(self.inputs.len());
        for input in &mut self.inputs {
            let delta = input.node.step(turn).await?;
            for batch in &delta {
                touched.add(input.rows.key().encode(batch)?);
            }
            if self.prune.is_none() {
                input.take_in(&delta)?;
            }
            deltas.push(delta);
        }
        // An operator without keys has an answer even over nothing.
        if turn.first && self.inputs.iter().all(|i| i.rows.key().columns().is_empty()) {
            touched.add_empty();
        }
        if touched.is_empty() {
            return Ok(vec![]);
        }
        let before = touched.rows_of(&self.emitted)?;
        let rows = match self.prune {
            Some(width) => vec![with_new_rows(&before, width, self.inputs[0].rows.schema(), &deltas[0])?],
            None => self.inputs.iter().map(|input| touched.rows_of(&input.rows)).collect::<Result<_>>()?,
        };
        let after = self.salvage.run(&mut self.fragment, rows, &deltas, turn).await?;
        let schema = Arc::clone(self.emitted.schema());
        let after: Vec<RecordBatch> = after.iter().map(|b| conform(b, &schema)).collect::<Result<_>>()?;
        let after = concat_batches(&schema, &after)?;
        let changes = [weighted(&after, 1)?, weighted(&before, -1)?];
        let delta = consolidate(&self.output, &changes)?;
        self.emitted.apply(&delta)?;
        Ok(vec![delta])
    }
}

#[async_trait]
impl Node for Keyed {
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let output = self.changed(turn).await?;
        for (input, expiry) in self.inputs.iter_mut().zip(&mut self.expiry.0) {
            expiry.take(&mut input.rows, turn)?;
        }
        self.expiry.1.take(&mut self.emitted, turn)?;
        Ok(output)
    }

    fn describe(&self) -> Description {
        let note = |i: usize| self.expiry.0.get(i).map_or("", Expiry::note);
        if self.prune.is_some() {
            let state = vec![format!("rows, {}, the first only{}", self.inputs[0].key_names(), note(0))];
            return Description { title: format!("Keyed: {}", self.label), state };
        }
        let inputs = self.inputs.iter().enumerate();
        let mut state: Vec<String> =
            inputs.map(|(i, input)| format!("rows, {}{}", input.key_names(), note(i))).collect();
        state.push("what came out".into());
        Description { title: format!("Keyed: {}", self.label), state }
    }

    fn children(&self) -> Vec<&dyn Node> {
        self.inputs.iter().map(|i| i.node.as_ref()).collect()
    }

    fn children_mut(&mut self) -> Vec<&mut Box<dyn Node>> {
        self.inputs.iter_mut().map(|i| &mut i.node).collect()
    }

    fn is_consolidated(&self) -> bool {
        true
    }

    fn visit_state(&mut self, visit: &mut dyn FnMut(&mut Arrangement) -> Result<()>) -> Result<()> {
        for input in &mut self.inputs {
            input.node.visit_state(visit)?;
        }
        for input in &mut self.inputs {
            visit(&mut input.rows)?;
        }
        visit(&mut self.emitted)
    }
}

/// The rows that came out and those that are new: where rows only come, no others can come out now.
fn with_new_rows(before: &RecordBatch, width: usize, schema: &SchemaRef, delta: &[RecordBatch]) -> Result<RecordBatch> {
    let kept = conform(&before.project(&(0..width).collect::<Vec<_>>())?, schema)?;
    let mut rows = vec![kept];
    for batch in delta {
        rows.push(conform(&repeated(batch)?, schema)?);
    }
    Ok(concat_batches(schema, &rows)?)
}

/// The keys that a step touches, each once.
#[derive(Debug, Default)]
struct Touched {
    batches: Vec<EncodedRows>,
    /// Batch and row of each key.
    firsts: Vec<(usize, usize)>,
    seen: HashSet<Vec<u8>>,
}

impl Touched {
    fn add(&mut self, keys: EncodedRows) {
        let batch = self.batches.len();
        for i in 0..keys.len() {
            if !self.seen.contains(keys.row(i)) {
                self.seen.insert(keys.row(i).to_vec());
                self.firsts.push((batch, i));
            }
        }
        self.batches.push(keys);
    }

    fn add_empty(&mut self) {
        if self.seen.insert(Vec::new()) {
            self.firsts.push((self.batches.len(), 0));
            self.batches.push(EncodedRows::empty_key());
        }
    }

    fn is_empty(&self) -> bool {
        self.firsts.is_empty()
    }

    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.firsts.iter().map(|(batch, i)| self.batches[*batch].row(*i))
    }

    fn rows_of(&self, arrangement: &Arrangement) -> Result<RecordBatch> {
        arrangement.gather(&arrangement.find_keys(self.keys()).rows)
    }
}

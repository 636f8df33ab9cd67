//! Owns what happens to rows between the door and the log: defaults, generated columns, NOT NULL, CHECK, and the choice
//! of a partition.
//!
//! Expressions are compiled once per definition and evaluated over whole batches. A row that breaks a rule is taken
//! out with its reason and costs no other row; a CHECK that cannot be evaluated for some rows, such as a division by
//! zero, takes out just those. A batch without defaults to fill, checks and nulls in NOT NULL columns passes
//! uncopied.

mod check;
mod default;
mod expression;
mod generated;
mod partition;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::execution::session_state::SessionState;
use millstream_catalog::Stream;
use millstream_catalog::fault::Code;
use millstream_store::without_folder;

use self::check::CompiledCheck;
use self::default::CompiledDefault;
use self::generated::CompiledGenerated;
use crate::{Admitted, Error, RejectedRow, Result, Rows};

pub(crate) use check::watermark_of;
pub(crate) use expression::shown as shown_type;
pub use partition::Partitioner;

/// The rules of one definition of a stream, ready to run.
#[derive(Debug)]
pub struct Admission {
    schema: SchemaRef,
    columns: Vec<Rules>,
    generated: Vec<CompiledGenerated>,
    /// Columns whose values name folders.
    folders: Vec<usize>,
    checks: Vec<CompiledCheck>,
}

/// What holds for one column.
#[derive(Debug)]
struct Rules {
    name: String,
    required: bool,
    default: Option<CompiledDefault>,
}

impl Admission {
    /// Compiles the defaults, checks and watermark of a definition, refusing those that do not fit its columns.
    pub fn compile(stream: &Stream, state: &SessionState) -> Result<Self> {
        let columns = stream
            .columns
            .iter()
            .map(|column| {
                let default = CompiledDefault::compile(column, stream, state)?;
                Ok(Rules { name: column.name.clone(), required: !column.nullable, default })
            })
            .collect::<Result<_>>()?;
        let checks = stream.checks.iter().map(|c| CompiledCheck::compile(c, stream, state)).collect::<Result<_>>()?;
        check::watermark(stream, state)?;
        let generated = stream.table.iter().flat_map(|t| &t.generated);
        let generated = generated.map(|g| CompiledGenerated::compile(g, stream, state)).collect::<Result<_>>()?;
        let folders = stream.table.iter().flat_map(|table| &table.partitioned_by);
        let folders = folders.filter_map(|name| stream.columns.iter().position(|c| c.name == *name)).collect();
        Ok(Self { schema: stream.schema(), columns, generated, folders, checks })
    }

    /// Fills in defaults, then checks NOT NULL and CHECK row by row. `now_us` is what `now()` gives, µs since 1970.
    pub fn admit(&self, rows: Rows, now_us: i64) -> Result<Admitted> {
        let Rows { batch, missing } = rows;
        let fits = batch.num_columns() == self.columns.len() && missing.len() == self.columns.len();
        if !fits {
            let message =
                format!("rows with {} columns came for a stream that has {}", batch.num_columns(), self.columns.len());
            return Err(Error::rejected(Code::Internal, message));
        }
        let mut verdicts = Verdicts::new(batch.num_rows());
        let mut columns = batch.columns().to_vec();
        self.fill_defaults(&mut columns, &missing, now_us, &mut verdicts)?;
        self.generate(&mut columns, batch.num_rows(), now_us, &mut verdicts)?;
        self.require_values(&columns, &missing, &mut verdicts);
        self.require_folders(&columns, &mut verdicts);
        if !self.checks.is_empty() && batch.num_rows() > 0 {
            let subject = check::Subject::new(&self.schema, columns.clone(), batch.num_rows(), now_us)?;
            self.checks.iter().for_each(|check| check.run(&subject, &mut verdicts));
        }
        verdicts.apply(&self.schema, columns)
    }

    fn fill_defaults(
        &self,
        columns: &mut [ArrayRef],
        missing: &[Option<BooleanBuffer>],
        now_us: i64,
        verdicts: &mut Verdicts,
    ) -> Result<()> {
        for ((rules, column), missing) in self.columns.iter().zip(columns).zip(missing) {
            let (Some(default), Some(missing)) = (&rules.default, missing) else { continue };
            if missing.count_set_bits() > 0 {
                *column = default.fill(&rules.name, column, missing, now_us, verdicts)?;
            }
        }
        Ok(())
    }

    fn generate(&self, columns: &mut [ArrayRef], rows: usize, now_us: i64, verdicts: &mut Verdicts) -> Result<()> {
        if self.generated.is_empty() {
            return Ok(());
        }
        let subject = check::Subject::new(&self.schema, columns.to_vec(), rows, now_us)?;
        for generated in &self.generated {
            columns[generated.index] = generated.compute(&subject, verdicts)?;
        }
        Ok(())
    }

    fn require_values(&self, columns: &[ArrayRef], missing: &[Option<BooleanBuffer>], verdicts: &mut Verdicts) {
        for ((rules, column), missing) in self.columns.iter().zip(columns).zip(missing) {
            if !rules.required || column.null_count() == 0 {
                continue;
            }
            for row in null_rows(column.nulls()) {
                let absent = missing.as_ref().is_some_and(|m| m.value(row));
                let reason = match absent {
                    true => format!("column {:?} is missing, and it must not be null", rules.name),
                    false => format!("column {:?} is null, and it must not be", rules.name),
                };
                verdicts.reject(row, Some(&rules.name), Code::NotNullViolation, || reason);
            }
        }
    }

    /// A value of PARTITIONED BY names a folder, whose name must not be too long for a file system.
    fn require_folders(&self, columns: &[ArrayRef], verdicts: &mut Verdicts) {
        for column in &self.folders {
            let (name, mut from) = (&self.columns[*column].name, 0);
            while let Some((row, bytes)) = without_folder(name, &columns[*column], from) {
                let reason = format!(
                    "column {name:?} names the row's folder, and with this value its name has {bytes} bytes, of 255 \
                     that there may be"
                );
                verdicts.reject(row, Some(name), Code::OutOfRange, || reason);
                from = row + 1;
            }
        }
    }
}

fn null_rows(nulls: Option<&NullBuffer>) -> Vec<usize> {
    nulls.map_or_else(Vec::new, |n| (!n.inner()).set_indices().collect())
}

/// The rows that broke a rule, each with the first one it broke.
#[derive(Debug)]
struct Verdicts {
    rows: usize,
    rejected: BTreeMap<usize, RejectedRow>,
}

impl Verdicts {
    fn new(rows: usize) -> Self {
        Self { rows, rejected: BTreeMap::new() }
    }

    fn reject(&mut self, row: usize, column: Option<&str>, code: Code, reason: impl FnOnce() -> String) {
        self.rejected.entry(row).or_insert_with(|| RejectedRow {
            row,
            column: column.map(str::to_owned),
            code,
            reason: reason(),
        });
    }

    fn apply(self, schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<Admitted> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        if self.rejected.is_empty() {
            let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(defect)?;
            return Ok(Admitted { batch, rejected: Vec::new() });
        }
        let keep: BooleanArray = (0..self.rows).map(|row| Some(!self.rejected.contains_key(&row))).collect();
        let loose =
            RecordBatch::try_new_with_options(expression::nullable(schema), columns, &options).map_err(defect)?;
        let kept = filter_record_batch(&loose, &keep).map_err(defect)?;
        let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(schema), kept.columns().to_vec(), &options).map_err(defect)?;
        Ok(Admitted { batch, rejected: self.rejected.into_values().collect() })
    }
}

/// Batches that do not have the stream's types: a door's defect, not a producer's.
fn defect(error: ArrowError) -> Error {
    Error::rejected(Code::Internal, format!("rows do not have the stream's types: {error}"))
}

//! Owns the filter that leaves rows of the lake out which the hot tier says are gone.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, Schema};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use roaring::RoaringTreemap;

/// True for rows whose number is not among those that went.
#[derive(Debug, Clone)]
pub(super) struct IsLive {
    number: Arc<dyn PhysicalExpr>,
    gone: Arc<RoaringTreemap>,
}

impl IsLive {
    /// `number` gives a row's number.
    pub(super) fn new(number: Arc<dyn PhysicalExpr>, gone: Arc<RoaringTreemap>) -> Self {
        Self { number, gone }
    }
}

impl PartialEq for IsLive {
    fn eq(&self, other: &Self) -> bool {
        self.number.eq(&other.number) && Arc::ptr_eq(&self.gone, &other.gone)
    }
}

impl Eq for IsLive {}

impl Hash for IsLive {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
        Arc::as_ptr(&self.gone).hash(state);
    }
}

impl fmt::Display for IsLive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is none of {} that went", self.number, self.gone.len())
    }
}

impl PhysicalExpr for IsLive {
    fn data_type(&self, _input: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _input: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let numbers = self.number.evaluate(batch)?.into_array(batch.num_rows())?;
        let Some(numbers) = numbers.as_primitive_opt::<Int64Type>() else {
            return exec_err!("row numbers are of type {}", numbers.data_type());
        };
        let live: BooleanArray = match (numbers.values().iter().min(), numbers.values().iter().max()) {
            (Some(least), Some(most)) if self.gone.range_cardinality(*least as u64..=*most as u64) > 0 => {
                numbers.values().iter().map(|n| Some(!self.gone.contains(*n as u64))).collect()
            }
            _ => BooleanArray::from(vec![true; numbers.len()]),
        };
        Ok(ColumnarValue::Array(Arc::new(live)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.number]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match children.into_iter().next() {
            Some(number) => Ok(Arc::new(Self { number, gone: Arc::clone(&self.gone) })),
            None => exec_err!("a row's number is missing"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

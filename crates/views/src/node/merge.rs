//! Owns the merging of two columns, value by value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::kernels::cmp::{gt, lt};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_null, or};
use arrow::datatypes::{
    ArrowNativeTypeOp, ArrowPrimitiveType, DataType, Decimal128Type, Decimal256Type, Float64Type, Int64Type, UInt64Type,
};

use crate::{Error, Result};

/// How a column of a group merges with another: NULL is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// The sum; integers wrap around, as the engine's do.
    Add,
    /// The smaller value.
    Least,
    /// The larger value.
    Greatest,
}

/// Two columns of the same length and type, merged.
pub(super) fn merged(merge: Merge, old: &ArrayRef, new: &ArrayRef) -> Result<ArrayRef> {
    match merge {
        Merge::Add => added(old, new),
        Merge::Least => chosen(old, new, &lt(new, old)?),
        Merge::Greatest => chosen(old, new, &gt(new, old)?),
    }
}

fn chosen(old: &ArrayRef, new: &ArrayRef, better: &arrow::array::BooleanArray) -> Result<ArrayRef> {
    // A comparison with NULL is NULL, and then the old value stays: unless that is the NULL.
    let take_new = if old.null_count() > 0 { or(&known(better), &is_null(old)?)? } else { better.clone() };
    Ok(zip(&take_new, new, old)?)
}

/// NULL is false.
fn known(mask: &arrow::array::BooleanArray) -> arrow::array::BooleanArray {
    arrow::compute::prep_null_mask_filter(mask)
}

fn added(old: &ArrayRef, new: &ArrayRef) -> Result<ArrayRef> {
    match old.data_type() {
        DataType::Int64 => Ok(sum::<Int64Type>(old, new)),
        DataType::UInt64 => Ok(sum::<UInt64Type>(old, new)),
        DataType::Float64 => Ok(sum::<Float64Type>(old, new)),
        DataType::Decimal128(..) => Ok(sum::<Decimal128Type>(old, new)),
        DataType::Decimal256(..) => Ok(sum::<Decimal256Type>(old, new)),
        other => Err(Error::State { node: "an aggregation".into(), reason: format!("values of {other} don't add up") }),
    }
}

fn sum<T: ArrowPrimitiveType>(old: &ArrayRef, new: &ArrayRef) -> ArrayRef {
    let (old, new) = (old.as_primitive::<T>(), new.as_primitive::<T>());
    let sums: PrimitiveArray<T> = if old.null_count() == 0 && new.null_count() == 0 {
        let values = old.values().iter().zip(new.values());
        PrimitiveArray::from_iter_values(values.map(|(a, b)| a.add_wrapping(*b)))
    } else {
        let add = |(a, b): (Option<T::Native>, Option<T::Native>)| match (a, b) {
            (Some(a), Some(b)) => Some(a.add_wrapping(b)),
            (a, b) => a.or(b),
        };
        old.iter().zip(new.iter()).map(add).collect()
    };
    Arc::new(sums.with_data_type(old.data_type().clone()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn numbers(values: &[Option<i64>]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    #[test]
    fn null_is_nothing_to_add() {
        let (old, new) = (numbers(&[Some(1), None, Some(3), None]), numbers(&[Some(2), Some(5), None, None]));
        let sums = merged(Merge::Add, &old, &new).unwrap();
        assert_eq!(&sums, &numbers(&[Some(3), Some(5), Some(3), None]));
    }

    #[test]
    fn the_least_and_the_greatest_are_of_those_that_are_not_null() {
        let old: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("x"), None]));
        let new: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("c"), None, None]));
        let least = merged(Merge::Least, &old, &new).unwrap();
        assert_eq!(least.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), Some("c"), Some("x"), None]);
        let greatest = merged(Merge::Greatest, &old, &new).unwrap();
        assert_eq!(greatest.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("b"), Some("c"), Some("x"), None]);
    }
}

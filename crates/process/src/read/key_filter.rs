//! Owns what a filter says about a view's key: the values that its columns may have.

use arrow::array::{Array, ArrayRef, ListArray};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// With more keys than this, a scan does as well.
const MANY_KEYS: usize = 4096;

/// A value that a column is compared with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// It stands in the statement.
    Literal(ScalarValue),
    /// The parameter of that index.
    Parameter(usize),
    /// Any item of the parameter of that index, a list.
    ItemsOf(usize),
}

/// The values that each column of a key may have.
#[derive(Debug, Clone)]
pub(crate) struct KeyFilter {
    columns: Vec<(DataType, Vec<Value>)>,
}

/// The keys that a filter asks for.
#[derive(Debug)]
pub(crate) enum Keys {
    /// The values of the key's columns: as many in each as there are keys.
    Some(Vec<ArrayRef>),
    /// A comparison with NULL holds for no key.
    None,
    /// The values are none to look up: of another type than the key, or too many.
    Unfit,
}

impl KeyFilter {
    /// What the parts of a conjunction say about the columns of a key, if they say it of each; and which parts do.
    pub(crate) fn of(parts: &[&Expr], key: &[usize], schema: &SchemaRef) -> Option<(Self, Vec<usize>)> {
        let mut columns = Vec::with_capacity(key.len());
        let mut used = Vec::with_capacity(key.len());
        for column in key {
            let field = schema.field(*column);
            let (part, values) =
                parts.iter().enumerate().find_map(|(i, part)| Some((i, values_of(part, field.name())?)))?;
            let fits = |value: &Value| match value {
                Value::Literal(value) => value.is_null() || value.data_type() == *field.data_type(),
                _ => true,
            };
            if !values.iter().all(fits) {
                return None;
            }
            columns.push((field.data_type().clone(), values));
            used.push(part);
        }
        let filter = Self { columns };
        (!key.is_empty() && filter.literal_keys() <= MANY_KEYS).then_some((filter, used))
    }

    /// Whether it asks for one key at most, whatever the parameters are.
    pub(crate) fn is_single(&self) -> bool {
        self.columns.iter().all(|(_, values)| matches!(values.as_slice(), [Value::Literal(_) | Value::Parameter(_)]))
    }

    /// Columns whose equal values may still be told apart by a comparison: those of floats.
    pub(crate) fn is_exact(&self, column: usize) -> bool {
        !self.columns[column].0.is_floating()
    }

    fn literal_keys(&self) -> usize {
        self.columns.iter().fold(1, |keys, (_, values)| keys.saturating_mul(values.len()))
    }

    /// The keys that it asks for.
    pub(crate) fn keys(&self, params: &[ScalarValue]) -> Result<Keys> {
        if self.is_single() {
            return self.single_key(params);
        }
        let mut keys: Vec<Vec<ScalarValue>> = vec![vec![]];
        for (data_type, values) in &self.columns {
            let Some(values) = bound(values, data_type, params)? else { return Ok(Keys::Unfit) };
            if keys.len().saturating_mul(values.len()) > MANY_KEYS {
                return Ok(Keys::Unfit);
            }
            let with_each = |key: Vec<ScalarValue>| {
                values.iter().map(move |value| [key.as_slice(), std::slice::from_ref(value)].concat())
            };
            keys = keys.into_iter().flat_map(with_each).collect();
        }
        if keys.is_empty() {
            return Ok(Keys::None);
        }
        let column = |i: usize| ScalarValue::iter_to_array(keys.iter().map(|key| key[i].clone()));
        Ok(Keys::Some((0..self.columns.len()).map(column).collect::<Result<_>>()?))
    }

    fn single_key(&self, params: &[ScalarValue]) -> Result<Keys> {
        let mut key = Vec::with_capacity(self.columns.len());
        for (data_type, values) in &self.columns {
            let value = match values.as_slice() {
                [Value::Literal(value)] => Some(value),
                [Value::Parameter(n)] => params.get(*n),
                _ => None,
            };
            match value {
                Some(value) if value.is_null() => return Ok(Keys::None),
                Some(value) if value.data_type() == *data_type => key.push(value.to_array()?),
                _ => return Ok(Keys::Unfit),
            }
        }
        Ok(Keys::Some(key))
    }
}

/// The values without NULLs, which nothing equals; `None` where one is of another type than the column.
fn bound(values: &[Value], data_type: &DataType, params: &[ScalarValue]) -> Result<Option<Vec<ScalarValue>>> {
    let mut all = Vec::with_capacity(values.len());
    for value in values {
        match value {
            Value::Literal(value) => all.push(value.clone()),
            Value::Parameter(n) => all.extend(params.get(*n).cloned()),
            Value::ItemsOf(n) => match params.get(*n) {
                Some(ScalarValue::List(list)) => {
                    let Some(items) = items_of(list) else { continue };
                    if items.len() > MANY_KEYS {
                        return Ok(None);
                    }
                    for i in 0..items.len() {
                        all.push(ScalarValue::try_from_array(&items, i)?);
                    }
                }
                _ => return Ok(None),
            },
        }
    }
    all.retain(|value| !value.is_null());
    Ok(all.iter().all(|value| value.data_type() == *data_type).then_some(all))
}

/// The values of which an expression says that a column has one, if that is what it says.
fn values_of(expr: &Expr, column: &str) -> Option<Vec<Value>> {
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(c) if c.name == column);
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let value = match (is_column(left), is_column(right)) {
                (true, false) => value_of(right),
                (false, true) => value_of(left),
                _ => None,
            };
            Some(vec![value?])
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let mut values = values_of(left, column)?;
            values.extend(values_of(right, column)?);
            Some(values)
        }
        Expr::InList(InList { expr, list, negated: false }) if is_column(expr) => list.iter().map(value_of).collect(),
        Expr::ScalarFunction(call) if call.func.name() == "array_has" => match call.args.as_slice() {
            [Expr::Placeholder(parameter), item] if is_column(item) => {
                Some(vec![Value::ItemsOf(index_of(&parameter.id)?)])
            }
            [Expr::Literal(ScalarValue::List(list), _), item] if is_column(item) => {
                let items = items_of(list)?;
                let items = (0..items.len()).map(|i| ScalarValue::try_from_array(&items, i).ok().map(Value::Literal));
                items.collect()
            }
            _ => None,
        },
        _ => None,
    }
}

fn value_of(expr: &Expr) -> Option<Value> {
    match expr {
        Expr::Literal(value, _) => Some(Value::Literal(value.clone())),
        Expr::Placeholder(parameter) => Some(Value::Parameter(index_of(&parameter.id)?)),
        _ => None,
    }
}

/// The items of a list that is one value; `None` for NULL.
fn items_of(list: &ListArray) -> Option<ArrayRef> {
    (list.len() == 1 && list.is_valid(0)).then(|| list.value(0))
}

/// `$1` is the parameter of index 0.
fn index_of(id: &str) -> Option<usize> {
    id.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::AsArray;
    use arrow::datatypes::{Field, Int64Type, Schema};
    use datafusion::logical_expr::{col, lit, placeholder};

    use super::*;

    fn schema() -> SchemaRef {
        let fields = [("a", DataType::Int64), ("b", DataType::Utf8View), ("f", DataType::Float64)];
        Arc::new(Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()))
    }

    fn numbers(keys: Keys) -> Vec<i64> {
        let Keys::Some(keys) = keys else { panic!("{keys:?}") };
        keys[0].as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn a_comparison_of_each_column_of_the_key_asks_for_keys() {
        let (a, b) = (col("a").eq(lit(7_i64)), placeholder("$1").eq(col("b")));
        let (filter, used) = KeyFilter::of(&[&a, &b], &[1, 0], &schema()).unwrap();
        assert_eq!((filter.is_single(), used), (true, vec![1, 0]));
        let text = ScalarValue::Utf8View(Some("x".into()));
        let Keys::Some(keys) = filter.keys(&[text]).unwrap() else { panic!("keys") };
        assert_eq!(keys[0].as_string_view().value(0), "x");
        assert_eq!(keys[1].as_primitive::<Int64Type>().value(0), 7);
        assert!(KeyFilter::of(&[&a], &[1, 0], &schema()).is_none(), "one column is not compared");
        assert!(KeyFilter::of(&[&a], &[], &schema()).is_none(), "there is no key");
    }

    #[test]
    fn null_is_no_key_and_another_type_does_not_fit() {
        let a = col("a").eq(placeholder("$1"));
        let (filter, _) = KeyFilter::of(&[&a], &[0], &schema()).unwrap();
        assert!(matches!(filter.keys(&[ScalarValue::Int64(None)]).unwrap(), Keys::None));
        assert!(matches!(filter.keys(&[ScalarValue::Int32(Some(1))]).unwrap(), Keys::Unfit));
        let other = col("a").eq(lit(7_i32));
        assert!(KeyFilter::of(&[&other], &[0], &schema()).is_none());
    }

    #[test]
    fn lists_of_values_ask_for_several_keys() {
        let schema = schema();
        let keys = |expr: Expr, params: &[ScalarValue]| {
            let (filter, _) = KeyFilter::of(&[&expr], &[0], &schema).unwrap();
            assert!(!filter.is_single());
            filter.keys(params).unwrap()
        };
        assert_eq!(numbers(keys(col("a").in_list(vec![lit(3_i64), lit(1_i64)], false), &[])), [3, 1]);
        let either = col("a").eq(lit(3_i64)).or(col("a").eq(placeholder("$1")));
        assert_eq!(numbers(keys(either, &[ScalarValue::Int64(Some(9))])), [3, 9]);
        let list = ScalarValue::List(ScalarValue::new_list_nullable(
            &[ScalarValue::Int64(Some(5)), ScalarValue::Int64(None)],
            &DataType::Int64,
        ));
        let any = datafusion::functions_nested::expr_fn::array_has(placeholder("$1"), col("a"));
        assert_eq!(numbers(keys(any, &[list])), [5]);
        let either = col("a").eq(lit(3_i64)).or(col("b").eq(lit("x")));
        assert!(KeyFilter::of(&[&either], &[0], &schema).is_none());
    }

    #[test]
    fn two_columns_with_several_values_ask_for_every_pair() {
        let a = col("a").in_list(vec![lit(1_i64), lit(2_i64)], false);
        let f = col("f").in_list(vec![lit(0.5), lit(1.5), lit(2.5)], false);
        let (filter, _) = KeyFilter::of(&[&a, &f], &[0, 2], &schema()).unwrap();
        assert_eq!(numbers(filter.keys(&[]).unwrap()), [1, 1, 1, 2, 2, 2]);
        assert!(filter.is_exact(0) && !filter.is_exact(1));
    }
}

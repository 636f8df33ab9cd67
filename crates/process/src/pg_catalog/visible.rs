//! Owns the functions that tell of the search path. Without it as their first argument they tell of the default one.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListBuilder, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use millstream_catalog::DEFAULT_SCHEMA;

use super::relations::Numbered;

/// Adds the functions to a context.
pub(super) fn register(ctx: &SessionContext, numbered: &Arc<Numbered>) {
    for asked in [Asked::First, Asked::All, Asked::Visible] {
        ctx.register_udf(ScalarUDF::from(OfPath::new(asked, Arc::clone(numbered))));
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asked {
    /// `current_schema()`: where things are made.
    First,
    /// `current_schemas(implicit)`.
    All,
    /// `pg_table_is_visible(number)`: whether a relation is found without its schema.
    Visible,
}

#[derive(Debug)]
struct OfPath {
    asked: Asked,
    numbered: Arc<Numbered>,
    signature: Signature,
}

impl OfPath {
    fn new(asked: Asked, numbered: Arc<Numbered>) -> Self {
        let forms = match asked {
            Asked::First => vec![TypeSignature::Nullary, TypeSignature::Any(1)],
            _ => vec![TypeSignature::Any(1), TypeSignature::Any(2)],
        };
        Self { asked, numbered, signature: Signature::one_of(forms, Volatility::Stable) }
    }

    /// The schemas of the path that are there.
    fn schemas(&self, args: &ScalarFunctionArgs) -> Result<Vec<String>> {
        let given = args.args.len() > usize::from(self.asked != Asked::First);
        let path = match args.args.first().filter(|_| given) {
            Some(path) => {
                let path = cast(&path.to_array(1)?, &DataType::Utf8)?;
                path.as_string::<i32>().value(0).to_owned()
            }
            None => DEFAULT_SCHEMA.to_owned(),
        };
        let there = self.numbered.schemas();
        Ok(path.split(',').map(str::to_owned).filter(|schema| there.contains(schema)).collect())
    }

    fn visible(&self, path: &[String], oids: &ColumnarValue, rows: usize) -> Result<ArrayRef> {
        let oids: Int64Array = cast(&oids.to_array(rows)?, &DataType::Int64)?.as_primitive::<Int64Type>().clone();
        let all = self.numbered.relations();
        let is_visible = |oid: i64| {
            let has = |r: &&super::relations::Relation| {
                i64::from(r.oid) == oid || r.constraints.iter().any(|c| c.index.is_some_and(|i| i64::from(i) == oid))
            };
            // What is no user's is the catalog's own.
            let Some(relation) = all.iter().find(has) else { return true };
            let first = path.iter().find(|schema| all.iter().any(|r| r.schema == **schema && r.name == relation.name));
            first == Some(&relation.schema)
        };
        let visible = oids.iter().map(|oid| oid.map(is_visible));
        Ok(Arc::new(visible.collect::<BooleanArray>()))
    }
}

impl PartialEq for OfPath {
    fn eq(&self, other: &Self) -> bool {
        self.asked == other.asked
    }
}

impl Eq for OfPath {}

impl Hash for OfPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.asked.hash(state);
    }
}

impl ScalarUDFImpl for OfPath {
    fn name(&self) -> &str {
        match self.asked {
            Asked::First => "current_schema",
            Asked::All => "current_schemas",
            Asked::Visible => "pg_table_is_visible",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.asked {
            Asked::First => DataType::Utf8,
            Asked::All => DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
            Asked::Visible => DataType::Boolean,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (path, rows) = (self.schemas(&args)?, args.number_rows);
        let last = args.args.last();
        Ok(ColumnarValue::Array(match (self.asked, last) {
            (Asked::Visible, Some(oids)) => self.visible(&path, oids, rows)?,
            (Asked::All, Some(implicit)) => {
                let implicit = cast(&implicit.to_array(rows)?, &DataType::Boolean)?;
                let implicit = implicit.as_boolean();
                let mut lists = ListBuilder::new(StringBuilder::new());
                for row in 0..rows {
                    if implicit.is_valid(row) && implicit.value(row) {
                        lists.values().append_value("pg_catalog");
                    }
                    path.iter().for_each(|schema| lists.values().append_value(schema));
                    lists.append(true);
                }
                Arc::new(lists.finish())
            }
            _ => Arc::new(StringArray::from(vec![path.first().map(String::as_str); rows])),
        }))
    }
}

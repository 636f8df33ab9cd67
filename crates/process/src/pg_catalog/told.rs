//! Owns the functions that tell of an object by its number: its definition, its comment, its name, and its number by
//! its name.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;
use millstream_catalog::{DEFAULT_SCHEMA, quoted};

use super::relations::{Constraint, Numbered, Relation};

/// The default of a column, by its relation's number and its own. Only what is rewritten names it.
pub(super) const COLUMN_DEFAULT: &str = "pg_column_default";
/// A relation's name, by its number: what `::regclass::text` gives.
pub(super) const CLASS_NAME: &str = "pg_class_name";

/// Adds the functions to a context.
pub(super) fn register(ctx: &SessionContext, numbered: &Arc<Numbered>) {
    for told in TOLD {
        ctx.register_udf(ScalarUDF::from(Told::new(told, Arc::clone(numbered))));
    }
    ctx.register_udf(ScalarUDF::from(ClassNumber { numbered: Arc::clone(numbered), signature: arity(&[1, 2]) }));
    ctx.register_udf(ScalarUDF::from(Expression { signature: arity(&[2, 3]) }));
}

fn arity(counts: &[usize]) -> Signature {
    Signature::one_of(counts.iter().map(|n| TypeSignature::Any(*n)).collect(), Volatility::Stable)
}

/// What is told of the object with a number; the second argument is another number, such as a column's.
type Tell = fn(&[Relation], i64, Option<i64>) -> Option<String>;

/// A function: its name, how many arguments it takes, and what it tells.
type ToldOf = (&'static str, &'static [usize], Tell);

const TOLD: [ToldOf; 7] = [
    ("pg_get_constraintdef", &[1, 2], |all, oid, _| {
        let (relation, constraint) = constraint(all, |c| i64::from(c.oid) == oid)?;
        Some(relation.definition_of(constraint))
    }),
    ("pg_get_indexdef", &[1, 3], |all, oid, column| {
        let (relation, key) = constraint(all, |c| c.index.is_some_and(|index| i64::from(index) == oid))?;
        match column.filter(|column| *column > 0) {
            Some(column) => relation.columns_of(key).nth(usize::try_from(column - 1).ok()?).map(quoted),
            None => Some(relation.index_of(key)),
        }
    }),
    ("pg_get_viewdef", &[1, 2], |all, oid, _| relation(all, oid)?.query.clone()),
    ("obj_description", &[1, 2], |all, oid, _| relation(all, oid)?.comment.clone()),
    ("col_description", &[2], |all, oid, column| {
        let place = usize::try_from(column? - 1).ok()?;
        relation(all, oid)?.attributes.get(place)?.comment.clone()
    }),
    (COLUMN_DEFAULT, &[2], |all, oid, column| {
        let place = usize::try_from(column? - 1).ok()?;
        relation(all, oid)?.attributes.get(place)?.default.clone()
    }),
    (CLASS_NAME, &[1], |all, oid, _| {
        let relation = relation(all, oid)?;
        Some(match relation.schema.as_str() {
            DEFAULT_SCHEMA => quoted(&relation.name),
            schema => format!("{}.{}", quoted(schema), quoted(&relation.name)),
        })
    }),
];

fn relation(all: &[Relation], oid: i64) -> Option<&Relation> {
    all.iter().find(|relation| i64::from(relation.oid) == oid)
}

fn constraint(all: &[Relation], is: impl Fn(&Constraint) -> bool) -> Option<(&Relation, &Constraint)> {
    all.iter().find_map(|relation| Some((relation, relation.constraints.iter().find(|c| is(c))?)))
}

/// A function of a number, and perhaps of a second one.
#[derive(Debug)]
struct Told {
    told: ToldOf,
    numbered: Arc<Numbered>,
    signature: Signature,
}

impl Told {
    fn new(told: ToldOf, numbered: Arc<Numbered>) -> Self {
        Self { told, numbered, signature: arity(told.1) }
    }
}

impl PartialEq for Told {
    fn eq(&self, other: &Self) -> bool {
        self.told.0 == other.told.0
    }
}

impl Eq for Told {}

impl Hash for Told {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.told.0.hash(state);
    }
}

impl ScalarUDFImpl for Told {
    fn name(&self) -> &str {
        self.told.0
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let oids = numbers(&args.args[0], args.number_rows)?;
        // Where the second argument is no number, such as `true`, nothing is asked by it.
        let second = args.args.get(1).filter(|second| second.data_type().is_integer());
        let second = second.map(|second| numbers(second, args.number_rows)).transpose()?;
        let all = self.numbered.relations();
        let told = (0..args.number_rows).map(|row| {
            let oid = oids.is_valid(row).then(|| oids.value(row))?;
            let second = second.as_ref().filter(|s| s.is_valid(row)).map(|s| s.value(row));
            self.told.2(&all, oid, second)
        });
        Ok(ColumnarValue::Array(Arc::new(told.collect::<StringArray>())))
    }
}

fn numbers(argument: &ColumnarValue, rows: usize) -> Result<Int64Array> {
    let array: ArrayRef = cast(&argument.to_array(rows)?, &DataType::Int64)?;
    Ok(array.as_primitive::<Int64Type>().clone())
}

/// `to_regclass(name)`: the number of a relation; NULL when there is none.
#[derive(Debug)]
struct ClassNumber {
    numbered: Arc<Numbered>,
    signature: Signature,
}

impl PartialEq for ClassNumber {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for ClassNumber {}

impl Hash for ClassNumber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl ScalarUDFImpl for ClassNumber {
    fn name(&self) -> &str {
        "to_regclass"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let text = |argument: &ColumnarValue| cast(&argument.to_array(args.number_rows)?, &DataType::Utf8);
        // The search path comes first where it is not the default one.
        let (path, names) = match args.args.as_slice() {
            [path, names] => (Some(text(path)?), text(names)?),
            _ => (None, text(&args.args[0])?),
        };
        let path = path.as_ref().filter(|path| !path.is_empty()).map(|path| path.as_string::<i32>().value(0));
        let path: Vec<&str> = path.unwrap_or(DEFAULT_SCHEMA).split(',').collect();
        let all = self.numbered.relations();
        let numbers = names.as_string::<i32>().iter().map(|name| self.number_of(&all, &path, name?));
        Ok(ColumnarValue::Array(Arc::new(numbers.collect::<Int32Array>())))
    }
}

impl ClassNumber {
    fn number_of(&self, all: &[Relation], path: &[&str], name: &str) -> Option<i32> {
        if let Ok(number) = name.parse() {
            return Some(number);
        }
        let parts = parts(name);
        let (schema, name) = match parts.as_slice() {
            [name] => (None, name),
            [schema, name] => (Some(schema), name),
            _ => return None,
        };
        let lies = |in_schema: &str, called: &str| {
            let named = |r: &&Relation| r.schema == in_schema && r.name == called;
            all.iter().find(named).map(|r| r.oid)
        };
        match schema {
            Some(schema) if schema == "pg_catalog" => Some(self.numbered.oid(format!("r:pg_catalog.{name}"))),
            Some(schema) => lies(schema, name),
            None if name.starts_with("pg_") && PG_CATALOG_TABLES.contains(&name.as_str()) => {
                Some(self.numbered.oid(format!("r:pg_catalog.{name}")))
            }
            None => path.iter().find_map(|schema| lies(schema, name)),
        }
    }
}

/// The identifiers of a name, `"a b".c`.
fn parts(name: &str) -> Vec<String> {
    let (mut parts, mut part, mut inside) = (vec![], String::new(), false);
    let mut letters = name.trim().chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if inside && letters.peek() == Some(&'"') => {
                part.push('"');
                letters.next();
            }
            '"' => inside = !inside,
            '.' if !inside => parts.push(std::mem::take(&mut part)),
            letter if inside => part.push(letter),
            letter => part.extend(letter.to_lowercase()),
        }
    }
    parts.push(part);
    parts
}

/// `pg_get_expr(expression, relation [, pretty])`: expressions are kept as text.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Expression {
    signature: Signature,
}

impl ScalarUDFImpl for Expression {
    fn name(&self) -> &str {
        "pg_get_expr"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let text = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(cast(&text, &DataType::Utf8)?))
    }
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn a_name_has_its_parts() {
        assert_eq!(parts("Orders"), ["orders"]);
        assert_eq!(parts("ops.\"My \"\"Orders\"\".x\""), ["ops", "My \"Orders\".x"]);
    }
}

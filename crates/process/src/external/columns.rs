//! Owns the columns of tables that others made: what they are in SQL, and whether they are as a statement says.

use arrow::datatypes::Schema;
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, ObjectName};

use crate::views::sql_type;
use crate::{Error, Result};

/// The columns of a Delta table.
pub(super) fn columns_of(schema: &Schema) -> Result<Vec<Column>> {
    let columns = schema.fields().iter().map(|field| {
        let data_type = sql_type(field).ok_or_else(|| {
            let message = format!("column {:?} has the type {}, which no table has", field.name(), field.data_type());
            Error::rejected(Code::Unsupported, message)
        })?;
        let column = Column::new(field.name().clone(), data_type);
        Ok(if field.is_nullable() { column } else { column.not_null() })
    });
    columns.collect()
}

/// The columns with what was said of those of the same name and type: defaults, comments, NOT NULL.
pub(super) fn kept(columns: Vec<Column>, before: &[Column]) -> Vec<Column> {
    let kept = |column: Column| match before.iter().find(|c| c.name == column.name && c.data_type == column.data_type) {
        Some(old) => Column { nullable: column.nullable && old.nullable, ..old.clone() },
        None => column,
    };
    columns.into_iter().map(kept).collect()
}

/// The columns of a table that is there, with what a statement says of them; none said means all as they are.
pub(super) fn agreed(table: &ObjectName, there: Vec<Column>, said: &[Column]) -> Result<Vec<Column>> {
    if said.is_empty() {
        return Ok(there);
    }
    let differs = |message: String| {
        Err(Error::Rejected {
            code: Code::InvalidDefinition,
            message: format!("the Delta table for {table} {message}"),
            hint: Some("leave the columns out: they are taken from the Delta table".to_owned()),
            position: None,
        })
    };
    for column in said {
        match there.iter().find(|c| c.name == column.name) {
            None => return differs(format!("has no column {:?}", column.name)),
            Some(found) if found.data_type != column.data_type => {
                let (found, said) = (&found.data_type, &column.data_type);
                return differs(format!("has column {:?} as {found}, not {said}", column.name));
            }
            Some(_) => {}
        }
    }
    match there.iter().find(|c| said.iter().all(|s| s.name != c.name)) {
        Some(missing) => differs(format!("has a column {:?} too", missing.name)),
        None => Ok(kept(there, said)),
    }
}

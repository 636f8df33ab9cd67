//! Owns the columns of a query's answer: their SQL types, and the casts to the forms in which they are kept.

use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use datafusion::common::Column as PlanColumn;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, DataType, LOGICAL_TYPE_KEY, RowField, View};

use crate::read::reader_schema;
use crate::{Error, Result};

/// The columns of a query's result.
pub(super) fn of_schema(schema: &Schema) -> Result<Vec<Column>> {
    let columns = schema.fields().iter().map(|field| {
        let data_type = sql_type(field).ok_or_else(|| {
            Error::rejected(
                Code::InvalidDefinition,
                format!(
                    "column {:?} has the type {}, which a view cannot keep: cast it",
                    field.name(),
                    field.data_type()
                ),
            )
        })?;
        // What a view's query computes may become NULL, whatever the plan thinks of it.
        Ok(Column::new(field.name().clone(), data_type))
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    for (i, column) in columns.iter().enumerate() {
        if columns[..i].iter().any(|c| c.name == column.name) {
            return Err(Error::rejected(
                Code::InvalidDefinition,
                format!("two columns are named {:?}: give one another name with AS", column.name),
            ));
        }
    }
    Ok(columns)
}

/// The plan with its columns under their names and in the forms in which they are kept.
pub(super) fn conformed(plan: LogicalPlan, columns: &[Column]) -> Result<LogicalPlan> {
    let places: Vec<usize> = (0..columns.len()).collect();
    placed(plan, columns, &places)
}

/// [`conformed`] for a view that was made before: `shown` are the names and types that its query gives now. What its
/// streams were given since may have come between its columns, where the query has a `*`.
pub(super) fn conformed_view(plan: LogicalPlan, shown: &Schema, view: &View) -> Result<LogicalPlan> {
    let places = view.columns.iter().enumerate().map(|(i, column)| {
        let named = |field: &Field| view.named_columns || *field.name() == column.name;
        let fits = |field: &Field| named(field) && sql_type(field).as_ref() == Some(&column.data_type);
        let moved = || shown.fields().iter().position(|field| !view.named_columns && fits(field));
        match shown.fields().get(i).filter(|field| fits(field)).map(|_| i).or_else(moved) {
            Some(place) => Ok(place),
            None => Err(Error::rejected(
                Code::InvalidDefinition,
                format!(
                    "the query of {} gave column {:?} of type {} when it was made, and does not any more: what it reads \
                     was given columns, and it reads them by *",
                    view.shown(),
                    column.name,
                    column.data_type
                ),
            )),
        }
    });
    let places = places.collect::<Result<Vec<_>>>()?;
    placed(plan, &view.columns, &places)
}

/// The columns of a plan at these places.
fn placed(plan: LogicalPlan, columns: &[Column], places: &[usize]) -> Result<LogicalPlan> {
    let wrap = |e| Error::from_datafusion(e, "");
    let exprs = columns.iter().zip(places).map(|(column, &i)| {
        let kept = reader_schema(&Schema::new(vec![column.to_field()]));
        let field = plan.schema().field(i);
        let expr = Expr::Column(PlanColumn::from(plan.schema().qualified_field(i)));
        let expr = if field.data_type() == kept.field(0).data_type() {
            expr
        } else {
            cast(expr, kept.field(0).data_type().clone())
        };
        expr.alias(column.name.as_str())
    });
    let exprs: Vec<Expr> = exprs.collect();
    LogicalPlanBuilder::from(plan).project(exprs).and_then(LogicalPlanBuilder::build).map_err(wrap)
}

/// The SQL type of an Arrow field; the nearest one that holds every value where there is none of the same width.
pub(crate) fn sql_type(field: &Field) -> Option<DataType> {
    match field.metadata().get(LOGICAL_TYPE_KEY).map(String::as_str) {
        Some("uuid") => return Some(DataType::Uuid),
        Some("json") => return Some(DataType::Json),
        _ => {}
    }
    Some(match field.data_type() {
        ArrowType::Boolean => DataType::Boolean,
        ArrowType::Int8 | ArrowType::Int16 | ArrowType::UInt8 => DataType::SmallInt,
        ArrowType::Int32 | ArrowType::UInt16 => DataType::Int,
        ArrowType::Int64 | ArrowType::UInt32 | ArrowType::UInt64 => DataType::BigInt,
        ArrowType::Float16 | ArrowType::Float32 => DataType::Real,
        ArrowType::Float64 => DataType::Double,
        ArrowType::Decimal32(p, s) | ArrowType::Decimal64(p, s) | ArrowType::Decimal128(p, s) => {
            DataType::Decimal { precision: *p, scale: *s }
        }
        ArrowType::Decimal256(_, s) => DataType::Decimal { precision: 38, scale: *s },
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View | ArrowType::Null => DataType::Text,
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_) => {
            DataType::Bytea
        }
        ArrowType::Date32 | ArrowType::Date64 => DataType::Date,
        ArrowType::Time32(_) | ArrowType::Time64(_) => DataType::Time,
        ArrowType::Timestamp(_, None) => DataType::Timestamp,
        ArrowType::Timestamp(_, Some(_)) => DataType::TimestampTz,
        ArrowType::Interval(_) | ArrowType::Duration(_) => DataType::Interval,
        ArrowType::Dictionary(_, value) => return sql_type(&Field::new("", value.as_ref().clone(), true)),
        ArrowType::List(item) | ArrowType::LargeList(item) | ArrowType::ListView(item) => {
            DataType::Array(Box::new(sql_type(item)?))
        }
        ArrowType::FixedSizeList(item, _) => DataType::Array(Box::new(sql_type(item)?)),
        ArrowType::Struct(fields) => {
            let fields = fields.iter().map(|f| Some(RowField { name: f.name().clone(), data_type: sql_type(f)? }));
            DataType::Row(fields.collect::<Option<Vec<_>>>()?)
        }
        _ => return None,
    })
}

//! Owns the names of a result's columns: those that PostgreSQL gives to what a query does not name.
//!
//! The planner calls such columns by their expressions, `count(Int64(1))`, and refers to them by these names inside of
//! its plans. So they are renamed on their way out alone.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, SelectItem, SetExpr, Statement};

/// The names of a result's columns, where the planner's are not to be shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct ColumnNames(Option<Arc<[String]>>);

impl ColumnNames {
    /// The names for a query whose columns the planner calls as `schema` says.
    pub(crate) fn of(statement: &DfStatement, schema: &Schema) -> Self {
        Self(first_select(statement).and_then(|items| names(items, schema)))
    }

    /// These names.
    pub(crate) fn these(names: Vec<String>) -> Self {
        Self(Some(names.into()))
    }

    /// A schema with these names.
    pub(crate) fn put_on(&self, schema: &SchemaRef) -> SchemaRef {
        match &self.0 {
            Some(names) if names.len() == schema.fields().len() => {
                let fields = schema.fields().iter().zip(names.iter());
                let fields = fields.map(|(field, name)| field.as_ref().clone().with_name(name));
                Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
            }
            _ => Arc::clone(schema),
        }
    }

    /// A batch with these names.
    pub(crate) fn put_on_batch(&self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        if self.0.is_none() {
            return Ok(batch);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let schema = self.put_on(&batch.schema());
        RecordBatch::try_new_with_options(schema, batch.columns().to_vec(), &options)
    }
}

/// The items of the SELECT that names the result's columns.
fn first_select(statement: &DfStatement) -> Option<&[SelectItem]> {
    let DfStatement::Statement(statement) = statement else { return None };
    let Statement::Query(query) = statement.as_ref() else { return None };
    let mut body = query.body.as_ref();
    loop {
        body = match body {
            SetExpr::Select(select) => return Some(&select.projection),
            SetExpr::Query(query) => query.body.as_ref(),
            SetExpr::SetOperation { left, .. } => left.as_ref(),
            _ => return None,
        };
    }
}

/// The columns' names, if something among the items has none of its own and it is clear which column each item is.
fn names(items: &[SelectItem], schema: &Schema) -> Option<Arc<[String]>> {
    let is_one = |item: &&SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
    let singles = items.iter().filter(is_one).count();
    let many = items.len() - singles;
    let columns = schema.fields().len();
    if many > 1 || columns < singles || (many == 0 && columns != singles) {
        return None;
    }
    let mut unnamed: Vec<Option<String>> = Vec::with_capacity(columns);
    for item in items {
        match item {
            SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => unnamed.push(None),
            SelectItem::UnnamedExpr(expr) => unnamed.push(Some(name_of(expr))),
            SelectItem::ExprWithAlias { .. } => unnamed.push(None),
            _ => unnamed.extend(std::iter::repeat_n(None, columns - singles)),
        }
    }
    if unnamed.iter().all(Option::is_none) {
        return None;
    }
    let own = schema.fields().iter().zip(&unnamed).filter(|(_, unnamed)| unnamed.is_none());
    let mut taken: HashSet<String> = own.map(|(field, _)| field.name().clone()).collect();
    let named = schema.fields().iter().zip(unnamed).map(|(field, unnamed)| match unnamed {
        None => field.name().clone(),
        Some(name) => {
            let numbered = (2..).map(|n| format!("{name}_{n}"));
            let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
            let free = free.unwrap_or(name);
            taken.insert(free.clone());
            free
        }
    });
    Some(named.collect())
}

/// The name that PostgreSQL gives a column without one.
pub(crate) fn name_of(expr: &Expr) -> String {
    let folded = |ident: &Ident| match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    };
    let name = match expr {
        Expr::Identifier(ident) => folded(ident),
        Expr::CompoundIdentifier(parts) => parts.last().map(folded).unwrap_or_default(),
        Expr::Function(call) => call.name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default(),
        Expr::Nested(expr) | Expr::Cast { expr, .. } | Expr::Collate { expr, .. } => name_of(expr),
        Expr::CompoundFieldAccess { root, .. } => name_of(root),
        Expr::Case { .. } => "case".to_owned(),
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Array(_) => "array".to_owned(),
        Expr::Extract { .. } => "extract".to_owned(),
        Expr::Ceil { .. } => "ceil".to_owned(),
        Expr::Floor { .. } => "floor".to_owned(),
        Expr::Position { .. } => "position".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Trim { .. } => "btrim".to_owned(),
        Expr::Overlay { .. } => "overlay".to_owned(),
        Expr::AtTimeZone { .. } => "timezone".to_owned(),
        Expr::Interval(_) => "interval".to_owned(),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.as_slice() {
                [SelectItem::UnnamedExpr(expr)] => name_of(expr),
                [SelectItem::ExprWithAlias { alias, .. }] => folded(alias),
                _ => String::new(),
            },
            _ => String::new(),
        },
        _ => String::new(),
    };
    if name.is_empty() { "?column?".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn shown(sql: &str, planned: &[&str]) -> Vec<String> {
        let statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        let fields: Vec<Field> = planned.iter().map(|name| Field::new(*name, DataType::Int32, true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let schema = ColumnNames::of(&statement, &schema).put_on(&schema);
        schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    #[test]
    fn what_has_no_name_gets_postgresqls() {
        let sql =
            "SELECT 1, count(*), a::text, CASE WHEN b THEN 1 END, (SELECT max(x) FROM t), b + 1, \"C\", d AS e FROM t";
        let planned = ["Int64(1)", "count(*)", "a", "CASE", "max(t.x)", "t.b + Int64(1)", "C", "e"];
        assert_eq!(shown(sql, &planned), ["?column?", "count", "a", "case", "max", "?column?_2", "C", "e"]);
    }

    #[test]
    fn names_that_were_given_stay_and_the_others_make_way() {
        assert_eq!(shown("SELECT count(*), x AS count FROM t", &["count(*)", "count"]), ["count_2", "count"]);
        assert_eq!(shown("SELECT *, 1 FROM t", &["a", "b", "Int64(1)"]), ["a", "b", "?column?"]);
        assert_eq!(shown("SELECT max(a) FROM t UNION SELECT b FROM t", &["max(t.a)"]), ["max"]);
    }

    #[test]
    fn columns_of_two_wildcards_keep_the_planners_names() {
        assert_eq!(shown("SELECT t.*, 1, u.* FROM t, u", &["a", "Int64(1)", "b"]), ["a", "Int64(1)", "b"]);
    }
}

//! Owns rows that a statement spells out: `VALUES (…), (…)`, each value taken for its own column.
//!
//! Constants are read when the statement is prepared, and parameters go into their rows as they are: a prepared
//! `INSERT … VALUES ($1, $2)` is run without a plan. Whatever else stands among them is computed by queries of one row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray, new_empty_array, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::interleave;
use arrow::datatypes::DataType as ArrowType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{CastKind, Expr, Spanned, UnaryOperator, Value, With};
use millstream_catalog::fault::{Code, Fault};
use millstream_catalog::{Column, DataType};

use super::assign::{Assignment, Given};
use super::ast::{self, Selection};
use super::planner::Planner;
use super::target::{Target, refused};
use crate::{Error, Result, Rows, ddl};

/// How many values one query computes.
const COMPUTED_AT_ONCE: usize = 128;

/// Rows that are spelled out, by the target's columns.
#[derive(Debug)]
pub(super) struct Values {
    rows: usize,
    columns: Vec<Filling>,
    /// Queries of one row with what is neither constant nor parameter.
    pub(super) computed: Vec<LogicalPlan>,
    /// How each computed value becomes its column's.
    assignments: Vec<Assignment>,
    /// The types of the parameters among the values.
    pub(super) parameters: BTreeMap<usize, ArrowType>,
}

/// What is in one column.
#[derive(Debug)]
enum Filling {
    /// No row gives it.
    Missing,
    /// A value or DEFAULT for each row, and the constants among them.
    Given { cells: Vec<Cell>, constants: ArrayRef },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Default,
    Constant(usize),
    Parameter(usize),
    Computed(usize),
}

impl Values {
    /// Takes rows of values for these columns of the target; a row may have fewer where `may_lack`.
    pub(super) async fn plan(
        planner: &Planner<'_>,
        target: &Target,
        columns: &[usize],
        rows: Vec<Vec<Expr>>,
        with: Option<With>,
    ) -> Result<Self> {
        let count = rows.len();
        let mut making = Making { planner, computed: vec![], parameters: BTreeMap::new() };
        let mut by_column: Vec<Vec<Expr>> = columns.iter().map(|_| Vec::with_capacity(count)).collect();
        for row in rows {
            for (values, value) in by_column.iter_mut().zip(row) {
                values.push(value);
            }
        }
        let mut fillings: Vec<Filling> = target.columns().iter().map(|_| Filling::Missing).collect();
        for (column, values) in columns.iter().zip(by_column) {
            // Columns behind the last value of every row take their defaults.
            if values.len() == count {
                fillings[*column] = making.filling(target, *column, values)?;
            }
        }
        let Making { computed, parameters, .. } = making;
        let (computed, assignments) = plan_computed(planner, target, computed, with).await?;
        Ok(Self { rows: count, columns: fillings, computed, assignments, parameters })
    }

    /// Whether it takes nothing but the parameters to make the rows.
    pub(super) fn is_at_hand(&self) -> bool {
        self.computed.is_empty()
    }

    /// The rows, with these parameters and computed values, a batch of one row from each query.
    pub(super) fn rows(&self, target: &Target, params: &[ScalarValue], computed: &[RecordBatch]) -> Result<Rows> {
        let computed: Vec<&ArrayRef> = computed.iter().flat_map(RecordBatch::columns).collect();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        let mut missing = Vec::with_capacity(self.columns.len());
        for (column, filling) in target.columns().iter().zip(&self.columns) {
            let (values, absent) = match filling {
                Filling::Missing => {
                    (new_null_array(&column.data_type.to_arrow(), self.rows), Some(BooleanBuffer::new_set(self.rows)))
                }
                Filling::Given { cells, constants } => self.column(column, cells, constants, params, &computed)?,
            };
            columns.push(values);
            missing.push(absent);
        }
        let batch = RecordBatch::try_new_with_options(Arc::clone(&target.schema), columns, &Target::rows(self.rows))
            .map_err(|e| Error::from_datafusion(e.into(), ""))?;
        Ok(Rows { batch, missing })
    }

    fn column(
        &self,
        column: &Column,
        cells: &[Cell],
        constants: &ArrayRef,
        params: &[ScalarValue],
        computed: &[&ArrayRef],
    ) -> Result<(ArrayRef, Option<BooleanBuffer>)> {
        let defaults = cells.contains(&Cell::Default);
        let missing = defaults.then(|| cells.iter().map(|cell| *cell == Cell::Default).collect());
        if constants.len() == cells.len() && cells.iter().all(|cell| matches!(cell, Cell::Constant(_))) {
            return Ok((Arc::clone(constants), missing));
        }
        if let Some(values) = self.parameters_of(column, cells, params)? {
            return Ok((values, missing));
        }
        let mut parts: Vec<ArrayRef> = vec![Arc::clone(constants)];
        let mut places = Vec::with_capacity(cells.len());
        for cell in cells {
            let part = match cell {
                Cell::Constant(i) => {
                    places.push((0, *i));
                    continue;
                }
                Cell::Default => new_null_array(constants.data_type(), 1),
                Cell::Parameter(number) => self.parameter(column, *number, params)?,
                Cell::Computed(i) => match computed.get(*i) {
                    Some(value) => self.assignments[*i].apply(value)?,
                    None => return Err(Error::rejected(Code::Internal, "a value was not computed")),
                },
            };
            places.push((parts.len(), 0));
            parts.push(part);
        }
        if let ([(part, 0)], false) = (places.as_slice(), defaults) {
            return Ok((parts.swap_remove(*part), missing));
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        let values = interleave(&parts, &places).map_err(|e| Error::from_datafusion(e.into(), ""))?;
        Ok((values, missing))
    }

    /// The values of a column of parameters alone that all have its type, which is what bulk statements have.
    fn parameters_of(&self, column: &Column, cells: &[Cell], params: &[ScalarValue]) -> Result<Option<ArrayRef>> {
        let arrow = column.data_type.to_arrow();
        let mut values = Vec::with_capacity(cells.len());
        for cell in cells {
            let Cell::Parameter(number) = cell else { return Ok(None) };
            let declared = self.parameters.get(number).is_none_or(|declared| *declared == arrow);
            match params.get(number - 1) {
                Some(value) if declared && value.data_type() == arrow => values.push(value.clone()),
                _ => return Ok(None),
            }
        }
        if values.is_empty() || !Assignment::new(column, &arrow, Given::Untyped)?.is_same() {
            return Ok(None);
        }
        ScalarValue::iter_to_array(values).map(Some).map_err(|e| Error::from_datafusion(e, ""))
    }

    fn parameter(&self, column: &Column, number: usize, params: &[ScalarValue]) -> Result<ArrayRef> {
        let Some(value) = params.get(number - 1) else {
            return Err(Error::rejected(Code::InvalidRequest, format!("there is no value for parameter ${number}")));
        };
        let wrap = |e| Error::from_datafusion(e, "");
        let mut given = Given::Untyped;
        let mut array = value.to_array().map_err(wrap)?;
        if let Some(declared) = self.parameters.get(&number)
            && declared != array.data_type()
        {
            array = value.cast_to(declared).and_then(|value| value.to_array()).map_err(wrap)?;
        }
        if self.parameters.get(&number).is_some_and(|declared| *declared != column.data_type.to_arrow()) {
            given = Given::Typed;
        }
        Assignment::new(column, array.data_type(), given)?.apply(&array)
    }
}

/// Values on their way into columns.
struct Making<'a, 'b> {
    planner: &'a Planner<'b>,
    computed: Vec<(usize, Expr)>,
    parameters: BTreeMap<usize, ArrowType>,
}

impl Making<'_, '_> {
    fn filling(&mut self, target: &Target, column: usize, values: Vec<Expr>) -> Result<Filling> {
        let definition = &target.columns()[column];
        let mut cells = Vec::with_capacity(values.len());
        let mut constants = Constants::new(definition, self.planner.text);
        for value in values {
            if ast::is_default(&value) {
                cells.push(Cell::Default);
                continue;
            }
            target.must_be_assignable(column, self.planner.text, value.span())?;
            let cell = match constants.take(&value)? {
                Some(place) => Cell::Constant(place),
                None => match parameter(&value, definition) {
                    Some((number, data_type)) => {
                        self.parameters.entry(number).or_insert(data_type);
                        Cell::Parameter(number)
                    }
                    None => {
                        self.computed.push((column, value));
                        Cell::Computed(self.computed.len() - 1)
                    }
                },
            };
            cells.push(cell);
        }
        Ok(Filling::Given { cells, constants: constants.end()? })
    }
}

/// The parameter that a value is, and its type: the column's, or what it is cast to.
fn parameter(value: &Expr, column: &Column) -> Option<(usize, ArrowType)> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => Some((number_of(name)?, column.data_type.to_arrow())),
            _ => None,
        },
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, array: false, format: None } => {
            let (number, _) = parameter(expr, column).filter(|_| matches!(**expr, Expr::Value(_)))?;
            Some((number, ddl::type_named(&data_type.to_string())?.to_arrow()))
        }
        Expr::Nested(inner) => parameter(inner, column),
        _ => None,
    }
}

fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix('$')?.parse().ok().filter(|number| (1..=65535).contains(number))
}

/// The constants of a column, read all at once.
struct Constants<'a> {
    column: &'a Column,
    text: &'a str,
    texts: Vec<Option<String>>,
    places: Vec<datafusion::sql::sqlparser::tokenizer::Span>,
}

impl<'a> Constants<'a> {
    fn new(column: &'a Column, text: &'a str) -> Self {
        Self { column, text, texts: vec![], places: vec![] }
    }

    /// Takes a value that is a constant; its place among them.
    fn take(&mut self, value: &Expr) -> Result<Option<usize>> {
        let span = value.span();
        let Some(text) = self.text_of(value, span)? else { return Ok(None) };
        self.texts.push(text);
        self.places.push(span);
        Ok(Some(self.texts.len() - 1))
    }

    /// The text that says a constant as a value of the column.
    fn text_of(
        &self,
        value: &Expr,
        span: datafusion::sql::sqlparser::tokenizer::Span,
    ) -> Result<Option<Option<String>>> {
        let unfit = |from: &ArrowType| {
            let Err(error) = Assignment::new(self.column, from, Given::Typed) else { return Ok(()) };
            Err(placed(error, self.text, span))
        };
        Ok(match value {
            Expr::Nested(inner) if matches!(**inner, Expr::Value(_)) => self.text_of(inner, span)?,
            Expr::Value(value) => match &value.value {
                Value::Null => Some(None),
                Value::Boolean(flag) => {
                    unfit(&ArrowType::Boolean)?;
                    Some(Some(flag.to_string()))
                }
                Value::Number(digits, _) => {
                    unfit(&ArrowType::Int64)?;
                    Some(Some(self.number(digits)))
                }
                Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(Some(text.clone())),
                Value::DollarQuotedString(text) => Some(Some(text.value.clone())),
                _ => None,
            },
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
                Expr::Value(value) => match &value.value {
                    Value::Number(digits, _) => {
                        unfit(&ArrowType::Int64)?;
                        Some(Some(self.number(&format!("-{digits}"))))
                    }
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        })
    }

    /// A number as its column reads it: rounded where that takes whole numbers.
    fn number(&self, digits: &str) -> String {
        let digits = digits.replace('_', "");
        let whole = matches!(self.column.data_type, DataType::SmallInt | DataType::Int | DataType::BigInt);
        match (whole, digits.bytes().all(|b| b.is_ascii_digit() || b == b'-')) {
            (true, false) => match digits.parse::<f64>() {
                // Within this range every digit in front of the point is one of the double.
                Ok(number) if number.abs() < 1e15 => format!("{}", number.round()),
                Ok(number) => format!("{number:.0}"),
                Err(_) => digits,
            },
            _ => digits,
        }
    }

    fn end(self) -> Result<ArrayRef> {
        let arrow = self.column.data_type.to_arrow();
        if self.texts.is_empty() {
            return Ok(new_empty_array(&arrow));
        }
        let texts: ArrayRef = Arc::new(StringArray::from(self.texts.clone()));
        let assignment = Assignment::new(self.column, &ArrowType::Utf8, Given::Untyped)?;
        assignment.apply(&texts).map_err(|error| {
            // The one at fault says where.
            let one =
                (0..texts.len()).find_map(|i| Some((assignment.apply(&texts.slice(i, 1)).err()?, self.places[i])));
            match one {
                Some((error, span)) => placed(error, self.text, span),
                None => error,
            }
        })
    }
}

fn placed(error: Error, text: &str, span: datafusion::sql::sqlparser::tokenizer::Span) -> Error {
    let Error::Rejected { position, .. } = refused(error.code(), "", text, span) else { return error };
    Error::Rejected { code: error.code(), message: error.to_string(), hint: error.hint(), position }
}

/// Plans the queries of what has to be computed.
async fn plan_computed(
    planner: &Planner<'_>,
    target: &Target,
    computed: Vec<(usize, Expr)>,
    with: Option<With>,
) -> Result<(Vec<LogicalPlan>, Vec<Assignment>)> {
    let (mut plans, mut assignments) = (Vec::new(), Vec::with_capacity(computed.len()));
    let mut computed = computed.into_iter().peekable();
    while computed.peek().is_some() {
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        for (column, value) in computed.by_ref().take(COMPUTED_AT_ONCE) {
            let (value, given) = ast::value_for(value, &target.columns()[column]);
            items.push(ast::named(value, format!("v{}", items.len())));
            columns.push((column, given));
        }
        let query = Selection { with: with.clone(), items, from: vec![], filter: None }.query()?;
        let plan = planner.plan(query).await?;
        for (field, (column, given)) in plan.schema().fields().iter().zip(columns) {
            assignments.push(Assignment::new(&target.columns()[column], field.data_type(), given)?);
        }
        plans.push(plan);
    }
    Ok((plans, assignments))
}

/// Which rows are all NULL because nobody gave them.
pub(super) fn all_missing(rows: usize) -> BooleanBuffer {
    BooleanArray::from(vec![true; rows]).values().clone()
}

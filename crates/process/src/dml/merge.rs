//! Owns MERGE as one query: the target joined with the source, and for each pair the number of the clause that takes it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Ident, Join, JoinConstraint, JoinOperator, Merge, MergeAction, MergeClause,
    MergeClauseKind, MergeInsertExpr, MergeInsertKind, ObjectName as SqlName, Query, TableFactor, TableWithJoins,
    Value, VisitMut, VisitorMut, With,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use millstream_catalog::OFFSET_COLUMN;
use millstream_catalog::fault::Code;

use super::assignments::{Becomes, Sets};
use super::ast::{self, Selection};
use super::planner::Planner;
use super::respell::{ALL_DEFAULTS, NOTHING};
use super::row_change::{Act, Repeats, RowChange};
use super::target::{Target, refused};
use super::update::in_from;
use crate::sql::folded;
use crate::{Error, Result};

/// The column that tells rows of the source from what a join leaves empty.
const HERE: &str = "__here";

/// A MERGE.
pub(super) async fn merge(
    planner: &Planner<'_>,
    merge: &Merge,
    with: Option<With>,
    returning: bool,
) -> Result<(Target, RowChange)> {
    let text = planner.text;
    let target = Target::of_factor(planner.shared, text, &merge.table)?;
    target.must_change("MERGE")?;
    let (source, source_relation) = source_name(&merge.source, text)?;
    if folded(&source) == folded(&target.alias) {
        let message = format!("table name {:?} is given twice: give one of the two another with AS", folded(&source));
        return Err(refused(Code::DuplicateObject, message, text, source.span));
    }
    check_clauses(&merge.clauses, text)?;
    let kinds = Kinds::of(&merge.clauses);
    let scopes = Scopes { target: &target, source: &source };
    let mut acts = Vec::new();
    let mut sets: Vec<(Option<Sets>, Becomes)> = Vec::new();
    let mut cases = Vec::new();
    for clause in &merge.clauses {
        let mut clause = clause.clone();
        scopes.qualify(&mut clause, text)?;
        let pick = match act(&target, text, &clause)? {
            Some((act, set, rest)) => {
                acts.push(act);
                sets.push((set, rest));
                acts.len() - 1
            }
            // What is to be done is nothing: no act has this number.
            None => usize::MAX,
        };
        cases.push(CaseWhen { condition: scopes.condition(&clause, kinds), result: number(pick) });
    }
    let pick = case(cases);
    let mut items = ast::row_items(&target);
    items.push(ast::named(pick.clone(), "__pick"));
    let mut firsts = Vec::with_capacity(sets.len());
    for (i, (set, _)) in sets.iter().enumerate() {
        firsts.push(items.len());
        let values = set.iter().flat_map(|set| set.items.iter().cloned());
        for value in values {
            let name = format!("__set{}", items.len());
            items.push(ast::named(only_where(&pick, i, value), name));
        }
    }
    let others = items.len();
    if returning {
        items.push(match kinds.by_source {
            false => ast::all_of(&source_relation, None),
            true => ast::all_of(&SqlName::from(vec![source.clone()]), Some(HERE)),
        });
    }
    let from = vec![joined(&target, merge, &source, kinds)?];
    let plan = planner.plan(Selection { with, items, from, filter: None }.query()?).await?;
    for ((act, (set, rest)), first) in acts.iter_mut().zip(&sets).zip(firsts) {
        act.comes = set.as_ref().map(|set| set.resolve(&target, &plan, first, rest)).transpose()?;
    }
    let others = others..plan.schema().fields().len();
    let picked = Some(target.columns().len() + 1);
    Ok((target, RowChange { plan, acts, picked, repeats: Repeats::Refused, others }))
}

/// Refuses a MERGE that does nothing, and clauses that no pair of rows comes to.
fn check_clauses(clauses: &[MergeClause], text: &str) -> Result<()> {
    if clauses.is_empty() {
        let message = "MERGE has no WHEN clause: say what is done, WHEN MATCHED THEN … or WHEN NOT MATCHED THEN …";
        return Err(Error::rejected(Code::SyntaxError, message));
    }
    // NOT MATCHED is BY TARGET where it does not say.
    let kind = |clause: &MergeClause| match clause.clause_kind {
        MergeClauseKind::NotMatchedByTarget => MergeClauseKind::NotMatched,
        kind => kind,
    };
    for (i, clause) in clauses.iter().enumerate() {
        let mut before = clauses[..i].iter();
        if before.any(|earlier| kind(earlier) == kind(clause) && earlier.predicate.is_none()) {
            let message = "unreachable WHEN clause: one of the same kind without a condition stands before it";
            return Err(refused(Code::SyntaxError, message, text, clause.when_token.0.span));
        }
    }
    Ok(())
}

/// Which kinds of clauses there are.
#[derive(Debug, Clone, Copy)]
struct Kinds {
    by_target: bool,
    by_source: bool,
}

impl Kinds {
    fn of(clauses: &[MergeClause]) -> Self {
        let has = |kinds: &[MergeClauseKind]| clauses.iter().any(|clause| kinds.contains(&clause.clause_kind));
        Self {
            by_target: has(&[MergeClauseKind::NotMatched, MergeClauseKind::NotMatchedByTarget]),
            by_source: has(&[MergeClauseKind::NotMatchedBySource]),
        }
    }
}

/// What a clause does, what it gives to columns, and what becomes of the others; `None` is nothing.
fn act(target: &Target, text: &str, clause: &MergeClause) -> Result<Option<(Act, Option<Sets>, Becomes)>> {
    let act = |name, goes| Act { name, goes, comes: None };
    Ok(match &clause.action {
        MergeAction::Delete { .. } => Some((act("DELETE", true), None, Becomes::Old)),
        MergeAction::Update(update) => {
            if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                let message = "WHERE behind UPDATE SET in MERGE is not supported: write WHEN MATCHED AND …";
                return Err(Error::rejected(Code::SyntaxError, message));
            }
            if is_nothing(&update.assignments.first().map(|a| a.target.to_string()).unwrap_or_default()) {
                return Ok(None);
            }
            let sets = Sets::of(target, text, &update.assignments)?;
            Some((act("UPDATE", true), Some(sets), Becomes::Old))
        }
        MergeAction::Insert(insert) => {
            if is_nothing(&insert.columns.first().map(ToString::to_string).unwrap_or_default()) {
                return Ok(None);
            }
            Some((act("INSERT", false), Some(inserted(target, text, insert)?), Becomes::Default))
        }
    })
}

fn is_nothing(name: &str) -> bool {
    name.trim_matches('"') == NOTHING
}

fn inserted(target: &Target, text: &str, insert: &MergeInsertExpr) -> Result<Sets> {
    let wrong = |message: &str| Err(refused(Code::SyntaxError, message, text, insert.insert_token.0.span));
    if insert.insert_predicate.is_some() {
        return wrong("WHERE behind INSERT in MERGE is not supported: write WHEN NOT MATCHED AND …");
    }
    let mut sets = Sets::default();
    let first = insert.columns.first().map(ToString::to_string).unwrap_or_default();
    if first.trim_matches('"') == ALL_DEFAULTS {
        return Ok(sets);
    }
    let MergeInsertKind::Values(values) = &insert.kind else { return wrong("INSERT in MERGE takes VALUES (…)") };
    let [row] = values.rows.as_slice() else { return wrong("INSERT in MERGE takes one row of values") };
    let columns = match insert.columns.as_slice() {
        [] => (0..target.columns().len()).map(|column| (column, Span::empty())).collect(),
        names => names.iter().map(|name| target.named(name, text)).collect::<Result<Vec<_>>>()?,
    };
    if row.content.len() > columns.len() {
        return wrong("INSERT has more expressions than target columns");
    }
    if row.content.len() < columns.len() && !insert.columns.is_empty() {
        return wrong("INSERT has more target columns than expressions");
    }
    for ((column, at), value) in columns.into_iter().zip(&row.content) {
        sets.set(target, text, column, at, value.clone())?;
    }
    Ok(sets)
}

/// Which relations a clause may name.
struct Scopes<'a> {
    target: &'a Target,
    source: &'a Ident,
}

impl Scopes<'_> {
    /// Where only one relation has a row, names without a relation are meant as its columns.
    /// Refuses the columns of the other.
    fn qualify(&self, clause: &mut MergeClause, text: &str) -> Result<()> {
        let (relation, absent) = match clause.clause_kind {
            MergeClauseKind::Matched => return Ok(()),
            MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => (self.source, &self.target.alias),
            MergeClauseKind::NotMatchedBySource => (&self.target.alias, self.source),
        };
        let mut qualifier = Qualifier { relation, absent: folded(absent), target: self.target, depth: 0 };
        let mut visited = match &mut clause.predicate {
            Some(predicate) => VisitMut::visit(predicate, &mut qualifier),
            None => ControlFlow::Continue(()),
        };
        visited = match (&mut clause.action, visited) {
            (MergeAction::Update(update), ControlFlow::Continue(())) => {
                let values = update.assignments.iter_mut().map(|assignment| &mut assignment.value);
                values
                    .map(|value| VisitMut::visit(value, &mut qualifier))
                    .find(ControlFlow::is_break)
                    .unwrap_or(visited)
            }
            (MergeAction::Insert(insert), ControlFlow::Continue(())) => {
                VisitMut::visit(&mut insert.kind, &mut qualifier)
            }
            (_, visited) => visited,
        };
        let ControlFlow::Break(span) = visited else { return Ok(()) };
        let (without, with) = match clause.clause_kind {
            MergeClauseKind::NotMatchedBySource => ("NOT MATCHED BY SOURCE", "target"),
            _ => ("NOT MATCHED", "source"),
        };
        let message = format!(
            "invalid reference to table {:?}: behind {without} there is no row of it, name columns of the {with} {:?}",
            folded(absent),
            folded(relation)
        );
        Err(refused(Code::UndefinedObject, message, text, span))
    }

    /// When a clause takes a pair, if none before it does.
    fn condition(&self, clause: &MergeClause, kinds: Kinds) -> Expr {
        let number = Box::new(ast::column_of(&self.target.alias, OFFSET_COLUMN));
        let here = Box::new(ast::column_of(self.source, HERE));
        let pair = match clause.clause_kind {
            MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => Expr::IsNull(number),
            MergeClauseKind::NotMatchedBySource => Expr::IsNull(here),
            MergeClauseKind::Matched if kinds.by_source => {
                binary(Expr::IsNotNull(number), BinaryOperator::And, Expr::IsNotNull(here))
            }
            MergeClauseKind::Matched => Expr::IsNotNull(number),
        };
        match &clause.predicate {
            Some(predicate) => binary(pair, BinaryOperator::And, Expr::Nested(Box::new(predicate.clone()))),
            None => pair,
        }
    }
}

/// Puts a relation before columns of the target's names; stops at a column of the relation that has no row.
struct Qualifier<'a> {
    relation: &'a Ident,
    absent: String,
    target: &'a Target,
    depth: usize,
}

impl VisitorMut for Qualifier<'_> {
    type Break = Span;

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Span> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Span> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Span> {
        match (&*expr, self.depth) {
            (Expr::CompoundIdentifier(parts), 0) if folded(&parts[0]) == self.absent => {
                ControlFlow::Break(parts[0].span)
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Span> {
        if let (Expr::Identifier(ident), 0) = (&*expr, self.depth)
            && self.target.columns().iter().any(|column| column.name == folded(ident))
        {
            *expr = Expr::CompoundIdentifier(vec![self.relation.clone(), ident.clone()]);
        }
        ControlFlow::Continue(())
    }
}

/// How the statement calls its source, alone and with its schema.
fn source_name(source: &TableFactor, text: &str) -> Result<(Ident, SqlName)> {
    let from = TableWithJoins { relation: source.clone(), joins: vec![] };
    match ast::names_in(std::slice::from_ref(&from)).as_slice() {
        [name] if let Some(last) = ast::last_of(name) => Ok((last, name.clone())),
        _ => {
            let message = "the source of MERGE needs a name: USING (…) AS name";
            Err(refused(Code::SyntaxError, message, text, Span::empty()))
        }
    }
}

/// The pairs: of the rows of both that meet, and of those that meet none where a clause is for them.
fn joined(target: &Target, merge: &Merge, source: &Ident, kinds: Kinds) -> Result<TableWithJoins> {
    let constraint = JoinConstraint::On(merge.on.as_ref().clone());
    let mut target = in_from(target);
    let source = match kinds.by_source {
        false => merge.source.clone(),
        true => {
            let mut query = ast::template(&format!("SELECT *, true AS \"{HERE}\" FROM x"))?;
            let TableWithJoins { relation, .. } = first_from(&mut query)?;
            *relation = merge.source.clone();
            let mut alias = ast::alias_of(source);
            if let TableFactor::Derived { alias: Some(given), .. } = relation {
                // Names that it gives to columns are its own.
                alias.name = given.name.clone();
            }
            ast::derived(query, alias)
        }
    };
    let (relation, right, operator) = match (kinds.by_target, kinds.by_source) {
        (false, false) => (target.relation, source, JoinOperator::Inner(constraint)),
        (true, false) => (source, target.relation, JoinOperator::LeftOuter(constraint)),
        (false, true) => (target.relation, source, JoinOperator::LeftOuter(constraint)),
        (true, true) => (target.relation, source, JoinOperator::FullOuter(constraint)),
    };
    target.relation = relation;
    target.joins = vec![Join { relation: right, global: false, join_operator: operator }];
    Ok(target)
}

fn first_from(query: &mut Query) -> Result<&mut TableWithJoins> {
    use datafusion::sql::sqlparser::ast::SetExpr;
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(Error::rejected(Code::Internal, "a query has no FROM"));
    };
    select.from.first_mut().ok_or_else(|| Error::rejected(Code::Internal, "a query has no FROM"))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn number(pick: usize) -> Expr {
    let text = i32::try_from(pick).map_or_else(|_| "1000000".to_owned(), |pick| pick.to_string());
    Expr::value(Value::Number(text, false))
}

fn case(conditions: Vec<CaseWhen>) -> Expr {
    let token = AttachedToken::empty;
    Expr::Case { case_token: token(), end_token: token(), operand: None, conditions, else_result: None }
}

/// A value that is computed where this act was picked alone: elsewhere it may fail.
fn only_where(pick: &Expr, act: usize, value: Expr) -> Expr {
    if matches!(value, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_)) {
        return value;
    }
    let picked = binary(pick.clone(), BinaryOperator::Eq, number(act));
    case(vec![CaseWhen { condition: picked, result: value }])
}

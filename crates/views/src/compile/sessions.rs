//! Owns GROUP BY over SESSION, where rows only come: the window functions by which sessions are found are not run, the
//! sessions themselves are kept.

use std::sync::Arc;

use datafusion::common::{Column, DFSchema};
use datafusion::functions_aggregate::expr_fn;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Window};
use datafusion::scalar::ScalarValue;

use super::linear;
use super::session::Sessions;
use super::sums::{Sums, computed, sums, value};
use super::{Compiler, Part, Sealed, Times};
use crate::Result;
use crate::fragment::Fragment;
use crate::node::{Merge, SESSION_START, SessionColumn, SessionGroups, SessionPlan};

/// An aggregation by session, over the rows that sessions are made of.
struct BySession<'p> {
    sessions: Sessions<'p>,
    time: &'p Column,
    groups: Vec<SessionColumn>,
    /// Its aggregates, as of rows that only come.
    sums: Sums,
}

impl<'p> BySession<'p> {
    fn of(aggregate: &'p Aggregate) -> Option<Self> {
        let exprs: Vec<Expr> = aggregate.group_expr.iter().chain(&aggregate.aggr_expr).cloned().collect();
        let (window, mut exprs) = over_window(&aggregate.input, exprs)?;
        let sessions = Sessions::of(window)?;
        let Expr::Column(time) = &sessions.params.order_by.first()?.expr else { return None };
        let aggregates = exprs.split_off(aggregate.group_expr.len());
        let groups = exprs.iter().map(|group| session_column(group, window, &sessions)).collect::<Option<Vec<_>>>()?;
        let all_keys = (0..sessions.params.partition_by.len()).all(|n| groups.contains(&SessionColumn::Key(n)));
        let bounds = groups.contains(&SessionColumn::Start) || groups.contains(&SessionColumn::End);
        let input = sessions.input.schema();
        if !all_keys || !bounds || !aggregates.iter().all(|a| a.column_refs().iter().all(|c| input.has_column(c))) {
            return None;
        }
        let plain = Aggregate::try_new(Arc::clone(sessions.input), vec![], aggregates).ok()?;
        let sums = sums(&plain, input, true).filter(|sums| sums.distinct.is_empty())?;
        Some(Self { time, groups, sums, sessions })
    }
}

/// The window below, and the expressions over its columns.
fn over_window(plan: &LogicalPlan, exprs: Vec<Expr>) -> Option<(&Window, Vec<Expr>)> {
    match plan {
        LogicalPlan::Window(window) => Some((window, exprs)),
        LogicalPlan::Projection(projection) => {
            let exprs = linear::replaced(exprs, &projection.schema, &|i| projection.expr[i].clone().unalias())?;
            over_window(&projection.input, exprs)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let below = alias.input.schema().columns();
            over_window(&alias.input, linear::replaced(exprs, &alias.schema, &|i| Expr::Column(below[i].clone()))?)
        }
        _ => None,
    }
}

/// What a group expression over the columns of the window is.
fn session_column(expr: &Expr, window: &Window, sessions: &Sessions<'_>) -> Option<SessionColumn> {
    if let Some(n) = sessions.params.partition_by.iter().position(|key| key == expr) {
        return Some(SessionColumn::Key(n));
    }
    let from = window.input.schema().fields().len();
    let function = |expr: &Expr| match expr {
        Expr::Column(column) => {
            let place = window.schema.index_of_column(column).ok()?.checked_sub(from)?;
            match super::window::unaliased(&window.window_expr[place]) {
                Expr::WindowFunction(function) => Some(function.fun.name().to_owned()),
                _ => None,
            }
        }
        _ => None,
    };
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == "window_end" => {
            let of_last = function(call.args.first()?)? == "min";
            let by_gap =
                matches!(call.args.get(1), Some(Expr::Literal(ScalarValue::Int64(Some(n)), _)) if *n == sessions.gap);
            (of_last && by_gap).then_some(SessionColumn::End)
        }
        expr => (function(expr)? == "max").then_some(SessionColumn::Start),
    }
}

impl Compiler<'_> {
    /// An aggregation over SESSION, if it is one whose sessions can be kept.
    pub(super) async fn by_session(&mut self, aggregate: &Aggregate) -> Result<Option<Part>> {
        let Some(by) = BySession::of(aggregate).filter(|_| !self.options.emit_on_window_close) else {
            return Ok(None);
        };
        let inputs = self.inputs.len();
        let part = self.compile(by.sessions.input).await?;
        if !part.grows {
            self.inputs.truncate(inputs);
            return Ok(None);
        }
        let mut exprs: Vec<Expr> =
            by.sessions.params.partition_by.iter().enumerate().map(|(n, key)| key.clone().alias(key_name(n))).collect();
        let keys = exprs.len();
        exprs.push(Expr::Column(by.time.clone()).alias("__time"));
        for (n, column) in by.sums.columns.iter().enumerate() {
            exprs.push(column.argument.clone().alias(argument_name(n)));
        }
        let input = self.seal(linear::project_weighted(part, exprs)?).await?;
        let plan = self.session_plan(aggregate, &by, &input, keys).await?;
        let key = Some((0..aggregate.group_expr.len()).collect());
        let node = Box::new(SessionGroups::new(super::aggregate::label(aggregate), input.node, plan)?);
        let schema = Arc::clone(&aggregate.schema);
        self.part_of(Sealed { node, schema, grows: false, key, times: Times::new() }).map(Some)
    }

    async fn session_plan(
        &mut self,
        aggregate: &Aggregate,
        by: &BySession<'_>,
        input: &Sealed,
        keys: usize,
    ) -> Result<SessionPlan> {
        let time = input.schema.qualified_field(keys);
        let start = Arc::new(time.1.as_ref().clone().with_name(SESSION_START).with_nullable(true));
        let fields = input.schema.iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).chain([(None, start)]);
        let with_start = Arc::new(DFSchema::new_with_metadata(fields.collect(), Default::default())?);
        let slot = self.slot(linear::weighted(&with_start)?);
        let named = |name: &str| Expr::Column(Column::new_unqualified(name));
        let mut groups: Vec<Expr> = (0..keys).map(|n| named(&key_name(n))).collect();
        groups.push(named(SESSION_START));
        let mut columns = vec![expr_fn::max(named("__time")).alias("__last")];
        for (n, column) in by.sums.columns.iter().enumerate() {
            columns.push(computed(column.does, named(&argument_name(n)), false).alias(format!("__s{n}")));
        }
        let plan = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(slot.plan()), groups, columns)?);
        let schema = Arc::clone(plan.schema());
        let column = |n: usize| Expr::Column(super::column(&schema, keys + 2 + n));
        let values = by.sums.results.iter().enumerate().map(|(n, outcome)| {
            let data_type = aggregate.schema.field(by.groups.len() + n).data_type();
            self.state.create_physical_expr(value(outcome, &column, data_type), &schema)
        });
        let values = values.collect::<Result<_, _>>()?;
        Ok(SessionPlan {
            partial: Fragment::plan(&plan, vec![slot.cell], self.state).await?,
            schema: Arc::new(schema.as_arrow().clone()),
            input: Arc::new(input.schema.as_arrow().clone()),
            keys,
            gap: by.sessions.gap,
            merges: [Merge::Least, Merge::Greatest].into_iter().chain(by.sums.merges()).collect(),
            groups: by.groups.clone(),
            values,
            output: Arc::new(linear::weighted(&aggregate.schema)?.as_arrow().clone()),
        })
    }
}

fn key_name(n: usize) -> String {
    format!("__g{n}")
}

fn argument_name(n: usize) -> String {
    format!("__a{n}")
}

//! Owns EMIT ON WINDOW CLOSE: where in a plan rows wait for their windows to close.
//!
//! They wait directly above the topmost operator that keeps state; what is above that works row by row on what comes
//! out.

use datafusion::common::JoinType;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;

use super::join::outer_joins_apart;
use super::lookup::lookup;
use super::{Compiler, Part, Sealed, event_time, linear, refuse};
use crate::node::{Close, KeyedInput};
use crate::{Error, Result};

impl Compiler<'_> {
    pub(crate) fn compile_closing<'b>(&'b mut self, plan: &'b LogicalPlan) -> BoxFuture<'b, Result<Part>> {
        Box::pin(self.closing_node(plan))
    }

    async fn closing_node(&mut self, plan: &LogicalPlan) -> Result<Part> {
        refuse::subqueries(plan)?;
        match plan {
            LogicalPlan::Projection(projection) => {
                let part = self.compile_closing(&projection.input).await?;
                linear::project(part, &projection.expr, &projection.input)
            }
            LogicalPlan::Filter(filter) => {
                let part = self.compile_closing(&filter.input).await?;
                linear::filter(part, filter.predicate.clone())
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let part = self.compile_closing(&alias.input).await?;
                linear::alias(part, alias)
            }
            LogicalPlan::Unnest(unnest) => {
                let part = self.compile_closing(&unnest.input).await?;
                linear::unnest(part, unnest)
            }
            LogicalPlan::Union(union) => {
                let mut parts = Vec::with_capacity(union.inputs.len());
                for input in &union.inputs {
                    parts.push(self.compile_closing(input).await?);
                }
                linear::union(parts, union)
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.compile_closing(&sort.input).await,
            LogicalPlan::Repartition(repartition) => self.compile_closing(&repartition.input).await,
            // What a full join gives of either side is final at another time.
            LogicalPlan::Join(join) if join.join_type == JoinType::Full => {
                self.compile_closing(&outer_joins_apart(join)?).await
            }
            LogicalPlan::Aggregate(_) | LogicalPlan::Join(_) | LogicalPlan::Window(_) => {
                let part = self.compile(plan).await?;
                self.close(part).await
            }
            other => match lookup(other) {
                Some(lookup) => self.lookup(lookup, true).await,
                None => {
                    self.compile(other).await?;
                    Err(self.never_closes())
                }
            },
        }
    }

    /// Holds the rows of a part until their windows close.
    async fn close(&mut self, part: Part) -> Result<Part> {
        let sealed = self.seal(part).await?;
        if sealed.times.is_empty() {
            return Err(self.never_closes());
        }
        let (schema, key, times) = (sealed.schema.clone(), sealed.key.clone(), sealed.times.clone());
        let columns: Vec<usize> = times.keys().copied().collect();
        let expiry = self.expiry(&event_time::of_key(&times, &columns))?;
        let node = Box::new(Close::new(KeyedInput::new(sealed, columns)?, expiry));
        self.part_of(Sealed { node, schema, grows: true, key, times })
    }

    pub(super) fn never_closes(&self) -> Error {
        let instead = if self.inputs.iter().all(|input| input.watermark.is_none()) {
            "nothing it reads has a watermark; declare one with WATERMARK FOR column AS column - INTERVAL '…'"
        } else {
            "no column says when a row is final; group by window_start or window_end of TUMBLE, HOP or CUMULATE, or \
             by window_end of SESSION, over the column of the watermark, or by date_bin or date_trunc of it; join by \
             such columns, or with a bound on both event times (b.ts BETWEEN a.ts AND a.ts + INTERVAL '…')"
        };
        Error::not_incremental("EMIT ON WINDOW CLOSE", instead)
    }
}

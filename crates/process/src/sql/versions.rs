//! Owns the planning of table versions: `FOR SYSTEM_TIME AS OF PROCTIME()` is the present.

use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::{Expr, FunctionArguments, TableFactor, TableVersion};
use millstream_catalog::fault::Code;
use millstream_views::looked_up;

use crate::Error;

/// Plans tables that have a version: marks those that are looked up, for dataflows; what runs once has no such marks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VersionPlanner;

impl RelationPlanner for VersionPlanner {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { version, alias, .. } = &mut relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let Some(wanted) = version.take() else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        if !is_present(&wanted) {
            return Err(unsupported(&wanted));
        }
        let alias = alias.take();
        let plan = looked_up(context.plan(relation)?);
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn is_present(version: &TableVersion) -> bool {
    let TableVersion::ForSystemTimeAsOf(Expr::Function(call)) = version else { return false };
    let no_arguments = match &call.args {
        FunctionArguments::List(list) => list.args.is_empty(),
        _ => false,
    };
    no_arguments && call.name.to_string().eq_ignore_ascii_case("proctime")
}

fn unsupported(version: &TableVersion) -> DataFusionError {
    let message = format!("{version} is not supported: a table is read as it is now, FOR SYSTEM_TIME AS OF PROCTIME()");
    Error::rejected(Code::Unsupported, message).into()
}

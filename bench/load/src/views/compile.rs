//! Owns the way from a query's text to its dataflow, planned as the node plans it.

use std::sync::Arc;

use datafusion::catalog::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use millstream_nexmark::schema;
use millstream_views::{Dataflow, InputKind};

use crate::arguments::Error;
use crate::keyed::keyed_schema;

/// The dataflow of a query over the events of Nexmark and the table `keyed`, all of which only grow.
pub(super) async fn compile(sql: &str) -> Result<Dataflow, Error> {
    let config = SessionConfig::new().set_str("datafusion.execution.time_zone", "UTC");
    let context = SessionContext::new_with_config(config);
    millstream_windows::register(&context)?;
    let tables = [
        ("person", schema::person()),
        ("auction", schema::auction()),
        ("bid", schema::bid()),
        ("side_input", schema::side_input()),
        ("keyed", keyed_schema()),
    ];
    for (name, schema) in tables {
        context.register_table(name, Arc::new(MemTable::try_new(schema, vec![vec![]])?))?;
    }
    let state = context.state();
    let plan = state.statement_to_plan(millstream_windows::parse(sql)?).await?;
    Ok(Dataflow::compile(plan, &state, &|_| Some(InputKind::AppendOnly)).await?)
}

//! Owns what types mean inside expressions, so that a cast gives what a column of that type holds.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef};
use datafusion::error::Result;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{DataType as SqlType, TimezoneInfo};
use millstream_catalog::DataType;

/// Reads JSON and UUID as the text they are kept as, and times in microseconds: compared with a column, neither side
/// has to be converted, and files are pruned by it.
#[derive(Debug)]
pub struct CastTypes {
    /// Asked about every other type.
    next: Option<Arc<dyn TypePlanner>>,
}

impl CastTypes {
    /// Puts itself before the type planner that the context has.
    pub fn install(context: &SessionContext) {
        let state = context.state_ref();
        let mut builder = SessionStateBuilder::new_from_existing(state.read().clone());
        let next = builder.type_planner().take();
        *state.write() = builder.with_type_planner(Arc::new(Self { next })).build();
    }
}

impl TypePlanner for CastTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let data_type = match sql_type {
            SqlType::JSON | SqlType::JSONB => DataType::Json,
            SqlType::Uuid => DataType::Uuid,
            SqlType::Timestamp(precision, zone) if micros(*precision) => match zone {
                TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => DataType::Timestamp,
                TimezoneInfo::WithTimeZone | TimezoneInfo::Tz => DataType::TimestampTz,
            },
            SqlType::Time(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) if micros(*precision) => {
                DataType::Time
            }
            other => return self.next.as_ref().map_or(Ok(None), |next| next.plan_type_field(other)),
        };
        // Without the metadata of a JSON or UUID column: a logical cast keeps its source's, a physical one takes its
        // target's, and plans whose two halves differ are refused.
        Ok(Some(Arc::new(Field::new("", data_type.to_arrow(), true))))
    }
}

fn micros(precision: Option<u64>) -> bool {
    matches!(precision, None | Some(6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType as ArrowType, TimeUnit};

    #[tokio::test]
    async fn a_cast_gives_what_a_column_holds() {
        let context = SessionContext::new();
        CastTypes::install(&context);
        let sql = "SELECT CAST('{}' AS json) AS a, CAST('1600-01-01' AS timestamp) AS b, \
                   TIMESTAMP '2013-01-01 05:00:00' AS c, CAST('2013-01-01T05:00:00+01:00' AS timestamptz) AS d, \
                   CAST('05:00:00' AS time) AS e, CAST('0b7b8a7e-0f0f-4c3c-9d4b-1c2d3e4f5a6b' AS uuid) AS f";
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        let micros = |zone: Option<&str>| ArrowType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        let found: Vec<_> = batches[0].columns().iter().map(|c| c.data_type().clone()).collect();
        let time = ArrowType::Time64(TimeUnit::Microsecond);
        assert_eq!(found, [ArrowType::Utf8, micros(None), micros(None), micros(Some("UTC")), time, ArrowType::Utf8]);
        let first: Vec<_> =
            batches[0].columns().iter().map(|c| arrow::util::display::array_value_to_string(c, 0).unwrap()).collect();
        assert_eq!(first[1], "1600-01-01T00:00:00");
        assert_eq!(first[3], "2013-01-01T04:00:00Z");
    }
}

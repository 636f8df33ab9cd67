//! Owns what types mean inside expressions, so that a cast gives what a column of that type holds.

use arrow::datatypes::FieldRef;
use datafusion::error::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{DataType as SqlType, TimezoneInfo};
use millstream_catalog::DataType;

/// Reads JSON and UUID as the text they are kept as, and times in microseconds: compared with a column, neither side
/// has to be converted, and files are pruned by it.
#[derive(Debug, Clone, Copy, Default)]
pub struct CastTypes;

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
            _ => return Ok(None),
        };
        Ok(Some(data_type.to_field("", true).into()))
    }
}

fn micros(precision: Option<u64>) -> bool {
    matches!(precision, None | Some(6))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType as ArrowType, TimeUnit};
    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn a_cast_gives_what_a_column_holds() {
        let state = SessionStateBuilder::new().with_default_features().with_type_planner(Arc::new(CastTypes)).build();
        let context = SessionContext::new_with_state(state);
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

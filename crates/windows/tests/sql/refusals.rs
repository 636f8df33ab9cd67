//! What the calls refuse: the message, and where it points.

use datafusion::common::Span;
use datafusion::error::DataFusionError;

use crate::table::{context, plan, timestamptz};

/// The message and the column of the text it points at.
async fn refused(from: &str) -> (String, Option<u64>) {
    let sql = format!("SELECT * FROM {from}");
    let error = plan(&context(&[], &timestamptz()), &sql).await.unwrap_err();
    let mut inner = &error;
    let mut span: Option<Span> = None;
    loop {
        match inner {
            DataFusionError::Diagnostic(diagnostic, cause) => {
                span = span.or(diagnostic.span);
                inner = cause;
            }
            DataFusionError::Context(_, cause) => inner = cause,
            DataFusionError::External(own) => {
                let own = own.downcast_ref::<millstream_windows::Error>().unwrap();
                return (own.to_string(), span.map(|s| s.start.column));
            }
            other => return (other.strip_backtrace(), span.map(|s| s.start.column)),
        }
    }
}

#[tokio::test]
async fn each_mistake_is_told_with_its_cause_and_what_to_write() {
    let golden: &[(&str, &str, Option<u64>)] = &[
        (
            "TUMBLE()",
            "TUMBLE: 0 arguments are given and the table is missing; write TUMBLE(table, column, size [, offset])",
            Some(15),
        ),
        (
            "TUMBLE(t)",
            "TUMBLE: 1 argument is given and the timestamp column is missing; write TUMBLE(table, column, size [, offset])",
            Some(15),
        ),
        (
            "TUMBLE(t, ts)",
            "TUMBLE: 2 arguments are given and the size is missing; write TUMBLE(table, column, size [, offset])",
            Some(15),
        ),
        (
            "TUMBLE(t, ts, INTERVAL '1' MINUTE, INTERVAL '1' SECOND, 3)",
            "TUMBLE: 5 arguments are given, more than it takes; write TUMBLE(table, column, size [, offset])",
            Some(15),
        ),
        (
            "HOP(t, ts, INTERVAL '1' MINUTE)",
            "HOP: 3 arguments are given and the size is missing; write HOP(table, column, slide, size [, offset])",
            Some(15),
        ),
        (
            "CUMULATE(t, ts, INTERVAL '1' MINUTE)",
            "CUMULATE: 3 arguments are given and the size is missing; write CUMULATE(table, column, step, size [, offset])",
            Some(15),
        ),
        (
            "SESSION(t PARTITION BY k, INTERVAL '1' MINUTE)",
            "SESSION: 1 argument is given and the timestamp column is missing; write SESSION(table [PARTITION BY key, …], column, gap)",
            Some(15),
        ),
        (
            "TUMBLE(t PARTITION BY k, ts, INTERVAL '1' MINUTE)",
            "TUMBLE: it takes no PARTITION BY, since its windows are the same for every key: put the keys into GROUP BY; write TUMBLE(table, column, size [, offset])",
            Some(24),
        ),
        (
            "TUMBLE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), LENGTH => INTERVAL '1' MINUTE)",
            "TUMBLE: it has no argument \"LENGTH\", its arguments are DATA, TIMECOL, SIZE, OFFSET; write TUMBLE(table, column, size [, offset])",
            Some(66),
        ),
        (
            "TUMBLE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE, SIZE => INTERVAL '1' MINUTE)",
            "TUMBLE: SIZE is given twice; write TUMBLE(table, column, size [, offset])",
            Some(95),
        ),
        (
            "TUMBLE(DATA => TABLE t, DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE)",
            "TUMBLE: an argument without a name stands behind one with a name; write TUMBLE(table, column, size [, offset])",
            Some(39),
        ),
        (
            "TUMBLE(*, ts, INTERVAL '1' MINUTE)",
            "TUMBLE: * cannot be an argument; write TUMBLE(table, column, size [, offset])",
            None,
        ),
        (
            "TUMBLE('t', ts, INTERVAL '1' MINUTE)",
            "TUMBLE: the table is a name or a query in parentheses, and 't' is neither; write TUMBLE(table, column, size [, offset])",
            Some(22),
        ),
        (
            "TUMBLE(nosuch, ts, INTERVAL '1' MINUTE)",
            "Error during planning: table 'datafusion.public.nosuch' not found",
            Some(22),
        ),
        (
            "TUMBLE(t, at, INTERVAL '1' MINUTE)",
            "TUMBLE: column \"at\" is not in the input; its timestamp column is ts",
            Some(25),
        ),
        (
            "TUMBLE(t, x.ts, INTERVAL '1' MINUTE)",
            "TUMBLE: column \"x.ts\" is not in the input; its timestamp column is ts",
            Some(25),
        ),
        (
            "TUMBLE(t, n, INTERVAL '1' MINUTE)",
            "TUMBLE: column \"n\" is Int64, and windows are over a timestamp; its timestamp column is ts",
            Some(25),
        ),
        (
            "TUMBLE(other, made, INTERVAL '1' MINUTE)",
            "TUMBLE: column \"made\" is Date32, and windows are over a timestamp; its timestamp column is ts",
            Some(29),
        ),
        (
            "TUMBLE((SELECT k FROM t), k, INTERVAL '1' MINUTE)",
            "TUMBLE: column \"k\" is Utf8, and windows are over a timestamp; none of its columns is a timestamp: cast one in a query in parentheses",
            Some(41),
        ),
        (
            "TUMBLE(t, ts + INTERVAL '1' HOUR, INTERVAL '1' MINUTE)",
            "TUMBLE: the timestamp is a column of the table, and ts + INTERVAL '1' HOUR is not a column; compute it in a query in parentheses; write TUMBLE(table, column, size [, offset])",
            Some(25),
        ),
        ("TUMBLE(t, ts, INTERVAL '0' MINUTE)", "TUMBLE: the size is 0, and must be more than 0", Some(38)),
        ("TUMBLE(t, ts, -INTERVAL '1' MINUTE)", "TUMBLE: the size is -1 minute, and must be more than 0", Some(39)),
        (
            "TUMBLE(t, ts, INTERVAL '1' MONTH)",
            "TUMBLE: the size has months or years, which are not all of one length; write days, as INTERVAL '30' DAY, or use date_trunc('month', column) for calendar months",
            Some(38),
        ),
        (
            "TUMBLE(t, ts, INTERVAL '1 year 2 days')",
            "TUMBLE: the size has months or years, which are not all of one length; write days, as INTERVAL '30' DAY, or use date_trunc('month', column) for calendar months",
            Some(38),
        ),
        (
            "TUMBLE(t, ts, '1 minute')",
            "TUMBLE: the size must be an interval, and '1 minute' is not; write INTERVAL '1 minute'",
            Some(29),
        ),
        (
            "TUMBLE(t, ts, 60)",
            "TUMBLE: the size must be an interval, and 60 is not; write it as INTERVAL '1' MINUTE",
            Some(29),
        ),
        (
            "TUMBLE(t, ts, NULL)",
            "TUMBLE: the size must be an interval, and NULL is not; write it as INTERVAL '1' MINUTE",
            Some(29),
        ),
        (
            "TUMBLE(t, ts, n * INTERVAL '1' MINUTE)",
            "TUMBLE: the size must be a constant, and n * INTERVAL '1' MINUTE is not; write it as INTERVAL '1' MINUTE",
            Some(29),
        ),
        (
            "TUMBLE(t, ts, $1)",
            "TUMBLE: the size must be a constant, and $1 is not; write it as INTERVAL '1' MINUTE",
            Some(29),
        ),
        (
            "TUMBLE(t, ts, INTERVAL '1 nanosecond')",
            "TUMBLE: the size of 1 nanosecond is finer than the column, which has microseconds; write whole microseconds",
            Some(38),
        ),
        (
            "TUMBLE(t, ts, INTERVAL '1' MINUTE, INTERVAL '1' MONTH)",
            "TUMBLE: the offset has months or years, which are not all of one length; write days, as INTERVAL '30' DAY, or use date_trunc('month', column) for calendar months",
            Some(59),
        ),
        (
            "TUMBLE(t, ts, INTERVAL '1' MINUTE, 5)",
            "TUMBLE: the offset must be an interval, and 5 is not; write it as INTERVAL '1' MINUTE",
            Some(50),
        ),
        (
            "HOP(t, ts, INTERVAL '10' MINUTE, INTERVAL '1' MINUTE)",
            "HOP: the slide of 10 minutes is more than the size of 1 minute; the slide comes first: HOP(table, column, slide, size [, offset])",
            Some(35),
        ),
        (
            "HOP(t, ts, INTERVAL '1' SECOND, INTERVAL '1' DAY)",
            "HOP: a slide of 1 second in a size of 1 day puts each row into 86400 windows, and 1440 is the most; choose a longer slide",
            Some(35),
        ),
        (
            "CUMULATE(t, ts, INTERVAL '10' MINUTE, INTERVAL '1' MINUTE)",
            "CUMULATE: the step of 10 minutes is more than the size of 1 minute; the step comes first: CUMULATE(table, column, step, size [, offset])",
            Some(40),
        ),
        (
            "CUMULATE(t, ts, INTERVAL '7' MINUTE, INTERVAL '1' HOUR)",
            "CUMULATE: the size of 1 hour is not a whole multiple of the step of 7 minutes; choose one that is",
            Some(40),
        ),
        (
            "SESSION(t PARTITION BY nosuch, ts, INTERVAL '1' MINUTE)",
            "SESSION: key \"nosuch\" is not in the input; its columns are k, n, ts",
            Some(38),
        ),
        (
            "SESSION(t PARTITION BY k, ts, INTERVAL '0' MINUTE)",
            "SESSION: the gap is 0, and must be more than 0",
            Some(54),
        ),
        (
            "TUMBLE((SELECT *, ts AS window_start FROM t), ts, INTERVAL '1' MINUTE)",
            "TUMBLE: the input has a column \"window_start\" already; give it another name in a query in parentheses, as TUMBLE((SELECT window_start AS inner_window_start, … FROM …), …)",
            Some(23),
        ),
        (
            "TUMBLE(t, ts, INTERVAL '1' MINUTE) WITH ORDINALITY",
            "TUMBLE: WITH ORDINALITY and TABLESAMPLE do not go with it; write TUMBLE(table, column, size [, offset])",
            Some(15),
        ),
        (
            "TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts)))",
            "TUMBLE: 2 arguments are given and the size is missing; write TUMBLE(table, column, size [, offset])",
            Some(21),
        ),
    ];
    for (from, message, column) in golden {
        assert_eq!(refused(from).await, ((*message).to_owned(), *column), "{from}");
    }
}

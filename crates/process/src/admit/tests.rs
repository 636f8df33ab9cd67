//! Owns the tests of defaults, constraints and partitioning.

use std::sync::atomic::AtomicU64;

use arrow::array::{
    AsArray, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::prelude::{SessionConfig, SessionContext};
use millstream_catalog::StreamId;
use millstream_catalog::fault::Fault;
use uuid::Uuid;

use super::*;
use crate::ddl::{self, Command};

const NOON_US: i64 = 1_357_041_600_000_000; // 2013-01-01 12:00:00 UTC

fn state() -> SessionState {
    let config = SessionConfig::new().set_str("datafusion.sql_parser.dialect", "PostgreSQL");
    SessionContext::new_with_config(config).state()
}

fn stream(entries: &str) -> Stream {
    match ddl::parse(&format!("CREATE STREAM s {entries}")).unwrap().remove(0).command {
        Command::CreateStream { stream, .. } => stream.into_stream(StreamId(Uuid::nil()), 0).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn compile(entries: &str) -> Result<Admission> {
    Admission::compile(&stream(entries), &state())
}

fn refusal(entries: &str) -> String {
    let error = compile(entries).unwrap_err();
    format!("{}: {error}", error.code().name())
}

/// Rows in the stream's types, all nullable, with `missing` bits per column.
fn rows(stream: &Stream, columns: Vec<ArrayRef>, missing: Vec<Option<Vec<bool>>>) -> Rows {
    let batch = RecordBatch::try_new(expression::nullable(&stream.schema()), columns).unwrap();
    Rows { batch, missing: missing.into_iter().map(|m| m.map(BooleanBuffer::from)).collect() }
}

fn reasons(admitted: &Admitted) -> Vec<String> {
    admitted.rejected.iter().map(|r| format!("{} {}: {}", r.row, r.code.name(), r.reason)).collect()
}

fn ints(values: &[Option<i32>]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

#[test]
fn rows_without_rules_to_apply_pass_uncopied() {
    let s = stream("(a int not null, b json)");
    let admission = Admission::compile(&s, &state()).unwrap();
    let (a, b) = (ints(&[Some(1), Some(2)]), Arc::new(StringArray::from(vec![None, Some("{}")])) as ArrayRef);
    let admitted = admission.admit(rows(&s, vec![a.clone(), b.clone()], vec![None, None]), 0).unwrap();
    assert_eq!(admitted.batch.schema(), s.schema());
    assert!(Arc::ptr_eq(admitted.batch.column(0), &a) && Arc::ptr_eq(admitted.batch.column(1), &b));
    assert!(admitted.rejected.is_empty());
}

#[test]
fn a_default_fills_what_is_missing_and_not_what_is_null() {
    let s = stream(
        "(a int default 7, b text default upper('x'), c timestamptz default now(), d int[] default ARRAY[1, 2])",
    );
    let admission = Admission::compile(&s, &state()).unwrap();
    let types: Vec<_> = s.columns.iter().map(|c| c.data_type.to_arrow()).collect();
    let columns = vec![
        ints(&[Some(1), None, None]),
        Arc::new(StringArray::from(vec![Some("b"), None, None])) as ArrayRef,
        new_null_array(&types[2], 3),
        new_null_array(&types[3], 3),
    ];
    let missing = vec![
        Some(vec![false, true, false]),
        Some(vec![false, false, true]),
        Some(vec![true, false, true]),
        Some(vec![true, true, true]),
    ];
    let admitted = admission.admit(rows(&s, columns, missing), NOON_US).unwrap();
    assert_eq!(admitted.batch.schema(), s.schema());
    let a: Vec<_> = admitted.batch.column(0).as_primitive::<Int32Type>().iter().collect();
    assert_eq!(a, [Some(1), Some(7), None]);
    let b: Vec<_> = admitted.batch.column(1).as_string::<i32>().iter().collect();
    assert_eq!(b, [Some("b"), None, Some("X")]);
    let c: Vec<_> = admitted.batch.column(2).as_primitive::<TimestampMicrosecondType>().iter().collect();
    assert_eq!(c, [Some(NOON_US), None, Some(NOON_US)]);
    let d = admitted.batch.column(3).as_list::<i32>().value(2);
    assert_eq!(d.as_primitive::<Int32Type>().values(), &[1, 2]);
}

#[test]
fn a_volatile_default_gives_each_row_its_own_value() {
    let s = stream("(id uuid not null default uuid(), day date default current_date, t time default current_time)");
    let admission = Admission::compile(&s, &state()).unwrap();
    let columns = s.columns.iter().map(|c| new_null_array(&c.data_type.to_arrow(), 3)).collect();
    let all = || Some(vec![true; 3]);
    let admitted = admission.admit(rows(&s, columns, vec![all(), all(), all()]), NOON_US).unwrap();
    assert_eq!(reasons(&admitted), [""; 0]);
    let ids: std::collections::BTreeSet<_> =
        admitted.batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect();
    assert_eq!(ids.len(), 3);
    let day = arrow::util::display::array_value_to_string(admitted.batch.column(1), 0).unwrap();
    let time = arrow::util::display::array_value_to_string(admitted.batch.column(2), 0).unwrap();
    assert_eq!((day.as_str(), time.as_str()), ("2013-01-01", "12:00:00"));
}

#[test]
fn a_null_in_a_not_null_column_costs_its_row_alone() {
    let s = stream("(a int not null, b int not null)");
    let admission = Admission::compile(&s, &state()).unwrap();
    let columns = vec![ints(&[Some(1), None, None, Some(4)]), ints(&[Some(1), Some(2), None, Some(4)])];
    let admitted = admission.admit(rows(&s, columns, vec![Some(vec![false, true, false, false]), None]), 0).unwrap();
    assert_eq!(
        reasons(&admitted),
        [
            "1 not_null_violation: column \"a\" is missing, and it must not be null",
            "2 not_null_violation: column \"a\" is null, and it must not be",
        ]
    );
    assert_eq!(admitted.rejected[0].column.as_deref(), Some("a"));
    assert_eq!(admitted.batch.schema(), s.schema());
    assert_eq!(admitted.batch.column(1).as_primitive::<Int32Type>().values(), &[1, 4]);
}

#[test]
fn a_check_takes_true_and_null_and_refuses_false() {
    let s = stream("(a int check (a > 0), b int, constraint ordered check (a < b or b is null))");
    let admission = Admission::compile(&s, &state()).unwrap();
    let columns =
        vec![ints(&[Some(1), Some(0), None, Some(5), Some(5)]), ints(&[Some(2), Some(2), Some(2), Some(5), None])];
    let admitted = admission.admit(rows(&s, columns, vec![None, None]), 0).unwrap();
    assert_eq!(
        reasons(&admitted),
        [
            "1 check_violation: check constraint \"s_a_check\" does not hold: a > 0",
            "3 check_violation: check constraint \"ordered\" does not hold: a < b or b is null",
        ]
    );
    assert_eq!(admitted.batch.num_rows(), 3);
}

#[test]
fn a_check_that_fails_to_evaluate_costs_its_row_alone() {
    let s = stream("(a int, check (100 / a > 1))");
    let admission = Admission::compile(&s, &state()).unwrap();
    let mut values: Vec<_> = (1..=40).map(Some).collect();
    (values[6], values[33], values[39]) = (Some(0), Some(0), Some(100));
    let admitted = admission.admit(rows(&s, vec![ints(&values)], vec![None]), 0).unwrap();
    let zero = "division_by_zero: check constraint \"s_check\" cannot be evaluated: division by zero: 100 / a > 1";
    assert_eq!(
        reasons(&admitted),
        [
            format!("6 {zero}"),
            format!("33 {zero}"),
            "39 check_violation: check constraint \"s_check\" does not hold: 100 / a > 1".to_owned(),
        ]
    );
    assert_eq!(admitted.batch.num_rows(), 37);
}

#[test]
fn a_check_may_ask_for_the_time_of_the_request() {
    let s = stream("(ts timestamptz, check (ts <= now() + interval '1' hour))");
    let admission = Admission::compile(&s, &state()).unwrap();
    let at = |hours: i64| NOON_US + hours * 3_600_000_000;
    let ts = Arc::new(TimestampMicrosecondArray::from(vec![at(0), at(2)]).with_timezone("UTC")) as ArrayRef;
    let admitted = admission.admit(rows(&s, vec![ts.clone()], vec![None]), NOON_US).unwrap();
    assert_eq!(admitted.rejected.iter().map(|r| r.row).collect::<Vec<_>>(), [1]);
    let admitted = admission.admit(rows(&s, vec![ts], vec![None]), at(1)).unwrap();
    assert!(admitted.rejected.is_empty());
}

#[test]
fn a_default_that_breaks_a_check_is_refused_with_its_row() {
    let s = stream("(a int not null default -1 check (a > 0))");
    let admission = Admission::compile(&s, &state()).unwrap();
    let admitted = admission.admit(rows(&s, vec![ints(&[Some(1), None])], vec![Some(vec![false, true])]), 0).unwrap();
    assert_eq!(admitted.rejected.len(), 1);
    assert_eq!(admitted.batch.num_rows(), 1);
}

#[test]
fn an_empty_batch_and_rows_that_are_all_refused_are_taken() {
    let s = stream("(a int not null check (a > 0))");
    let admission = Admission::compile(&s, &state()).unwrap();
    assert_eq!(admission.admit(rows(&s, vec![ints(&[])], vec![None]), 0).unwrap().batch.num_rows(), 0);
    let admitted = admission.admit(rows(&s, vec![ints(&[None, Some(0)])], vec![None]), 0).unwrap();
    assert_eq!((admitted.batch.num_rows(), admitted.rejected.len()), (0, 2));
}

#[test]
fn expressions_that_do_not_fit_are_refused_at_create() {
    let cases = [
        (
            "(a int default b, b int)",
            "invalid_definition: the default of column \"a\" names column \"b\"; a default is made of constants and functions alone",
        ),
        (
            "(a int default z)",
            "undefined_column: the default of column \"a\" is not valid: column \"z\" does not exist; the columns are a",
        ),
        (
            "(a int check (c > 1))",
            "undefined_column: the check constraint \"s_a_check\" is not valid: column \"c\" does not exist; the columns are a",
        ),
        (
            "(a int default true)",
            "type_mismatch: the default of column \"a\" is of type boolean, which cannot be stored as int",
        ),
        (
            "(a timestamp default 5)",
            "type_mismatch: the default of column \"a\" is of type bigint, which cannot be stored as timestamp",
        ),
        (
            "(a uuid default 'x')",
            "invalid_value: the default of column \"a\" is \"x\", which is not a valid uuid, in lower case with hyphens",
        ),
        ("(a json default '{')", "invalid_value: the default of column \"a\" is \"{\", which is not a valid json"),
        (
            "(a int check (a + 1))",
            "type_mismatch: the check constraint \"s_a_check\" must be true or false, a + 1 is of type bigint",
        ),
        (
            "(a int check (sum(a) > 1))",
            "invalid_definition: the check constraint \"s_a_check\" has an aggregate; it is evaluated for one row alone and cannot have one",
        ),
        (
            "(ts timestamptz, watermark for ts as 5)",
            "type_mismatch: the watermark of column \"ts\" must be a time, 5 is of type bigint",
        ),
        (
            "(ts timestamptz, watermark for ts as now())",
            "invalid_definition: the watermark of column \"ts\" must be made of that column alone: write ts - INTERVAL '5' SECOND",
        ),
    ];
    for (entries, expected) in cases {
        assert_eq!(refusal(entries), expected, "{entries}");
    }
    for (entries, start) in [
        ("(a int default 'x')", "invalid_value: the default of column \"a\" "),
        ("(a smallint default 100000)", "numeric_value_out_of_range: the default of column \"a\" "),
        ("(a int default nosuch(1))", "undefined_function: the default of column \"a\" is not valid: "),
        ("(a int check (a > (select 1)))", "invalid_definition: the check constraint \"s_a_check\" has a subquery"),
    ] {
        let found = refusal(entries);
        assert!(found.starts_with(start), "{entries}: {found}");
    }
    compile("(ts timestamptz, watermark for ts as ts - interval '5' second)").unwrap();
    compile("(ts timestamp, watermark for ts as ts)").unwrap();
    compile("(a date default '2020-01-01', b decimal(10,2) default 1.5, c interval default '1 day', d text default 5)")
        .unwrap();
}

mod partitioning {
    use super::*;

    fn split(s: &Stream, columns: Vec<ArrayRef>) -> Vec<(u32, RecordBatch)> {
        let batch = RecordBatch::try_new(s.schema(), columns).unwrap();
        let parts = Partitioner::new(s).split(&batch, &AtomicU64::new(0)).unwrap();
        parts.into_iter().map(|p| (p.partition, p.batch)).collect()
    }

    #[test]
    fn without_a_key_requests_take_turns_and_are_not_copied() {
        let s = stream("(a bigint) with (partitions = 3)");
        let column = Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
        let batch = RecordBatch::try_new(s.schema(), vec![column.clone()]).unwrap();
        let (partitioner, turn) = (Partitioner::new(&s), AtomicU64::new(0));
        let mut seen = Vec::new();
        for _ in 0..4 {
            let parts = partitioner.split(&batch, &turn).unwrap();
            assert!(Arc::ptr_eq(parts[0].batch.column(0), &column));
            seen.push(parts[0].partition);
        }
        assert_eq!(seen, [0, 1, 2, 0]);
        assert!(partitioner.split(&batch.slice(0, 0), &turn).unwrap().is_empty());
    }

    #[test]
    fn rows_keep_their_order_within_a_partition() {
        let s = stream("(k text, n bigint) partition by (k) with (partitions = 4)");
        let keys: Vec<_> = (0..100).map(|i| format!("k{}", i % 7)).collect();
        let parts = split(&s, vec![Arc::new(StringArray::from(keys)), Arc::new(Int64Array::from_iter_values(0..100))]);
        assert_eq!(parts.iter().map(|(_, b)| b.num_rows()).sum::<usize>(), 100);
        for (_, batch) in &parts {
            assert!(batch.column(1).as_primitive::<Int64Type>().values().is_sorted());
            assert_eq!(batch.schema(), s.schema());
        }
        let home = |key: &str| {
            parts.iter().filter(|(_, b)| b.column(0).as_string::<i32>().iter().any(|k| k == Some(key))).count()
        };
        assert!((0..7).all(|i| home(&format!("k{i}")) == 1));
    }

    /// Where these keys lie is a promise to every log that was ever written: never change the numbers.
    #[test]
    fn keys_lie_where_they_have_always_lain() {
        let partition = |sql: &str, column: ArrayRef| {
            split(&stream(&format!("(k {sql}) partition by (k) with (partitions = 1000)")), vec![column])[0].0
        };
        let text = |t: Option<&str>| partition("text", Arc::new(StringArray::from(vec![t])));
        let found = [
            text(Some("UA")),
            text(Some("")),
            text(None),
            partition("bigint", Arc::new(Int64Array::from(vec![42]))),
            partition("int", Arc::new(Int32Array::from(vec![42]))),
            partition("int", Arc::new(Int32Array::from(vec![-1]))),
            partition("double precision", Arc::new(Float64Array::from(vec![0.5]))),
            partition("boolean", Arc::new(BooleanArray::from(vec![true]))),
        ];
        assert_eq!(found, [475, 958, 544, 753, 753, 230, 49, 522]);
    }

    #[test]
    fn equal_values_of_other_bits_lie_together() {
        let s = stream("(k double precision) partition by (k) with (partitions = 1000)");
        let nan = f64::from_bits(0xfff8_0000_0000_0001);
        let parts = split(&s, vec![Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, nan]))]);
        assert_eq!(parts.iter().map(|(_, b)| b.num_rows()).collect::<Vec<_>>(), [2, 2]);
    }
}

//! Owns what every log must do.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, TimeUnit};
use millstream_buffer::{Append, Error, OffsetRange, Part};
use millstream_catalog::Positions;

use crate::Subject;
use crate::rows::{PARTITIONS, append, key, keyed, numbers, numbers_from, rows, schema};

pub async fn a_new_log_is_empty(s: Subject) {
    let view = s.log.view();
    assert_eq!(view.start(), &Positions::zero(PARTITIONS));
    assert_eq!(view.end(), &Positions::zero(PARTITIONS));
    assert_eq!(view.read(view.start()).unwrap().count(), 0);
    assert_eq!(view.resident(view.start()).unwrap().len(), 0);
    assert_eq!(s.log.stats().end, Positions::zero(PARTITIONS));
}

pub async fn offsets_have_no_gaps(s: Subject) {
    for i in 0..20 {
        let appended = s.log.append(append(1, i * 10, 10)).await.unwrap();
        let range = OffsetRange { partition: 1, start: i as u64 * 10, end: i as u64 * 10 + 10 };
        assert_eq!(appended.ranges, [range]);
        assert!(!appended.duplicate);
    }
    assert_eq!(numbers(&*s.log, 1), (0..200).collect::<Vec<_>>());
    assert_eq!(s.log.view().end(), &Positions(vec![0, 200, 0]));
}

pub async fn a_view_shows_what_was_there_when_it_was_made(s: Subject) {
    s.log.append(append(0, 0, 3)).await.unwrap();
    let view = s.log.view();
    s.log.append(append(0, 3, 3)).await.unwrap();
    s.log.append(append(2, 0, 3)).await.unwrap();
    assert_eq!(numbers_from(&*view, view.start()).into_iter().collect::<Vec<_>>(), [(0, vec![0, 1, 2])]);
    assert_eq!(numbers(&*s.log, 0), [0, 1, 2, 3, 4, 5]);
}

pub async fn a_read_begins_in_the_middle_of_a_batch(s: Subject) {
    s.log.append(append(0, 0, 10)).await.unwrap();
    s.log.append(append(1, 0, 10)).await.unwrap();
    s.log.append(append(0, 10, 10)).await.unwrap();
    let view = s.log.view();
    let found = numbers_from(&*view, &Positions(vec![7, 10, 0]));
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [(0, (7..20).collect::<Vec<_>>())]);
    let none = numbers_from(&*view, view.end());
    assert!(none.is_empty());
}

pub async fn resident_rows_are_the_rows_that_are_read(s: Subject) {
    for i in 0..50 {
        s.log.append(append(i as u32 % PARTITIONS, i * 4, 4)).await.unwrap();
    }
    let view = s.log.view();
    for from in [view.start().clone(), Positions(vec![30, 20, 40]), view.end().clone()] {
        let read: Vec<_> = view.read(&from).unwrap().map(|b| b.unwrap()).collect();
        let total: usize = read.iter().map(|b| b.batch.num_rows()).sum();
        assert_eq!(total as u64, view.end().rows_since(&from));
        if let Some(resident) = view.resident(&from) {
            let pairs = |b: &[millstream_buffer::LogBatch]| {
                b.iter().map(|b| (b.partition, b.base_offset, b.batch.clone())).collect::<Vec<_>>()
            };
            assert_eq!(pairs(&resident), pairs(&read));
        }
    }
}

pub async fn an_append_to_many_partitions_is_seen_whole(s: Subject) {
    let log = s.log.clone();
    let writer = tokio::spawn(async move {
        for i in 0..200 {
            let parts = (0..PARTITIONS).map(|partition| Part { partition, batch: rows(i, 1) }).collect();
            log.append(Append { parts, key: None }).await.unwrap();
        }
    });
    let mut seen = 0;
    while seen < 200 {
        let view = s.log.view();
        let end = view.end().clone();
        assert!(end.0.iter().all(|&o| o == end.get(0)), "{end:?}");
        seen = end.get(0);
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

pub async fn a_retried_key_adds_nothing(s: Subject) {
    let first = s.log.append(keyed(1, 0, 5, key(7, 1))).await.unwrap();
    assert_eq!((first.duplicate, first.note), (false, 41));
    s.log.append(append(1, 5, 5)).await.unwrap();
    let again = s.log.append(keyed(1, 0, 5, key(7, 1))).await.unwrap();
    assert!(again.duplicate);
    assert_eq!((again.ranges, again.note), (first.ranges, 41));
    assert_eq!(numbers(&*s.log, 1), (0..10).collect::<Vec<_>>());
}

pub async fn a_key_with_other_content_is_refused(s: Subject) {
    s.log.append(keyed(1, 0, 5, key(7, 1))).await.unwrap();
    let other = s.log.append(keyed(1, 0, 5, key(7, 2))).await;
    assert!(matches!(other, Err(Error::KeyReused)), "{other:?}");
    assert_eq!(numbers(&*s.log, 1).len(), 5);
}

pub async fn a_key_without_rows_is_remembered(s: Subject) {
    let only_key = || Append { parts: Vec::new(), key: Some(key(9, 3)) };
    assert!(!s.log.append(only_key()).await.unwrap().duplicate);
    let again = s.log.append(only_key()).await.unwrap();
    assert_eq!((again.duplicate, again.note, again.ranges.len()), (true, 43, 0));
}

pub async fn of_two_appends_in_flight_with_one_key_one_wins(s: Subject) {
    for round in 0..30 {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let log = s.log.clone();
                tokio::spawn(async move { log.append(keyed(0, round, 1, key(round as u128, 1))).await.unwrap() })
            })
            .collect();
        let mut fresh = 0;
        let mut ranges = Vec::new();
        for task in tasks {
            let appended = task.await.unwrap();
            fresh += usize::from(!appended.duplicate);
            ranges.push(appended.ranges);
        }
        assert_eq!(fresh, 1);
        assert!(ranges.iter().all(|r| r == &ranges[0]));
    }
    assert_eq!(numbers(&*s.log, 0), (0..30).collect::<Vec<_>>());
}

pub async fn subscribers_follow_the_end(s: Subject) {
    let mut ends = s.log.subscribe();
    assert_eq!(*ends.borrow_and_update(), Positions::zero(PARTITIONS));
    s.log.append(append(2, 0, 4)).await.unwrap();
    ends.changed().await.unwrap();
    assert_eq!(*ends.borrow_and_update(), Positions(vec![0, 0, 4]));
}

pub async fn a_new_schema_holds_for_later_appends_only(s: Subject) {
    s.log.append(append(0, 0, 2)).await.unwrap();
    let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("more", DataType::Int64, true)));
    let wider = Arc::new(Schema::new(fields));
    s.log.set_schema(wider.clone()).await.unwrap();
    assert_eq!(s.log.schema(), wider);
    let refused = s.log.append(append(0, 2, 2)).await;
    assert!(matches!(refused, Err(Error::Misfit { .. })), "{refused:?}");
    let mut columns = rows(2, 2).columns().to_vec();
    columns.push(Arc::new(Int64Array::from(vec![1, 2])));
    let batch = RecordBatch::try_new(wider.clone(), columns).unwrap();
    s.log.append(Append { parts: vec![Part { partition: 0, batch }], key: None }).await.unwrap();
    let view = s.log.view();
    let widths: Vec<usize> = view.read(view.start()).unwrap().map(|b| b.unwrap().batch.num_columns()).collect();
    assert_eq!(widths, [2, 3]);
    assert_eq!(numbers(&*s.log, 0), [0, 1, 2, 3]);
}

pub async fn a_trim_keeps_every_row_that_it_must(s: Subject) {
    for i in 0..40 {
        s.log.append(append(i as u32 % PARTITIONS, i * 10, 10)).await.unwrap();
    }
    let upto = Positions(vec![55, 60, 70]);
    s.log.trim(&upto).await.unwrap();
    let view = s.log.view();
    assert!(upto.covers(view.start()), "{:?}", view.start());
    let found = numbers_from(&*view, &upto);
    assert_eq!(found.values().map(|n| n.len() as u64).sum::<u64>(), view.end().rows_since(&upto));
}

pub async fn a_read_before_the_start_is_refused(s: Subject) {
    s.log.append(append(1, 0, 10)).await.unwrap();
    s.log.trim(&s.log.view().end().clone()).await.unwrap();
    let view = s.log.view();
    assert_eq!(view.start(), &Positions(vec![0, 10, 0]));
    let from = Positions(vec![0, 9, 0]);
    let refused = view.read(&from).map(|_| ());
    assert!(matches!(refused, Err(Error::Trimmed { partition: 1, offset: 9, start: 10 })), "{refused:?}");
    assert!(view.resident(&from).is_none());
}

pub async fn a_view_reads_on_after_a_trim(s: Subject) {
    for i in 0..30 {
        s.log.append(append(0, i * 10, 10)).await.unwrap();
    }
    let view = s.log.view();
    s.log.trim(&s.log.view().end().clone()).await.unwrap();
    assert_eq!(s.log.view().start(), &Positions(vec![300, 0, 0]));
    assert_eq!(numbers_from(&*view, view.start()).remove(&0).unwrap(), (0..300).collect::<Vec<_>>());
}

pub async fn offsets_go_on_after_a_trim_of_everything(s: Subject) {
    s.log.append(append(0, 0, 10)).await.unwrap();
    s.log.trim(&Positions(vec![10, 99, 99])).await.unwrap();
    let appended = s.log.append(append(0, 10, 1)).await.unwrap();
    assert_eq!(appended.ranges[0].start, 10);
    assert_eq!(numbers(&*s.log, 0), [10]);
}

pub async fn appends_that_do_not_fit_are_refused(s: Subject) {
    let unknown = s.log.append(append(PARTITIONS, 0, 1)).await;
    assert!(matches!(unknown, Err(Error::Misfit { .. })), "{unknown:?}");
    let twice = Append { parts: [append(0, 0, 1).parts, append(0, 1, 1).parts].concat(), key: None };
    assert!(matches!(s.log.append(twice).await, Err(Error::Misfit { .. })));
    let narrow = rows(0, 1).project(&[0]).unwrap();
    let narrow = Append { parts: vec![Part { partition: 0, batch: narrow }], key: None };
    assert!(matches!(s.log.append(narrow).await, Err(Error::Misfit { .. })));
    assert_eq!(s.log.view().end(), &Positions::zero(PARTITIONS));
}

pub async fn nulls_where_none_may_be_are_refused(s: Subject) {
    let nullable = Arc::new(Schema::new(
        schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>(),
    ));
    let columns: Vec<ArrayRef> = nullable.fields().iter().map(|f| new_null_array(f.data_type(), 2)).collect();
    let batch = RecordBatch::try_new(nullable, columns).unwrap();
    let refused = s.log.append(Append { parts: vec![Part { partition: 0, batch }], key: None }).await;
    assert!(matches!(refused, Err(Error::Misfit { .. })), "{refused:?}");
}

pub async fn a_closed_log_refuses_appends_and_reads_on(s: Subject) {
    s.log.append(append(0, 0, 3)).await.unwrap();
    s.log.close().await.unwrap();
    let refused = s.log.append(append(0, 3, 3)).await;
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    assert!(matches!(s.log.trim(&Positions::zero(PARTITIONS)).await, Err(Error::Closed)));
    assert_eq!(numbers(&*s.log, 0), [0, 1, 2]);
    s.log.close().await.unwrap();
}

pub async fn concurrent_appends_are_all_there_in_each_callers_order(s: Subject) {
    const CALLERS: i64 = 16;
    const EACH: i64 = 40;
    let tasks: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let log = s.log.clone();
            tokio::spawn(async move {
                for i in 0..EACH {
                    log.append(append(caller as u32 % PARTITIONS, caller * 1000 + i, 1)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut total = 0;
    for partition in 0..PARTITIONS {
        let found = numbers(&*s.log, partition);
        total += found.len();
        for caller in 0..CALLERS {
            let own: Vec<i64> = found.iter().filter(|n| *n / 1000 == caller).map(|n| n % 1000).collect();
            let expected = if caller as u32 % PARTITIONS == partition { (0..EACH).collect() } else { Vec::new() };
            assert_eq!(own, expected);
        }
    }
    assert_eq!(total as i64, CALLERS * EACH);
}

pub async fn large_and_small_appends_keep_their_order(s: Subject) {
    let sizes = [1, 1500, 2, 3, 1000, 999, 4096, 1];
    let mut first = 0;
    let mut waiting = Vec::new();
    for size in sizes {
        waiting.push(s.log.append(append(0, first, size)));
        first += size as i64;
    }
    // Polled in turn, they reach the log in this order.
    for appended in futures::future::join_all(waiting).await {
        appended.unwrap();
    }
    assert_eq!(numbers(&*s.log, 0), (0..first).collect::<Vec<_>>());
}

pub async fn the_size_of_what_is_left_shrinks(s: Subject) {
    for i in 0..20 {
        s.log.append(append(0, i * 100, 100)).await.unwrap();
    }
    let view = s.log.view();
    let (all, all_bytes) = view.size_since(view.start());
    let (half, half_bytes) = view.size_since(&Positions(vec![1000, 0, 0]));
    assert_eq!((all, half, view.size_since(view.end()).0), (2000, 1000, 0));
    assert!(half_bytes <= all_bytes);
}

fn many_types() -> Vec<DataType> {
    let item = |t: DataType| Arc::new(Field::new("item", t, true));
    vec![
        DataType::Boolean,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(38, 10),
        DataType::Utf8,
        DataType::Utf8View,
        DataType::LargeUtf8,
        DataType::Binary,
        DataType::Date32,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::FixedSizeBinary(16),
        DataType::List(item(DataType::Utf8)),
        DataType::List(item(DataType::List(item(DataType::Int32)))),
        DataType::Struct(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Boolean, true)].into()),
    ]
}

pub async fn every_type_comes_back_as_it_went(s: Subject) {
    let fields: Vec<Field> =
        many_types().into_iter().enumerate().map(|(i, t)| Field::new(format!("c{i}"), t, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    s.log.set_schema(schema.clone()).await.unwrap();
    let mut expected = Vec::new();
    for count in [1, 7, 2000] {
        let columns: Vec<ArrayRef> = schema.fields().iter().map(|f| column(f.data_type(), count)).collect();
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        // A slice, so that arrays begin in the middle of their buffers.
        let batch = if count > 2 { batch.slice(1, count - 2) } else { batch };
        s.log.append(Append { parts: vec![Part { partition: 0, batch: batch.clone() }], key: None }).await.unwrap();
        expected.push(batch);
    }
    let view = s.log.view();
    let read: Vec<RecordBatch> = view.read(view.start()).unwrap().map(|b| b.unwrap().batch).collect();
    assert_eq!(read, expected);
}

/// A column of mixed values and nulls, cast from numbers where the type allows, else built of nulls and defaults.
fn column(data_type: &DataType, count: usize) -> ArrayRef {
    let numbers: Int64Array = (0..count as i64).map(|i| (i % 3 != 1).then_some(i % 100)).collect();
    match arrow::compute::cast(&numbers, data_type) {
        Ok(column) if column.null_count() < count || count < 2 => column,
        _ => nested(data_type, count),
    }
}

fn nested(data_type: &DataType, count: usize) -> ArrayRef {
    use arrow::array::{FixedSizeBinaryArray, IntervalMonthDayNanoArray, ListArray, StructArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::IntervalMonthDayNano;
    match data_type {
        DataType::List(item) => {
            let offsets = OffsetBuffer::from_lengths((0..count).map(|i| i % 4));
            let values = column(item.data_type(), offsets.last().map_or(0, |&o| o as usize));
            Arc::new(ListArray::new(item.clone(), offsets, values, None))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|f| column(f.data_type(), count)).collect();
            Arc::new(StructArray::new(fields.clone(), columns, None))
        }
        DataType::Interval(_) => Arc::new(
            (0..count as i64).map(|i| Some(IntervalMonthDayNano::new(1, 2, i))).collect::<IntervalMonthDayNanoArray>(),
        ),
        DataType::FixedSizeBinary(_) => {
            let values = (0..count).map(|i| [i as u8; 16]);
            Arc::new(FixedSizeBinaryArray::try_from_iter(values).unwrap())
        }
        other => new_null_array(other, count),
    }
}

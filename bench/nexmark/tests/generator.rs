//! Holds the generator to what is published of Nexmark, and to being the same however its events are asked for.

#![expect(clippy::unwrap_used, reason = "a test fails where its own preparation fails")]

use std::collections::{HashMap, HashSet};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use millstream_nexmark::schedule::{AUCTION, BID, FIRST_ID, HOT_OF, LEAD, PERSON};
use millstream_nexmark::{Config, Events, Generator, schema};

fn generator() -> Generator {
    Generator::new(Config { seed: 42, ..Config::default() })
}

fn numbers<'a>(batch: &'a RecordBatch, column: &str) -> &'a [i64] {
    batch[column].as_primitive::<Int64Type>().values()
}

fn times<'a>(batch: &'a RecordBatch, column: &str) -> &'a [i64] {
    batch[column].as_primitive::<TimestampMicrosecondType>().values()
}

fn texts<'a>(batch: &'a RecordBatch, column: &str) -> Vec<&'a str> {
    batch[column].as_string::<i32>().iter().flatten().collect()
}

/// Bytes of a row on average: 8 a number, the length of a text.
fn average_bytes(batch: &RecordBatch) -> usize {
    let bytes = |i: usize| match batch.column(i).as_string_opt::<i32>() {
        Some(text) => text.value_data().len(),
        None => 8 * batch.num_rows(),
    };
    (0..batch.num_columns()).map(bytes).sum::<usize>() / batch.num_rows()
}

fn joined(parts: &[Events]) -> Events {
    let all =
        |of: fn(&Events) -> &RecordBatch| concat_batches(of(&parts[0]).schema_ref(), parts.iter().map(of)).unwrap();
    Events { person: all(|e| &e.person), auction: all(|e| &e.auction), bid: all(|e| &e.bid) }
}

#[test]
fn any_cut_of_a_range_gives_the_same_events() {
    let generator = generator();
    let whole = generator.batch(0..5_003);
    for cuts in [vec![1, 2, 3, 4, 5], vec![49, 50, 51, 53, 54, 55], vec![1_000, 2_517], (0..5_000).step_by(7).collect()]
    {
        let ends = cuts.iter().copied().chain([5_003]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let parts: Vec<Events> = starts.zip(ends).map(|(start, end)| generator.batch(start..end)).collect();
        assert_eq!(joined(&parts), whole, "{} cuts", cuts.len());
    }
}

#[test]
fn threads_make_the_same_events_as_one() {
    let generator = generator();
    let make = &|part: u64| generator.batch(part * 5_000..(part + 1) * 5_000);
    let parts: Vec<Events> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..4).map(|part| scope.spawn(move || make(part))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(joined(&parts), generator.batch(0..20_000));
}

#[test]
fn a_seed_has_its_own_events_and_always_the_same() {
    let of = |seed| Generator::new(Config { seed, ..Config::default() }).batch(0..1_000);
    assert_eq!(of(7), of(7));
    assert_ne!(numbers(&of(7).bid, "price"), numbers(&of(8).bid, "price"));
    assert_ne!(texts(&of(7).person, "email_address"), texts(&of(8).person, "email_address"));
}

#[test]
fn of_fifty_events_one_is_a_person_three_are_auctions_and_46_bids() {
    let events = generator().batch(1_000_000..1_100_000);
    assert_eq!((events.person.num_rows(), events.auction.num_rows(), events.bid.num_rows()), (2_000, 6_000, 92_000));
    assert_eq!(events.person.schema(), schema::person());
    assert_eq!(events.auction.schema(), schema::auction());
    assert_eq!(events.bid.schema(), schema::bid());
}

#[test]
fn ids_count_up_from_a_thousand() {
    let events = generator().batch(0..10_000);
    assert!(numbers(&events.person, "id").iter().copied().eq(1_000..1_200));
    assert!(numbers(&events.auction, "id").iter().copied().eq(1_000..1_600));
}

#[test]
fn every_id_that_is_named_exists_or_will_shortly() {
    let generator = generator();
    let events = generator.batch(0..200_000);
    let within = |named: &[i64], last: Vec<u64>, active: u64| {
        for (named, last) in named.iter().zip(last) {
            let base = *named as u64 - FIRST_ID;
            assert!(base <= last + LEAD, "{base} is named when {last} is the last");
            assert!(base + active.max(HOT_OF) >= last, "{base} is named long before {last}");
        }
    };
    let bids: Vec<u64> = BID.events(&(0..200_000)).collect();
    let auctions: Vec<u64> = AUCTION.events(&(0..200_000)).collect();
    within(numbers(&events.bid, "auction"), bids.iter().map(|n| AUCTION.last(*n)).collect(), 100);
    within(numbers(&events.bid, "bidder"), bids.iter().map(|n| PERSON.last(*n)).collect(), 1_000);
    within(numbers(&events.auction, "seller"), auctions.iter().map(|n| PERSON.last(*n)).collect(), 1_000);
}

/// The share of rows whose id is the `hot` one of its hundred.
fn hot_share(ids: &[i64], hot: i64) -> f64 {
    ids.iter().filter(|id| *id % HOT_OF as i64 == hot).count() as f64 / ids.len() as f64
}

#[test]
fn half_the_bids_are_on_hot_auctions_and_three_in_four_by_hot_bidders_and_sellers() {
    let events = generator().batch(1_000_000..1_200_000);
    let auction = hot_share(numbers(&events.bid, "auction"), 0);
    let bidder = hot_share(numbers(&events.bid, "bidder"), 1);
    let seller = hot_share(numbers(&events.auction, "seller"), 0);
    // The others hit the hot one by chance: one in a hundred.
    assert!((0.50..0.51).contains(&auction), "{auction}");
    assert!((0.745..0.76).contains(&bidder), "{bidder}");
    assert!((0.74..0.765).contains(&seller), "{seller}");
}

#[test]
fn without_hot_ones_all_active_are_alike() {
    let config = Config { hot_auction_ratio: 1, hot_bidder_ratio: 0, active_people: 100, ..Config::default() };
    let bids = Generator::new(config).bids(1_000_000..1_100_000);
    assert!(hot_share(numbers(&bids, "auction"), 0) < 0.02);
    let mut of_bidder: HashMap<i64, u32> = HashMap::new();
    numbers(&bids, "bidder").iter().for_each(|bidder| *of_bidder.entry(*bidder).or_default() += 1);
    assert!(of_bidder.values().all(|bids| *bids < 1_200), "{:?}", of_bidder.values().max());
}

#[test]
fn event_time_advances_evenly_and_every_event_has_its_own() {
    let config = Config { first_event_time_us: 1_000, events_per_second: 1_000_000, ..Config::default() };
    let generator = Generator::new(config);
    let events = generator.batch(0..100_000);
    let mut all: Vec<i64> = [&events.person, &events.auction, &events.bid]
        .into_iter()
        .flat_map(|batch| times(batch, "date_time").to_vec())
        .collect();
    all.sort_unstable();
    assert!(all.iter().copied().eq(1_000..101_000));
    assert_eq!(generator.time_us(99_999), 100_999);
}

#[test]
fn out_of_order_times_are_the_same_times() {
    let config = Config { out_of_order_group: 1_000, events_per_second: 1_000_000, ..Config::default() };
    let shuffled = Generator::new(config.clone());
    let in_order = Generator::new(Config { out_of_order_group: 1, ..config });
    let of = |generator: &Generator| (5_000..6_000).map(|n| generator.time_us(n)).collect::<Vec<_>>();
    assert_ne!(of(&shuffled), of(&in_order));
    assert_eq!(of(&shuffled).into_iter().collect::<HashSet<_>>(), of(&in_order).into_iter().collect());
    let (shuffled, in_order) = (shuffled.bids(0..5_000), in_order.bids(0..5_000));
    assert_eq!(numbers(&shuffled, "price"), numbers(&in_order, "price"));
}

#[test]
fn an_auction_is_open_until_a_hundred_more_have_opened_on_average() {
    let auctions = generator().auctions(0..500_000);
    let open: Vec<i64> =
        times(&auctions, "expires").iter().zip(times(&auctions, "date_time")).map(|(e, t)| e - t).collect();
    // 100 auctions are 1,666 events, at 10,000 a second.
    assert!(open.iter().all(|us| (1..=2 * 166_600).contains(us)));
    let mean = open.iter().sum::<i64>() / open.len() as i64;
    assert!((165_000..168_000).contains(&mean), "{mean}");
    assert!(numbers(&auctions, "reserve").iter().zip(numbers(&auctions, "initial_bid")).all(|(r, i)| r > i));
    assert!(numbers(&auctions, "category").iter().all(|c| (10..15).contains(c)));
}

#[test]
fn events_are_as_large_as_published_and_smaller_without_extra() {
    let with = generator().batch(0..100_000);
    // Persons and auctions leave out their time, a bid its channel and URL.
    let (person, auction) = (average_bytes(&with.person), average_bytes(&with.auction));
    assert!((206..=208).contains(&person) && (505..=508).contains(&auction), "{person}, {auction}");
    let bid = average_bytes(&with.bid);
    assert!((165..185).contains(&bid), "{bid}");
    let without = Generator::new(Config { extra: false, ..Config::default() }).batch(0..100_000);
    let bid = average_bytes(&without.bid);
    assert!((95..110).contains(&bid), "{bid}");
    assert!(texts(&without.auction, "extra").iter().all(|extra| extra.is_empty()));
}

#[test]
fn half_the_bids_come_through_four_channels() {
    let bids = generator().bids(0..100_000);
    let channels = texts(&bids, "channel");
    let hot = channels.iter().filter(|c| ["Google", "Facebook", "Baidu", "Apple"].contains(c)).count();
    assert!((45_000..47_000).contains(&hot), "{hot}");
    let pairs: HashSet<(&str, &str)> = channels.iter().copied().zip(texts(&bids, "url")).collect();
    assert_eq!(pairs.len(), channels.iter().collect::<HashSet<_>>().len(), "a channel has one URL");
}

#[test]
fn persons_have_what_the_queries_ask_for() {
    let persons = generator().persons(0..60_000);
    let states = texts(&persons, "state");
    let asked = states.iter().filter(|s| ["OR", "ID", "CA"].contains(s)).count();
    assert!((540..660).contains(&asked), "{asked} of {}", states.len());
    assert!(texts(&persons, "credit_card").iter().all(|c| c.len() == 19 && c.split(' ').all(|part| part.len() == 4)));
    assert!(texts(&persons, "email_address").iter().all(|e| e.contains('@') && e.ends_with(".com")));
}

#[test]
fn an_empty_range_has_no_rows() {
    let events = generator().batch(70..70);
    assert_eq!((events.person.num_rows(), events.auction.num_rows(), events.bid.num_rows()), (0, 0, 0));
    assert_eq!(generator().bids(50..53).num_rows(), 0);
}

#[test]
fn the_side_input_has_a_row_for_every_auction_number_below_ten_thousand() {
    let table = Generator::side_input();
    assert_eq!(table.num_rows(), 10_000);
    assert!(numbers(&table, "key").iter().zip(texts(&table, "value")).all(|(key, value)| key.to_string() == value));
}

//! Owns the requests of a feed: Arrow IPC, made before the clock runs where making them takes time.

use std::borrow::Cow;
use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::ipc::writer::StreamWriter;
use millstream_nexmark::{Config, Generator, QUERIES};

use crate::arguments::{Arguments, Error};
use crate::connection::render;
use crate::keyed::{Order, keyed};

const ARROW: &str = "application/vnd.apache.arrow.stream";

/// Where requests come from.
pub(super) enum Bodies {
    /// The events of Nexmark that a query reads, in order; and what is sent ahead of them.
    Made { before: Vec<Vec<u8>>, requests: Vec<Vec<u8>> },
    /// Rows with keys, made as they are sent, which costs little.
    Keyed { keys: u64, order: Order, numbers: Range<u64>, each: u64 },
}

impl Bodies {
    /// As the command line says.
    pub(super) fn new(arguments: &Arguments) -> Result<Self, Error> {
        let (first, events): (u64, u64) = (arguments.number("first", 0)?, arguments.number("events", 1_000_000)?);
        let each = arguments.number("request-events", 50_000_u64)?.max(1);
        let numbers = first..first + events;
        if arguments.optional("keys").is_some() {
            let order = if arguments.number("sequential", 0)? > 0 { Order::Sequential } else { Order::Random };
            return Ok(Self::Keyed { keys: arguments.number("keys", 1)?, order, numbers, each });
        }
        let name = arguments.text("query")?;
        let query = QUERIES.iter().find(|q| q.name() == name).ok_or_else(|| format!("no query {name}"))?;
        let events_per_second = arguments.number("per-second", 100_000)?;
        let generator = Generator::new(Config { seed: 42, events_per_second, ..Config::default() });
        Self::nexmark(&generator, &query.reads(), numbers, each)
    }

    fn nexmark(generator: &Generator, streams: &[&str], numbers: Range<u64>, each: u64) -> Result<Self, Error> {
        let (mut before, mut requests) = (Vec::new(), Vec::new());
        if streams.contains(&"side_input") {
            before.push(request("side_input", &Generator::side_input())?);
        }
        for part in parts(&numbers, each) {
            // Who is named in an event was there before it.
            for stream in ["person", "auction", "bid"].into_iter().filter(|s| streams.contains(s)) {
                let batch = match stream {
                    "person" => generator.persons(part.clone()),
                    "auction" => generator.auctions(part.clone()),
                    _ => generator.bids(part.clone()),
                };
                if batch.num_rows() > 0 {
                    requests.push(request(stream, &batch)?);
                }
            }
        }
        Ok(Self::Made { before, requests })
    }

    /// What goes ahead of the clock.
    pub(super) fn before(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Made { before, .. } => before.clone(),
            Self::Keyed { .. } => vec![],
        }
    }

    /// The request of that number, if there are so many.
    pub(super) fn request(&self, number: usize) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Made { requests, .. } => requests.get(number).map(|r| Cow::Borrowed(r.as_slice())),
            Self::Keyed { keys, order, numbers, each } => {
                let start = numbers.start + number as u64 * each;
                let rows = start..numbers.end.min(start + each);
                if rows.is_empty() {
                    return None;
                }
                request("keyed", &keyed(*keys, *order, rows)).ok().map(Cow::Owned)
            }
        }
    }

    /// Bytes that are sent in all, as far as they are there.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Made { requests, .. } => requests.iter().map(Vec::len).sum(),
            Self::Keyed { numbers, .. } => (numbers.end - numbers.start) as usize * 16,
        }
    }
}

fn parts(numbers: &Range<u64>, each: u64) -> impl Iterator<Item = Range<u64>> {
    let end = numbers.end;
    numbers.clone().step_by(each as usize).map(move |start| start..end.min(start + each))
}

/// The whole request that appends a batch.
fn request(stream: &str, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
    let mut writer = StreamWriter::try_new(Vec::with_capacity(batch.get_array_memory_size()), &batch.schema())?;
    writer.write(batch)?;
    Ok(render(&format!("/v1/streams/{stream}"), ARROW, writer.into_inner()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_in_one_request_and_streams_nobody_reads_are_not_sent() {
        let generator = Generator::new(Config::default());
        let bodies = |streams: &[&str]| Bodies::nexmark(&generator, streams, 0..1_050, 500).unwrap();
        assert_eq!((0..).map_while(|n| bodies(&["bid"]).request(n).map(|_| ())).count(), 3);
        assert_eq!((0..).map_while(|n| bodies(&["person", "auction"]).request(n).map(|_| ())).count(), 6);
        assert_eq!(bodies(&["bid", "side_input"]).before().len(), 1);
        let keyed = Bodies::Keyed { keys: 10, order: Order::Random, numbers: 0..1_050, each: 500 };
        assert_eq!((0..).map_while(|n| keyed.request(n).map(|_| ())).count(), 3);
    }
}

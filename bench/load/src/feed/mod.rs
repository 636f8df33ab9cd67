//! Measures how fast events become a view's: from the first request until a read behind the last one's position is
//! answered.

mod bodies;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::Figures;
use crate::arguments::{Arguments, Error};
use crate::connection::Connection;
use bodies::Bodies;

/// What all connections share.
struct Feed {
    address: String,
    bodies: Bodies,
    /// The next request.
    next: Cell<usize>,
    accepted: Cell<u64>,
    refused: Cell<u64>,
    /// Per stream, the furthest position that was acknowledged.
    positions: RefCell<BTreeMap<String, (u64, String)>>,
}

/// Runs `feed`.
pub async fn run(arguments: Arguments) -> Figures {
    let address = arguments.text("addr")?.to_owned();
    let prepared = Instant::now();
    let bodies = Bodies::new(&arguments)?;
    let mut connection = Connection::open(&address).await?;
    for request in bodies.before() {
        connection.insist(&request).await?;
    }
    let preparing = prepared.elapsed().as_secs_f64();
    let feed = Rc::new(Feed {
        address,
        bodies,
        next: Cell::new(0),
        accepted: Cell::new(0),
        refused: Cell::new(0),
        positions: RefCell::default(),
    });
    let began = Instant::now();
    let connections: u64 = arguments.number("connections", 3)?;
    let tasks: Vec<_> = (0..connections).map(|_| tokio::task::spawn_local(Rc::clone(&feed).drive())).collect();
    for task in tasks {
        task.await??;
    }
    let acknowledged = began.elapsed().as_secs_f64();
    if let Some(view) = arguments.optional("view") {
        let after: Vec<String> = feed.positions.borrow().values().map(|(_, token)| token.clone()).collect();
        // The one from before may have been silent for so long that the node closed it.
        let mut connection = Connection::open(&feed.address).await?;
        connection.sql(&format!("SELECT 1 AS one FROM {view} LIMIT 1"), &after).await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(json!({
        "connections": connections,
        "events": feed.accepted.get(),
        "bytes": feed.bodies.bytes(),
        "preparing_s": preparing,
        "acknowledged_s": acknowledged,
        "seconds": seconds,
        "events_per_s": feed.accepted.get() as f64 / seconds,
        "refused_requests": feed.refused.get(),
    }))
}

impl Feed {
    /// Sends requests in turn until there are no more.
    async fn drive(self: Rc<Self>) -> Result<(), Error> {
        let mut connection = Connection::open(&self.address).await?;
        loop {
            let number = self.next.get();
            self.next.set(number + 1);
            let Some(request) = self.bodies.request(number) else { return Ok(()) };
            let (reply, refused) = connection.insist(&request).await?;
            self.refused.set(self.refused.get() + refused);
            self.note(&serde_json::from_str(&reply)?)?;
        }
    }

    fn note(&self, reply: &Value) -> Result<(), Error> {
        let accepted = reply["accepted"].as_u64().unwrap_or_default();
        if reply["quarantined"] != 0 {
            return Err(format!("rows were refused: {reply}").into());
        }
        self.accepted.set(self.accepted.get() + accepted);
        let token = reply["position"].as_str().unwrap_or_default();
        // Streams of one partition: `bid:0-46000`.
        let place = token.rsplit_once('-').and_then(|(stream, end)| Some((stream, end.parse::<u64>().ok()?)));
        if let Some((stream, end)) = place {
            let mut positions = self.positions.borrow_mut();
            let known = positions.entry(stream.to_owned()).or_default();
            if end > known.0 {
                *known = (end, token.to_owned());
            }
        }
        Ok(())
    }
}

//! The PostgreSQL wire: psql, drivers and tools of every language talk to the engine through it.
//!
//! One task per connection, with a session of its own. Rows are written as the query makes them, at the speed the client
//! reads them. The query ends when the client leaves, sends a cancel request or runs into its timeout. Both query
//! protocols are spoken, with text and binary values. Any user and database name is let in without a password: the caller
//! listens on loopback only.
//!
//! What is not here: TLS (a request for it is declined), notifications, cursors that go back.

mod connection;
mod control;
mod copy_in;
mod copy_out;
mod cursor;
mod cursor_statement;
mod extended;
mod oid;
mod report;
mod row;
mod simple;
mod startup;
mod value;
mod wire;

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use futures::FutureExt;
use millstream_process::{Canceller, Engine};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use wire::Wire;

/// What one listener may use.
#[derive(Debug, Clone)]
pub struct PgLimits {
    /// Connections at once; one more is told `53300` and closed.
    pub max_connections: usize,
    /// The largest message of a client.
    pub max_message_bytes: usize,
    /// How long a new connection may take to introduce itself.
    pub startup_timeout: Duration,
    /// How long statements that run at shutdown may still take.
    pub drain_timeout: Duration,
}

impl Default for PgLimits {
    fn default() -> Self {
        Self {
            max_connections: 500,
            max_message_bytes: 64 << 20,
            startup_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// Serves connections until `shutdown` is done; then statements that run may end, and idle clients are told.
pub async fn serve(listener: TcpListener, engine: Engine, shutdown: impl Future) {
    serve_within(PgLimits::default(), listener, engine, shutdown).await;
}

/// [`serve`] with other limits.
pub async fn serve_within(limits: PgLimits, listener: TcpListener, engine: Engine, shutdown: impl Future) {
    let (stopping, stop) = watch::channel(false);
    let server = Arc::new(Server {
        engine,
        slots: Arc::new(Semaphore::new(limits.max_connections)),
        limits,
        running: Mutex::new(HashMap::new()),
        next_process_id: AtomicI32::new(1),
        stop,
    });
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(Arc::clone(&server).connection(socket));
                }
                Err(error) => {
                    tracing::warn!(%error, "a PostgreSQL connection could not be accepted");
                    // Out of file descriptors, most likely: waiting lets some be closed.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = &mut shutdown => break,
        }
    }
    drop(listener);
    let _ = stopping.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(server.limits.drain_timeout, drained).await.is_err() {
        tracing::warn!(connections = connections.len(), "PostgreSQL statements were cut off at shutdown");
        connections.shutdown().await;
    }
}

/// What the connections of one listener share.
struct Server {
    engine: Engine,
    limits: PgLimits,
    slots: Arc<Semaphore>,
    /// By process id: the secret that a cancel request must know, and what it cancels.
    running: Mutex<HashMap<i32, (i32, Canceller)>>,
    next_process_id: AtomicI32,
    /// Turns true at shutdown.
    stop: watch::Receiver<bool>,
}

impl Server {
    async fn connection(self: Arc<Self>, socket: TcpStream) {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok();
        // A defect met on one connection ends that connection alone.
        let served = AssertUnwindSafe(self.serve_connection(socket, slot)).catch_unwind().await;
        match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a PostgreSQL connection ended early"),
            Err(_) => tracing::error!("a PostgreSQL connection panicked and was closed"),
        }
    }

    async fn serve_connection(
        self: &Arc<Self>,
        socket: TcpStream,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Result<(), wire::WireError> {
        // Answers are written in whole, so that there is nothing to wait for.
        socket.set_nodelay(true)?;
        let mut wire = Wire::new(socket, self.limits.max_message_bytes, self.stop.clone());
        let greeting = startup::greet(&mut wire, self);
        let Ok(greeted) = tokio::time::timeout(self.limits.startup_timeout, greeting).await else {
            return Ok(());
        };
        let Some(parameters) = greeted? else {
            return Ok(());
        };
        if slot.is_none() {
            let message = format!("sorry, too many clients already: {} is the limit", self.limits.max_connections);
            wire.send(report::fatal("53300", &message))?;
            return wire.flush().await;
        }
        startup::welcome(wire, self, &parameters).await
    }

    /// Makes a session known to cancel requests, until the guard goes.
    fn register(self: &Arc<Self>, canceller: Canceller) -> Registered {
        let process_id = self.next_process_id.fetch_add(1, Ordering::Relaxed);
        let secret = random_secret();
        self.running.lock().insert(process_id, (secret, canceller));
        Registered { server: Arc::clone(self), process_id, secret }
    }

    /// Cancels what a session runs, if the secret is its own.
    fn cancel(&self, process_id: i32, secret: i32) {
        let canceller = match self.running.lock().get(&process_id) {
            Some((known, canceller)) if *known == secret => canceller.clone(),
            _ => return,
        };
        canceller.cancel();
    }
}

/// A session that cancel requests can name.
struct Registered {
    server: Arc<Server>,
    process_id: i32,
    secret: i32,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.server.running.lock().remove(&self.process_id);
    }
}

/// A number that other clients cannot guess: the standard library seeds its hashers from the system's randomness.
fn random_secret() -> i32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let bits = RandomState::new().build_hasher().finish();
    i32::from_be_bytes([(bits >> 24) as u8, (bits >> 16) as u8, (bits >> 8) as u8, bits as u8])
}

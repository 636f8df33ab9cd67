//! Owns the threads that plan and run queries, apart from those that serve the network.
//!
//! A query is CPU work for milliseconds at a time. On threads of its own it cannot hold up an ingest request that
//! waits for nothing but a socket and an fsync.

use millstream_catalog::fault::Code;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::{Error, Result};

/// The stack of a thread that plans or runs statements, bytes; only what is used takes memory. A statement's tree is
/// gone down recursively, in places that look for no more stack when theirs ends.
pub const STACK_BYTES: usize = 32 << 20;
/// Stack that the planner must find at each of the places where it looks, bytes. What lies between two of them takes
/// hundreds of kilobytes in a build without optimization, and with the planner's own choice, 128 KiB, a query within
/// another could end the process.
const STACK_LEFT: usize = 4 << 20;

/// A runtime for queries; it goes with the engine.
#[derive(Debug)]
pub(crate) struct QueryWorkers {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl QueryWorkers {
    /// Starts one thread per core.
    pub(crate) fn start() -> Result<Self> {
        recursive::set_minimum_stack_size(STACK_LEFT);
        recursive::set_stack_allocation_size(STACK_BYTES);
        let runtime = Builder::new_multi_thread()
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|e| Error::rejected(Code::IoError, format!("cannot start the query threads: {e}")))?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
    }

    /// Starts tasks on the query threads.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for QueryWorkers {
    fn drop(&mut self) {
        // A runtime must not be waited for where others are being run.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

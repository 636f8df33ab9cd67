//! Owns the log lines: where they go, how they look, and that a panic is one of them.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogConfig;
use crate::failure::{Failure, Result};
use millstream_catalog::fault::Code;

/// Sends log lines to stderr. Called once, before anything is started.
pub fn start(config: &LogConfig) -> Result<()> {
    let filter = EnvFilter::try_new(&config.level).map_err(|error| {
        Failure::new(
            Code::InvalidRequest,
            format!("log.level {:?} is not a level such as info, or target=level pairs: {error}", config.level),
        )
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if config.json {
        lines.json().flatten_event(true).init();
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).init();
    }
    log_panics();
    Ok(())
}

fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(place, thread = thread.name(), %backtrace, "panic: {message}");
    }));
}

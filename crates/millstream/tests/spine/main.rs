//! Drives the real binary from end to end: what producers send, what queries answer, what bad input and bad luck get.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a run tells what it does and what the node said")]

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod command_line;
mod formats;
mod lifecycle;
mod overload;
mod serving;
mod store_trouble;

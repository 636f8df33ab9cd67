//! The binary: the command line, and the node that starts and stops the rooms.

mod args;
mod client;
mod config;
mod demo;
mod failure;
mod ingest;
mod node;
mod shell;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Verb};
use failure::{Failure, Result};

/// Queries free and ask for megabytes at a time, which the system's allocator gives back to the kernel and gets again
/// as pages to clear.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(failure) => {
            complain(&failure);
            failure.exit_code()
        }
    }
}

fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Verb::Serve(serve) => node::serve(serve),
        Verb::Config(serve) => print_config(serve),
        Verb::Sql(sql) => shell::run(sql),
        Verb::Ingest(ingest) => ingest::run(&ingest),
        Verb::Demo(demo) => demo::run(demo),
    }
}

#[expect(clippy::print_stderr, reason = "what a command says when it fails")]
fn complain(failure: &Failure) {
    eprintln!("millstream: {failure}");
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn print_config(args: args::ServeArgs) -> Result<ExitCode> {
    let sources = args.gather()?;
    let (config, given) = config::Config::resolve(&sources)?;
    print!("{}", config::to_toml(&config, &given, &sources));
    Ok(ExitCode::SUCCESS)
}

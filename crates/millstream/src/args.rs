//! Owns the command line: subcommands and their flags. The flags of `serve` come from the table of settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::config::settings::{Kind, SETTINGS};
use crate::config::{Result, Sources};

/// Where a node listens when nothing is said.
const DEFAULT_URL: &str = "http://127.0.0.1:7400";

/// Events in over HTTP, a durable log, a Delta lake, SQL out: a data platform in one binary.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, max_term_width = 110)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Verb,
}

/// What the binary does.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a node until SIGTERM or Ctrl-C
    Serve(ServeArgs),
    /// Print the configuration as TOML, with where each value comes from
    Config(ServeArgs),
    /// Run SQL on a node, or talk to it line by line
    Sql(SqlArgs),
    /// Load files into a stream, each exactly once
    Ingest(IngestArgs),
    /// Run a node and replay a year of real flights to it
    Demo(DemoArgs),
}

/// A node's flags: `--config` and one for every setting.
#[derive(Debug, Default)]
pub struct ServeArgs {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Settings by key.
    pub flags: BTreeMap<&'static str, String>,
}

impl ServeArgs {
    /// The flags with the file and the variables.
    pub fn gather(self) -> Result<Sources> {
        Sources::gather(self.flags, self.config)
    }
}

impl clap::Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("the configuration file [default: ./millstream.toml, if it is there]");
        SETTINGS.iter().fold(command.arg(config), |command, setting| {
            let default =
                if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
            let arg = Arg::new(setting.key)
                .long(setting.flag)
                .value_name(value_name(setting.kind))
                .help(format!("{}{default}", setting.doc));
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if let Some(file) = matches.get_one::<PathBuf>("config") {
            self.config = Some(file.clone());
        }
        for setting in SETTINGS {
            if let Some(text) = matches.get_one::<String>(setting.key) {
                self.flags.insert(setting.key, text.clone());
            }
        }
        Ok(())
    }
}

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Path => "DIR",
        Kind::Address => "ADDRESS",
        Kind::Url => "URL",
        Kind::Bytes => "SIZE",
        Kind::Duration => "TIME",
        Kind::Count => "N",
        Kind::Choice(_) | Kind::Text => "WORD",
    }
}

/// `millstream sql`.
#[derive(Debug, clap::Args)]
pub struct SqlArgs {
    /// The node
    #[arg(long, default_value = DEFAULT_URL, env = "MILLSTREAM_URL")]
    pub url: String,
    /// Run these statements and exit
    #[arg(short = 'c', value_name = "SQL")]
    pub commands: Vec<String>,
    /// Run the statements of a file and exit; - is stdin
    #[arg(short = 'f', value_name = "FILE", conflicts_with = "commands")]
    pub file: Option<PathBuf>,
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    Table,
    /// An array of objects, one a line
    Json,
    /// Comma separated, with a header
    Csv,
}

/// `millstream ingest`.
#[derive(Debug, clap::Args)]
pub struct IngestArgs {
    /// The stream
    pub stream: String,
    /// The files: .parquet, .csv, .ndjson or .jsonl, the text ones also as .gz or .zst
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The node
    #[arg(long, default_value = DEFAULT_URL, env = "MILLSTREAM_URL")]
    pub url: String,
    /// The files' format, where their names do not tell
    #[arg(long, value_enum)]
    pub format: Option<FileFormat>,
    /// Requests under way at once; with 1, rows keep the file's order
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub parallel: u8,
    /// Load a file again that was loaded before: a word that makes this load another one
    #[arg(long, value_name = "WORD")]
    pub again: Option<String>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// Apache Parquet
    Parquet,
    /// Comma separated, with a header
    Csv,
    /// A JSON object a line
    Ndjson,
}

/// `millstream demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Exit after the answers
    #[arg(long)]
    pub once: bool,
    /// The folder with the streams, the data and the questions
    #[arg(long, default_value = "blueprints/flights", value_name = "DIR")]
    pub blueprint: PathBuf,
    /// Events a second, at most
    #[arg(long, value_name = "N")]
    pub rate: Option<u64>,
    /// The node's own flags; its data directory is ./millstream-demo by default
    #[command(flatten)]
    pub serve: ServeArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_flag_reaches_its_setting() {
        let args = Args::try_parse_from(["millstream", "serve", "--tier-age", "1s", "--data", "x"]).unwrap();
        let Verb::Serve(serve) = args.command else { panic!("not serve") };
        assert_eq!(serve.flags, [("data", "x".to_owned()), ("tier.age", "1s".to_owned())].into());
    }
}

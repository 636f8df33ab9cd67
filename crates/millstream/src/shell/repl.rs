//! Owns the dialogue: a line at a time, with history and completion.

use std::path::PathBuf;
use std::process::ExitCode;

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::runtime::Runtime;

use super::complete::Assistant;
use super::meta::{self, Meta};
use super::{Shell, Trouble, split};
use crate::failure::{Failure, Result};
use millstream_catalog::fault::Code;

const PROMPT: &str = "millstream> ";
const HISTORY_FILE: &str = ".millstream_history";

/// Talks until the user leaves.
#[expect(clippy::print_stdout, reason = "a dialogue")]
pub fn run(mut shell: Shell, url: &str, runtime: &Runtime) -> Result<ExitCode> {
    let broken = |e: ReadlineError| Failure::new(Code::IoError, format!("cannot use the terminal: {e}"));
    let mut editor = Editor::<Assistant, FileHistory>::with_config(
        Config::builder()
            .completion_type(CompletionType::List)
            .auto_add_history(true)
            .max_history_size(1000)
            .map_err(broken)?
            .build(),
    )
    .map_err(broken)?;
    editor.set_helper(Some(Assistant { names: runtime.block_on(shell.names()) }));
    let history = history_file();
    if let Some(file) = &history {
        // There is none yet the first time.
        let _ = editor.load_history(file);
    }
    println!("millstream {} at {url}; \\? for help", env!("CARGO_PKG_VERSION"));
    loop {
        match editor.readline(PROMPT) {
            Ok(text) => {
                if !answer(&mut shell, &text, runtime) {
                    break;
                }
                if changes_names(&text)
                    && let Some(assistant) = editor.helper_mut()
                {
                    assistant.names = runtime.block_on(shell.names());
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(broken(error)),
        }
    }
    if let Some(file) = &history {
        // A history that cannot be kept is no reason to fail.
        let _ = editor.save_history(file);
    }
    Ok(ExitCode::SUCCESS)
}

/// Answers what was entered; false when the user wants to leave.
#[expect(clippy::print_stdout, reason = "a dialogue")]
fn answer(shell: &mut Shell, text: &str, runtime: &Runtime) -> bool {
    if !text.trim_start().starts_with('\\') {
        return run_statements(shell, text, runtime);
    }
    match meta::parse(text) {
        Meta::Quit => return false,
        Meta::Help => println!("{}", meta::HELP),
        Meta::Timing => {
            shell.timing = !shell.timing;
            println!("timing is {}", if shell.timing { "on" } else { "off" });
        }
        Meta::Sql(sql) => return run_statements(shell, &sql, runtime),
        Meta::Unknown(command) => println!("no command {command}; \\? lists those there are"),
    }
    true
}

#[expect(clippy::print_stdout, reason = "a dialogue")]
fn run_statements(shell: &Shell, text: &str, runtime: &Runtime) -> bool {
    for statement in split::statements(text) {
        match runtime.block_on(shell.run_one(statement)) {
            Ok(()) => continue,
            Err(Trouble::Unread) => return false,
            Err(Trouble::Interrupted) => println!("\ncancelled"),
            Err(Trouble::Output(error)) => println!("error: {error}"),
            Err(Trouble::Node(problem)) => println!("error: {}", problem.show(statement)),
        }
        break;
    }
    true
}

fn changes_names(text: &str) -> bool {
    let text = text.to_uppercase();
    ["CREATE", "ALTER", "DROP"].iter().any(|word| text.contains(word))
}

fn history_file() -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(HISTORY_FILE))
}

impl Shell {
    /// The names of streams and columns; none when the node does not tell.
    async fn names(&self) -> Vec<String> {
        const SQL: &str = "SELECT table_name AS name FROM information_schema.columns WHERE table_schema <> 'information_schema' \
             UNION SELECT column_name FROM information_schema.columns WHERE table_schema <> 'information_schema' \
             ORDER BY 1 LIMIT 10000";
        let Ok(response) = self.client.sql(SQL, "application/x-ndjson").await else {
            return Vec::new();
        };
        let text = response.text().await.unwrap_or_default();
        let name =
            |line: &str| Some(serde_json::from_str::<serde_json::Value>(line).ok()?.get("name")?.as_str()?.to_owned());
        text.lines().filter_map(name).collect()
    }
}

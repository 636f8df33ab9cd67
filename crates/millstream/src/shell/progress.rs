//! Owns the line on stderr that shows how far a statement is that takes long; there is none without a terminal.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::client::Client;

/// A statement that is done sooner shows nothing.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How often the node is asked.
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);
/// What `system.queries` keeps of a statement's text.
const KEPT_CHARS: usize = 4096;
/// What the statements begin with of which `system.jobs` tells.
const LONG: [&str; 7] = ["copy", "create table", "insert", "update", "delete", "merge", "with"];

/// Shows how far a statement is, until this is dropped. It never ends.
pub async fn show<T>(client: &Client, statement: &str) -> T {
    if !io::stderr().is_terminal() || !takes_long(statement) {
        return std::future::pending().await;
    }
    tokio::time::sleep(FIRST_LOOK).await;
    let question = question(statement);
    let line = Line(ProgressBar::new_spinner());
    loop {
        // What cannot be asked is not shown; the statement's own answer tells what is wrong.
        if let Ok(answer) = client.sql(&question, "text/csv").await
            && let Ok(text) = answer.text().await
            && let Some(progress) = Progress::read(&text)
        {
            line.draw(&progress);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

fn takes_long(statement: &str) -> bool {
    let words: Vec<String> = statement.split_whitespace().take(2).map(str::to_lowercase).collect();
    let begins = words.join(" ");
    LONG.iter().any(|long| begins.strip_prefix(long).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
}

fn question(statement: &str) -> String {
    let text: String = statement.trim().trim_end_matches(';').trim_end().chars().take(KEPT_CHARS).collect();
    format!(
        "SELECT j.rows, j.bytes, j.total_bytes, j.files, j.total_files FROM system.jobs AS j \
         JOIN system.queries AS q ON q.id = j.query WHERE q.status = 'running' AND q.sql = '{}' LIMIT 1",
        text.replace('\'', "''")
    )
}

/// How far a statement is.
#[derive(Debug, PartialEq, Eq)]
struct Progress {
    rows: u64,
    bytes: u64,
    total_bytes: Option<u64>,
    files: u64,
    total_files: Option<u64>,
}

impl Progress {
    /// Reads the answer to the question: a header and a line of numbers.
    fn read(csv: &str) -> Option<Self> {
        let mut cells = csv.lines().nth(1)?.split(',').map(|cell| cell.trim().parse::<u64>().ok());
        let mut next = || cells.next();
        Some(Self { rows: next()??, bytes: next()??, total_bytes: next()?, files: next()??, total_files: next()? })
    }

    fn message(&self) -> String {
        let rows = format!("{} rows", HumanCount(self.rows));
        match self.total_files {
            Some(files) if files > 1 => format!("{rows}, file {} of {files}", (self.files + 1).min(files)),
            _ => rows,
        }
    }
}

/// The line; it goes when it is dropped.
struct Line(ProgressBar);

impl Line {
    fn draw(&self, progress: &Progress) {
        let template = match progress.total_bytes {
            Some(_) => "{bar:30} {bytes}/{total_bytes}  {msg}  {eta} left",
            None => "{spinner} {msg}  {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style.progress_chars("=> "));
        }
        if let Some(bytes) = progress.total_bytes {
            self.0.set_length(bytes);
            self.0.set_position(progress.bytes.min(bytes));
        }
        self.0.set_message(progress.message());
        self.0.tick();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_load_or_change_rows_are_shown() {
        for statement in ["COPY t FROM 'a.csv'", "create  table t as select 1", "Insert into t", "merge INTO t", "copy"]
        {
            assert!(takes_long(statement), "{statement}");
        }
        for statement in ["SELECT 1", "CREATE VIEW v AS SELECT 1", "copying", ""] {
            assert!(!takes_long(statement), "{statement}");
        }
        assert!(question(" COPY t FROM 'a' ; ").contains("q.sql = 'COPY t FROM ''a'''"));
    }

    #[test]
    fn an_answer_says_how_far_it_is() {
        let progress = Progress::read("rows,bytes,total_bytes,files,total_files\r\n1200,5,10,0,2\r\n").unwrap();
        assert_eq!(progress.message(), "1,200 rows, file 1 of 2");
        let progress = Progress::read("rows,bytes,total_bytes,files,total_files\n7,0,,0,\n").unwrap();
        assert_eq!((progress.total_bytes, progress.message().as_str()), (None, "7 rows"));
        assert_eq!(Progress::read("rows,bytes,total_bytes,files,total_files\n"), None);
    }
}

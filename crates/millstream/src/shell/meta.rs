//! Owns the commands that begin with a backslash.

/// What a line that begins with a backslash asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Meta {
    /// Leave.
    Quit,
    /// Say what there is.
    Help,
    /// Show or hide how long statements take.
    Timing,
    /// Run this SQL.
    Sql(String),
    /// No such command.
    Unknown(String),
}

/// What `\?` prints.
pub const HELP: &str = r"statements end with ;
  \d          streams
  \d NAME     a stream's columns
  \dt         streams
  \timing     show how long statements take, or stop doing so
  \q          leave (so does Ctrl-D)
  \?          this help
Ctrl-C ends a running statement, or clears the line; Tab completes; arrow up brings earlier statements back";

/// Reads a line that begins with a backslash.
pub fn parse(line: &str) -> Meta {
    let mut words = line.trim().trim_end_matches(';').split_whitespace();
    match (words.next(), words.next()) {
        (Some("\\q" | "\\quit"), _) => Meta::Quit,
        (Some("\\?" | "\\h" | "\\help"), _) => Meta::Help,
        (Some("\\timing"), _) => Meta::Timing,
        (Some("\\d"), Some(name)) => Meta::Sql(format!("DESCRIBE {name}")),
        (Some("\\d" | "\\dt"), _) => Meta::Sql("SHOW STREAMS".to_owned()),
        (command, _) => Meta::Unknown(command.unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backslash_commands_are_known() {
        assert_eq!(parse("\\q"), Meta::Quit);
        assert_eq!(parse("\\dt;"), Meta::Sql("SHOW STREAMS".into()));
        assert_eq!(parse("\\d flights"), Meta::Sql("DESCRIBE flights".into()));
        assert_eq!(parse("\\x"), Meta::Unknown("\\x".into()));
    }
}

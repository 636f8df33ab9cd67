//! Owns what Tab offers and when a text is whole enough to run.

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::split;

const KEYWORDS: &[&str] = &[
    "ADD",
    "ALL",
    "ALTER",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "BY",
    "BYTEA",
    "CASE",
    "CAST",
    "CHECK",
    "COLUMN",
    "COMMENT",
    "COUNT",
    "CREATE",
    "CROSS",
    "DATE",
    "DECIMAL",
    "DEFAULT",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DOUBLE PRECISION",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FILTER",
    "FOR",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INSERT",
    "INTEGER",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "JSON",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "REAL",
    "RIGHT",
    "SAMPLE",
    "SELECT",
    "SET",
    "SHOW",
    "SMALLINT",
    "STREAM",
    "STREAMS",
    "TEXT",
    "THEN",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "TRUE",
    "UNION",
    "USING",
    "UUID",
    "VALUES",
    "WATERMARK",
    "WHEN",
    "WHERE",
    "WITH",
];

const META: &[&str] = &["\\d", "\\dt", "\\timing", "\\q", "\\?"];

/// Completes words and knows when a statement ends.
#[derive(Debug, Default)]
pub struct Assistant {
    /// Streams and columns, as the node names them.
    pub names: Vec<String>,
}

impl Assistant {
    fn candidates(&self, word: &str) -> Vec<String> {
        if word.is_empty() {
            return Vec::new();
        }
        if word.starts_with('\\') {
            return META.iter().filter(|m| m.starts_with(word)).map(|m| (*m).to_owned()).collect();
        }
        let lower = word.to_lowercase();
        let names = self.names.iter().filter(|n| n.to_lowercase().starts_with(&lower)).cloned();
        let typed_low = word.chars().all(|c| !c.is_uppercase());
        let keywords = KEYWORDS.iter().filter(|k| k.to_lowercase().starts_with(&lower));
        names.chain(keywords.map(|k| if typed_low { k.to_lowercase() } else { (*k).to_owned() })).collect()
    }
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '\\';
        let start =
            line[..pos].rfind(|c| !is_word(c)).map_or(0, |i| i + line[i..].chars().next().map_or(1, char::len_utf8));
        Ok((start, self.candidates(&line[start..pos])))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(if is_whole(context.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

/// Whether Enter runs the text: a backslash command, nothing at all, or statements that a `;` ends.
fn is_whole(text: &str) -> bool {
    text.trim_start().starts_with('\\') || split::is_blank(split::split(text).rest)
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}

impl Helper for Assistant {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_completed_in_the_case_they_are_typed_in_and_names_come_first() {
        let assistant = Assistant { names: vec!["flights".into(), "selected".into()] };
        assert_eq!(assistant.candidates("fl"), ["flights"]);
        assert_eq!(assistant.candidates("sel"), ["selected", "select"]);
        assert_eq!(assistant.candidates("SELE"), ["selected", "SELECT"]);
        assert_eq!(assistant.candidates("\\t"), ["\\timing"]);
        assert!(assistant.candidates("").is_empty());
    }

    #[test]
    fn enter_runs_what_a_semicolon_ends() {
        assert!(is_whole("SELECT 1;"));
        assert!(is_whole("\\d flights"));
        assert!(is_whole(""));
        assert!(!is_whole("SELECT 1"));
        assert!(!is_whole("SELECT ';"));
    }
}

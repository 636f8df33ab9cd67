//! Owns the statements that concern the connection alone: transaction blocks and what the server keeps for it.
//!
//! Every statement stands for itself and is durable when it answers. Clients open blocks all the same, many without being
//! asked, so the blocks' states are kept as PostgreSQL keeps them; a rollback that has something to undo fails, since it
//! does not.

/// A statement that the connection answers itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Control {
    /// `BEGIN` or `START TRANSACTION`; the tag.
    Begin(&'static str),
    /// `COMMIT` or `END`.
    Commit,
    /// `ROLLBACK` or `ABORT`.
    Rollback,
    /// `SAVEPOINT`.
    Savepoint,
    /// `RELEASE [SAVEPOINT]`.
    Release,
    /// `ROLLBACK TO [SAVEPOINT]`.
    RollbackToSavepoint,
    /// `DEALLOCATE name`; none for all.
    Deallocate(Option<String>),
    /// `DISCARD ALL` and its parts; the tag.
    Discard(&'static str),
}

impl Control {
    /// The control statement that a text is, if it is one alone.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace());
        if text.contains(';') {
            return None;
        }
        let mut words = text.split_whitespace().map(str::to_ascii_uppercase);
        let first = words.next()?;
        let second = words.next().unwrap_or_default();
        Some(match (first.as_str(), second.as_str()) {
            ("BEGIN", _) => Self::Begin("BEGIN"),
            ("START", "TRANSACTION") => Self::Begin("START TRANSACTION"),
            ("COMMIT" | "END", "" | "WORK" | "TRANSACTION" | "AND") => Self::Commit,
            ("ROLLBACK", "TO") => Self::RollbackToSavepoint,
            ("ROLLBACK", "WORK" | "TRANSACTION") if words.next().as_deref() == Some("TO") => Self::RollbackToSavepoint,
            ("ROLLBACK" | "ABORT", "" | "WORK" | "TRANSACTION" | "AND") => Self::Rollback,
            ("SAVEPOINT", _) => Self::Savepoint,
            ("RELEASE", _) => Self::Release,
            ("DEALLOCATE", _) => Self::Deallocate(deallocated(text)),
            ("DISCARD", "ALL") => Self::Discard("DISCARD ALL"),
            ("DISCARD", "PLANS") => Self::Discard("DISCARD PLANS"),
            ("DISCARD", "TEMP" | "TEMPORARY") => Self::Discard("DISCARD TEMP"),
            ("DISCARD", "SEQUENCES") => Self::Discard("DISCARD SEQUENCES"),
            _ => return None,
        })
    }

    /// Whether a failed block still takes it.
    pub(super) fn ends_failed_block(&self) -> bool {
        matches!(self, Self::Commit | Self::Rollback | Self::RollbackToSavepoint)
    }
}

/// The name after `DEALLOCATE [PREPARE]`; none for `ALL`.
fn deallocated(text: &str) -> Option<String> {
    let name = text.split_whitespace().skip(1).find(|word| !word.eq_ignore_ascii_case("prepare"))?;
    if name.eq_ignore_ascii_case("all") {
        return None;
    }
    let quoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    Some(quoted.map_or_else(|| name.to_ascii_lowercase(), |name| name.replace("\"\"", "\"")))
}

/// Whether a command tag tells of something that a rollback would undo.
pub(super) fn changes_something(tag: &str) -> bool {
    let first = tag.split_whitespace().next().unwrap_or_default();
    let words = ["INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "CREATE", "ALTER", "DROP", "COMMENT", "COPY"];
    words.contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_statements_are_known_in_all_spellings() {
        assert_eq!(Control::parse("begin;"), Some(Control::Begin("BEGIN")));
        assert_eq!(Control::parse("BEGIN ISOLATION LEVEL SERIALIZABLE"), Some(Control::Begin("BEGIN")));
        assert_eq!(Control::parse("start transaction read only"), Some(Control::Begin("START TRANSACTION")));
        assert_eq!(Control::parse(" END "), Some(Control::Commit));
        assert_eq!(Control::parse("ABORT"), Some(Control::Rollback));
        assert_eq!(Control::parse("ROLLBACK TO SAVEPOINT a"), Some(Control::RollbackToSavepoint));
        assert_eq!(Control::parse("DEALLOCATE ALL"), Some(Control::Deallocate(None)));
        assert_eq!(Control::parse("DEALLOCATE PREPARE _pg3_0"), Some(Control::Deallocate(Some("_pg3_0".into()))));
    }

    #[test]
    fn other_statements_are_left_to_the_engine() {
        assert_eq!(Control::parse("SELECT 1"), None);
        assert_eq!(Control::parse("BEGIN; SELECT 1"), None);
        assert_eq!(Control::parse(""), None);
    }
}

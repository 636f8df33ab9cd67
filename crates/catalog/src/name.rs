//! Owns object names: a schema and a name, both checked identifiers.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The schema of an unqualified name.
pub const DEFAULT_SCHEMA: &str = "public";
/// The schema of the platform's own streams and tables; users cannot create objects in it.
pub const SYSTEM_SCHEMA: &str = "system";

/// PostgreSQL's limit for identifiers, in bytes.
const MAX_IDENTIFIER_BYTES: usize = 63;

/// A schema-qualified object name. It names a folder in the lake, so only letters, digits, `_` and `-` are taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectName {
    schema: String,
    name: String,
}

impl ObjectName {
    /// A name from its two parts, checked.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Result<Self> {
        let (schema, name) = (schema.into(), name.into());
        check_identifier(&schema)?;
        check_identifier(&name)?;
        Ok(Self { schema, name })
    }

    /// A name in the default schema.
    pub fn public(name: impl Into<String>) -> Result<Self> {
        Self::new(DEFAULT_SCHEMA, name)
    }

    /// Parses `name` or `schema.name`, as it stands in a URL or on the command line.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once('.') {
            Some((schema, name)) => Self::new(schema, name),
            None => Self::public(text),
        }
    }

    /// The schema part.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The name within its schema.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it lies in the platform's own schema.
    pub fn is_system(&self) -> bool {
        self.schema == SYSTEM_SCHEMA
    }
}

impl std::fmt::Display for ObjectName {
    /// `name` in the default schema, `schema.name` elsewhere.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.schema == DEFAULT_SCHEMA { f.write_str(&self.name) } else { write!(f, "{}.{}", self.schema, self.name) }
    }
}

/// Checks one identifier of an object name.
pub(crate) fn check_identifier(text: &str) -> Result<()> {
    let reason = if text.is_empty() {
        "it is empty"
    } else if text.len() > MAX_IDENTIFIER_BYTES {
        "it is longer than 63 bytes"
    } else if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        "it must start with a letter or '_'"
    } else if !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        "only letters, digits, '_' and '-' can stand in it"
    } else {
        return Ok(());
    };
    Err(Error::InvalidName { name: text.chars().take(80).collect(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_prints_without_the_default_schema() {
        assert_eq!(ObjectName::parse("flights").expect("valid").to_string(), "flights");
        assert_eq!(ObjectName::parse("public.flights").expect("valid").to_string(), "flights");
        assert_eq!(ObjectName::parse("ops.flights").expect("valid").to_string(), "ops.flights");
    }

    #[test]
    fn a_name_that_could_leave_its_folder_is_refused() {
        for bad in ["", "../x", "a/b", "a.b.c", "1a", "a b", "é", &"x".repeat(64)] {
            assert!(ObjectName::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}

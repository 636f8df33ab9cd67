//! Owns the `--name value` pairs of a command line.

use std::collections::HashMap;
use std::str::FromStr;

/// What goes wrong anywhere in the load generator.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The pairs.
#[derive(Debug)]
pub struct Arguments(HashMap<String, String>);

impl Arguments {
    /// Reads pairs to the end.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Error> {
        let mut pairs = HashMap::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("{word:?} is not of the form --name"))?;
            let value = words.next().ok_or_else(|| format!("--{name} has no value"))?;
            pairs.insert(name.to_owned(), value);
        }
        Ok(Self(pairs))
    }

    /// A text that must be given.
    pub fn text(&self, name: &str) -> Result<&str, Error> {
        Ok(self.0.get(name).ok_or_else(|| format!("--{name} is missing"))?)
    }

    /// A value, or its default.
    pub fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T, Error> {
        match self.0.get(name) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| format!("--{name} {value} is not a number").into()),
        }
    }

    /// A text, if it is given.
    pub fn optional(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A text, or its default.
    pub fn choice<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, String::as_str)
    }
}

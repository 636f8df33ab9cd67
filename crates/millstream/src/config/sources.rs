//! Owns where settings come from and which one wins: flags, then the file, then variables, then defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::settings::{SETTINGS, Setting, by_key, nearest_key};
use super::{Error, Result};

/// The file that is read when none is named, if it is there.
const DEFAULT_FILE: &str = "millstream.toml";

/// How the names of variables begin that are read.
const PREFIXES: [&str; 4] = ["MILLSTREAM_", "AWS_", "AZURE_", "GOOGLE_"];

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A command line flag.
    Flag,
    /// The configuration file.
    File,
    /// An environment variable.
    Variable,
    /// Nothing was said.
    Default,
}

/// A value as text, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The setting.
    pub key: &'static str,
    /// The value, unchecked.
    pub text: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Everything that was said about the configuration.
#[derive(Debug, Default)]
pub struct Sources {
    /// Flags, by key.
    pub flags: BTreeMap<&'static str, String>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// The file's values, by key.
    pub file_values: BTreeMap<&'static str, String>,
    /// `[store.options]`: what the object store is told.
    pub store_options: BTreeMap<String, String>,
    /// Variables, by name.
    pub variables: BTreeMap<String, String>,
}

impl Sources {
    /// Reads the file, if there is one, beside the flags and the process's variables.
    pub fn gather(flags: BTreeMap<&'static str, String>, file: Option<PathBuf>) -> Result<Self> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
            .collect();
        let file = file.or_else(|| Path::new(DEFAULT_FILE).is_file().then(|| PathBuf::from(DEFAULT_FILE)));
        let mut sources = Self { flags, variables, ..Self::default() };
        if let Some(path) = file {
            let text =
                std::fs::read_to_string(&path).map_err(|source| Error::Unreadable { file: path.clone(), source })?;
            sources.read_file(&path, &text)?;
        }
        Ok(sources)
    }

    /// Takes a file's text.
    pub fn read_file(&mut self, path: &Path, text: &str) -> Result<()> {
        let table: toml::Table = text.parse().map_err(|source: toml::de::Error| Error::BadFile {
            file: path.to_owned(),
            reason: source.to_string().trim_end().to_owned(),
        })?;
        self.file = Some(path.to_owned());
        self.take_table(path, "", &table)
    }

    fn take_table(&mut self, path: &Path, prefix: &str, table: &toml::Table) -> Result<()> {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match (by_key(&key), value) {
                (Some(setting), toml::Value::Table(_)) => {
                    return Err(Error::BadFile {
                        file: path.to_owned(),
                        reason: format!("{} is a value, not a section", setting.key),
                    });
                }
                (Some(setting), value) => {
                    let text = scalar(value).ok_or_else(|| Error::BadFile {
                        file: path.to_owned(),
                        reason: format!("{key} must be a text or a number, not {}", value.type_str()),
                    })?;
                    self.file_values.insert(setting.key, text);
                }
                (None, toml::Value::Table(options)) if key == "store.options" => {
                    let options =
                        options.iter().map(|(name, v)| (name.clone(), scalar(v).unwrap_or_else(|| v.to_string())));
                    self.store_options.extend(options);
                }
                (None, toml::Value::Table(inner)) if is_section(&key) => self.take_table(path, &key, inner)?,
                (None, _) => return Err(unknown_key(path, key)),
            }
        }
        Ok(())
    }

    /// The value that wins for each setting, in table order; a setting without a default may be absent.
    pub fn resolve(&self) -> Vec<Given> {
        SETTINGS.iter().map(|setting| self.winner(setting)).collect()
    }

    fn winner(&self, setting: &'static Setting) -> Given {
        let (text, origin) = if let Some(text) = self.flags.get(setting.key) {
            (text.as_str(), Origin::Flag)
        } else if let Some(text) = self.file_values.get(setting.key) {
            (text.as_str(), Origin::File)
        } else if let Some(text) = self.variables.get(setting.variable) {
            (text.as_str(), Origin::Variable)
        } else {
            (setting.default, Origin::Default)
        };
        Given { key: setting.key, text: text.to_owned(), origin }
    }
}

fn is_section(key: &str) -> bool {
    SETTINGS.iter().any(|s| s.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn unknown_key(path: &Path, key: String) -> Error {
    let nearest = nearest_key(&key);
    Error::UnknownKey { file: path.to_owned(), key, nearest }
}

//! Owns how the configuration is printed: valid TOML, with where each value came from beside it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::settings::{Kind, by_key};
use super::{Config, Given, Sources, origin_of};

/// The configuration as a file that would give it again.
pub fn to_toml(config: &Config, given: &[Given], sources: &Sources) -> String {
    let lines: Vec<(&str, String, String)> = given
        .iter()
        .map(|g| {
            let name = g.key.rsplit('.').next().unwrap_or(g.key);
            (g.key, format!("{name} = {}", value(g)), origin(g, sources))
        })
        .collect();
    let width = lines.iter().map(|(_, line, _)| line.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let mut section = "";
    for (key, line, origin) in &lines {
        let its_section = key.rsplit_once('.').map_or("", |(section, _)| section);
        if its_section != section {
            section = its_section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push_str(&format!("{line:width$}  # {origin}\n"));
    }
    text + &options(&config.store_options, sources)
}

fn value(given: &Given) -> String {
    match by_key(given.key).map(|s| s.kind) {
        Some(Kind::Count) => given.text.clone(),
        _ => toml::Value::String(given.text.clone()).to_string(),
    }
}

fn origin(given: &Given, sources: &Sources) -> String {
    match (given.origin, &sources.file) {
        (super::Origin::File, Some(file)) => file.display().to_string(),
        _ => origin_of(given),
    }
}

/// The object store's options; secrets are shown as what they are not.
fn options(options: &BTreeMap<String, String>, sources: &Sources) -> String {
    let mut text = String::new();
    if options.is_empty() {
        return text;
    }
    text.push_str("\n[store.options]\n");
    for (name, option) in options {
        let secret = ["secret", "token", "password", "key"].iter().any(|word| name.contains(word));
        let shown = if secret { "(hidden)" } else { option.as_str() };
        let origin = match sources.store_options.contains_key(name) {
            true => sources.file.as_deref().map_or("file".to_owned(), |f| f.display().to_string()),
            false => name.to_uppercase(),
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name} = {}  # {origin}", toml::Value::String(shown.to_owned()));
    }
    text
}

//! Holds the workspace to its own rules: arrows between crates, files that say what they own, names, lengths.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each crate of the workspace may depend on. Everything points down.
const ARROWS: &[(&str, &[&str])] = &[
    ("millstream", &["serve", "connect", "problem", "process", "views", "store", "buffer", "catalog"]),
    ("serve", &["problem", "process", "catalog"]),
    ("connect", &["problem", "process", "catalog"]),
    ("process", &["views", "windows", "store", "buffer", "catalog"]),
    ("store", &["catalog"]),
    ("views", &[]),
    ("buffer", &["catalog"]),
    ("problem", &["catalog"]),
    ("catalog", &[]),
    ("windows", &[]),
];

/// Names of files, folders and crates that fill with strangers.
const STRANGERS: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "misc", "core", "types", "manager", "base", "v2"];

const LONGEST_FILE: usize = 1000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.')
            || ["target", "data", "corpus", "artifacts", "millstream-demo"].contains(&name.as_str())
        {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&root(), &mut found);
    found.retain(|f| f.extension().is_some_and(|e| e == "rs"));
    assert!(found.len() > 20, "only {} source files found", found.len());
    found.into_iter().map(|f| (f.clone(), std::fs::read_to_string(&f).unwrap())).collect()
}

fn breaches(rule: impl Fn(&Path, &str) -> Option<String>) -> Vec<String> {
    let root = root();
    let name = |f: &Path| f.strip_prefix(&root).unwrap().display().to_string();
    sources().iter().filter_map(|(f, text)| rule(f, text).map(|why| format!("{}: {why}", name(f)))).collect()
}

#[test]
fn crates_depend_only_along_the_allowed_arrows() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for folder in std::fs::read_dir(root().join("crates")).unwrap() {
        let folder = folder.unwrap().path();
        let from = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let manifest: toml::Table = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
        let Some(allowed) = allowed.get(from.as_str()) else {
            wrong.push(format!("{from} has no arrows written down"));
            continue;
        };
        let to = |section: &str| {
            manifest
                .get(section)
                .and_then(|s| s.as_table())
                .into_iter()
                .flat_map(|s| s.keys())
                .cloned()
                .collect::<Vec<_>>()
        };
        for dependency in to("dependencies").into_iter().chain(to("build-dependencies")) {
            if let Some(room) = dependency.strip_prefix("millstream-")
                && !allowed.contains(&room)
            {
                wrong.push(format!("{from} → {room}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not allowed: {wrong:?}");
}

#[test]
fn every_source_file_says_in_its_first_line_what_it_owns() {
    let wrong = breaches(|_, text| (!text.starts_with("//! ")).then(|| "does not open with //!".to_owned()));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_source_file_is_longer_than_a_folder_should_be() {
    let wrong = breaches(|_, text| {
        let lines = text.lines().count();
        (lines > LONGEST_FILE).then(|| format!("has {lines} lines, more than {LONGEST_FILE}"))
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_or_folder_has_a_name_that_fits_anything() {
    let root = root();
    let wrong = breaches(|file, _| {
        let parts = file.strip_prefix(&root).ok()?.with_extension("");
        let stranger = parts.iter().map(|p| p.to_string_lossy()).find(|p| STRANGERS.contains(&p.as_ref()));
        stranger.map(|name| format!("is named {name}"))
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

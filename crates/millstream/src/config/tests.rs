//! Owns the tests of the configuration: who wins, what is refused, what is printed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{Config, Origin, Sources, to_toml};

fn sources(flags: &[(&'static str, &str)], file: &str, variables: &[(&str, &str)]) -> Sources {
    let mut sources = Sources {
        flags: flags.iter().map(|&(k, v)| (k, v.to_owned())).collect(),
        variables: variables.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
        ..Sources::default()
    };
    sources.read_file(Path::new("millstream.toml"), file).unwrap();
    sources
}

fn refusal(file: &str) -> String {
    let mut sources = Sources::default();
    match sources.read_file(Path::new("millstream.toml"), file) {
        Err(error) => error.to_string(),
        Ok(()) => Config::resolve(&sources).unwrap_err().to_string(),
    }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_variables() {
    let sources = sources(
        &[("listen", "127.0.0.1:1")],
        "listen = \"127.0.0.1:2\"\npg_listen = \"127.0.0.1:3\"",
        &[("MILLSTREAM_LISTEN", "127.0.0.1:4"), ("MILLSTREAM_PG_LISTEN", "127.0.0.1:5"), ("MILLSTREAM_TIER_AGE", "5s")],
    );
    let (config, given) = Config::resolve(&sources).unwrap();
    assert_eq!((config.listen.port(), config.pg_listen.port()), (1, 3));
    assert_eq!(config.tier_age, Duration::from_secs(5));
    assert_eq!(config.tier_bytes, 128 << 20);
    let origins: BTreeMap<_, _> = given.iter().map(|g| (g.key, g.origin)).collect();
    assert_eq!(origins["listen"], Origin::Flag);
    assert_eq!(origins["pg_listen"], Origin::File);
    assert_eq!(origins["tier.age"], Origin::Variable);
    assert_eq!(origins["tier.bytes"], Origin::Default);
}

#[test]
fn the_lake_lies_in_the_data_directory_unless_a_url_says_otherwise() {
    let (config, _) = Config::resolve(&sources(&[("data", "/tmp/a b")], "", &[])).unwrap();
    assert_eq!(config.store_url, "file:///tmp/a%20b/lake");
    let (config, _) = Config::resolve(&sources(&[], "[store]\nurl = \"s3://bucket/x\"", &[])).unwrap();
    assert_eq!(config.store_url, "s3://bucket/x");
}

#[test]
fn store_options_in_the_file_win_over_aws_variables() {
    let sources = sources(
        &[],
        "[store.options]\nregion = \"eu-central-1\"\nallow_http = true",
        &[("AWS_REGION", "us-east-1"), ("AWS_ENDPOINT", "http://127.0.0.1:9000"), ("AWS_PROFILE", "not for a store")],
    );
    let (config, _) = Config::resolve(&sources).unwrap();
    let expected = [("allow_http", "true"), ("aws_endpoint", "http://127.0.0.1:9000"), ("region", "eu-central-1")];
    assert_eq!(config.store_options, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn an_unknown_key_is_refused_and_the_nearest_known_one_named() {
    assert_eq!(
        refusal("[tier]\nbites = \"1MiB\""),
        "millstream.toml: unknown key \"tier.bites\"; did you mean \"tier.bytes\"?"
    );
    assert_eq!(refusal("[zebra]\nx = 1"), "millstream.toml: unknown key \"zebra\"");
}

#[test]
fn bad_values_name_the_setting_and_what_to_write() {
    assert_eq!(
        refusal("[tier]\nage = \"soon\""),
        "tier.age (file): \"soon\" is not a duration; write it like \"500ms\", \"60s\", \"5min\", \"2h\" or \"7d\""
    );
    assert_eq!(refusal("[log]\nformat = \"xml\""), "log.format (file): \"xml\" is not one of text, json");
    assert_eq!(
        refusal("[http]\nmax_connections = 0"),
        "http.max_connections (file): \"0\" is not a whole number from 1 up"
    );
    assert!(refusal("listen = ").contains("millstream.toml: TOML parse error at line 1"));
    assert!(refusal("listen = [1]").contains("listen must be a text or a number, not array"));
}

#[test]
fn addresses_beyond_loopback_are_refused() {
    for address in ["0.0.0.0:7400", "[::]:7400", "192.0.2.1:7400"] {
        let message = refusal(&format!("listen = \"{address}\""));
        assert!(message.contains("there is no authentication yet"), "{message}");
    }
    assert!(Config::resolve(&sources(&[("listen", "[::1]:0")], "", &[])).is_ok());
}

#[test]
fn the_printed_configuration_is_toml_that_gives_the_same_again() {
    let first = sources(
        &[("query.memory", "2GiB")],
        "data = \"/tmp/quo\\\"te\"\n[store.options]\nsecret_access_key = \"hush\"",
        &[("MILLSTREAM_LOG", "debug")],
    );
    let (config, given) = Config::resolve(&first).unwrap();
    let printed = to_toml(&config, &given, &first);
    assert!(!printed.contains("hush"), "{printed}");
    assert!(
        printed.lines().any(|l| l.starts_with("memory = \"2GiB\"") && l.ends_with("# --query-memory")),
        "{printed}"
    );
    assert!(
        printed.lines().any(|l| l.starts_with("level = \"debug\"") && l.ends_with("# MILLSTREAM_LOG")),
        "{printed}"
    );
    let (again, _) = Config::resolve(&sources(&[], &printed, &[])).unwrap();
    assert_eq!(again.data, config.data);
    assert_eq!(again.query_memory, config.query_memory);
    assert_eq!(again.log, config.log);
    assert_eq!(again.store_url, config.store_url);
}

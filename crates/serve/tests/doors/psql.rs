//! Owns the tests of psql's own commands, which read PostgreSQL's catalog. They need psql, and say so where it is missing.

use std::process::{Command, Output};

use crate::fixture::Node;

/// What psql prints for a command; none where psql is not installed.
async fn psql(node: &Node, command: &str) -> Option<String> {
    let port = node.pg.port().to_string();
    let mut psql = Command::new("psql");
    psql.args(["-X", "-h", "127.0.0.1", "-p", &port, "-U", "anyone", "-d", "millstream", "-c", command]);
    let run = tokio::task::spawn_blocking(move || psql.env("PGCONNECT_TIMEOUT", "10").output()).await.unwrap();
    let Ok(Output { stdout, stderr, .. }) = run else {
        println!("psql is not installed: nothing was tested");
        return None;
    };
    let errors = String::from_utf8_lossy(&stderr);
    assert!(!errors.contains("ERROR"), "{command}: {errors}");
    Some(String::from_utf8_lossy(&stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_lists_and_describes_what_is_there() {
    let node = Node::start().await;
    node.sql("CREATE STREAM flights (carrier TEXT NOT NULL, delay DOUBLE PRECISION, at TIMESTAMPTZ, tags TEXT[])")
        .await;
    for (command, expected) in [
        ("\\d", "flights"),
        ("\\dt", "flights"),
        ("\\dt+", "flights"),
        ("\\d flights", "carrier"),
        ("\\d flights", "timestamp with time zone"),
        ("\\d+ flights", "not null"),
        ("\\l", "millstream"),
        ("\\dn", "public"),
        ("\\df", "List of functions"),
        ("\\dT", "List of data types"),
        ("\\du", "postgres"),
        ("\\dv", ""),
        ("\\di", ""),
        ("\\dx", "installed extensions"),
        ("\\conninfo", "millstream"),
        ("SELECT 1 AS one", "(1 row)"),
    ] {
        let Some(printed) = psql(&node, command).await else { return };
        assert!(printed.contains(expected), "{command} printed {printed}");
    }
}

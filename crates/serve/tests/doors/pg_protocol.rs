//! Owns the tests of the PostgreSQL wire message by message, as no driver would send them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::Node;

/// A client that sees the messages themselves.
struct Raw(TcpStream);

impl Raw {
    async fn connect(node: &Node) -> Self {
        let mut raw = Self(TcpStream::connect(node.pg).await.unwrap());
        raw.startup().await;
        raw.until_ready().await;
        raw
    }

    async fn startup(&mut self) {
        let mut body = 196_608_i32.to_be_bytes().to_vec();
        body.extend_from_slice(b"user\0me\0database\0db\0\0");
        self.0.write_all(&(body.len() as i32 + 4).to_be_bytes()).await.unwrap();
        self.0.write_all(&body).await.unwrap();
    }

    async fn send(&mut self, kind: u8, body: &[u8]) {
        let mut message = vec![kind];
        message.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
        message.extend_from_slice(body);
        self.0.write_all(&message).await.unwrap();
    }

    async fn message(&mut self) -> Option<(char, Vec<u8>)> {
        let kind = self.0.read_u8().await.ok()?;
        let length = self.0.read_i32().await.ok()?;
        let mut body = vec![0; length as usize - 4];
        self.0.read_exact(&mut body).await.ok()?;
        Some((char::from(kind), body))
    }

    /// The kinds of the messages up to ReadyForQuery, and the transaction status it tells.
    async fn until_ready(&mut self) -> (String, char) {
        let mut kinds = String::new();
        loop {
            let (kind, body) = self.message().await.expect("the server closed the connection");
            if kind == 'Z' {
                return (kinds, char::from(body[0]));
            }
            kinds.push(kind);
        }
    }

    async fn parse(&mut self, name: &str, sql: &str) {
        self.send(b'P', format!("{name}\0{sql}\0\0\0").as_bytes()).await;
    }

    async fn bind(&mut self, portal: &str, statement: &str) {
        self.send(b'B', format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes()).await;
    }

    async fn execute(&mut self, portal: &str, rows: i32) {
        let mut body = format!("{portal}\0").into_bytes();
        body.extend_from_slice(&rows.to_be_bytes());
        self.send(b'E', &body).await;
    }

    async fn query(&mut self, sql: &str) -> (String, char) {
        self.send(b'Q', format!("{sql}\0").as_bytes()).await;
        self.until_ready().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_is_declined_and_the_connection_goes_on() {
    let node = Node::start().await;
    let mut raw = Raw(TcpStream::connect(node.pg).await.unwrap());
    for request in [80_877_103_i32, 80_877_104] {
        raw.0.write_all(&8_i32.to_be_bytes()).await.unwrap();
        raw.0.write_all(&request.to_be_bytes()).await.unwrap();
        assert_eq!(raw.0.read_u8().await.unwrap(), b'N');
    }
    raw.startup().await;
    let (kinds, status) = raw.until_ready().await;
    assert!(kinds.starts_with('R') && kinds.contains("SS") && kinds.ends_with('K'), "{kinds}");
    assert_eq!(status, 'I');
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_is_suspended_and_resumed() {
    let node = Node::start().await;
    let mut raw = Raw::connect(&node).await;
    raw.parse("", "SELECT value FROM generate_series(1, 5)").await;
    raw.bind("p", "").await;
    raw.execute("p", 2).await;
    raw.execute("p", 2).await;
    raw.execute("p", 2).await;
    raw.send(b'S', b"").await;
    assert_eq!(raw.until_ready().await.0, "12DDsDDsDC");
    raw.execute("p", 0).await;
    raw.send(b'S', b"").await;
    assert_eq!(raw.until_ready().await.0, "E", "the portal should have ended with its transaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_everything_is_passed_over_up_to_sync() {
    let node = Node::start().await;
    let mut raw = Raw::connect(&node).await;
    raw.parse("", "SELECT nothing").await;
    raw.bind("", "").await;
    raw.execute("", 0).await;
    raw.send(b'S', b"").await;
    assert_eq!(raw.until_ready().await, ("E".to_owned(), 'I'));
    raw.parse("s", "SELECT 1").await;
    raw.parse("s", "SELECT 2").await;
    raw.send(b'S', b"").await;
    assert_eq!(raw.until_ready().await.0, "1E", "a name is taken once");
    raw.send(b'D', b"Ss\0").await;
    raw.send(b'C', b"Ss\0").await;
    raw.send(b'D', b"Ss\0").await;
    raw.send(b'S', b"").await;
    assert_eq!(raw.until_ready().await.0, "tT3E");
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_blocks_are_told_in_ready_for_query() {
    let node = Node::start().await;
    let mut raw = Raw::connect(&node).await;
    assert_eq!(raw.query("BEGIN").await, ("C".to_owned(), 'T'));
    assert_eq!(raw.query("BEGIN").await, ("NC".to_owned(), 'T'));
    assert_eq!(raw.query("SELECT nothing").await, ("E".to_owned(), 'E'));
    assert_eq!(raw.query("SELECT 1").await, ("E".to_owned(), 'E'));
    assert_eq!(raw.query("COMMIT").await, ("C".to_owned(), 'I'));
    assert_eq!(raw.query("COMMIT").await, ("NC".to_owned(), 'I'));
    assert_eq!(raw.query("BEGIN; SELECT 1; COMMIT; SELECT 2").await, ("CTDCCTDC".to_owned(), 'I'));
    assert_eq!(raw.query("BEGIN; CREATE STREAM t (x BIGINT); ROLLBACK").await, ("CCE".to_owned(), 'I'));
    assert_eq!(raw.query("").await, ("I".to_owned(), 'I'));
    assert_eq!(raw.query("BEGIN; SELECT nothing; COMMIT").await.1, 'E');
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_ends_its_connection_alone() {
    let node = Node::start().await;
    let bystander = node.connect().await;
    let mut http = TcpStream::connect(node.pg).await.unwrap();
    http.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = http.read_to_end(&mut rest).await;
    for (kind, body) in [(b'?', &b"x"[..]), (b'B', b"\0\0\xff\xff"), (b'Q', b"no terminator"), (b'P', b"")] {
        let mut raw = Raw::connect(&node).await;
        raw.send(kind, body).await;
        raw.send(b'X', b"").await;
        while raw.message().await.is_some() {}
    }
    let mut large = Raw::connect(&node).await;
    large.0.write_all(&[b'Q', 0x7f, 0xff, 0xff, 0xff]).await.unwrap();
    assert_eq!(large.message().await.map(|(kind, _)| kind), Some('E'));
    bystander.simple_query("SELECT 1").await.unwrap();
}

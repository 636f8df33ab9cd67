//! Owns an S3 for tests: `tests/s3/server.py` on a free loopback port.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Server, environment};

/// The access key and the secret that tests send; any are good.
pub const KEY: &str = "test";

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct S3Server {
    _server: Server,
    /// `http://127.0.0.1:port`.
    pub endpoint: String,
}

impl S3Server {
    /// The server that the tests of this binary share, or `None`, said loudly, where there is no Python environment.
    pub fn shared(test: &str) -> Option<&'static S3Server> {
        static SHARED: OnceLock<Option<S3Server>> = OnceLock::new();
        SHARED.get_or_init(|| python().map(|_| S3Server::start(0))).as_ref().or_else(|| {
            println!("SKIPPED: {test}: no Python environment with moto; `make test` sets one up");
            None
        })
    }

    /// A server on this port; 0 takes a free one.
    pub fn start(port: u16) -> S3Server {
        let python = python().expect("shared() found one");
        let server = Server::start(&python, "s3/server.py", port.to_string().as_ref());
        S3Server { endpoint: server.address.clone(), _server: server }
    }

    /// Makes a bucket that nobody else uses.
    pub fn new_bucket(&self) -> String {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let name = format!("lake-{}", LAST.fetch_add(1, Ordering::Relaxed));
        self.make_bucket(&name);
        name
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) {
        self.request("PUT", &format!("/{name}"));
    }

    /// Answers the next requests with this status.
    pub fn trouble(&self, status: u16, times: u32) {
        self.request("POST", &format!("/_trouble?status={status}&times={times}"));
    }

    /// The access keys that requests were signed with.
    pub fn keys(&self) -> Vec<String> {
        self.request("GET", "/_keys").lines().map(str::to_owned).collect()
    }

    /// The variables by which AWS's own tools, and a node, find this server; keys are not among them.
    pub fn variables(&self) -> [(&'static str, String); 3] {
        let text = str::to_owned;
        [
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_REGION", text("us-east-1")),
            ("AWS_ALLOW_HTTP", text("true")),
        ]
    }

    /// What an object store is told.
    pub fn options(&self) -> BTreeMap<String, String> {
        let keys = ["aws_access_key_id", "aws_secret_access_key"].map(|name| (name.to_owned(), KEY.to_owned()));
        let place = self.variables().map(|(name, value)| (name.to_ascii_lowercase(), value));
        place.into_iter().chain(keys).collect()
    }

    /// Sends a request without a body and gives the reply's body.
    pub fn request(&self, method: &str, path: &str) -> String {
        let address = self.endpoint.trim_start_matches("http://");
        let mut connection = TcpStream::connect(address).expect("the S3 server listens");
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        connection.write_all(head.as_bytes()).expect("the request is sent");
        let mut reply = String::new();
        connection.read_to_string(&mut reply).expect("the reply is whole");
        assert!(reply.starts_with("HTTP/1.1 200"), "{method} {path}: {reply}");
        reply.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }
}

/// The Python that has the clients of `tests/clients/requirements.txt`.
pub fn python() -> Option<PathBuf> {
    let given = std::env::var_os("MILLSTREAM_TEST_PYTHON").map(PathBuf::from);
    let made = environment().join("bin/python");
    given.or_else(|| made.exists().then_some(made))
}

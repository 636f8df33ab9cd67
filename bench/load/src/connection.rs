//! Owns one HTTP/1.1 connection: sends bytes rendered beforehand, reads replies with as little work as possible.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a statement may wait for what is to be seen.
const PATIENCE: Duration = Duration::from_secs(1800);

/// A kept-alive connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

/// A request as it goes over the wire.
pub fn render(path: &str, content_type: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

impl Connection {
    /// Connects.
    pub async fn open(address: &str) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: vec![0; 64 << 10], filled: 0 })
    }

    /// Sends a request and waits for its reply: the status and the body.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, String)> {
        self.socket.write_all(request).await?;
        self.filled = 0;
        let head_end = loop {
            if let Some(end) = find(&self.buffer[..self.filled], b"\r\n\r\n") {
                break end + 4;
            }
            self.fill().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).to_ascii_lowercase();
        let status = head.get(9..12).and_then(|s| s.parse().ok()).ok_or_else(|| broken("a status"))?;
        let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
        let body = match length {
            Some(length) => {
                let length = length.trim().parse::<usize>().map_err(|_| broken("a content length"))?;
                while self.filled < head_end + length {
                    self.fill().await?;
                }
                self.buffer[head_end..head_end + length].to_vec()
            }
            None => loop {
                match unchunked(&self.buffer[head_end..self.filled]) {
                    Some(body) => break body,
                    None => self.fill().await?,
                }
            },
        };
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Sends a request again while the node says that it has too much to do; the body of the reply, and how often that was.
    pub async fn insist(&mut self, request: &[u8]) -> io::Result<(String, u64)> {
        let mut refused = 0;
        loop {
            match self.exchange(request).await? {
                (200, body) => return Ok((body, refused)),
                (429 | 503, _) => {
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                (status, body) => return Err(io::Error::other(format!("answered {status}: {body}"))),
            }
        }
    }

    /// Runs a statement.
    pub async fn sql(&mut self, sql: &str, after: &[String]) -> io::Result<Value> {
        let question = json!({ "sql": sql, "after": after, "timeout_ms": PATIENCE.as_millis() as u64 });
        let request = render("/v1/sql", "application/json", question.to_string());
        match self.exchange(&request).await? {
            (200, body) => serde_json::from_str(&body).map_err(io::Error::other),
            (status, body) => Err(io::Error::other(format!("{sql}: answered {status}: {body}"))),
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        match self.socket.read(&mut self.buffer[self.filled..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.filled += read;
                Ok(())
            }
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The body that the chunks make up, once the last one is there.
fn unchunked(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = find(chunks, b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&chunks[..line]).ok()?.trim(), 16).ok()?;
        let data = chunks.get(line + 2..line + 2 + length + 2)?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(&data[..length]);
        chunks = &chunks[line + 2 + length + 2..];
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the reply has not {what}"))
}

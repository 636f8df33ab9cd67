//! Measures point reads over the PostgreSQL wire: so many connections, each asks a prepared statement for one key after
//! the other.
//!
//! The messages are those that libpq sends for a prepared statement, Bind, Describe, Execute and Sync in one write, with
//! the key as text. It speaks to any server that trusts its user.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Figures;
use crate::arguments::{Arguments, Error};
use crate::keyed::mixed;
use crate::latency::Latencies;

/// What all connections share.
#[derive(Debug)]
struct Reads {
    address: String,
    startup: Vec<u8>,
    parse: Vec<u8>,
    first_key: u64,
    keys: u64,
    deadline: Instant,
    /// Keys that had no row.
    absent: Cell<u64>,
}

/// Runs `points`.
pub async fn run(arguments: Arguments) -> Figures {
    let connections: u64 = arguments.number("connections", 16)?;
    let began = Instant::now();
    let reads = Rc::new(Reads {
        address: arguments.text("addr")?.to_owned(),
        startup: startup(arguments.choice("user", "bench"), arguments.choice("database", "millstream")),
        parse: message(b'P', &[b"point\0", arguments.text("sql")?.as_bytes(), b"\0\0\0"]),
        first_key: arguments.number("first-key", 0)?,
        keys: arguments.number("keys", 1_000_000_u64)?.max(1),
        deadline: began + Duration::from_secs_f64(arguments.number("seconds", 10.0)?),
        absent: Cell::new(0),
    });
    let tasks: Vec<_> = (0..connections).map(|n| tokio::task::spawn_local(Rc::clone(&reads).drive(n))).collect();
    let mut all = Latencies::default();
    for task in tasks {
        all.merge(task.await??);
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(json!({
        "connections": connections,
        "reads": all.len(),
        "seconds": seconds,
        "reads_per_s": all.len() as f64 / seconds,
        "absent": reads.absent.get(),
        "latency": all.figures(),
    }))
}

impl Reads {
    /// Asks until the time is over.
    async fn drive(self: Rc<Self>, number: u64) -> Result<Latencies, Error> {
        let mut wire = Wire::open(&self.address).await?;
        wire.send(&self.startup).await?;
        wire.until_ready().await?;
        wire.send(&[self.parse.as_slice(), &message(b'S', &[])].concat()).await?;
        wire.until_ready().await?;
        let mut latencies = Latencies::default();
        for n in 0.. {
            let key = self.first_key + mixed((number << 40) + n) % self.keys;
            let question = question(key);
            let began = Instant::now();
            if began >= self.deadline {
                break;
            }
            wire.send(&question).await?;
            let rows = wire.until_ready().await?;
            latencies.record(began.elapsed());
            if rows == 0 {
                self.absent.set(self.absent.get() + 1);
            }
        }
        wire.send(&message(b'X', &[])).await?;
        Ok(latencies)
    }
}

/// One connection.
#[derive(Debug)]
struct Wire {
    socket: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Wire {
    async fn open(address: &str) -> Result<Self, Error> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: vec![0; 16 << 10], start: 0, end: 0 })
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.socket.write_all(bytes).await?)
    }

    /// Reads up to ReadyForQuery; the rows that came.
    async fn until_ready(&mut self) -> Result<u64, Error> {
        let mut rows = 0;
        loop {
            while self.end - self.start < 5 {
                self.fill().await?;
            }
            let kind = self.buffer[self.start];
            let length = be(&self.buffer[self.start + 1..self.start + 5]) as usize + 1;
            while self.end - self.start < length {
                self.fill().await?;
            }
            let body = &self.buffer[self.start + 5..self.start + length];
            match kind {
                b'D' => rows += 1,
                b'E' => return Err(String::from_utf8_lossy(body).replace('\0', " ").into()),
                b'R' if be(body) != 0 => return Err("the server asks for a password; let it trust the user".into()),
                _ => {}
            }
            self.start += length;
            if kind == b'Z' {
                return Ok(rows);
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Error> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        match self.socket.read(&mut self.buffer[self.end..]).await? {
            0 => Err("the server closed the connection".into()),
            read => {
                self.end += read;
                Ok(())
            }
        }
    }
}

fn be(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |n, byte| n << 8 | u32::from(*byte))
}

fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[kind], &(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

fn startup(user: &str, database: &str) -> Vec<u8> {
    let body = format!("user\0{user}\0database\0{database}\0\0");
    [&(body.len() as u32 + 8).to_be_bytes()[..], &196_608_u32.to_be_bytes(), body.as_bytes()].concat()
}

/// Bind, Describe, Execute and Sync for a key.
fn question(key: u64) -> Vec<u8> {
    let key = key.to_string();
    let length = (key.len() as u32).to_be_bytes();
    // The unnamed portal of the statement; no format codes, one parameter, results as text.
    let bind = message(b'B', &[b"\0point\0", &[0, 0], &[0, 1], &length, key.as_bytes(), &[0, 0]]);
    let describe = message(b'D', &[b"P\0"]);
    let execute = message(b'E', &[b"\0", &[0; 4]]);
    [bind, describe, execute, message(b'S', &[])].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_their_length() {
        assert_eq!(message(b'S', &[]), [b'S', 0, 0, 0, 4]);
        assert_eq!(startup("u", "d").len(), be(&startup("u", "d")) as usize);
        let question = question(12);
        let bind = be(&question[1..5]) as usize + 1;
        assert_eq!((question[0], question[bind]), (b'B', b'D'));
        assert_eq!(question.len(), bind + 7 + 10 + 5);
    }
}

//! Owns one connection's bytes: messages in, messages out, and noticing that the client has left.

use std::future::Future;
use std::pin::pin;

use bytes::{Buf, BytesMut};
use pgwire::error::PgWireError;
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Answers are sent when this many bytes wait.
const FLUSH_BYTES: usize = 32 * 1024;
/// Space for one read.
const READ_BYTES: usize = 8 * 1024;
/// What a client may send ahead while its statement runs, before reading stops until the statement is done.
const READ_AHEAD_BYTES: usize = 1 << 20;
/// A buffer that grew beyond this is given back when it is empty.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The client closed its side.
    #[error("the client left")]
    Left,
    /// The node is stopping and the client was idle.
    #[error("the node is stopping")]
    Stopping,
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(#[from] std::io::Error),
    /// The client does not speak the protocol.
    #[error("the client broke the protocol: {0}")]
    Protocol(#[from] PgWireError),
    /// A message is over its limit.
    #[error("a message of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its length as announced.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// One connection's socket and buffers.
pub(super) struct Wire {
    socket: TcpStream,
    input: BytesMut,
    output: BytesMut,
    context: DecodeContext,
    max_message_bytes: usize,
    stop: watch::Receiver<bool>,
}

impl Wire {
    pub(super) fn new(socket: TcpStream, max_message_bytes: usize, stop: watch::Receiver<bool>) -> Self {
        let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
        Self { socket, input: BytesMut::new(), output: BytesMut::new(), context, max_message_bytes, stop }
    }

    /// The next message, after everything that waits has been sent. At shutdown an idle client gets none.
    pub(super) async fn receive(&mut self) -> Result<PgWireFrontendMessage, WireError> {
        loop {
            if let Some(message) = self.decode()? {
                return Ok(message);
            }
            self.flush().await?;
            self.give_back_memory();
            self.input.reserve(READ_BYTES);
            tokio::select! {
                read = self.socket.read_buf(&mut self.input) => {
                    if read? == 0 {
                        return Err(WireError::Left);
                    }
                }
                _ = self.stop.wait_for(|stop| *stop) => return Err(WireError::Stopping),
            }
        }
    }

    fn decode(&mut self) -> Result<Option<PgWireFrontendMessage>, WireError> {
        let started = !self.context.awaiting_frontend_ssl && !self.context.awaiting_frontend_startup;
        if let (true, Some(length)) = (started, self.input.get(1..5)) {
            let bytes = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
            if bytes > self.max_message_bytes {
                return Err(WireError::TooLarge { bytes, limit: self.max_message_bytes });
            }
        }
        Ok(PgWireFrontendMessage::decode(&mut self.input, &self.context)?)
    }

    /// The client has said that it wants no encryption: a startup message or a cancel request comes next.
    pub(super) fn expect_startup(&mut self) {
        self.context.awaiting_frontend_ssl = false;
    }

    /// The client has introduced itself: from here on messages have types.
    pub(super) fn started(&mut self) {
        self.context.awaiting_frontend_startup = false;
    }

    /// Adds a message to what waits to be sent.
    pub(super) fn send(&mut self, message: PgWireBackendMessage) -> Result<(), WireError> {
        Ok(message.encode(&mut self.output)?)
    }

    /// Where messages can be written directly.
    pub(super) fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Sends what waits if it is much.
    pub(super) async fn flush_when_full(&mut self) -> Result<(), WireError> {
        if self.output.len() >= FLUSH_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Sends everything that waits.
    pub(super) async fn flush(&mut self) -> Result<(), WireError> {
        while self.output.has_remaining() {
            if self.socket.write_buf(&mut self.output).await? == 0 {
                return Err(WireError::Left);
            }
        }
        Ok(())
    }

    /// Waits for `work`, and gives it up when the client leaves first.
    pub(super) async fn while_connected<F: Future>(&mut self, work: F) -> Result<F::Output, WireError> {
        let mut work = pin!(work);
        loop {
            let may_read = self.input.len() < READ_AHEAD_BYTES;
            if may_read {
                self.input.reserve(READ_BYTES);
            }
            tokio::select! {
                biased;
                output = &mut work => return Ok(output),
                read = self.socket.read_buf(&mut self.input), if may_read => {
                    if read? == 0 {
                        return Err(WireError::Left);
                    }
                }
            }
        }
    }

    fn give_back_memory(&mut self) {
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.is_empty() && buffer.capacity() > KEPT_BUFFER_BYTES {
                *buffer = BytesMut::new();
            }
        }
    }
}

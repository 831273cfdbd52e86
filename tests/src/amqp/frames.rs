//! Frames on a socket.

use std::io;

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Not the first byte of any frame.
const BABBLE: &[u8] = b"\xffthis is no frame";

#[derive(Debug)]
pub(super) struct Frames {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Frames {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, received: Vec::new() }
    }

    /// The next frame that has arrived whole already.
    pub(super) fn take(&mut self) -> io::Result<Option<AMQPFrame>> {
        match parse_frame(self.received.as_slice()) {
            Ok((rest, frame)) => {
                let read = self.received.len() - rest.len();
                self.received.drain(..read);
                Ok(Some(frame))
            }
            Err(error) if error.is_incomplete() => Ok(None),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{error:?}"))),
        }
    }

    /// What has arrived and was not read yet, without waiting. False: nothing has.
    pub(super) fn read_what_is_there(&mut self) -> io::Result<bool> {
        match self.socket.try_read_buf(&mut self.received) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for more. Can be dropped while it waits.
    pub(super) async fn read(&mut self) -> io::Result<()> {
        match self.socket.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    pub(super) async fn send(&mut self, frames: &[AMQPFrame]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for frame in frames {
            let written = gen_frame(frame)(WriteContext::from(bytes));
            bytes = written.map_err(|error| io::Error::other(format!("{error:?}")))?.into_inner().0;
        }
        self.socket.write_all(&bytes).await
    }

    pub(super) async fn babble(&mut self) -> io::Result<()> {
        self.socket.write_all(BABBLE).await
    }

    /// Cuts the connection: the peer gets a reset instead of an end.
    pub(super) fn reset(&self) {
        let _ = self.socket.set_zero_linger();
    }
}

//! What a script is asked, and what it can answer.

/// A message that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The connection, counted from 1.
    pub connection: u64,
    /// Its place on the connection, which stands for its channel and its delivery tag.
    pub tag: u64,
    /// How many messages have arrived in all, with this one.
    pub number: u64,
    /// The header `stream_id`.
    pub stream: String,
    /// The header `version`.
    pub version: u64,
}

/// When a script is asked.
#[derive(Debug)]
pub enum Moment<'a> {
    /// A client has connected and introduced itself. Without [`Act::Proceed`] the handshake stalls.
    Hello {
        /// The connection, counted from 1.
        connection: u64,
    },
    /// It has sent user and password.
    Login {
        /// The connection, counted from 1.
        connection: u64,
    },
    /// It asks for a virtual host.
    Open {
        /// The connection, counted from 1.
        connection: u64,
    },
    /// It opens a channel, declares an exchange or turns on confirms.
    Setup {
        /// The connection, counted from 1.
        connection: u64,
    },
    /// It has published a message.
    Published(&'a Message),
    /// It has sent nothing more for now: the end of a batch, or of a part of one.
    Idle {
        /// The connection, counted from 1.
        connection: u64,
        /// The messages that have got no verdict yet, in the order of their arrival.
        open: &'a [Message],
    },
}

/// What a broker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Answers as RabbitMQ would; outside of the handshake nothing.
    Proceed,
    /// Confirms a message; with `multiple` all before it on its channel, too.
    Ack {
        /// Its place on the connection.
        tag: u64,
        /// Whether all before it are meant, too.
        multiple: bool,
    },
    /// Refuses a message; with `multiple` all before it on its channel, too.
    Nack {
        /// Its place on the connection.
        tag: u64,
        /// Whether all before it are meant, too.
        multiple: bool,
    },
    /// Sends a message back as unroutable.
    Return {
        /// Its place on the connection.
        tag: u64,
    },
    /// Confirms everything that is open.
    AckAll,
    /// Closes the channel of the message that has arrived last, with an error.
    CloseChannel(u16, &'static str),
    /// Closes the connection with an error.
    CloseConnection(u16, &'static str),
    /// Cuts the connection.
    Reset,
    /// Reads and says nothing from now on, with the connection open.
    Fall,
    /// Says that it takes no messages.
    Block,
    /// Says that it takes messages again.
    Unblock,
    /// Sends bytes that are not a frame.
    Babble,
}

/// What RabbitMQ would do: everything is taken and confirmed.
#[must_use]
pub fn obedient(moment: &Moment<'_>) -> Vec<Act> {
    match moment {
        Moment::Published(message) => vec![Act::Ack { tag: message.tag, multiple: false }],
        Moment::Idle { .. } => Vec::new(),
        _ => vec![Act::Proceed],
    }
}

//! A scripted AMQP 0-9-1 broker on loopback: speaks as much of the protocol as a publisher needs, and misbehaves when a
//! test's script says so.
//!
//! The script is asked at each [`Moment`] what to do and answers with [`Act`]s; [`obedient`] is what RabbitMQ would do. What
//! has arrived and what was confirmed is in [`Seen`], which a test can wait on.

mod connection;
mod frames;
mod script;
mod seen;

use std::sync::{Arc, Mutex};

use tokio::{net::TcpListener, sync::broadcast, task::JoinHandle, time::timeout};

pub use script::{Act, Message, Moment, obedient};
pub use seen::Seen;

use crate::PATIENCE;
use seen::Record;

/// The password in a scripted broker's URL: it stands in no log.
pub const PASSWORD: &str = "open-sesame";

/// Acts from outside that a connection may lag behind.
const COMMANDS: usize = 16;

type Script = Box<dyn FnMut(&Moment<'_>) -> Vec<Act> + Send>;

/// A broker; it ends with the value, and cuts its connections.
#[derive(Debug)]
pub struct ScriptedBroker {
    port: u16,
    stage: Stage,
    accepting: JoinHandle<()>,
}

/// What all connections share.
#[derive(Clone)]
struct Stage {
    script: Arc<Mutex<Script>>,
    record: Record,
    commands: broadcast::Sender<Act>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("record", &self.record).finish_non_exhaustive()
    }
}

impl ScriptedBroker {
    /// Starts a broker that follows a script.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(script: impl FnMut(&Moment<'_>) -> Vec<Act> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let (commands, _) = broadcast::channel(COMMANDS);
        let stage = Stage { script: Arc::new(Mutex::new(Box::new(script))), record: Record::default(), commands };
        let accepting = tokio::spawn(accept(listener, stage.clone()));
        Self { port, stage, accepting }
    }

    /// Its URL, with [`PASSWORD`].
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://relay:{PASSWORD}@127.0.0.1:{}/%2f", self.port)
    }

    /// Does something on every live connection.
    pub fn act(&self, act: Act) {
        // Without a connection there is nothing to do it on.
        let _ = self.stage.commands.send(act);
    }

    /// What has been seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.stage.record.seen()
    }

    /// Waits until what has been seen is as wanted.
    ///
    /// # Panics
    /// If that does not come within [`PATIENCE`].
    pub async fn wait_until(&self, wanted: impl FnMut(&Seen) -> bool) -> Seen {
        let reached = timeout(PATIENCE, self.stage.record.wait_until(wanted)).await;
        reached.unwrap_or_else(|_| panic!("the broker does not see what is waited for: {:?}", self.seen()))
    }
}

impl Drop for ScriptedBroker {
    fn drop(&mut self) {
        self.accepting.abort();
        self.act(Act::Reset);
    }
}

async fn accept(listener: TcpListener, stage: Stage) {
    while let Ok((socket, _)) = listener.accept().await {
        let number = stage.record.note(|seen| {
            seen.connections += 1;
            seen.connections
        });
        tokio::spawn(connection::serve(socket, number, stage.clone()));
    }
}

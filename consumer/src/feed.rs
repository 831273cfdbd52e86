//! The queue's side of a consumer: a task that keeps a connection open, hands over what is delivered, and acknowledges what is done.

use std::{future::ready, sync::Arc};

use streambox::message::{MessageError, Received};
use streambox_amqp::{ConnectionError, ConnectionState, Connector, LONGEST_RECONNECT_DELAY};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

use crate::broker::{ConsumeSettings, Session};

/// What comes from the queue.
#[derive(Debug)]
pub(crate) enum FromQueue {
    /// A message.
    Delivered(Tag, Result<Received, MessageError>),
    /// The connection is gone: everything that is not acknowledged comes again.
    Lost,
    /// What the broker had given to this connection when it was asked under this number has come.
    HasCome(u64),
}

/// What is done with deliveries.
#[derive(Debug)]
pub(crate) enum ToQueue {
    Acknowledge(Vec<Tag>),
    Reject(Tag),
    /// Open another connection.
    Reopen,
    /// Say when everything has come that the broker has given to this connection.
    AskWhatHasCome(u64),
}

/// Which delivery of which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    connection: u64,
    tag: u64,
}

/// The shell's ends of the task.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) deliveries: mpsc::Receiver<FromQueue>,
    pub(crate) done_with: mpsc::UnboundedSender<ToQueue>,
    pub(crate) state: watch::Receiver<ConnectionState<()>>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

/// Starts the task. It ends, after an orderly close, when `stop` turns true or its sender is gone and `done_with` is dropped.
pub(crate) fn start(settings: Arc<ConsumeSettings>, stop: watch::Receiver<bool>) -> Feed {
    // The broker sends no more than the prefetch; what is in here is not held twice.
    let (delivered, deliveries) = mpsc::channel(1);
    // Each delivery is in it once at most.
    let (done_with, to_queue) = mpsc::unbounded_channel();
    let (connector, state) = Connector::new(settings, stop, Arc::new(Notify::new()));
    let task = tokio::spawn(supervise(connector, delivered, to_queue));
    Feed { deliveries, done_with, state, task }
}

async fn supervise(
    mut connector: Connector<ConsumeSettings>,
    delivered: mpsc::Sender<FromQueue>,
    mut to_queue: mpsc::UnboundedReceiver<ToQueue>,
) {
    for connection in 1_u64.. {
        let Some(session) = connector.connect(Session::open).await else { return };
        tracing::info!(address = connector.purpose.endpoint.address(), queues = ?connector.purpose.queues.queue_names(), "consuming");
        let opened_at = Instant::now();
        let ended = serve(session, connection, &delivered, &mut to_queue).await;
        // The shell is gone if nobody receives it.
        if delivered.send(FromQueue::Lost).await.is_err() {
            return;
        }
        let error = match ended {
            Ended::Done => return,
            Ended::Reopened => continue,
            Ended::Lost(error) => error,
        };
        if opened_at.elapsed() > LONGEST_RECONNECT_DELAY {
            connector.reset_backoff();
        }
        if connector.rest_after(&error).await {
            return;
        }
    }
}

enum Ended {
    /// The shell is done.
    Done,
    Reopened,
    Lost(ConnectionError),
}

async fn serve(
    mut session: Session,
    connection: u64,
    delivered: &mpsc::Sender<FromQueue>,
    to_queue: &mut mpsc::UnboundedReceiver<ToQueue>,
) -> Ended {
    let mut waiting: Option<FromQueue> = None;
    // The newest question that the broker has answered behind what it was about.
    let mut has_come: Option<u64> = None;
    // What was asked behind acknowledgements that were written together.
    let mut next_asked: Option<ToQueue> = None;
    loop {
        let asked = tokio::select! {
            biased;
            () = ready(()), if next_asked.is_some() => next_asked.take(),
            asked = to_queue.recv() => asked,
            room = delivered.reserve(), if waiting.is_some() => {
                if let (Ok(room), Some(message)) = (room, waiting.take()) {
                    room.send(message);
                }
                continue;
            }
            next = session.next(), if waiting.is_none() => match next {
                Ok(delivery) => {
                    waiting = Some(FromQueue::Delivered(Tag { connection, tag: delivery.tag }, delivery.message));
                    continue;
                }
                Err(error) => return Ended::Lost(error),
            },
            // There is no message at the moment.
            () = ready(()), if waiting.is_none() && has_come.is_some() => {
                waiting = has_come.take().map(FromQueue::HasCome);
                continue;
            }
        };
        let done = match asked {
            None => {
                session.close().await;
                return Ended::Done;
            }
            Some(ToQueue::Reopen) => {
                session.close().await;
                return Ended::Reopened;
            }
            // Those of earlier connections are delivered again.
            Some(ToQueue::Acknowledge(tags)) => {
                let mut of_this: Vec<_> = of(connection, tags).collect();
                // What was done while the last ones were written goes with them.
                while next_asked.is_none() {
                    match to_queue.try_recv() {
                        Ok(ToQueue::Acknowledge(more)) => of_this.extend(of(connection, more)),
                        Ok(other) => next_asked = Some(other),
                        Err(_) => break,
                    }
                }
                session.ack(of_this).await
            }
            Some(ToQueue::Reject(tag)) if tag.connection == connection => session.reject(tag.tag).await,
            Some(ToQueue::Reject(_)) => Ok(()),
            Some(ToQueue::AskWhatHasCome(id)) => {
                has_come = Some(id);
                session.let_come().await
            }
        };
        if let Err(error) = done {
            return Ended::Lost(error);
        }
    }
}

/// The tags of a connection.
fn of(connection: u64, tags: Vec<Tag>) -> impl Iterator<Item = u64> {
    tags.into_iter().filter(move |tag| tag.connection == connection).map(|tag| tag.tag)
}

//! Sends the requests that declare and compare. What the broker refuses closes a channel: the next request gets a new one.

use std::{future::Future, sync::Arc};

use lapin::{
    Channel, ErrorKind,
    protocol::{AMQPError, AMQPErrorKind, AMQPSoftError},
};
use streambox_amqp::{ConnectionError, Purpose, WatchedConnection};

pub(super) struct Operator<'a, P: Purpose> {
    watched: &'a mut WatchedConnection<P>,
    purpose: &'a P,
    channel: Option<Channel>,
}

impl<'a, P: Purpose> Operator<'a, P> {
    pub(super) fn on(watched: &'a mut WatchedConnection<P>, purpose: &'a P) -> Self {
        Self { watched, purpose, channel: None }
    }

    /// Sends a request. The inner error is the broker's refusal, which has closed the channel and nothing else.
    pub(super) async fn attempt<T, F>(
        &mut self,
        request: impl FnOnce(Channel) -> F,
    ) -> Result<Result<T, AMQPError>, ConnectionError>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        let connection = Arc::clone(&self.watched.connection);
        let (purpose, open) = (self.purpose, self.channel.take());
        let asked = async {
            let failed = |error: lapin::Error| ConnectionError::from_lapin(&error, purpose);
            let channel = match open {
                Some(channel) => channel,
                None => connection.create_channel().await.map_err(failed)?,
            };
            match request(channel.clone()).await {
                Ok(done) => Ok((Ok(done), Some(channel))),
                Err(error) => match error.kind() {
                    ErrorKind::ProtocolError(refusal) if error.is_amqp_soft_error() => Ok((Err(refusal.clone()), None)),
                    _ => Err(failed(error)),
                },
            }
        };
        let (answer, channel) = self.watched.within_connect_timeout("declaring queues", asked).await?;
        self.channel = channel;
        Ok(answer)
    }

    /// As [`attempt`](Self::attempt), if the refusal is an error.
    pub(super) async fn require<T, F>(&mut self, request: impl FnOnce(Channel) -> F) -> Result<T, ConnectionError>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        let answer = self.attempt(request).await?;
        answer.map_err(|refusal| self.meaning(refusal))
    }

    /// The meaning of a refusal.
    pub(super) fn meaning(&self, refusal: AMQPError) -> ConnectionError {
        ConnectionError::from_lapin(&ErrorKind::ProtocolError(refusal).into(), self.purpose)
    }
}

pub(super) fn is(refusal: &AMQPError, kind: &AMQPSoftError) -> bool {
    matches!(refusal.kind(), AMQPErrorKind::Soft(found) if found == kind)
}

//! A projection of a handler, whose effects are items of DynamoDB.

use streambox::{Error, StreamId, message::Received};

use super::Inbox;
use crate::{Applied, Context, Handler, HandlerError, Position, Projection};

/// A [`Projection`] whose effects are the items of a [`Handler`] and whose positions are those of an [`Inbox`].
#[derive(Clone, Debug)]
pub struct InboxProjection<H> {
    inbox: Inbox,
    handler: H,
}

/// Why an event was not applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The handler has refused the event.
    #[error("the handler failed")]
    Handler(#[source] HandlerError),
    /// What the handler returned can't be stored, or DynamoDB does not answer.
    #[error(transparent)]
    Inbox(#[from] Error),
}

impl ApplyError {
    /// Whether the event is not to blame: DynamoDB was unavailable or busy. The same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Inbox(error) if error.is_retryable())
    }
}

impl Inbox {
    /// Makes a [`Projection`] of a handler: what it returns for an event is stored in one transaction with the position of the stream.
    ///
    /// An event without items costs 1 write unit, one with items of up to 1 KB 2 for each, and 2 for the position. No read.
    pub fn projection<H: Handler>(&self, handler: H) -> InboxProjection<H> {
        InboxProjection { inbox: self.clone(), handler }
    }
}

impl<H> InboxProjection<H> {
    /// The handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }
}

impl<H: Handler> Projection for InboxProjection<H> {
    type Error = ApplyError;

    async fn position(&self, stream: &StreamId) -> Result<Position, ApplyError> {
        Ok(self.inbox.position(stream).await?)
    }

    async fn apply(&self, event: &Received, last_version: u64) -> Result<Applied, ApplyError> {
        let context =
            Context { consumer: &self.inbox.consumer, generation: self.inbox.generation, event_id: event.event_id };
        let items = self.handler.handle(event, &context).await.map_err(ApplyError::Handler)?;
        Ok(self.inbox.apply(event, last_version, items).await?)
    }

    fn inbox(&self) -> Option<&Inbox> {
        Some(&self.inbox)
    }
}

//! An engine with the tables of one side, and what an event does.

use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem, Update};
use streambox::{Client, EventStore, message::Received};
use streambox_consumer::{Context, Handler, HandlerError, Inbox, create_inbox_table};
use streambox_tests::{
    basics,
    effects::{Effects, KEY},
    far_link::FarLink,
    served::ServedEngine,
};

use crate::{Failure, Shape};

pub(crate) const INBOX_TABLE: &str = "inbox";
/// The name of either consumer.
pub(crate) const CONSUMER: &str = "bench";

const APPLIED: &str = "applied";

/// A fresh engine.
pub(crate) struct Stage {
    pub(crate) shape: Shape,
    /// A client that nothing was sent with, at the distance that is measured.
    pub(crate) client: Client,
    pub(crate) counts: Counts,
    engine: ServedEngine,
    _link: Option<FarLink>,
}

/// The effect of an event: its stream's count is one more.
#[derive(Clone)]
pub(crate) struct Counts(String);

impl Counts {
    /// The item of an event.
    pub(crate) fn item(&self, stream: &str) -> Result<TransactWriteItem, Failure> {
        let add = Update::builder()
            .table_name(&self.0)
            .key(KEY, AttributeValue::S(stream.to_owned()))
            .update_expression(format!("ADD {APPLIED} :one"))
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
            .build()?;
        Ok(TransactWriteItem::builder().update(add).build())
    }
}

impl Handler for Counts {
    async fn handle(&self, event: &Received, _: &Context<'_>) -> Result<Vec<TransactWriteItem>, HandlerError> {
        Ok(vec![self.item(event.stream_id.as_str())?])
    }
}

impl Stage {
    pub(crate) async fn set(shape: Shape, added: Duration) -> Result<Self, Failure> {
        let engine = ServedEngine::start_with(&["--stay-quick"]).await;
        create_inbox_table(&engine.client(None), INBOX_TABLE).await?;
        let counts = Counts(Effects::create(engine.client(None)).await.table().to_owned());
        let (mut url, mut link) = (engine.url().to_owned(), None);
        if !added.is_zero() {
            let far = FarLink::start(url.trim_start_matches("http://"), added).await?;
            url = format!("http://{}", far.address());
            link = Some(far);
        }
        Ok(Self { shape, client: basics::client(&url, None), counts, engine, _link: link })
    }

    pub(crate) fn events(&self) -> u64 {
        self.shape.streams * self.shape.events
    }

    /// The events table, which is empty: no message is missing.
    pub(crate) fn store(&self) -> EventStore {
        EventStore::new(self.client.clone(), self.engine.table())
    }

    pub(crate) fn inbox(&self) -> Result<Inbox, Failure> {
        Ok(Inbox::new(self.client.clone(), INBOX_TABLE, CONSUMER)?)
    }

    /// Checks that every event has had its effect, once.
    pub(crate) async fn check(&self) -> Result<(), Failure> {
        let mut counts = self.engine.client(None).scan().table_name(&self.counts.0).into_paginator().items().send();
        let (mut streams, expected) = (0, AttributeValue::N(self.shape.events.to_string()));
        while let Some(count) = counts.try_next().await? {
            if count.get(APPLIED) != Some(&expected) {
                return Err(format!("not every event took effect once: {count:?}").into());
            }
            streams += 1;
        }
        if streams != self.shape.streams {
            return Err(format!("{streams} of {} streams had effects", self.shape.streams).into());
        }
        Ok(())
    }
}

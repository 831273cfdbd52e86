//! What an event knows of the trace and the events that led to it.

use streambox::{EventStore, ExpectedVersion::NoStream, Metadata, TraceContext};
use streambox_tests::engine::{TestTable, event, stream};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn an_append_takes_the_current_trace_along_unless_an_event_brings_its_own() {
    let table = TestTable::create().await;
    let current = || Some(TraceContext::new(PARENT, Some("vendor=x".to_owned())));
    let store = EventStore::builder(table.store_client(), &table.name).trace_context(current).build();
    let own = Metadata::new().with(Metadata::TRACEPARENT, "00-own").with("by", "ann");
    let order = stream("order-1");

    store.append(&order, NoStream, [event(1), event(2).with_metadata(own.clone())]).await.unwrap();

    let events = store.read(&order).await.unwrap().events;
    assert_eq!(events[0].metadata.text(Metadata::TRACEPARENT).as_deref(), Some(PARENT));
    assert_eq!(events[0].metadata.text(Metadata::TRACESTATE).as_deref(), Some("vendor=x"));
    assert_eq!(events[1].metadata, own);
}

#[tokio::test]
async fn an_event_that_another_has_led_to_carries_its_conversation_on() {
    let table = TestTable::create().await;
    let (order, invoice, mail) = (stream("order-1"), stream("invoice-1"), stream("mail-1"));
    let append = async |stream, metadata| {
        table.store.append(stream, NoStream, [event(1).with_metadata(metadata)]).await.unwrap();
        table.store.event(stream, 1).await.unwrap().expect("it was appended")
    };
    let first = append(&order, Metadata::new()).await;
    let second = append(&invoice, Metadata::caused_by(&first)).await;
    let third = append(&mail, Metadata::caused_by(&second)).await;

    let id = |event: &streambox::RecordedEvent| Some(event.event_id().to_string());
    let text = |event: &streambox::RecordedEvent, name| event.metadata.text(name).map(std::borrow::Cow::into_owned);
    assert_eq!(text(&third, Metadata::CORRELATION_ID), id(&first));
    assert_eq!(text(&third, Metadata::CAUSATION_ID), id(&second));
}

//! The embedded engine as a program: with the tokens of transactions for who measures, without for who develops.

use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use streambox::{Client, Compression, EventStore, ExpectedVersion, NewEvent};
use streambox_tests::{
    basics::{event, stream},
    served::ServedEngine,
    wire::Wire,
};

/// Two transactions under one token, each with an item of its own. Returns whether the engine took the second for another one.
async fn carries_out_both(client: &Client, table: &str) -> bool {
    let put = |entity: &str| {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let put = Put::builder().table_name(table).item("stream_id", text("other-1")).item("entity", text(entity));
        let item = TransactWriteItem::builder().put(put.build().expect("a complete put")).build();
        client.transact_write_items().client_request_token("a token").transact_items(item).send()
    };
    put("1").await.expect("the engine writes");
    match put("2").await {
        Ok(_) => true,
        Err(error) => {
            assert!(error.into_service_error().is_idempotent_parameter_mismatch_exception());
            false
        }
    }
}

#[tokio::test]
async fn an_engine_for_development_holds_no_tokens() {
    let engine = ServedEngine::start_with(&["--stay-quick"]).await;
    assert!(carries_out_both(&engine.client(None), engine.table()).await);
}

#[tokio::test]
async fn an_engine_that_is_measured_on_holds_them() {
    let engine = ServedEngine::start().await;
    assert!(!carries_out_both(&engine.client(None), engine.table()).await);
}

#[tokio::test]
async fn g3_an_append_whose_answers_are_lost_is_stored_once_without_tokens() {
    let engine = ServedEngine::start_with(&["--stay-quick"]).await;
    let (wire, order) = (Wire::new(), stream("order-1"));
    wire.lose_answers("TransactWriteItems", 5);

    let store = engine.store(Some(&wire));
    let appended = store.append(&order, ExpectedVersion::NoStream, [event(1), event(2)]).await.unwrap();

    assert_eq!(wire.take().len(), 6, "five answers were lost, the sixth came");
    assert_eq!((appended.already_stored, appended.position.version()), (true, 2));
    assert_eq!(store.read(&order).await.unwrap().events.len(), 2);
}

/// Pages of 1 MB on the way back, and what looks like a token on the way there.
#[tokio::test]
async fn what_passes_is_not_changed() {
    let engine = ServedEngine::start_with(&["--stay-quick"]).await;
    let store = EventStore::builder(engine.client(None), engine.table()).compression(Compression::Off).build();
    let order = stream("order-1");
    let text = format!(r#""ClientRequestToken":"{}","#, "x".repeat(300_000));
    let events = (0..12).map(|_| NewEvent::json("Grown", &text).unwrap());
    store.append(&order, ExpectedVersion::NoStream, events).await.unwrap();

    let history = store.read(&order).await.unwrap();
    assert_eq!(history.events.len(), 12);
    assert!(history.events.iter().all(|event| event.payload::<String>().unwrap() == text));
}

//! Public types and futures go from thread to thread, and what is shared is shared by reference: compiled, never run.

use std::convert::Infallible;

use streambox::{
    Appended, Client, Conflict, Corrupt, Error, EventReader, EventScan, EventStore, EventStoreBuilder, EventStream,
    ExpectedVersion, History, Invalid, ItemRefused, Metadata, Misconfiguration, NewEvent, ReadOptions, RecordedEvent,
    ScanOptions, ScanToken, StreamId, StreamPosition, StreamScan, TraceContext, Transaction, Verification,
    aggregate::{
        AggregateTransaction, CommandContext, Decision, ExecuteError, Loaded, Repository, RepositoryBuilder, Saved,
        Upcasters,
    },
    observe::Observation,
    outbox::Outbox,
    snapshot::{NewSnapshot, Snapshot, SnapshotLoad},
};
use streambox_tests::orders::{Order, OrderEvent};

fn send<T: Send>() {}
fn send_and_sync<T: Send + Sync>() {}
fn future(_: impl Future + Send) {}

#[test]
fn public_types_are_send_and_those_without_a_read_under_way_are_sync() {
    send_and_sync::<(EventStore, EventStoreBuilder, Client, Transaction, Outbox)>();
    send_and_sync::<(Repository<Order>, RepositoryBuilder<Order>, Loaded<Order>, Saved<Order>, AggregateTransaction)>();
    send_and_sync::<(CommandContext, Decision<OrderEvent, u64>, Upcasters, Observation)>();
    send_and_sync::<(Appended, ExpectedVersion, History, Metadata, NewEvent, RecordedEvent)>();
    send_and_sync::<(StreamId, StreamPosition, ReadOptions, ScanOptions, ScanToken, TraceContext)>();
    send_and_sync::<(Error, Conflict, Corrupt, Invalid, ItemRefused, Misconfiguration, ExecuteError<Infallible>)>();
    send_and_sync::<(EventReader, Snapshot, NewSnapshot, SnapshotLoad)>();
    send::<(EventStream, EventScan, StreamScan, Verification)>();
}

#[expect(dead_code, reason = "compiled, never run: it would need a table")]
fn futures_are_send(
    store: &EventStore,
    orders: &Repository<Order>,
    order: &StreamId,
    loaded: &Loaded<Order>,
    reader: &mut EventReader,
    snapshot: &mut SnapshotLoad,
) -> Result<(), Error> {
    let events = || [OrderEvent::Shipped];
    future(store.append(order, ExpectedVersion::Any, []));
    future(store.transaction().commit());
    future(store.read(order));
    future(store.position(order));
    future(store.exists(order));
    future(store.event(order, 1));
    future(reader.next_page());
    future(store.load_snapshot(order, |_| true));
    future(snapshot.next_page());
    future(orders.load("1"));
    future(orders.save(loaded, events()));
    future(orders.execute("1", |order| order.ship()));
    future(orders.snapshot("1"));
    future(orders.snapshots_settled());
    future(orders.transaction(loaded, &CommandContext::new(), events())?.commit());
    Ok(())
}

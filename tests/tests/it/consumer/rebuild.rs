//! A projection that is filled from the table: whole, in order, once, resumable, at the price of one scan.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_sdk_dynamodb::types::TransactWriteItem;
use futures_util::TryStreamExt as _;
use streambox::{EventStore, ExpectedVersion, ScanOptions, ScanToken, StreamId, Uuid, message::Received, testing};
use streambox_consumer::{
    Applied, Context, Handler, HandlerError, Inbox, MAX_HELD_EVENTS, Position, Projection, Rebuild, RebuildError,
    RebuildStatus, StreamProblem, create_inbox_table,
};
use streambox_tests::{
    PATIENCE,
    engine::{TestTable, event, stream},
    unique,
};
use tokio::{
    sync::{Barrier, watch},
    time::timeout,
};

type Hook = Box<dyn Fn(&Received) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> + Send + Sync>;

/// A read model in memory: the events themselves.
#[derive(Default)]
struct Memory {
    streams: Mutex<HashMap<StreamId, Vec<Received>>>,
    /// Positions that are not those of the events: of another history.
    foreign: Mutex<HashMap<StreamId, Position>>,
    positions_read: AtomicUsize,
    /// What happens before an event is stored.
    hook: Option<Hook>,
}

impl Memory {
    fn with_hook<F: Future<Output = io::Result<()>> + Send + 'static>(
        hook: impl Fn(&Received) -> F + Send + Sync + 'static,
    ) -> Self {
        Self { hook: Some(Box::new(move |event| Box::pin(hook(event)))), ..Self::default() }
    }

    fn events(&self) -> BTreeMap<String, Vec<Received>> {
        let streams = self.streams.lock().expect("it works");
        streams.iter().map(|(stream, events)| (stream.to_string(), events.clone())).collect()
    }

    fn positions_read(&self) -> usize {
        self.positions_read.swap(0, Ordering::Relaxed)
    }

    fn at(&self, stream: &StreamId) -> Position {
        if let Some(position) = self.foreign.lock().expect("it works").get(stream) {
            return *position;
        }
        let streams = self.streams.lock().expect("it works");
        let last = streams.get(stream).and_then(|events| events.last());
        last.map_or_else(Position::default, |last| Position { version: last.version, event_id: Some(last.event_id) })
    }
}

impl Projection for Memory {
    type Error = io::Error;

    async fn position(&self, stream: &StreamId) -> io::Result<Position> {
        self.positions_read.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        Ok(self.at(stream))
    }

    async fn apply(&self, event: &Received, last_version: u64) -> io::Result<Applied> {
        if let Some(hook) = &self.hook {
            hook(event).await?;
        }
        tokio::task::yield_now().await;
        if self.at(&event.stream_id).version != last_version {
            return Ok(Applied::Moved);
        }
        self.streams.lock().expect("it works").entry(event.stream_id.clone()).or_default().push(event.clone());
        Ok(Applied::Stored)
    }
}

/// What a consumer would have received of all public events, by stream.
async fn published(store: &EventStore) -> BTreeMap<String, Vec<Received>> {
    let mut events: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let keep = async |event: Received| {
        events.entry(event.stream_id.to_string()).or_default().push(event);
        Ok::<_, io::Error>(())
    };
    testing::deliver(store, keep).await;
    events
}

/// Streams of three categories, the number of a stream is that of its events; every third event is private, but for the first.
async fn filled(streams: u64) -> TestTable {
    let table = TestTable::create().await;
    for number in 1..=streams {
        let id = stream(&format!(
            "{}-{number}",
            ["order", "cart", "user"][usize::try_from(number % 3).expect("it is small")]
        ));
        let events = (1..=number).map(|number| if number % 3 == 0 { event(number).private() } else { event(number) });
        table.store.append(&id, ExpectedVersion::NoStream, events).await.expect("it works");
    }
    table.wire.take();
    table
}

#[tokio::test]
async fn a_rebuild_applies_each_public_event_once_in_order_as_a_consumer_would_receive_it() {
    let table = filled(20).await;
    let projection = Memory::default();
    let report = Rebuild::new(&table.store, &projection).run().await.unwrap();
    let expected = published(&table.store).await;
    assert_eq!(projection.events(), expected);
    let public = expected.values().map(Vec::len).sum::<usize>() as u64;
    assert_eq!((report.events, report.streams, report.applied), (210, 20, public));
    assert_eq!((report.private, report.already_applied, report.problem_streams), (210 - public, 0, 0));
    assert_eq!(projection.positions_read(), 20, "one for each stream");

    let again = Rebuild::new(&table.store, &projection).run().await.unwrap();
    assert_eq!((again.events, again.applied, again.already_applied), (210, 0, public));
    assert_eq!(projection.positions_read(), 20, "one for each stream");
    assert_eq!(projection.events(), expected);
}

#[tokio::test]
async fn what_a_projection_has_missed_is_applied_and_nothing_twice() {
    let table = filled(9).await;
    let projection = Memory::default();
    Rebuild::new(&table.store, &projection).run().await.unwrap();
    let lost = (["order-9", "cart-7", "user-5"], [4, 0, 2]);
    for (id, kept) in lost.0.iter().zip(lost.1) {
        projection.streams.lock().unwrap().get_mut(&stream(id)).unwrap().truncate(kept);
    }
    let report = Rebuild::new(&table.store, &projection).run().await.unwrap();
    assert_eq!(projection.events(), published(&table.store).await);
    assert_eq!(report.applied, (6 - 4) + 5 + (4 - 2), "of 9, 7 and 5 events 3, 2 and 1 are private");
}

#[tokio::test]
async fn a_rebuild_costs_one_scan_of_the_table() {
    let table = filled(24).await;
    for options in [ScanOptions::new(), ScanOptions::new().segments(2).page_items(7)] {
        table.wire.take();
        let mut scan = table.store.scan_events(&options).unwrap();
        while scan.try_next().await.unwrap().is_some() {}
        let bare = table.wire.take_costs();
        let projection = Memory::default();
        let rebuild = Rebuild::new(&table.store, &projection);
        let rebuild = if options == ScanOptions::new() { rebuild } else { rebuild.segments(2).page_items(7) };
        let report = rebuild.run().await.unwrap();
        let sent = table.wire.take_costs();
        let units = |costs: &[(_, f64)]| costs.iter().map(|(_, units)| units).sum::<f64>();
        assert_eq!(sent.len(), bare.len(), "no request more than the scan's");
        assert!(units(&sent) <= units(&bare), "{} units, a scan {}", units(&sent), units(&bare));
        assert!((report.read_units - units(&sent)).abs() < 1e-9, "the caller is told");
    }
}

#[tokio::test]
async fn categories_are_rebuilt_alone_or_together() {
    let table = filled(12).await;
    for categories in [&["order"][..], &["order", "cart"]] {
        let projection = Memory::default();
        let mut tokens = Vec::new();
        let mut rebuild =
            Rebuild::new(&table.store, &projection).on_progress(|progress| tokens.push(progress.token.clone()));
        for category in categories {
            rebuild = rebuild.category(*category);
        }
        rebuild.run().await.unwrap();
        let mut expected = published(&table.store).await;
        expected.retain(|stream, _| categories.iter().any(|category| stream.starts_with(&format!("{category}-"))));
        assert_eq!(projection.events(), expected);
        let others = Rebuild::new(&table.store, &projection).category("user").resume(tokens.pop().unwrap());
        let error = others.run().await.unwrap_err();
        assert!(matches!(error, RebuildError::Settings(_)), "{error}");
    }
    let error = Rebuild::new(&table.store, &Memory::default()).category("or-der").run().await.unwrap_err();
    assert!(matches!(error, RebuildError::Settings(_)), "{error}");
}

#[tokio::test]
async fn streams_are_applied_at_the_same_time_and_each_of_them_in_order() {
    const CONCURRENCY: usize = 4;
    let table = filled(12).await;
    // The first events are stored only if as many streams have come to theirs.
    let barrier = Arc::new(Barrier::new(CONCURRENCY));
    let (waited, running, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let projection = Memory::with_hook(move |_| {
        let first = waited.fetch_add(1, Ordering::Relaxed) < CONCURRENCY;
        let (barrier, running, most) = (Arc::clone(&barrier), Arc::clone(&running), Arc::clone(&most));
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            if first {
                barrier.wait().await;
            }
            running.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        }
    });
    let rebuild = Rebuild::new(&table.store, &projection).concurrency(CONCURRENCY).run();
    timeout(PATIENCE, rebuild).await.expect("four are applied at the same time").unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), CONCURRENCY, "and no more");
    assert_eq!(projection.events(), published(&table.store).await);
}

/// Drops a rebuild when the projection has this many events more. Returns the last token.
async fn killed_after(
    table: &TestTable,
    projection: &Memory,
    token: Option<ScanToken>,
    events: u64,
) -> (bool, u64, Option<ScanToken>) {
    let (mut last, mut seen, mut is_killed) = (token.clone(), 0, false);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut stop = Some(stop);
    let on_progress = |progress: &RebuildStatus| {
        last = Some(progress.token.to_string().parse().expect("a token is read as it was written"));
        seen = progress.events;
        if progress.applied >= events
            && let Some(stop) = stop.take()
        {
            stop.send(()).expect("the rebuild is running");
        }
    };
    let mut rebuild = Rebuild::new(&table.store, projection).segments(3).page_items(20).on_progress(on_progress);
    if let Some(token) = token {
        rebuild = rebuild.resume(token);
    }
    tokio::select! {
        biased;
        _ = stopped => is_killed = true,
        report = rebuild.run() => { report.expect("it works"); }
    }
    (is_killed, seen, last)
}

#[tokio::test]
async fn a_rebuild_that_was_killed_is_resumed_from_its_token() {
    let table = filled(60).await;
    // One stream is longer than several tokens are apart.
    for begin in [1, 91, 181, 271] {
        let events = (begin..begin + 90).map(event);
        table.store.append(&stream("order-long"), ExpectedVersion::Any, events).await.unwrap();
    }
    let projection = Memory::default();
    let (mut token, mut kills, mut seen) = (None, 0, 0);
    loop {
        let (is_killed, events, last) = killed_after(&table, &projection, token, 200).await;
        (token, seen) = (last, seen + events);
        if !is_killed {
            break;
        }
        kills += 1;
    }
    assert_eq!(projection.events(), published(&table.store).await);
    assert!(kills > 3, "{kills}");
    let all = 60 * 61 / 2 + 360;
    // What was held when it was killed is read again, and what was not reported yet is not counted.
    let most = all + (kills + 1) * MAX_HELD_EVENTS as u64;
    assert!(seen <= most, "{seen} events read, at most {most}");

    // The token at the end is behind everything.
    let token = token.unwrap();
    let report = Rebuild::new(&table.store, &projection).segments(3).resume(token.clone()).run().await.unwrap();
    assert_eq!((report.events, report.applied), (0, 0));
    let error = Rebuild::new(&table.store, &projection).segments(4).resume(token).run().await.unwrap_err();
    assert!(matches!(error, RebuildError::Settings(_)), "{error}");
}

#[tokio::test]
async fn a_token_in_the_middle_of_a_stream_is_refused_by_a_projection_that_was_emptied() {
    let table = TestTable::create().await;
    for begin in [1, 91, 181] {
        let events =
            (begin..begin + 90).map(|number| if number < 150 { event(number) } else { event(number).private() });
        table.store.append(&stream("order-1"), ExpectedVersion::Any, events).await.unwrap();
    }
    table.store.append(&stream("order-1"), ExpectedVersion::Any, [event(271)]).await.unwrap();
    let projection = Memory::default();
    let mut tokens = Vec::new();
    let rebuild = Rebuild::new(&table.store, &projection).on_progress(|progress| tokens.push(progress.token.clone()));
    rebuild.run().await.unwrap();
    let token = tokens.first().unwrap().clone();

    // The same projection: all is there. One that was killed behind the token: the rest is applied.
    let report = Rebuild::new(&table.store, &projection).resume(token.clone()).run().await.unwrap();
    assert_eq!((report.events, report.already_applied), (171, 50));
    projection.streams.lock().unwrap().get_mut(&stream("order-1")).unwrap().truncate(149);
    let private = tokens[1].clone();
    let report = Rebuild::new(&table.store, &projection).resume(private).run().await.unwrap();
    assert_eq!((report.events, report.applied), (71, 1), "what is before it is known although it is private");

    let error = Rebuild::new(&table.store, &Memory::default()).resume(token).run().await.unwrap_err();
    let RebuildError::Behind { position: 0, expected: 100, .. } = error else { panic!("{error}") };
}

#[tokio::test]
async fn a_live_consumer_and_writers_work_meanwhile_and_nothing_is_applied_twice() {
    let table = filled(30).await;
    let projection = Memory::default();
    // Both sides of a race: events are appended, and what a consumer receives of them is applied by it.
    let writes = async {
        let (store, _) = table.another();
        for round in 0..10 {
            for id in ["order-30", "cart-28", "user-29", "order-new"] {
                store.append(&stream(id), ExpectedVersion::Any, [event(round)]).await.unwrap();
            }
        }
    };
    let consumes = async {
        let (store, _) = table.another();
        for seed in 0..3 {
            let deliver = testing::deliver_shuffled(&store, seed, async |event: Received| {
                let last = event.previous_version.unwrap_or(0);
                // A gap, or somebody was faster: it leaves both to the rebuild.
                projection.apply(&event, last).await.map(|_| ())
            });
            deliver.await;
        }
    };
    let rebuild = Rebuild::new(&table.store, &projection).page_items(10).run();
    let (report, (), ()) = tokio::join!(rebuild, writes, consumes);
    assert_eq!(report.unwrap().problems, []);
    // What was appended behind the scan.
    Rebuild::new(&table.store, &projection).run().await.unwrap();
    assert_eq!(projection.events(), published(&table.store).await);
}

#[tokio::test]
async fn an_event_that_can_not_be_applied_ends_the_rebuild_with_its_name_the_reason_and_a_token() {
    let table = filled(30).await;
    let is_broken = Arc::new(Mutex::new(true));
    let broken = Arc::clone(&is_broken);
    let projection = Memory::with_hook(move |event| {
        let fails = *broken.lock().unwrap() && event.stream_id.as_str() == "cart-28" && event.version == 5;
        async move { if fails { Err(io::Error::other("no such column")) } else { Ok(()) } }
    });
    let rebuild = Rebuild::new(&table.store, &projection).apply_attempts(2).page_items(5);
    let error = rebuild.run().await.unwrap_err();
    assert_eq!(error.to_string(), "version 5 of stream cart-28 can't be applied, 2 attempts have failed");
    let RebuildError::Apply { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.to_string(), "no such column");

    *is_broken.lock().unwrap() = false;
    let mut rebuild = Rebuild::new(&table.store, &projection);
    if let Some(token) = error.token() {
        rebuild = rebuild.resume(token.clone());
    }
    rebuild.run().await.unwrap();
    assert_eq!(projection.events(), published(&table.store).await);
}

#[tokio::test]
async fn an_attempt_that_fails_for_a_moment_is_repeated() {
    let table = filled(6).await;
    let failures = Arc::new(AtomicUsize::new(2));
    let projection = Memory::with_hook(move |event| {
        let fails = event.version == 2
            && failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        async move { if fails { Err(io::Error::other("busy")) } else { Ok(()) } }
    });
    Rebuild::new(&table.store, &projection).run().await.unwrap();
    assert_eq!(projection.events(), published(&table.store).await);
}

#[tokio::test]
async fn c4_a_damaged_stream_stops_only_itself_and_is_named_at_the_end() {
    let table = filled(12).await;
    let mut expected = published(&table.store).await;
    table.delete(&stream("order-6"), &format!("event#{:020}", 3)).await;
    table.delete(&stream("cart-10"), &format!("event#{:020}", 1)).await;
    expected.get_mut("order-6").unwrap().truncate(2);
    expected.remove("cart-10");
    let projection = Memory::default();
    let report = Rebuild::new(&table.store, &projection).run().await.unwrap();
    assert_eq!(projection.events(), expected);
    let mut problems: Vec<_> = report.problems.iter().map(StreamProblem::stream_id).map(ToString::to_string).collect();
    problems.sort();
    assert_eq!((problems, report.problem_streams), (vec!["cart-10".to_owned(), "order-6".to_owned()], 2));
    assert!(report.problems.iter().all(|problem| matches!(problem, StreamProblem::Damaged(_))));
    let order = Rebuild::new(&table.store, &projection).category("order").category("user").run().await.unwrap();
    assert_eq!(order.problem_streams, 1, "the other one is not of these categories");
}

#[tokio::test]
async fn a_stream_with_another_history_than_the_projection_is_not_continued() {
    let table = filled(7).await;
    let projection = Memory::default();
    let other = Position { version: 4, event_id: Some(Uuid::from_u128(7)) };
    projection.foreign.lock().unwrap().insert(stream("cart-7"), other);
    let report = Rebuild::new(&table.store, &projection).run().await.unwrap();
    let problem = StreamProblem::OtherHistory { stream_id: stream("cart-7"), version: 4 };
    assert_eq!(report.problems, [problem]);
    let mut expected = published(&table.store).await;
    expected.remove("cart-7");
    assert_eq!(projection.events(), expected);
}

#[tokio::test]
async fn g10_what_is_read_ahead_of_a_projection_is_bounded_however_long_a_stream_is() {
    const PAGE_ITEMS: u32 = 50;
    let table = TestTable::create().await;
    for begin in 0..40 {
        let events = (0..90).map(|number| event(begin * 90 + number));
        table.store.append(&stream("order-1"), ExpectedVersion::Any, events).await.unwrap();
    }
    let (sent, pages) = watch::channel(0_usize);
    table.wire.set_fault(move |exchange| {
        sent.send_modify(|pages| *pages += usize::from(exchange.operation == "Scan"));
    });
    let (applied, most_ahead) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let ahead = Arc::clone(&most_ahead);
    let projection = Memory::with_hook(move |_| {
        let mut pages = pages.clone();
        let read = |pages: usize| pages * PAGE_ITEMS as usize;
        let earlier = applied.fetch_add(1, Ordering::Relaxed);
        ahead.fetch_max(read(*pages.borrow()).saturating_sub(earlier), Ordering::Relaxed);
        async move {
            // However slow the table is, it is read as far ahead as it may be.
            if earlier == 0 {
                pages.wait_for(|&pages| read(pages) >= MAX_HELD_EVENTS).await.expect("the table is there");
            }
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    });
    Rebuild::new(&table.store, &projection).segments(1).page_items(PAGE_ITEMS).run().await.unwrap();
    assert_eq!(projection.at(&stream("order-1")).version, 3_600);
    // The scan has two pages ahead, and one on the way.
    let most = MAX_HELD_EVENTS + 3 * PAGE_ITEMS as usize;
    let ahead = most_ahead.load(Ordering::Relaxed);
    assert!(ahead <= most && ahead > MAX_HELD_EVENTS / 2, "{ahead} events read and not applied, at most {most}");
}

/// Positions alone.
struct NoEffect;

impl Handler for NoEffect {
    async fn handle(&self, _: &Received, _: &Context<'_>) -> Result<Vec<TransactWriteItem>, HandlerError> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn a_generation_of_an_inbox_is_filled_beside_the_current_one_and_then_switched_to() {
    let table = filled(10).await;
    let inbox_table = unique("inbox");
    create_inbox_table(&table.client(), &inbox_table).await.unwrap();
    let current = Inbox::new(table.client(), &inbox_table, "orders").unwrap();
    let next = current.clone().generation(2);
    let report = Rebuild::new(&table.store, &next.projection(NoEffect)).run().await.unwrap();
    for (id, events) in published(&table.store).await {
        let last = events.last().unwrap();
        let position = Position { version: last.version, event_id: Some(last.event_id) };
        assert_eq!(next.position(&stream(&id)).await.unwrap(), position);
        assert_eq!(current.position(&stream(&id)).await.unwrap(), Position::default());
    }
    assert_eq!(current.switch_generation(2).await.unwrap(), 1);
    let again = Rebuild::new(&table.store, &next.projection(NoEffect)).run().await.unwrap();
    assert_eq!((again.applied, again.already_applied), (0, report.applied));
}

#[tokio::test]
async fn progress_is_known_in_percent_if_the_number_of_events_is() {
    let table = filled(30).await;
    let projection = Memory::default();
    let mut percents = Vec::new();
    let rebuild = Rebuild::new(&table.store, &projection).expected_events(930 / 2).concurrency(1);
    let report = rebuild.on_progress(|progress| percents.push(progress.percent.unwrap())).run().await.unwrap();
    assert_eq!(report.events, 465);
    assert!(percents.len() > 3 && percents.is_sorted() && percents.last() == Some(&100.0), "{percents:?}");
    let silent = Rebuild::new(&table.store, &projection);
    silent.on_progress(|progress| assert_eq!(progress.percent, None)).run().await.unwrap();
}

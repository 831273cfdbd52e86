//! `streambox-consumer inbox`, `status`, `retry`, `skip` and `generations`.

use serde_json::{Value, json};
use streambox::ExpectedVersion::NoStream;
use streambox_consumer::RebuildProgress;
use streambox_tests::{
    engine::{TestTable, event, stream},
    inboxes::{InboxTable, received},
    programs::{Finished, run},
    unique,
};

async fn consumer(table: &TestTable, arguments: &[&str]) -> Finished {
    run("streambox-consumer", Some(table), None, arguments).await
}

/// Of the consumer `free-seats`.
async fn of_inbox(table: &TestTable, inbox: &InboxTable, command: &str, arguments: &[&str]) -> Finished {
    let named = [command, "--inbox", &inbox.name, "--consumer", "free-seats"];
    consumer(table, &[&named[..], arguments].concat()).await
}

fn printed(finished: &Finished) -> Value {
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

#[tokio::test]
async fn an_inbox_is_created_once_and_checked() {
    let table = TestTable::create().await;
    let name = unique("inbox");
    for is_new in [true, false] {
        let created = consumer(&table, &["inbox", "create", "--inbox", &name, "--format", "json"]).await;
        assert_eq!(printed(&created), json!({ "table": name, "created": is_new }));
    }
    let checked = consumer(&table, &["inbox", "check", "--inbox", &name]).await;
    assert!(checked.code() == Some(0) && checked.stdout.contains("has the expected definition"), "{checked:?}");
    let other = consumer(&table, &["inbox", "check", "--inbox", &table.name]).await;
    assert!(other.code() == Some(1) && other.stdout.contains("difference: the index `parked` is missing"), "{other:?}");
    let missing = consumer(&table, &["status", "--inbox", "no-inbox", "--consumer", "free-seats"]).await;
    assert!(missing.code() == Some(78) && missing.stderr.contains("no table no-inbox"), "{missing:?}");
    assert!(missing.stderr.contains("streambox-consumer inbox create"), "{missing:?}");
}

#[tokio::test]
async fn status_shows_lag_and_what_is_parked_and_an_operator_retries_and_skips() {
    let table = TestTable::create().await;
    let inbox = InboxTable::create(&table).await;
    let (behind, done) = (stream("concert-1"), stream("concert-2"));
    table.store.append(&behind, NoStream, [event(1), event(2).private(), event(3), event(4)]).await.unwrap();
    table.store.append(&done, NoStream, [event(1)]).await.unwrap();
    for id in ["concert-1", "concert-2"] {
        inbox.inbox.apply(&received(id, 1, None), 0, vec![]).await.unwrap();
    }
    inbox.inbox.park(&behind, "no such seat\u{1b}", 4, 32_503_680_000_000).await.unwrap();

    let status = of_inbox(&table, &inbox, "status", &["--category", "concert"]).await;
    assert_eq!(status.code(), Some(0), "{status:?}");
    for says in [
        "consumer free-seats, generation 1: the current one",
        "lag: 1 of 2 streams are behind, by 3 versions in all",
        "  concert-1: at version 1, 3 behind version 4 of 2",
        "parked: 1 stream",
        "tried 1 time, next at 3000-01-01T00:00:00.000Z: no such seat\\u001b",
    ] {
        assert!(status.stdout.contains(says), "{says}: {}", status.stdout);
    }
    let status = printed(&of_inbox(&table, &inbox, "status", &["--format", "json"]).await);
    assert_eq!((&status["lag"]["streams"], &status["lag"]["versions_behind"]), (&json!(2), &json!(3)));
    assert_eq!((&status["parked"][0]["stream"], &status["parked"][0]["attempts"]), (&json!("concert-1"), &json!(1)));
    let alone = printed(&of_inbox(&table, &inbox, "status", &["--format", "json", "--no-events"]).await);
    assert_eq!((&alone["lag"], &alone["parked_streams"]), (&Value::Null, &json!(1)));

    let retried = of_inbox(&table, &inbox, "retry", &["concert-1"]).await;
    assert!(retried.code() == Some(0) && retried.stdout.contains("concert-1 is tried next"), "{retried:?}");
    assert!(of_inbox(&table, &inbox, "status", &[]).await.stdout.contains("(now)"));
    let retried = of_inbox(&table, &inbox, "retry", &["concert-2"]).await;
    assert!(retried.code() == Some(1) && retried.stderr.contains("concert-2 is not parked"), "{retried:?}");

    for (version, says) in [("4", "version 3 comes next"), ("1", "version 1 of stream concert-1 is applied")] {
        let refused = of_inbox(&table, &inbox, "skip", &["concert-1", version, "--reason", "a test"]).await;
        assert!(refused.code() == Some(1) && refused.stderr.contains(says), "{refused:?}");
    }
    let skip = ["concert-1", "3", "--reason", "a test booking", "--by", "ann@desk", "--format", "json"];
    let skipped = printed(&of_inbox(&table, &inbox, "skip", &skip).await);
    assert_eq!(
        (&skipped["version"], &skipped["by"], &skipped["skipped_before"]),
        (&json!(3), &json!("ann@desk"), &json!(false))
    );
    assert_eq!(printed(&of_inbox(&table, &inbox, "skip", &skip).await)["skipped_before"], true);
    let status = of_inbox(&table, &inbox, "status", &[]).await.stdout;
    assert!(status.contains("skipped: versions 2 to 3 of stream concert-1"), "{status}");
    assert!(status.contains("lag: 1 of 2 streams are behind, by 1 version in all"), "{status}");
}

#[tokio::test]
async fn generations_are_listed_switched_to_and_deleted() {
    let table = TestTable::create().await;
    let inbox = InboxTable::create(&table).await;
    let command = async |command: &'static str, arguments: &[&str]| {
        let named = ["generations", command, "--inbox", &inbox.name, "--consumer", "free-seats"];
        consumer(&table, &[&named[..], arguments].concat()).await
    };
    for id in ["concert-1", "concert-2"] {
        inbox.inbox.apply(&received(id, 1, None), 0, vec![]).await.unwrap();
    }
    let second = inbox.inbox.clone().generation(2);
    let progress = RebuildProgress { events: 7, streams: 2, is_complete: true, token: None };
    second.set_rebuild_progress(&progress).await.unwrap();

    let listed = command("list", &[]).await;
    let lines = ["generation 1, the current one", "generation 2: rebuilt from 7 events, to the end"];
    assert_eq!(listed.stdout.lines().collect::<Vec<_>>(), lines, "{listed:?}");
    let refused = command("delete", &["1"]).await;
    assert!(refused.code() == Some(1) && refused.stderr.contains("switch to another one first"), "{refused:?}");
    let switched = printed(&command("switch", &["2", "--format", "json"]).await);
    assert_eq!(switched, json!({ "generation": 2, "before": 1 }));
    let listed = printed(&command("list", &["--format", "json"]).await);
    let rebuild = json!({ "events": 7, "streams": 2, "is_complete": true });
    assert_eq!(listed["generations"], json!([{ "generation": 2, "is_current": true, "rebuild": rebuild }]));
    let deleted = command("delete", &["1"]).await;
    assert!(deleted.stdout.contains("generation 1 of free-seats: 2 positions deleted"), "{deleted:?}");
    assert_eq!(inbox.inbox.position(&stream("concert-1")).await.unwrap().version, 0);
}

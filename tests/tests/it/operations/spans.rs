//! What a service's traces show of its store: a span for each operation, an event for each conflict.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use streambox::aggregate::{CacheSettings, Never, Repository};
use streambox_tests::{
    engine::TestTable,
    orders::{Order, fill},
};
use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    filter::LevelFilter,
    layer::{Context as LayerContext, SubscriberExt as _},
    registry::LookupSpan,
};

/// A span that has ended, or an event.
#[derive(Debug, PartialEq)]
struct Traced {
    name: &'static str,
    /// The span that it is in.
    parent: Option<&'static str>,
    fields: BTreeMap<&'static str, String>,
}

/// Keeps what is traced, in the order of the ends.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<Traced>>>);

#[derive(Clone, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target() == "streambox"
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Trace {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: LayerContext<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).expect("a span").extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: LayerContext<'_, S>) {
        values.record(context.span(id).expect("a span").extensions_mut().get_mut::<Fields>().expect("its fields"));
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: LayerContext<'_, S>) {
        if is_ours(event.metadata()) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let parent = context.event_span(event).map(|span| span.name());
            self.0.lock().expect("no layer panics").push(Traced {
                name: event.metadata().name(),
                parent,
                fields: fields.0,
            });
        }
    }

    fn on_close(&self, id: Id, context: LayerContext<'_, S>) {
        let span = context.span(&id).expect("a span");
        if is_ours(span.metadata()) {
            let fields = span.extensions_mut().remove::<Fields>().expect("its fields").0;
            let parent = span.parent().map(|span| span.name());
            self.0.lock().expect("no layer panics").push(Traced { name: span.name(), parent, fields });
        }
    }
}

/// What is traced while a command meets a conflict, at a level.
async fn traced(level: LevelFilter) -> Vec<Traced> {
    let table = TestTable::create().await;
    let stale = CacheSettings::new().staleness(Duration::from_hours(1));
    let orders = Repository::<Order>::builder(table.store.clone()).snapshots(Never).cache(stale).build();
    orders.load("1").await.expect("the order loads");
    fill(&Repository::new(table.another().0), "1", [1]).await;

    let trace = Trace::default();
    let subscriber = tracing_subscriber::registry().with(trace.clone().with_filter(level));
    let guard = tracing::subscriber::set_default(subscriber);
    orders.execute("1", |order| order.add(1)).await.expect("the second attempt succeeds");
    drop(guard);
    std::mem::take(&mut *trace.0.lock().expect("no layer panics"))
}

#[tokio::test]
async fn spans_show_what_a_command_does_and_where_it_met_a_conflict() {
    let traced = traced(LevelFilter::DEBUG).await;

    let shape: Vec<_> = traced.iter().map(|traced| (traced.parent, traced.name)).collect();
    let (execute, append) = ("streambox.execute", "streambox.append");
    let expected = [
        (Some(execute), "streambox.load"),
        (Some(append), "streambox.conflict"),
        (Some(execute), append),
        (Some(execute), "streambox.load"),
        (Some(execute), append),
        (None, execute),
    ];
    assert_eq!(shape, expected);
    let field = |place: usize, name: &str| traced[place].fields[name].clone();
    let outcomes = [0, 2, 3, 4, 5].map(|place| (field(place, "outcome"), field(place, "requests")));
    let (ok, text) = (|requests: &str| ("ok".to_owned(), requests.to_owned()), str::to_owned);
    assert_eq!(outcomes, [ok("0"), (text("conflict"), text("2")), ok("1"), ok("1"), ok("4")]);
    assert_eq!((field(5, "attempts"), field(5, "conflicts")), (text("2"), text("1")));
    assert_eq!((field(1, "expected"), field(1, "version")), (text("version 0"), text("1")));
    assert!(traced.iter().all(|traced| traced.fields["stream"] == "order-1"));
    let documented = [
        "attempts",
        "conflicts",
        "events_read",
        "events_written",
        "outcome",
        "read_units",
        "requests",
        "stream",
        "write_units",
    ];
    for span in traced.iter().filter(|traced| traced.name != "streambox.conflict") {
        assert!(span.fields.keys().eq(&documented), "{span:?}");
    }
}

#[tokio::test]
async fn at_info_a_service_sees_neither_spans_nor_conflicts() {
    assert_eq!(traced(LevelFilter::INFO).await, []);
}

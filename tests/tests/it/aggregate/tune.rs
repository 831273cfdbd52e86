//! How often to take snapshots: measured on an aggregate, and computed from that.

use std::time::Duration;

use streambox::tune::{Prices, TuneRow, TuneSettings, tune};
use streambox_tests::{
    engine::TestTable,
    metering::Metering,
    orders::{Order, OrderEvent},
    programs::run_example,
};

fn next(version: u64, _: &Order) -> OrderEvent {
    OrderEvent::ItemsAdded { items: version }
}

fn settings() -> TuneSettings {
    TuneSettings::new().lengths([60, 300]).intervals([100, 10, 50]).loads(1)
}

#[tokio::test]
async fn loads_grow_with_the_stream_unless_there_are_snapshots() {
    let table = TestTable::create().await;
    let report = tune(&table.store, &settings(), next).await.unwrap();

    let kinds: Vec<_> = report.rows.iter().map(|row| (row.events, row.interval)).collect();
    let expected = [(60, None), (60, Some(10)), (60, Some(50))];
    assert_eq!(kinds[..3], expected, "an interval is measured where the stream is as long");
    assert_eq!(kinds[3..], [(300, None), (300, Some(10)), (300, Some(50)), (300, Some(100))]);
    let row =
        |events, interval| report.rows.iter().find(|row| (row.events, row.interval) == (events, interval)).unwrap();
    let read_units = |events, interval| row(events, interval).read_units_per_load;
    if Metering::of_tests().counts_what_is_read() {
        // 300 events of some 230 bytes each: one unit for each 4 KB.
        assert!(read_units(300, None) > 4.0 * read_units(60, None), "{report}");
        // At most the next 4 KB: the versions have more digits.
        assert!(read_units(300, Some(10)) <= read_units(60, Some(10)) + 1.0, "{report}");
        assert!(read_units(300, Some(10)) <= read_units(300, Some(50)), "{report}");
        assert!(read_units(300, Some(50)) < read_units(300, Some(100)), "{report}");
    }
    assert!(report.rows.iter().all(|row| row.load > Duration::ZERO && row.state_bytes > 40));
    for TuneRow { interval, write_units_per_snapshot, .. } in &report.rows {
        let units = if interval.is_some() { 2.0 } else { 0.0 };
        assert!((write_units_per_snapshot - units).abs() < 1e-9, "{report}");
    }
    // 2 write units every 50 events, and a load for each.
    let (prices, measured) = (Prices::ON_DEMAND, row(300, Some(50)));
    let dollars = 2.0 / 50.0 * prices.write_units + measured.read_units_per_load * prices.read_units;
    assert!((measured.dollars_per_million_events - dollars).abs() < 1e-9);
    assert_eq!(table.pending().await, 0, "nothing is left to publish");
}

#[tokio::test]
async fn what_is_hardly_loaded_needs_no_snapshots_and_the_plot_shows_what_was_measured() {
    let table = TestTable::create().await;
    let seldom = tune(&table.store, &settings().cold_loads_per_event(0.0), next).await.unwrap();
    assert_eq!(seldom.recommendation.interval, None);
    let often = tune(&table.store, &settings().cold_loads_per_event(50.0), next).await.unwrap();
    if Metering::of_tests().counts_what_is_read() {
        assert!(often.recommendation.interval.is_some_and(|every| every <= 50), "{often}");
    }
    let svg = often.to_svg().unwrap();
    assert_eq!(svg.contains("recommended"), often.recommendation.interval.is_some());
    for text in ["<svg", "no snapshot", "every 10", "every 100", "Read units of a load", "</svg>"] {
        assert!(svg.contains(text), "{text}");
    }
    let nothing = tune(&table.store, &settings().lengths([]), next).await;
    assert!(nothing.is_err(), "no length, no answer");
}

#[tokio::test]
async fn the_example_prints_a_table_and_a_recommendation_and_draws_a_plot() {
    let directory = tempfile::tempdir().unwrap();
    let plot = directory.path().join("plot.svg");
    let arguments = [plot.to_str().unwrap(), "0.1", "50", "150"];
    let finished = run_example("snapshot_interval", &arguments).await;
    assert!(finished.status.success(), "{}", finished.stderr);
    for part in ["Snapshots of `cart`", "$/M events", "Recommended: a snapshot every", "Plot: "] {
        assert!(finished.stdout.contains(part), "{part}: {}", finished.stdout);
    }
    assert!(std::fs::read_to_string(plot).unwrap().ends_with("</svg>\n"));
}

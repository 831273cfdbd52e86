//! Prometheus' text format, for who does not ask for OpenMetrics: `prometheus_client` writes only that.
//!
//! What differs: a counter and build information are described under the names of their samples (`…_total`, `…_info`), there is
//! no type *info*, and neither units nor an end are said.

use std::{collections::HashMap, fmt::Write as _};

/// The content type of [`from_openmetrics`].
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What OpenMetrics is asked for by, in the header `Accept`.
const OPENMETRICS: &str = "application/openmetrics-text";

/// Whether a header `Accept` asks for OpenMetrics, as Prometheus' own does.
pub(super) fn asks_for_openmetrics(accept: &str) -> bool {
    accept.split(',').any(|media| media.trim_start().to_ascii_lowercase().starts_with(OPENMETRICS))
}

/// The same metrics in Prometheus' text format.
pub(super) fn from_openmetrics(text: &str) -> String {
    let types: HashMap<_, _> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|line| line.split_once(' ')).collect();
    let described = |name: &str| match types.get(name) {
        Some(&"counter") => (format!("{name}_total"), "counter"),
        Some(&"info") => (format!("{name}_info"), "gauge"),
        Some(&"unknown") | None => (name.to_owned(), "untyped"),
        Some(kind) => (name.to_owned(), *kind),
    };
    let mut converted = String::with_capacity(text.len());
    for line in text.lines() {
        // Writing into a String can't fail.
        let _ = if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            writeln!(converted, "# HELP {} {help}", described(name).0)
        } else if let Some((name, _)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            let (name, kind) = described(name);
            writeln!(converted, "# TYPE {name} {kind}")
        } else if line.starts_with('#') {
            // A unit, or the end.
            Ok(())
        } else {
            writeln!(converted, "{line}")
        };
    }
    converted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_answered_where_it_is_asked_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert!(asks_for_openmetrics(prometheus));
        assert!(asks_for_openmetrics("text/plain, Application/OpenMetrics-Text"));
        assert!(!asks_for_openmetrics("*/*") && !asks_for_openmetrics("text/plain") && !asks_for_openmetrics(""));
    }

    #[test]
    fn each_kind_of_metric_is_described_under_the_name_of_its_samples() {
        let openmetrics = "\
            # HELP build The version.\n# TYPE build info\nbuild_info{version=\"1\"} 1\n\
            # HELP events By result.\n# TYPE events counter\nevents_total{result=\"a b\"} 3\n\
            # HELP age_seconds Age.\n# TYPE age_seconds gauge\n# UNIT age_seconds seconds\nage_seconds 0.5\n\
            # HELP size Sizes.\n# TYPE size histogram\nsize_sum 1.0\nsize_count 1\nsize_bucket{le=\"+Inf\"} 1\n\
            # EOF\n";
        let prometheus = "\
            # HELP build_info The version.\n# TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n\
            # HELP events_total By result.\n# TYPE events_total counter\nevents_total{result=\"a b\"} 3\n\
            # HELP age_seconds Age.\n# TYPE age_seconds gauge\nage_seconds 0.5\n\
            # HELP size Sizes.\n# TYPE size histogram\nsize_sum 1.0\nsize_count 1\nsize_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(from_openmetrics(openmetrics), prometheus);
    }

    #[test]
    fn every_metric_of_the_relay_is_a_valid_line_and_described_before_its_samples() {
        let metrics = super::super::Metrics::new();
        let text = from_openmetrics(&metrics.text(&super::super::View::default()));
        let mut described = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                described = name;
            } else if !line.starts_with("# HELP ") {
                let name = line.split(['{', ' ']).next().unwrap();
                let suffix = name.strip_prefix(described).unwrap_or_else(|| panic!("{line} is not described"));
                assert!(["", "_sum", "_count", "_bucket"].contains(&suffix), "{line} is of {described}");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
    }
}

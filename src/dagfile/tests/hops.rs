//! What the steps of a DAG lack together.

use super::*;

/// A file with these steps; `collect:` stands for a collecting step of that topic.
fn of(wanted: &[&str]) -> Vec<String> {
    let line = |(number, step): (usize, &&str)| match step.strip_prefix("collect:") {
        Some(topic) => format!(
            "  c{number}: {{ uses: collect/kis, kind: service, with: {{ symbols: [\"005930\"], topic: {topic} }}, secrets: {{ app_key: env:K, app_secret: env:S }} }}\n"
        ),
        None => format!("  s{number}: {{ uses: {step} }}\n"),
    };
    faults(&steps(&wanted.iter().enumerate().map(line).collect::<String>()))
}

const FRESHNESS: &str = "freshness, kind: check, every: 5m";
const RECONCILE: &str = "reconcile, kind: teardown";
const INDEX: &str = "sink/index, kind: service";

#[track_caller]
fn warned(wanted: &[&str], parts: &[(&str, &str)]) {
    let found = of(wanted);
    assert_eq!(found.len(), parts.len(), "{found:#?}");
    for (place, part) in parts {
        let fits = |said: &String| said.starts_with(&format!("{place} warning: ")) && said.contains(part);
        assert!(found.iter().any(fits), "{place} {part} in {found:#?}");
    }
}

#[test]
fn a_day_with_all_its_parts_is_fine_and_so_is_one_with_several_or_no_sinks() {
    warned(&["collect:t", FRESHNESS, RECONCILE], &[]);
    let index = "sink/index, kind: service, with: { topic: t }";
    let objects = "sink/objects, kind: service, with: { topic: t }";
    warned(&["collect:t", index, index, objects, FRESHNESS, RECONCILE], &[]);
    warned(&["collect:t", "collect:u", index, FRESHNESS, RECONCILE], &[]);
    warned(&[INDEX], &[]);
}

#[test]
fn data_that_nobody_looks_at_is_told() {
    warned(&["collect:t", FRESHNESS], &[("4:3", "no step of this DAG reconciles")]);
    warned(&["collect:t", RECONCILE], &[("4:3", "no step of this DAG checks that data arrives")]);
    warned(&["collect:t", "collect:u"], &[("4:3", "reconciles"), ("4:3", "checks that data arrives")]);
}

#[test]
fn a_sink_of_another_topic_is_told() {
    warned(
        &["collect:t", INDEX, FRESHNESS, RECONCILE],
        &[("5:3", "step \"s1\" reads the topic \"kis.trades\", which no collecting step of this DAG writes")],
    );
    warned(
        &[INDEX, RECONCILE],
        &[
            ("4:3", "which no collecting step"),
            ("5:3", "step \"s1\" has nothing to compare the stores with, and fails"),
        ],
    );
}

#[test]
fn a_check_without_a_collector_is_told() {
    warned(
        &[FRESHNESS],
        &[("4:3", "no step of this DAG collects data, so step \"s0\" has nothing to look at")],
    );
    warned(&[INDEX, FRESHNESS], &[("5:3", "step \"s1\" does not notice when a feed stops")]);
    warned(&["vwap, kind: service", RECONCILE], &[("5:3", "nothing to compare")]);
}

#[test]
fn two_places_that_share_one_group_are_told() {
    let sink = |more: &str| format!("sink/index, kind: service, with: {{ topic: t, group: g, {more} }}");
    let (one, two) = (sink("index: one"), sink("index: two"));
    warned(&["collect:t", &one, &one, FRESHNESS, RECONCILE], &[]);
    warned(
        &["collect:t", &one, &two, FRESHNESS, RECONCILE],
        &[("6:3", "steps \"s1\" and \"s2\" read \"t\" as one group")],
    );
}

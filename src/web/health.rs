//! For monitoring: Prometheus text, liveness, readiness. All of it is computed from the newest snapshot.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::server::App;
use crate::daemon::Snapshot;

/// Prometheus text format 0.0.4.
pub(super) async fn metrics(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text(&app.handle.snapshot())).into_response()
}

/// The daemon's loop lives.
pub(super) async fn healthz(State(app): State<App>) -> (StatusCode, &'static str) {
    // The loop holds the other end; it is closed when the loop is gone.
    match app.handle.subscribe().has_changed() {
        Ok(_) => (StatusCode::OK, "ok\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon's loop has ended; start openbell up again\n"),
    }
}

/// The daemon's loop lives, has published its state, and its stores answer.
pub(super) async fn readyz(State(app): State<App>) -> (StatusCode, String) {
    let snapshot = app.handle.snapshot();
    let mut missing: Vec<_> =
        snapshot.gauges.unreachable.iter().map(|(store, said)| format!("{store} does not answer: {said}")).collect();
    if app.handle.subscribe().has_changed().is_err() {
        missing.push("the daemon's loop has ended".to_owned());
    }
    if snapshot.up_since == Timestamp::default() {
        missing.push("the daemon is starting".to_owned());
    }
    if missing.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n")
    }
}

struct Metrics(String);

impl Metrics {
    /// One metric with its samples: label pairs and a value.
    fn gauge(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Vec<(&'static str, String)>, f64)>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let mut add = |line: std::fmt::Arguments<'_>| self.0.write_fmt(line).expect("a String takes any text");
        add(format_args!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
        for (labels, value) in samples {
            let labels: Vec<_> = labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escape(text))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            add(format_args!("{name}{labels} {value}\n"));
        }
    }
}

/// Escapes a label's value as the format asks.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn by<V: Copy>(
    label: &'static str,
    map: &BTreeMap<String, V>,
    value: impl Fn(V) -> f64,
) -> Vec<(Vec<(&'static str, String)>, f64)> {
    map.iter().map(|(key, v)| (vec![(label, key.clone())], value(*v))).collect()
}

fn text(snapshot: &Snapshot) -> String {
    let mut out = Metrics(String::new());
    let one = |value: f64| [(Vec::new(), value)];
    out.gauge("openbell_build_info", "Version of the binary.", [(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)]);
    out.gauge("openbell_clock_seconds", "The daemon's clock when the figures were taken, Unix time.", one(seconds(snapshot.now)));
    out.gauge("openbell_clock_speed_ratio", "How much faster than real time that clock runs.", one(snapshot.speed));
    out.gauge("openbell_up_since_seconds", "When the daemon came up, Unix time.", one(seconds(snapshot.up_since)));
    out.gauge("openbell_dag_problems", "DAG files that do not work.", one(snapshot.problems.len() as f64));
    out.gauge("openbell_notices", "Troubles of the daemon itself.", one(snapshot.notices.len() as f64));
    let paused = snapshot.dags.iter().map(|d| (vec![("dag", d.name.clone())], f64::from(u8::from(d.paused))));
    out.gauge("openbell_dag_paused", "1 while scheduled starts of the DAG are blocked.", paused);
    let mut runs: BTreeMap<(String, &str), f64> = BTreeMap::new();
    for view in &snapshot.runs {
        *runs.entry((view.run.id.dag().to_owned(), view.run.state.as_str())).or_default() += 1.0;
    }
    let runs = runs.into_iter().map(|((dag, state), n)| (vec![("dag", dag), ("state", state.to_owned())], n));
    out.gauge("openbell_runs", "Runs among the newest, by state.", runs);
    steps(snapshot, &mut out);
    let gauges = &snapshot.gauges;
    out.gauge("openbell_topic_records", "Records a topic holds.", by("topic", &gauges.topics, |n| n as f64));
    out.gauge(
        "openbell_topic_rate",
        "Records per second appended over the last minute of the daemon's clock.",
        by("topic", &gauges.rates, |n| n),
    );
    out.gauge("openbell_group_lag_records", "Records a consumer group is behind.", by("group", &gauges.group_lag, |n| n as f64));
    out.gauge("openbell_dead_letters", "Dead letters a topic holds.", by("topic", &gauges.dead_letters, |n| n as f64));
    let unreachable = gauges.unreachable.keys().map(|store| (vec![("store", store.clone())], 1.0));
    out.gauge("openbell_store_unreachable", "1 for each store that does not answer.", unreachable);
    let mut alerts: BTreeMap<&str, f64> = BTreeMap::new();
    for alert in &snapshot.alerts {
        *alerts.entry(alert.kind.as_str()).or_default() += 1.0;
    }
    out.gauge(
        "openbell_alerts",
        "Alerts among the newest, by kind.",
        alerts.into_iter().map(|(kind, n)| (vec![("kind", kind.to_owned())], n)),
    );
    out.0
}

/// Steps of runs that have not ended.
fn steps(snapshot: &Snapshot, out: &mut Metrics) {
    let open: Vec<_> = snapshot.runs.iter().filter(|v| !v.run.state.is_terminal()).collect();
    let (mut states, mut attempts, mut facts) = (Vec::new(), Vec::new(), Vec::new());
    for view in open {
        for (name, step) in &view.run.steps {
            let labels = || vec![("run", view.run.id.to_string()), ("step", name.to_string())];
            let mut state = labels();
            state.push(("state", step.state.as_str().to_owned()));
            states.push((state, 1.0));
            attempts.push((labels(), f64::from(step.attempt)));
            for (fact, value) in view.statuses.get(name).into_iter().flat_map(|s| &s.facts) {
                if let Some(value) = value.as_f64() {
                    let mut labels = labels();
                    labels.push(("fact", fact.clone()));
                    facts.push((labels, value));
                }
            }
        }
    }
    out.gauge("openbell_step_state", "1 for the state each step of an open run is in.", states);
    out.gauge("openbell_step_attempts", "Attempts started by each step of an open run.", attempts);
    out.gauge("openbell_step_fact", "Numbers that living steps tell about themselves.", facts);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::fixture;

    #[test]
    fn figures_are_in_the_text_and_labels_are_escaped() {
        let mut snapshot = fixture::snapshot();
        snapshot.gauges.unreachable.insert("a\"b\\c\nd".into(), "no".into());
        let text = text(&snapshot);
        for line in [
            "openbell_topic_records{topic=\"kis.trades\"} 14212",
            "openbell_step_state{run=\"kis-trading-day@2026-11-20\",step=\"collector\",state=\"ready\"} 1",
            "openbell_step_fact{run=\"kis-trading-day@2026-11-20\",step=\"collector\",fact=\"frames\"} 3871",
            "openbell_dead_letters{topic=\"kis.trades.dlq\"} 9",
            "openbell_store_unreachable{store=\"a\\\"b\\\\c\\nd\"} 1",
            "openbell_clock_speed_ratio 120",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}

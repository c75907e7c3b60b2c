//! For monitoring: Prometheus text, liveness, readiness. All of it is computed from the newest snapshot.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::Value;

use crate::http::lookup::KINDS;
use daemon::{Handle, Snapshot};
use domain::run::RunState;

/// Stores that the daemon asks for its own figures ([`daemon::snapshot::Gauges`]).
const ASKED: [&str; 1] = ["log"];

/// Prometheus text format 0.0.4.
pub(crate) async fn metrics(State(handle): State<Handle>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text(&handle.snapshot()))
        .into_response()
}

/// The daemon's loop lives.
pub(crate) async fn healthz(State(handle): State<Handle>) -> (StatusCode, &'static str) {
    // The loop holds the other end; it is closed when the loop is gone.
    match handle.subscribe().has_changed() {
        Ok(_) => (StatusCode::OK, "ok\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon's loop has ended; start openbell up again\n"),
    }
}

/// The daemon's loop lives, has published its state, and its stores answer.
pub(crate) async fn readyz(State(handle): State<Handle>) -> (StatusCode, String) {
    let snapshot = handle.snapshot();
    let mut missing: Vec<_> = snapshot
        .gauges
        .unreachable
        .iter()
        .map(|(store, said)| format!("{store} does not answer: {said}"))
        .collect();
    if handle.subscribe().has_changed().is_err() {
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
    /// A metric that goes up and down, with its samples: label pairs and a value.
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'static str, String)>, f64)>,
    ) {
        self.family("gauge", name, help, samples);
    }

    /// A metric that only rises, or begins anew.
    fn counter(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'static str, String)>, f64)>,
    ) {
        self.family("counter", name, help, samples);
    }

    fn family(
        &mut self,
        kind: &str,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'static str, String)>, f64)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let mut add =
            |line: std::fmt::Arguments<'_>| self.0.write_fmt(line).expect("a String takes any text");
        add(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in samples {
            let labels: Vec<_> =
                labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escape(text))).collect();
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
    out.gauge(
        "openbell_build_info",
        "Version of the binary.",
        [(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)],
    );
    let now = one(seconds(snapshot.now));
    out.gauge(
        "openbell_clock_timestamp_seconds",
        "The daemon's clock when the figures were taken, Unix time.",
        now,
    );
    out.gauge(
        "openbell_clock_speed_ratio",
        "How much faster than real time that clock runs.",
        one(snapshot.speed),
    );
    out.gauge(
        "openbell_up_since_timestamp_seconds",
        "When the daemon came up, Unix time.",
        one(seconds(snapshot.up_since)),
    );
    out.gauge("openbell_dag_problems", "DAG files that do not work.", one(snapshot.problems.len() as f64));
    out.gauge("openbell_notices", "Troubles of the daemon itself.", one(snapshot.notices.len() as f64));
    dags_and_runs(snapshot, &mut out);
    steps(snapshot, &mut out);
    topics_and_stores(snapshot, &mut out);
    out.gauge(
        "openbell_outbox_mails",
        "Mails that were not delivered yet.",
        one(snapshot.outbox.len() as f64),
    );
    let oldest = snapshot.outbox.iter().map(|mail| mail.created_at).min();
    out.gauge(
        "openbell_outbox_oldest_timestamp_seconds",
        "When the oldest mail that waits was written, Unix time.",
        oldest.map(|at| (Vec::new(), seconds(at))),
    );
    hops(snapshot, &mut out);
    let resident = resident_bytes().map(|bytes| (Vec::new(), bytes as f64));
    out.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", resident);
    let mut alerts: BTreeMap<&str, f64> = KINDS.iter().map(|kind| (kind.as_str(), 0.0)).collect();
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

fn dags_and_runs(snapshot: &Snapshot, out: &mut Metrics) {
    let paused = snapshot.dags.iter().map(|d| (vec![("dag", d.name.clone())], f64::from(u8::from(d.paused))));
    out.gauge("openbell_dag_paused", "1 while scheduled starts of the DAG are blocked.", paused);
    // Words that are not there now are there as 0: a series that comes and goes is awkward to watch.
    let none = |dag: &str| RunState::ALL.map(|state| ((dag.to_owned(), state.as_str()), 0.0));
    let mut runs: BTreeMap<(String, &str), f64> =
        snapshot.dags.iter().flat_map(|dag| none(&dag.name)).collect();
    for view in &snapshot.runs {
        *runs.entry((view.run.id.dag().to_owned(), view.run.state.as_str())).or_default() += 1.0;
    }
    let runs = runs.into_iter().map(|((dag, state), n)| (vec![("dag", dag), ("state", state.to_owned())], n));
    out.gauge("openbell_runs", "Runs among the newest, by state.", runs);
}

fn topics_and_stores(snapshot: &Snapshot, out: &mut Metrics) {
    let gauges = &snapshot.gauges;
    out.gauge("openbell_topic_records", "Records a topic holds.", by("topic", &gauges.topics, |n| n as f64));
    out.gauge(
        "openbell_topic_rate",
        "Records per second appended over the last minute of the daemon's clock.",
        by("topic", &gauges.rates, |n| n),
    );
    out.gauge(
        "openbell_group_lag_records",
        "Records a consumer group is behind.",
        by("group", &gauges.group_lag, |n| n as f64),
    );
    out.gauge(
        "openbell_dead_letters",
        "Dead letters a topic holds.",
        by("topic", &gauges.dead_letters, |n| n as f64),
    );
    let mut stores: BTreeMap<&str, f64> = ASKED.iter().map(|store| (*store, 1.0)).collect();
    stores.extend(gauges.unreachable.keys().map(|store| (store.as_str(), 0.0)));
    let stores = stores.into_iter().map(|(store, up)| (vec![("store", store.to_owned())], up));
    out.gauge(
        "openbell_store_up",
        "1 for each store that the daemon asks and that answers, 0 for one that does not.",
        stores,
    );
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
    out.counter("openbell_step_attempts_total", "Attempts started by each step of an open run.", attempts);
    out.gauge("openbell_step_fact", "Numbers that living steps tell about themselves.", facts);
}

/// What the newest round of each freshness check of an open run found at its hops.
fn hops(snapshot: &Snapshot, out: &mut Metrics) {
    let (mut newest, mut stale) = (Vec::new(), Vec::new());
    for view in snapshot.runs.iter().filter(|v| !v.run.state.is_terminal()) {
        let found = view
            .run
            .steps
            .iter()
            .filter_map(|(step, run)| Some((step, run.result.as_ref()?.get("hops")?.as_array()?)));
        for (step, hop) in found.flat_map(|(step, hops)| hops.iter().map(move |hop| (step, hop))) {
            let Some(name) = hop.get("hop").and_then(Value::as_str) else { continue };
            let labels = || {
                vec![("run", view.run.id.to_string()), ("step", step.to_string()), ("hop", name.to_owned())]
            };
            let at = hop.get("newest").and_then(|at| at.as_str()?.parse::<Timestamp>().ok());
            newest.extend(at.map(|at| (labels(), seconds(at))));
            stale.extend(
                hop.get("stale").and_then(Value::as_bool).map(|stale| (labels(), f64::from(u8::from(stale)))),
            );
        }
    }
    out.gauge(
        "openbell_hop_newest_timestamp_seconds",
        "Receipt time of the newest record at each hop, as the last check found it, Unix time.",
        newest,
    );
    out.gauge(
        "openbell_hop_stale",
        "1 for each hop that the last check found without the data it should have.",
        stale,
    );
}

/// Memory of this process; nothing where the system does not tell (proc_pid_status(5)).
fn resident_bytes() -> Option<u64> {
    resident(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing;

    #[test]
    fn figures_are_in_the_text_and_labels_are_escaped() {
        let mut snapshot = testing::snapshot();
        snapshot.gauges.unreachable.insert("a\"b\\c\nd".into(), "no".into());
        let text = text(&snapshot);
        for line in [
            "openbell_topic_records{topic=\"kis.trades\"} 14212",
            "openbell_step_state{run=\"kis-trading-day@2026-11-20\",step=\"collector\",state=\"ready\"} 1",
            "openbell_step_fact{run=\"kis-trading-day@2026-11-20\",step=\"collector\",fact=\"frames\"} 3871",
            "openbell_dead_letters{topic=\"kis.trades.dlq\"} 9",
            "openbell_store_up{store=\"a\\\"b\\\\c\\nd\"} 0",
            "openbell_store_up{store=\"log\"} 1",
            "openbell_outbox_mails 0",
            "# TYPE openbell_step_attempts_total counter",
            "openbell_step_attempts_total{run=\"kis-trading-day@2026-11-20\",step=\"collector\"} 2",
            "openbell_runs{dag=\"kis-trading-day\",state=\"running\"} 1",
            "openbell_runs{dag=\"kis-trading-day\",state=\"failed\"} 0",
            "openbell_alerts{kind=\"stalled\"} 1",
            "openbell_alerts{kind=\"run_failed\"} 0",
            "openbell_clock_speed_ratio 120",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
    #[test]
    fn hops_waiting_mails_and_memory_are_in_the_text() {
        let mut snapshot = testing::snapshot();
        let labels = "{run=\"kis-trading-day@2026-11-20\",step=\"freshness\",hop=\"raw\"}";
        let result = serde_json::json!({ "hops": [
            { "hop": "raw", "newest": "2026-11-20T04:04:48Z", "stale": true },
            { "hop": "index", "newest": null, "stale": false },
        ] });
        let check: domain::ids::StepName = "freshness".parse().expect("a name");
        snapshot.runs[0].run.steps.get_mut(&check).expect("a check").result = Some(result);
        let mail = |created_at| daemon::snapshot::QueuedMail {
            key: "k".into(),
            created_at,
            tries: 3,
            next_at: created_at,
            last_error: None,
            to: vec!["oncall@example.com".into()],
            subject: "stalled".into(),
        };
        snapshot.outbox.extend([mail(testing::at("13:12:00")), mail(testing::at("13:10:00"))]);
        snapshot.gauges.unreachable.insert("log".into(), "connection refused".into());
        let told = text(&snapshot);
        let has = |line: &str| told.lines().any(|l| l == line);
        for line in [
            format!("openbell_hop_stale{labels} 1"),
            format!("openbell_hop_stale{} 0", labels.replace("raw", "index")),
            format!("openbell_hop_newest_timestamp_seconds{labels} 1795147488"),
            "openbell_outbox_mails 2".to_owned(),
            format!("openbell_outbox_oldest_timestamp_seconds {}", seconds(testing::at("13:10:00"))),
            "openbell_store_up{store=\"log\"} 0".to_owned(),
        ] {
            assert!(has(&line), "{line} is missing in\n{told}");
        }
        assert_eq!(
            told.matches("openbell_hop_newest_timestamp_seconds{").count(),
            1,
            "a hop that never had a record has no time"
        );
        assert!(told.contains("\nprocess_resident_memory_bytes "), "{told}");
        assert_eq!(resident("VmPeak:\t  9 kB\nVmRSS:\t  2048 kB\nThreads:\t1\n"), Some(2048 * 1024));
        assert_eq!(resident("VmPeak:\t  9 kB\n"), None);
        let quiet = text(&testing::snapshot());
        assert!(!quiet.contains("openbell_outbox_oldest_timestamp_seconds"), "{quiet}");
    }
}

//! The hops of a run follow from its own steps, on the real binary: parts of demo days whose steps are called
//! otherwise, and that have none, one and two sinks of a kind.

use std::path::Path;
use std::process::{Command, Stdio};

use openbell::clock::Clock;
use serde_json::Value;

/// A part of the day: it is joined at `from`, and closes at `minute hour`.
struct Part {
    from: &'static str,
    close: &'static str,
}

/// What came of it.
struct Played {
    report: Value,
    mails: Vec<String>,
    output: String,
}

impl Part {
    /// Plays it with these steps beside topics, `collector`, freshness and reconcile.
    fn play(&self, collector: &str, steps: &[String]) -> Played {
        let (data, dags) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("dags");
        for file in ["calendars/krx.csv", "symbols/krx41.txt"] {
            let to = dags.path().join(file);
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("made");
            std::fs::copy(shipped.join(file), to).expect("copied");
        }
        std::fs::write(dags.path().join("part.yaml"), self.dag(collector, &steps.concat())).expect("written");
        // The day goes on where its clock says.
        let from = format!("2026-11-20T{}+09:00", self.from).parse().expect("a time");
        Clock::virtual_owner(from, f64::MIN_POSITIVE, Some(data.path().join("clock"))).expect("a clock file");
        let report = data.path().join("report.json");
        let done = Command::new(env!("CARGO_BIN_EXE_openbell"))
            .args([
                "demo", "--quiet", "--port", "0", "--speed", "120", "--seed", "21", "--dag", "part", "--dags",
            ])
            .arg(dags.path())
            .arg("--data")
            .arg(data.path())
            .arg("--report")
            .arg(&report)
            .stdin(Stdio::null())
            .output()
            .expect("the binary starts");
        let output =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        let text = std::fs::read_to_string(&report).unwrap_or_else(|e| panic!("no report ({e}):\n{output}"));
        let outbox = std::fs::read_dir(data.path().join("outbox")).into_iter().flatten().flatten();
        let mails = outbox.filter_map(|mail| std::fs::read_to_string(mail.path()).ok()).collect();
        Played { report: serde_json::from_str(&text).expect("JSON"), mails, output }
    }

    fn dag(&self, collector: &str, steps: &str) -> String {
        format!(
            "name: part
schedule: {{ timezone: Asia/Seoul, calendar: krx, open: \"50 8 * * MON-FRI\", close: \"{} * * MON-FRI\" }}
alerts: {{ email: [oncall@example.com], on: [stalled, recovered] }}
steps:
  topics: {{ uses: topics, with: {{ create: [kis.trades], partitions: 3 }} }}
  {collector}:
    kind: service
    uses: collect/kis
    needs: [topics]
    with: {{ symbols: \"file:symbols/krx41.txt\" }}
    secrets: {{ app_key: env:KIS_APP_KEY, app_secret: env:KIS_APP_SECRET }}
    drain: 2m
{steps}  look: {{ kind: check, uses: freshness, every: 2m, timeout: 6m }}
  compare: {{ kind: teardown, uses: reconcile }}
",
            self.close
        )
    }
}

/// A step that reads what `collector` collects.
fn service(name: &str, program: &str, collector: &str, more: &str) -> String {
    format!("  {name}: {{ kind: service, uses: {program}, needs: [{collector}], drain: 60s{more} }}\n")
}

impl Played {
    /// States of the alerts that were mailed.
    fn alerts(&self) -> Vec<&str> {
        let alerts = self.report["alerts"].as_array().expect("alerts").iter();
        alerts.map(|alert| alert["state"].as_str().expect("a state")).collect()
    }

    fn hops(&self) -> Vec<&str> {
        self.report["hops"].as_object().expect("hops").keys().map(String::as_str).collect()
    }

    fn missing(&self, hop: &str) -> u64 {
        self.report["hops"][hop]["missing"]
            .as_u64()
            .unwrap_or_else(|| panic!("no hop {hop}: {:#}\n{}", self.report, self.output))
    }

    fn outcome(&self, step: &str) -> &str {
        let steps = self.report["steps"].as_array().expect("steps").iter();
        steps.filter(|s| s["name"] == step).filter_map(|s| s["outcome"].as_str()).next().expect("a step")
    }

    /// The mail of the first alert of a kind.
    fn mail(&self, kind: &str) -> &str {
        let subject = format!("Subject: [openbell] {kind}: ");
        let found = self.mails.iter().find(|mail| mail.contains(&subject));
        found.unwrap_or_else(|| panic!("no mail about {kind}: {:#?}\n{}", self.mails, self.output))
    }
}

/// A VWAP step whose name mentions the index made freshness call a dead index sink fresh. The demo kills the
/// first sink at 11:30.
#[test]
fn a_dead_sink_is_stale_whatever_other_steps_are_called() {
    let part = Part { from: "11:28:00", close: "41 11" };
    let dead = ", restart: { policy: never }";

    let c = "collector";
    let played =
        part.play(c, &[service("vwap-index", "vwap", c, ""), service("sink-objects", "sink/objects", c, "")]);
    assert_eq!(played.hops(), ["log", "objects", "raw", "spool"]);
    assert_eq!(
        (played.alerts(), played.missing("objects")),
        (vec![], 0),
        "no index sink, and none to be missed\n{}",
        played.output
    );

    let c = "krx";
    let played =
        part.play(c, &[service("search", "sink/index", c, dead), service("vwap-index", "vwap", c, "")]);
    assert_eq!((played.alerts(), played.outcome("search")), (vec!["stalled"], "failed"), "{}", played.output);
    assert!(
        played.mail("stalled").contains("\nindex: a record has been waiting for "),
        "{}",
        played.mail("stalled")
    );
    assert!(played.missing("index") > 0 && played.missing("log") == 0, "{:#}", played.report);

    let sinks = [
        service("index", "sink/index", c, dead),
        service("objects", "sink/index", c, ", with: { index: other }"),
    ];
    let played = part.play(c, &[sinks.concat(), service("sink-index", "vwap", c, "")]);
    assert_eq!(played.hops(), ["index.index", "log", "objects.index", "raw", "spool"]);
    assert_eq!(played.alerts(), ["stalled"], "{}", played.output);
    assert!(
        played.mail("stalled").contains("\nindex.index: a record has been waiting for "),
        "{}",
        played.mail("stalled")
    );
    assert!(played.missing("index.index") > 0 && played.missing("objects.index") == 0, "{:#}", played.report);
}

/// A DAG without an objects sink was never whole.
#[test]
fn a_day_is_whole_with_the_sinks_that_it_has() {
    let part = Part { from: "09:58:00", close: "10 10" };
    let c = "collector";
    let played = part.play(c, &[service("archive", "sink/index", c, "")]);
    assert_eq!(played.hops(), ["index", "log", "raw", "spool"]);
    whole(&played);

    // Called after each other's store.
    let played = part.play(
        "raw",
        &[service("objects", "sink/index", "raw", ""), service("index", "sink/objects", "raw", "")],
    );
    assert_eq!(played.hops(), ["index", "log", "objects", "raw", "spool"]);
    whole(&played);

    let cold = service("cold", "sink/objects", c, ", with: { prefix: cold/store, group: cold.readers }");
    let played = part.play(c, &[service("hot", "sink/objects", c, ""), cold]);
    assert_eq!(played.hops(), ["cold", "hot", "log", "raw", "spool"]);
    whole(&played);
}

fn whole(played: &Played) {
    assert_eq!(played.alerts(), [] as [&str; 0], "{:#?}", played.mails);
    for hop in played.hops() {
        assert_eq!(played.missing(hop), 0, "{hop}: {:#}", played.report["hops"]);
    }
    assert_eq!(played.outcome("compare"), "succeeded", "{}", played.output);
    let unique = |hop: &str| played.report["hops"][hop]["unique"].as_u64().expect("a count");
    assert!(unique("spool") > 100, "{:#}", played.report["hops"]);
    assert!(
        !played.report["faults"].to_string().contains("the run ended as"),
        "{:#}",
        played.report["faults"]
    );
}

/// A late join mailed `stalled` at once and `recovered` "after 0 min". The feed stalls from 13:02 on for
/// twelve minutes.
#[test]
fn a_late_join_is_no_stall_and_a_recovery_tells_its_length() {
    let part = Part { from: "12:55:00", close: "25 13" };
    let index = |name: &str, more: &str| service(name, "sink/index", "feed", more);
    for (collector, sinks) in [
        ("collector", vec![]),
        ("feed", vec![index("spool", "")]),
        ("feed", vec![index("log", ""), index("vwap-objects", ", with: { index: other }")]),
    ] {
        let played = part.play(collector, &sinks);
        assert_eq!(played.alerts(), ["stalled", "recovered"], "{:#?}\n{}", played.mails, played.output);
        let at = played.report["alerts"][0]["at"].as_str().expect("a time");
        assert!(("2026-11-20T13:07"..="2026-11-20T13:12").contains(&&at[..16]), "stalled at {at}");
        let told = played.mail("recovered");
        let minutes = told
            .split("data arrives again after ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
        assert!(minutes.is_some_and(|minutes| (12..=16).contains(&minutes)), "{told}");
    }
}

//! Tests of whole files: what is fine says nothing, what is wrong says it at the right place, all of it at
//! once.

mod container;
mod hops;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use domain::calendar::Calendar;
use domain::dag::{AlertKind, ExecutorKind, Program, Restart, SecretRef, StepKind, TriggerRule, Until};
use domain::program::Shape;
use domain::program::testing::PROGRAMS;

/// DESIGN §3, word for word.
const DESIGN: &str = r#"name: kis-trading-day
description: KRX trades from KIS into MongoDB, Kafka, Elasticsearch and S3
owner: market-data
schedule:
  timezone: Asia/Seoul
  calendar: krx                    # dags/calendars/krx.csv: closed days, late opens
  open: "50 8 * * MON-FRI"         # cron, or relative to the session: session.open - 10m
  close: "0 16 * * MON-FRI"        #                                  session.close + 30m
  late_start: join                 # daemon came up at 10:00: join today's window (or: skip)
  catchup: none                    # none | last | all, capped
defaults: { retries: 3, backoff: { initial: 1s, max: 1m, jitter: true }, timeout: 10m }
alerts:
  email: [oncall@example.com]
  on: [step_failed, run_failed, stalled, recovered, dead_letters, deadline_missed]
steps:
  topics:      { uses: topics, with: { create: [kis.trades], partitions: 3 } }
  collector:
    kind: service
    uses: collect/kis
    needs: [topics]
    with: { symbols: "file:symbols/krx41.txt", tr_ids: [H0STCNT0] }
    secrets: { app_key: env:KIS_APP_KEY, app_secret: file:/run/secrets/kis_app_secret }
    ready: { within: 30s }
    restart: { policy: always, backoff: { initial: 1s, max: 2m } }
    stop: { signal: SIGTERM, grace: 30s }
  sink-index:  { kind: service, uses: sink/index,   needs: [collector], replicas: 1, drain: 60s }
  sink-objects: { kind: service, uses: sink/objects, needs: [collector], drain: 60s,
                  with: { rotate: { size: 64MiB, every: 1m } } }
  vwap:        { kind: service, uses: vwap, needs: [collector], with: { window: 30s, anomalies: kis.anomalies } }
  freshness:   { kind: check, uses: freshness, every: 5m, with: { stale_after: 5m } }
  reconcile:   { kind: teardown, uses: reconcile }
"#;

fn parsed(text: &str) -> Parsed {
    let krx = Calendar::parse("krx", include_str!("../../dags/calendars/krx.csv")).expect("a calendar");
    let calendars = BTreeMap::from([("krx".to_owned(), krx)]);
    parse(text, &Known { programs: PROGRAMS, calendars: &calendars })
}

fn fine(text: &str) -> Dag {
    let parsed = parsed(text);
    let said: Vec<String> = parsed.diagnostics.iter().map(|d| d.render("x.yaml")).collect();
    assert!(said.is_empty(), "{}", said.join("\n"));
    parsed.dag.expect("a file without errors gives a DAG")
}

/// Findings as `line:column word: message [help]`.
fn faults(text: &str) -> Vec<String> {
    let parsed = parsed(text);
    assert!(parsed.dag.is_none() || parsed.errors().next().is_none(), "errors and a DAG");
    parsed
        .diagnostics
        .iter()
        .map(|d| {
            format!(
                "{}:{} {}: {} [{}]",
                d.line,
                d.column,
                d.severity,
                d.message,
                d.help.as_deref().unwrap_or("")
            )
        })
        .collect()
}

/// Asserts that a file has exactly one finding, at this place, with these parts.
#[track_caller]
fn one(text: &str, place: &str, parts: &[&str]) {
    let found = faults(text);
    assert_eq!(found.len(), 1, "{found:#?}\n{text}");
    assert!(found[0].starts_with(&format!("{place} ")), "{} is not at {place}", found[0]);
    for part in parts {
        assert!(found[0].contains(part), "{} does not say {part:?}", found[0]);
    }
}

/// A file with these steps and a plain schedule.
fn steps(steps: &str) -> String {
    format!(
        "name: x\nschedule: {{ timezone: UTC, open: \"0 9 * * *\", close: \"0 17 * * *\" }}\nsteps:\n{steps}"
    )
}

fn schedule(schedule: &str) -> String {
    format!("name: x\nsteps: {{ a: {{ command: [\"true\"] }} }}\nschedule:\n{schedule}")
}

#[test]
fn the_design_example_is_fine_and_complete() {
    let dag = fine(DESIGN);
    let names: Vec<_> = dag.steps().iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        ["topics", "collector", "sink-index", "sink-objects", "vwap", "freshness", "reconcile"]
    );
    let step = |name: &str| dag.step(&name.parse().expect("a name")).expect("a step");
    let collector = step("collector");
    assert_eq!((collector.kind, collector.needs[0].until), (StepKind::Service, Until::Succeeded));
    assert_eq!(collector.secrets["app_secret"], SecretRef::File("/run/secrets/kis_app_secret".into()));
    assert_eq!(
        (collector.restart.policy, collector.restart.backoff.max),
        (Restart::Always, Duration::from_secs(120))
    );
    assert_eq!(
        (collector.retries, collector.timeout),
        (0, None),
        "a service has no retries and no timeout, whatever the defaults"
    );
    assert_eq!(step("sink-index").needs[0].until, Until::Ready);
    assert_eq!(step("sink-index").drain, Some(Duration::from_secs(60)));
    assert_eq!((step("topics").retries, step("topics").timeout), (3, Some(Duration::from_secs(600))));
    assert_eq!(step("sink-objects").with["rotate"]["size"], "64MiB");
    assert_eq!(step("freshness").every, Some(Duration::from_secs(300)));
    assert_eq!((dag.alerts.on.len(), dag.alerts.dead_letters_over), (6, 10));
    assert!(!dag.alerts.on.contains(&AlertKind::RunMissed));
}

#[test]
fn the_shipped_files_are_fine() {
    fine(include_str!("../../dags/kis-trading-day.yaml"));
    let full = parsed(include_str!("../../dags/kis-full-session.yaml"));
    assert!(full.diagnostics.is_empty() && full.dag.is_some(), "{:#?}", full.diagnostics);
    assert!(!full.enabled, "only one of the two may run by itself");
    assert_eq!(full.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["symbols/krx41.txt"]);
}

#[test]
fn everything_at_once_and_in_order() {
    let text = "name: Bad Name\nownr: me\nschedule:\n  timezone: Asia/Soul\n  calendar: krz\n  open: \"61 8 * * *\"\nalerts: { email: [nobody], on: [stuck] }\n\
                steps:\n  a: { command: [run], timeout: 5 minutes, needs: [b] }\n  b: { command: [run], needs: [a, c], kind: tsk }\n";
    let found = faults(text);
    let starts: Vec<&str> = found.iter().map(|f| f.split(' ').next().unwrap_or("")).collect();
    assert_eq!(
        starts,
        ["1:7", "2:1", "4:13", "5:13", "6:9", "7:19", "7:33", "9:33", "10:32", "10:35", "10:45"],
        "{found:#?}"
    );
    for (at, part) in
        [(1, "\"owner\""), (2, "Asia/Seoul"), (3, "\"krx\""), (8, "a → b → a"), (10, "\"task\"")]
    {
        assert!(found.iter().any(|f| f.contains(part)), "{at}: {part} in {found:#?}");
    }
}

#[test]
fn unknown_keys_get_the_nearest_known_one() {
    one(
        &steps("  a: { command: [x], tiemout: 5m }\n"),
        "4:22",
        &["unknown key \"tiemout\" in step \"a\"", "\"timeout\""],
    );
    one(&steps("  a: { comand: [x] }\n"), "4:8", &["unknown key \"comand\"", "\"command\""]);
    one(&steps("  a: { command: [x], depends_on: [b] }\n"), "4:22", &["did you mean \"needs\"?"]);
    one(
        &schedule("  timezone: UTC\n  cron: \"0 9 * * *\"\n  open: \"0 9 * * *\"\n"),
        "5:3",
        &["unknown key \"cron\"", "\"open\""],
    );
    one(&steps("  a: { command: [x], zzz: 1 }\n"), "4:22", &["there are kind, uses,"]);
}

#[test]
fn missing_and_empty() {
    one("steps: { a: { command: [x] } }\n", "1:1", &["the file has no \"name\""]);
    one("name: x\n", "1:1", &["the file has no \"steps\""]);
    one("name: x\nsteps: {}\n", "2:1", &["no steps"]);
    one("name: x\nsteps:\n", "2:1", &["has no value"]);
    one("name: x\nsteps:\n  a:\n", "3:3", &["step \"a\" is empty"]);
    one("", "1:1", &["the file is empty"]);
    one("- a\n- b\n", "1:1", &["the file is a list, not a DAG"]);
    one(&steps("  a: { kind: task }\n"), "4:3", &["says nothing to run"]);
    one(&steps("  a: { command: [] }\n"), "4:8", &["the command is empty"]);
    one(&schedule("  timezone: UTC\n"), "3:1", &["has no \"open\""]);
    one(&schedule("  open: \"0 9 * * *\"\n"), "3:1", &["no time zone"]);
}

#[test]
fn wrong_types() {
    one(
        &steps("  a: { command: [x], timeout: 30 }\n"),
        "4:31",
        &["is a number (30), not a duration", "30s, 30m or 30h"],
    );
    one(&steps("  a: { command: [x], retries: many }\n"), "4:31", &["is a text, not a whole number"]);
    one(&steps("  a: { command: [x], retries: -1 }\n"), "4:31", &["is -1, not a whole number"]);
    one(&steps("  a: { command: [x], retries: 2.5 }\n"), "4:31", &["is 2.5, not a whole number"]);
    one(&steps("  a: { command: [x], needs: b }\n"), "4:29", &["is a text, not a list"]);
    one(&steps("  a: { command: { x: y } }\n"), "4:17", &["is a table, not a list or a text"]);
    one(&steps("  a: [x]\n"), "4:6", &["step \"a\" is a list, not a table"]);
    one("name: x\nenabled: yes\nsteps: { a: { command: x } }\n", "2:10", &["is a text, not true or false"]);
    one(
        &steps("  a: { uses: topics, with: { create: [005930] } }\n"),
        "4:39",
        &["an item of \"create\" of \"with\" of topics is a number (005930)", "in quotes: \"005930\""],
    );
    one("name: 42\nsteps: { a: { command: x } }\n", "1:7", &["is a number (42)", "in quotes: \"42\""]);
    one(
        &steps("  a: { uses: sink/objects, kind: service, with: { rotate: 64MiB } }\n"),
        "4:59",
        &["is a text, not a table", "{ size: … }"],
    );
}

#[test]
fn durations_sizes_and_words() {
    for bad in ["5 minutes", "5", "1.5h", "-1s", "m"] {
        one(
            &steps(&format!("  a: {{ command: [x], timeout: \"{bad}\" }}\n")),
            "4:31",
            &["is not a duration"],
        );
    }
    one(&steps("  a: { command: [x], timeout: 0s }\n"), "4:31", &["is zero"]);
    let sized = |size| {
        steps(&format!(
            "  a: {{ uses: sink/objects, kind: service, with: {{ rotate: {{ size: {size} }} }} }}\n"
        ))
    };
    one(&sized("64mb"), "4:67", &["\"64mb\", which is not a size", "64MiB"]);
    one(&sized("64"), "4:67", &["is a number (64), not a size", "64MiB"]);
    one(&steps("  a: { command: [x], kind: servce }\n"), "4:28", &["\"servce\"", "\"service\""]);
    one(&steps("  a: { command: [x], trigger_rule: all_sucess }\n"), "4:36", &["\"all_success\""]);
    one(
        &steps("  a: { command: [x], backoff: { initial: 2m, max: 1m } }\n"),
        "4:51",
        &["shorter than the first"],
    );
}

#[test]
fn schedules() {
    let edges = |open: &str, close: &str| {
        schedule(&format!("  timezone: UTC\n  open: \"{open}\"\n  close: \"{close}\"\n"))
    };
    one(&edges("50 8 * *", "0 16 * * *"), "5:9", &["it has 4 fields", "write five fields"]);
    one(&edges("0 0 30 2 *", "0 16 * * *"), "5:9", &["never fires"]);
    one(&edges("0 9 * * *", "0 8 * * *"), "5:9", &["no window ever opens"]);
    one(&edges("0 9,13 * * *", "0 16 * * *"), "5:9", &["several times a day"]);
    one(&edges("session.begin", "session.close"), "5:9", &["not an end of a session", "session.open - 10m"]);
    one(&edges("session.open - 10", "0 16 * * *"), "5:9", &["not an end of a session"]);
    one(
        &schedule("  timezone: Seoul\n  open: \"0 9 * * *\"\n"),
        "4:13",
        &["no time zone \"Seoul\"", "\"Asia/Seoul\""],
    );
    one(
        &schedule("  calendar: nyse\n  open: \"0 9 * * *\"\n"),
        "4:13",
        &["no calendar \"nyse\"", "calendars: krx", "calendars/nyse.csv"],
    );
    one(
        &schedule("  calendar: krx\n  open: \"0 9 * * SAT\"\n"),
        "5:9",
        &["never fires on a day the calendar knows as open"],
    );
    let found = faults(&edges("session.open", "session.close"));
    assert!(found.len() == 1 && found[0].starts_with("5:9 warning: without a calendar"), "{found:?}");
    let endless =
        "  timezone: Asia/Seoul\n  calendar: none\n  open: session.open - 1m\n  close: session.close + 1m\n";
    assert_eq!(fine(&schedule(endless)).schedule.and_then(|s| s.calendar), None);
    assert_eq!(
        fine(&schedule("  calendar: krx\n  open: session.open\n")).schedule.map(|s| s.timezone).as_deref(),
        Some("Asia/Seoul")
    );
}

#[test]
fn needs_and_cycles() {
    one(
        &steps("  load: { command: [x] }\n  b: { command: [x], needs: [laod] }\n"),
        "5:30",
        &["needs \"laod\"", "\"load\""],
    );
    one(&steps("  a: { command: [x], needs: [a] }\n"), "4:30", &["step \"a\" needs itself"]);
    one(
        &steps("  a: { command: [x] }\n  b: { command: [x], needs: [a, { step: a }] }\n"),
        "5:41",
        &["needs \"a\" twice"],
    );
    one(
        &steps(
            "  z: { command: [x], needs: [a] }\n  a: { command: [x], needs: [b] }\n  b: { command: [x], needs: [c] }\n  c: { command: [x], needs: [a] }\n",
        ),
        "7:30",
        &["steps wait for each other: a → b → c → a"],
    );
    one(
        &steps("  a: { command: [x], kind: teardown }\n  b: { command: [x], needs: [a] }\n"),
        "5:30",
        &["runs only at close"],
    );
    one(
        &steps("  a: { command: [x] }\n  b: { command: [x], needs: [{ step: a, until: ready }] }\n"),
        "5:38",
        &["never gets ready"],
    );
    one(
        &steps(
            "  a: { command: [x], kind: service }\n  b: { command: [x], needs: [{ step: a, until: succeeded }] }\n",
        ),
        "5:38",
        &["never succeeds"],
    );
    one(
        &steps(
            "  a: { command: [x], kind: check, every: 1m }\n  b: { command: [x], needs: [{ step: a, until: done }] }\n",
        ),
        "5:38",
        &["would never start"],
    );
    let dag = fine(&steps(
        "  d: { command: [x], needs: [{ step: a, until: started }, b, c] }\n  a: { command: [x] }\n  b: { command: [x], kind: service }\n  c: { command: [x], kind: check, every: 1m }\n",
    ));
    let d = dag.step(&"d".parse().expect("a name")).expect("d");
    assert_eq!(
        d.needs.iter().map(|n| n.until).collect::<Vec<_>>(),
        [Until::Started, Until::Ready, Until::Started]
    );
}

#[test]
fn kinds_and_their_keys() {
    one(
        &steps("  a: { command: [x], every: 5m }\n"),
        "4:22",
        &["\"every\" does not go with a task", "kind: check"],
    );
    one(&steps("  a: { command: [x], drain: 5m }\n"), "4:22", &["\"drain\" does not go with a task"]);
    let secrets = "secrets: { app_key: env:A, app_secret: env:B }";
    let collector = steps(&format!(
        "  a: {{ kind: service, uses: collect/kis, with: {{ symbols: [\"005930\"] }}, {secrets}, drain: 5m }}\n"
    ));
    let dag = parsed(&collector).dag.expect("a file without errors");
    assert_eq!(dag.steps()[0].drain, Some(Duration::from_secs(300)), "a collector drains its spool");
    one(&steps("  a: { command: [x], kind: check }\n"), "4:28", &["does not say how often"]);
    one(
        &steps("  a: { command: [x], kind: service, retries: 3 }\n"),
        "4:37",
        &["\"retries\" does not go with a service", "restart"],
    );
    one(
        &steps("  a: { command: [x], kind: service, timeout: 3m }\n"),
        "4:37",
        &["\"timeout\" does not go with a service"],
    );
    one(&steps("  a: { command: [x], kind: service, replicas: 2 }\n"), "4:47", &["need the executor swarm"]);
    one(&steps("  a: { command: [x], kind: service, replicas: 0 }\n"), "4:47", &["at least 1"]);
    let copies = |program: &str| {
        steps(&format!("  a: {{ uses: {program}, executor: swarm, kind: service, replicas: 2 }}\n"))
    };
    fine(&copies("sink/index"));
    let collectors = copies(
        "collect/kis, with: { symbols: [\"005930\"] }, secrets: { app_key: env:K, app_secret: env:S }",
    );
    let found = faults(&collectors);
    assert!(
        found.len() == 1 && found[0].contains("same work twice") && found[0].contains("sink/raw"),
        "{found:#?}"
    );
    let endless = "name: x\nschedule: { timezone: UTC, open: \"0 9 * * *\" }\nsteps:\n  a: { command: [x], kind: service }\n";
    one(endless, "4:28", &["service \"a\" would never end", "add close:"]);
    one(&steps("  a: { command: [x], executor: embedded }\n"), "4:32", &["cannot run inside the daemon"]);
    one(&steps("  a: { command: [x], executor: docker }\n"), "4:32", &["needs an image"]);
    let dag = fine(&steps(
        "  a: { command: [x], image: i, executor: swarm, replicas: 3, kind: service }\n  b: { command: [x], image: i }\n",
    ));
    assert_eq!(
        dag.steps().iter().map(|s| s.executor).collect::<Vec<_>>(),
        [Some(ExecutorKind::Swarm), Some(ExecutorKind::Docker)]
    );
}

#[test]
fn programs_and_parameters() {
    one(
        &steps("  a: { uses: sink/indx, kind: service }\n"),
        "4:14",
        &["no built-in program \"sink/indx\"", "\"sink/index\""],
    );
    one(&steps("  a: { uses: sink/index }\n"), "4:14", &["does not work as a task", "kind: service"]);
    one(
        &steps("  a: { uses: topics, with: { create: [a], partition: 3 } }\n"),
        "4:43",
        &["unknown key \"partition\" in \"with\" of topics", "\"partitions\""],
    );
    one(&steps("  a: { uses: topics }\n"), "4:14", &["lacks the parameter \"create\" of topics"]);
    one(&steps("  a: { uses: topics, with: { partitions: 3 } }\n"), "4:22", &["has no \"create\""]);
    one(
        &steps("  a: { uses: topics, command: [x], with: { create: a } }\n"),
        "4:22",
        &["both \"uses\" and \"command\""],
    );
    one(&steps("  a: { command: [x], with: { y: 1 } }\n"), "4:22", &["parameters of a built-in program"]);
    let found = faults(&steps("  a: { command: \"cat x | wc\" }\n"));
    assert!(
        found.len() == 1 && found[0].starts_with("4:17 warning: the command runs without a shell, so |"),
        "{found:?}"
    );
}

#[test]
fn secrets_are_references_and_never_shown() {
    let collector = |secrets: &str| {
        steps(&format!(
            "  a:\n    uses: collect/kis\n    kind: service\n    with: {{ symbols: [\"005930\"] }}\n    {secrets}\n"
        ))
    };
    let literal =
        parsed(&collector("secrets: { app_key: hunter2secretvalue, app_secret: env:X, zap: 998877 }"));
    let said: Vec<String> = literal.diagnostics.iter().map(|d| d.render("x.yaml")).collect();
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(
        said[0].contains("x.yaml:8:25: error: \"app_key\" of \"secrets\" of step \"a\" is not a reference"),
        "{}",
        said[0]
    );
    assert!(said.iter().all(|s| !s.contains("hunter2") && !s.contains("998877")), "{said:#?}");
    let misspelt =
        parsed(&collector("secret: { app_key: \"hunter2\", app_secret: |\n      hunter2\n      }"));
    let said = format!("{:?}", misspelt.diagnostics);
    assert!(!misspelt.diagnostics.is_empty() && !said.contains("hunter2"), "{said}");
    one(&collector("secrets: { app_key: env:A }"), "8:5", &["lacks the secret \"app_secret\""]);
    one(&collector("secrets: { app_key: env:A, app_secret: \"file:\" }"), "8:44", &["not a reference"]);
}

#[test]
fn a_command_finds_its_secrets_by_names_of_variables() {
    let command = |secrets: &str| steps(&format!("  a:\n    command: [fetch]\n    {secrets}\n"));
    let dag = fine(&command("secrets: { API_TOKEN: env:VENDOR_TOKEN }"));
    assert_eq!(dag.steps()[0].secrets["API_TOKEN"], SecretRef::Env("VENDOR_TOKEN".into()));
    one(
        &command("secrets: { api-token: env:A }"),
        "6:16",
        &["\"api-token\"", "no name of an environment variable", "API_TOKEN"],
    );
    one(&command("secrets: { 2FA: env:A }"), "6:16", &["\"2FA\"", "no name of an environment variable"]);
    one(&command("secrets: { OPENBELL_FOLDER: env:A }"), "6:16", &["openbell gives itself"]);
    one(
        &command("env: { K: v }\n    secrets: { K: env:A }"),
        "7:16",
        &["both in \"env\" and in \"secrets\""],
    );
}

#[test]
fn alerts() {
    let alerts = |text: &str| format!("name: x\nalerts: {text}\nsteps: {{ a: {{ command: [x] }} }}\n");
    one(&alerts("{ email: [oncall] }"), "2:19", &["\"oncall\" is not an e-mail address"]);
    one(&alerts("{ email: [\"a@b.c, d@e.f\"] }"), "2:19", &["is not an e-mail address"]);
    one(&alerts("{ email: [a@b.c], on: [staled] }"), "2:32", &["\"staled\"", "\"stalled\""]);
    let found = faults(&alerts("{ on: [stalled] }"));
    assert!(found.len() == 1 && found[0].starts_with("2:1 warning: nobody gets these alerts"), "{found:?}");
    let dag = fine(&alerts("{ email: a@b.c, dead_letters: { over: 3 } }"));
    assert_eq!((dag.alerts.on.len(), dag.alerts.dead_letters_over), (9, 3), "everything but run_finished");
}

#[test]
fn twice_is_an_error_at_the_second() {
    one(
        &steps("  a: { command: [x] }\n  b: { command: [x] }\n  a: { command: [y] }\n"),
        "6:3",
        &["\"a\" stands twice", "line 4"],
    );
    one(
        &steps("  a: { command: [x], retries: 1, retries: 2 }\n"),
        "4:34",
        &["\"retries\" stands twice in step \"a\""],
    );
}

#[test]
fn what_is_not_yaml_has_a_place_too() {
    let found = parsed("name: x\nsteps:\n  a: { command: [x }\n");
    assert_eq!(found.diagnostics.len(), 1);
    assert!(
        found.dag.is_none() && found.diagnostics[0].message.starts_with("this is not YAML:"),
        "{found:?}"
    );
    let secret = parsed("name: x\nsecrets: { app_key: hunter2 \n]\n");
    assert!(!format!("{secret:?}").contains("hunter2"), "{secret:?}");
}

#[test]
fn parameters_environment_and_defaults() {
    let text = "name: x\nparams: { lot: 010, mode: full }\nenv: { A: 1, B: two }\ndefaults: { stop: { grace: 5s }, restart: { max: 3 }, ready: { within: 1m } }\n\
                steps:\n  a: { command: [x, -v], env: { B: three }, when: { param: mode, equals: full }, trigger_rule: all_done }\n  s: { command: \"run it\", kind: service, restart: { policy: never } }\n";
    let dag = fine(text);
    assert_eq!(dag.params["lot"], "010", "as written");
    let (a, s) = (&dag.steps()[0], &dag.steps()[1]);
    assert_eq!(
        (a.env["A"].as_str(), a.env["B"].as_str(), a.trigger_rule),
        ("1", "three", TriggerRule::AllDone)
    );
    assert_eq!(s.program, Program::Command { argv: vec!["run".into(), "it".into()], image: None });
    assert_eq!(
        (s.restart.policy, s.restart.max, s.ready_within, s.stop.grace),
        (Restart::Never, Some(3), Duration::from_secs(60), Duration::from_secs(5))
    );
    one(&text.replace("param: mode", "param: mod"), "6:60", &["no run parameter \"mod\"", "\"mode\""]);
}

#[test]
fn the_tables_know_the_words_of_the_domain() {
    for kind in tables::KINDS {
        let known: Option<StepKind> = read::word_of(kind);
        assert_eq!(known.map(StepKind::as_str), Some(kind));
    }
    for field in tables::STEP {
        if let (Shape::OneOf(words), "trigger_rule") = (field.shape, field.name) {
            assert!(words.iter().all(|w| read::word_of::<TriggerRule>(w).is_some()));
        }
    }
}

#[test]
fn the_schema_is_made_of_the_same_tables() {
    let schema = schema::schema(PROGRAMS);
    assert_eq!(
        schema["properties"]["schedule"]["properties"]["catchup"]["enum"],
        serde_json::json!(["none", "last", "all"])
    );
    let step = &schema["properties"]["steps"]["additionalProperties"];
    assert_eq!(step["properties"]["uses"]["oneOf"].as_array().map(Vec::len), Some(PROGRAMS.len()));
    assert_eq!(step["additionalProperties"], false);
}

#[test]
fn any_text_gives_findings_and_no_panic() {
    use proptest::prelude::*;
    let words = prop::sample::select(vec![
        "name", "steps", "schedule", "open", ": ", "- ", "\n", "\n  ", "{ ", " }", "[", "]", "\"", "a",
        "needs", "uses", "topics", "&x ", "*x", "|", "한", "1", "~", "!!int ", "<<",
    ]);
    proptest!(|(words in prop::collection::vec(words, 0..40))| {
        let text = words.concat();
        let parsed = parsed(&text);
        prop_assert!(parsed.dag.is_some() || parsed.errors().next().is_some(), "{text:?}");
        for finding in &parsed.diagnostics {
            prop_assert!(finding.render("f").contains(&finding.message));
        }
    });
    proptest!(|(at in 0..DESIGN.len(), junk in "[ -~]{0,3}")| {
        let mut text = DESIGN.to_owned();
        text.replace_range(at..at + 1, &junk);
        let parsed = parsed(&text);
        prop_assert!(parsed.dag.is_some() || parsed.errors().next().is_some());
    });
}

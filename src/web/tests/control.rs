//! The control pages over a real socket: what they show, what they let through, and how long 500 runs of 20
//! steps take to draw.

use std::sync::Arc;

use reqwest::StatusCode;
use serde_json::json;

use crate::tests::{Site, read_until};
use daemon::Snapshot;
use daemon::handle::Command;
use daemon::history::History;
use daemon::snapshot::{Fault, Problem, QueuedMail, Severity};
use daemon::testing;
use domain::dag::fixtures::step;
use domain::dag::{Dag, StepKind, Until};
use domain::finding::Finding;
use domain::run::{Exit, RunState, StepRun, StepState};
use state::{Audit, Outcome};

const RUN: &str = "kis-trading-day@2026-11-20";

fn audited(who: &str, detail: &str, minute: usize) -> Audit {
    Audit {
        at: testing::at(&format!("13:{minute:02}:00")),
        who: who.into(),
        what: "cancel".into(),
        subject: RUN.into(),
        outcome: if detail.starts_with("refused") { Outcome::Refused } else { Outcome::Done },
        detail: detail.into(),
    }
}

/// A day with something on every page.
fn full() -> Snapshot {
    let mut snapshot = testing::snapshot();
    snapshot.audit = Arc::new(vec![
        audited("ann", "done", 9),
        audited("bob", "refused: it has ended", 8),
        audited("ann", "done", 7),
    ]);
    snapshot.outbox.push(QueuedMail {
        key: "k".into(),
        created_at: testing::at("13:10:00"),
        tries: 3,
        next_at: testing::at("13:12:00"),
        last_error: Some("connection refused".into()),
        to: vec!["oncall@example.com".into()],
        subject: "[openbell] stalled".into(),
    });
    let mut older = testing::ended().runs[0].run.clone();
    (older.id, older.session_date) =
        ("kis-trading-day@2026-11-19".parse().expect("an id"), "2026-11-19".parse().expect("a date"));
    older.created_at = "2026-11-19T08:50:00+09:00".parse().expect("a time");
    snapshot.history = Arc::new(History::of([older].iter()));
    snapshot
}

fn written(site: &Site, step: &str, attempt: u32, text: &[u8]) -> std::path::PathBuf {
    let folder = site.daemon.runs.path().join(RUN).join(step).join(attempt.to_string());
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("output.log"), text).expect("written");
    folder.join("output.log")
}

#[tokio::test]
async fn the_control_pages_show_what_they_are_for() {
    let site = Site::up(full()).await;
    written(&site, "collector", 2, b"first\nsecond <line>\n");
    for (path, texts) in [
        (
            "/dags/kis-trading-day",
            &["market-data", "kis-trading-day@2026-11-19", "late open", "param.venue", "Graph of steps"][..],
        ),
        ("/dags/kis-full-session", &["by hand only", "There is no run yet", "Resume the schedule"]),
        ("/alerts", &["connection refused", "nothing for 5m 12s", "Send a test mail"]),
        ("/alerts?kind=run_missed&dag=kis-trading-day", &["No alert of this kind and DAG"]),
        ("/audit", &["bob", "refused: it has ended", "2026-11-20 13:09:00 KST"]),
        (
            "/runs/kis-trading-day@2026-11-20",
            &["Clear and run again from here", "vwap", "attempt 1: 08:50:01–10:42:10"],
        ),
        (
            "/runs/kis-trading-day@2026-11-20/steps/collector/output",
            &["second &#60;line&#62;", "follow the end", "output/live?attempt=2&#38;from=20"],
        ),
        ("/dags", &["/dags/kis-trading-day", "dags/broken.yaml:7:5"]),
    ] {
        let (status, body) = site.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        for text in texts {
            assert!(body.contains(text), "{path} lacks {text}: {body}");
        }
        assert!(
            !body.contains(" style=") && !body.contains("onclick"),
            "{path} would be refused by its own policy"
        );
    }
    for (path, status, text) in [
        ("/dags/nothing", 404, "there is no DAG nothing"),
        ("/dags/NOT%20A%20NAME", 400, "not a usable name"),
        ("/dags/kis-trading-day?skip=x", 400, "skip=N"),
        ("/alerts?kind=nonsense", 400, "stalled, recovered"),
        ("/events?page=dag&dag=nothing", 404, "there is no DAG"),
        ("/api/v1/dags/nothing/calendar", 404, "there is no DAG nothing"),
        ("/api/v1/runs?limit=0", 400, "ask for 1 to 500"),
        ("/api/v1/runs?after=x", 404, "names nothing of the list"),
        ("/api/v1/runs?state=odd", 400, "openapi.json"),
        ("/api/v1/audit?before=x", 400, "openapi.json"),
    ] {
        let (got, body) = site.get(path).await;
        assert_eq!(got.as_u16(), status, "{path}: {body}");
        assert!(body.to_lowercase().contains(&text.to_lowercase()), "{path} lacks {text}: {body}");
    }
    site.down().await;
}

#[tokio::test]
async fn lists_are_given_in_parts() {
    let mut site = Site::up(full()).await;
    let first = site.json("/api/v1/runs?dag=kis-trading-day&limit=1").await;
    assert_eq!(
        (&first["runs"][0]["id"], &first["next"], &first["total"]),
        (&json!(RUN), &json!(RUN), &json!(2))
    );
    let second = site.json(&format!("/api/v1/runs?dag=kis-trading-day&limit=1&after={RUN}")).await;
    assert_eq!(
        (&second["runs"][0]["id"], &second["next"]),
        (&json!("kis-trading-day@2026-11-19"), &json!(null))
    );
    assert_eq!(site.json("/api/v1/runs?state=failed").await["total"], 0);
    let whole = site.json("/api/v1/dags/kis-trading-day/runs").await;
    assert_eq!(
        whole["runs"][1]["steps"][0],
        json!({ "name": "collector", "state": "stopped", "attempt": 2 })
    );
    let dag = site.json("/api/v1/dags/kis-trading-day").await;
    assert_eq!(
        (&dag["plan"]["steps"][1]["name"], &dag["newest"]["id"], &dag["runs"]),
        (&json!("collector"), &json!(RUN), &json!(2))
    );
    let calendar = site.json("/api/v1/dags/kis-trading-day/calendar").await;
    assert_eq!(
        (calendar["days"].as_array().map(Vec::len), &calendar["days"][18]["special"]),
        (Some(92), &json!("late_open"))
    );
    assert_eq!(site.json("/api/v1/outbox").await["mails"][0]["tries"], 3);
    assert_eq!(site.json("/api/v1/alerts?kind=stalled").await["total"], 1);
    let audit = site.json("/api/v1/audit?limit=2").await;
    let rest = site.json(&format!("/api/v1/audit?after={}", audit["next"].as_str().expect("more"))).await;
    assert_eq!(
        (&audit["entries"][1]["who"], &rest["entries"][0]["who"], &rest["next"]),
        (&json!("bob"), &json!("ann"), &json!(null))
    );
    assert_eq!(
        site.json("/api/v1/audit?before=2026-11-20T04:09:00Z").await["total"],
        2,
        "an instant is a filter"
    );
    let alerts = site.json("/api/v1/alerts?limit=1").await;
    let rest =
        site.json(&format!("/api/v1/alerts?limit=1&after={}", alerts["next"].as_str().expect("more"))).await;
    assert_eq!(
        (&alerts["alerts"][0]["kind"], &rest["alerts"][0]["kind"], &rest["next"]),
        (&json!("stalled"), &json!("dead_letters"), &json!(null))
    );
    assert_eq!(site.json("/api/v1/outbox?limit=1").await["next"], json!(null));
    let request = site
        .client
        .post(format!("{}/api/v1/alerts/test", site.base))
        .json(&json!({ "dag": "kis-trading-day" }));
    let (status, body, command) = site.exchange(request, Ok("queued".into())).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "{\"message\":\"queued\"}"));
    assert!(matches!(command, Command::TestMail(Some(dag)) if dag.as_str() == "kis-trading-day"));
    site.down().await;
}

#[tokio::test]
async fn a_run_is_started_with_what_the_form_says() {
    let mut site = Site::up(full()).await;
    let token = site.csrf().await;
    let fields = [
        ("csrf", token.as_str()),
        ("back", "run"),
        ("param.venue", "nxt"),
        ("date", "2026-11-19"),
        ("until", "15%3A30"),
        ("more", "a%3D1%0D%0Ab+%3D+x%3Dy"),
    ];
    let (status, _, command) =
        site.form("/dags/kis-trading-day/trigger", &fields, Ok(format!("{RUN}+manual.1"))).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let Command::Trigger { params, until, date, .. } = command else { panic!("{command:?}") };
    assert_eq!(
        params,
        [("a", "1"), ("b", "x=y"), ("venue", "nxt")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    assert_eq!((until, date), (Some(testing::at("15:30:00")), Some(jiff::civil::date(2026, 11, 19))));
    let body = format!("csrf={token}&until=soon");
    let request = site.client.post(format!("{}/dags/kis-trading-day/trigger", site.base));
    let reply = request
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body)
        .send()
        .await
        .expect("an answer");
    assert_eq!(reply.status(), StatusCode::BAD_REQUEST);
    let (status, _, command) = site.form("/alerts/test", &[("csrf", &token)], Ok("queued".into())).await;
    assert_eq!((status, command), (StatusCode::SEE_OTHER, Command::TestMail(None)));
    site.down().await;
}

/// Every text that a file, a step, a server or a person chooses, as an attack.
fn hostile() -> Snapshot {
    let attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>".to_owned();
    let mut snapshot = full();
    for dag in &mut snapshot.dags {
        (dag.description, dag.owner, dag.file, dag.schedule) =
            (attack.clone(), attack.clone(), attack.clone(), Some(attack.clone()));
        if let Some(plan) = &dag.dag {
            let mut plan = Dag::clone(plan);
            plan.params = [(attack.clone(), attack.clone())].into();
            plan.alerts.email = vec![attack.clone()];
            dag.dag = Some(Arc::new(plan));
        }
        let mut days = dag.days.to_vec();
        days.iter_mut().for_each(|d| d.why.clone_from(&attack));
        dag.days = Arc::new(days);
    }
    let fault = Fault {
        at: Some((1, 1)),
        severity: Severity::Error,
        message: attack.clone(),
        excerpt: Some(attack.clone()),
        help: Some(attack.clone()),
    };
    snapshot.problems = vec![Problem::new(attack.clone(), vec![fault], false)];
    snapshot.notices = vec![attack.clone()];
    let run = &mut snapshot.runs[0].run;
    run.params = [(attack.clone(), attack.clone())].into();
    run.dag.description.clone_from(&attack);
    run.cancelled_by = Some(attack.clone());
    for step in run.steps.values_mut() {
        (step.reason, step.notice, step.result) =
            (Some(attack.clone()), Some(attack.clone()), Some(json!({ &attack: &attack })));
        step.state = StepState::Failed;
        step.history.iter_mut().for_each(|a| a.exit = Exit::NotStarted(attack.clone()));
    }
    for status in snapshot.runs[0].statuses.values_mut() {
        status.degraded = Some(attack.clone());
        status.facts.insert(attack.clone(), json!(attack));
    }
    for alert in &mut snapshot.alerts {
        (alert.finding, alert.rule) = (Finding::text(attack.clone()), attack.clone());
    }
    for mail in &mut snapshot.outbox {
        (mail.key, mail.subject, mail.last_error, mail.to) =
            (attack.clone(), attack.clone(), Some(attack.clone()), vec![attack.clone()]);
    }
    let entry = Audit {
        at: snapshot.now,
        who: attack.clone(),
        what: attack.clone(),
        subject: attack.clone(),
        outcome: Outcome::Done,
        detail: attack,
    };
    snapshot.audit = Arc::new(vec![entry]);
    snapshot
}

#[tokio::test]
async fn no_text_from_outside_becomes_markup() {
    let site = Site::up(hostile()).await;
    written(&site, "collector", 2, b"<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\n");
    let find = "%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27%3E%3Cimg+src%3Dx";
    for path in [
        "/".to_owned(),
        "/dags".to_owned(),
        "/dags/kis-trading-day".to_owned(),
        "/dags/kis-full-session".to_owned(),
        "/alerts".to_owned(),
        format!("/alerts?dag={find}"),
        "/audit".to_owned(),
        format!("/runs/{RUN}"),
        format!("/runs/{RUN}/steps/collector/output"),
        format!("/runs/{RUN}/steps/collector/output?find={find}"),
    ] {
        let (status, body) = site.get(&path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        assert!(!body.contains("<script>") && !body.contains("<img"), "{path}: {body}");
        // Whatever stands in an attribute cannot end it: every quote of the attack is covered.
        assert!(!body.contains("\"'>"), "{path}: {body}");
        if !path.contains("alerts?") {
            assert!(body.contains("&#60;script&#62;"), "{path} does not show the text at all");
        }
    }
    site.down().await;
}

#[tokio::test]
async fn output_is_searched_paged_kept_and_followed() {
    let site = Site::up(full()).await;
    let lines: String = (1..=3_000)
        .map(|n| if n % 1_000 == 0 { format!("Error {n}\n") } else { format!("line {n}\n") })
        .collect();
    let file = written(&site, "collector", 2, lines.as_bytes());
    let page = format!("/runs/{RUN}/steps/collector/output");
    let (_, newest) = site.get(&page).await;
    assert!(
        newest.contains("lines 2,001 to 3,000 of 3,000")
            && newest.contains("id=\"L3000\"")
            && !newest.contains("id=\"L2000\"")
    );
    let (_, middle) = site.get(&format!("{page}?attempt=2&line=500")).await;
    assert!(
        middle.contains("lines 500 to 1,499 of 3,000")
            && middle.contains("line=1500")
            && !middle.contains("data-events")
    );
    let (_, found) = site.get(&format!("{page}?find=error")).await;
    assert!(
        found.contains("3 lines hold “error”")
            && found.contains("<mark>Error</mark> 2000")
            && found.contains("line=1980#L2000")
    );
    let (_, nothing) = site.get(&format!("{page}?find=zzz")).await;
    assert!(nothing.contains("0 lines hold") && nothing.contains("No line holds this text"));
    let kept = site.client.get(format!("{}{page}?download=1", site.base)).send().await.expect("an answer");
    assert_eq!(kept.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(
        kept.headers()["content-disposition"],
        "attachment; filename=\"kis-trading-day@2026-11-20.collector.2.log\""
    );
    assert_eq!(kept.text().await.expect("text"), lines);

    let live = format!("{}{page}/live?attempt=2&from={}&line=3001", site.base, lines.len());
    let mut followed = site.client.get(&live).send().await.expect("an answer");
    std::fs::write(&file, format!("{lines}new <line>\nhalf")).expect("written");
    let event = read_until(&mut followed, "new &#60;line&#62;").await;
    assert!(
        event.contains("event: append")
            && event.contains(&format!("id: {}-3002", lines.len() + 11))
            && !event.contains("half"),
        "{event}"
    );
    site.daemon.snapshots.send_replace(testing::ended().into());
    let rest = read_until(&mut followed, "event: over").await;
    assert!(rest.contains("L3002") && rest.contains("half"), "{rest}");
    // Whoever comes back says where it stood, and hears the rest only.
    let mut again = site
        .client
        .get(&live)
        .header("last-event-id", format!("{}-3002", lines.len() + 11))
        .send()
        .await
        .expect("an answer");
    let event = read_until(&mut again, "event: over").await;
    assert!(event.contains("half") && !event.contains("new &#60;"), "{event}");
    site.down().await;
}

#[tokio::test]
async fn an_output_of_64_mib_is_shown_and_searched() {
    let site = Site::up(full()).await;
    let line = format!("{}\n", "a line of a step that says very much, over and over again".repeat(2));
    let mut bytes = line.repeat((64 << 20) / line.len()).into_bytes();
    bytes.extend(b"the needle\n");
    written(&site, "collector", 2, &bytes);
    let page = format!("/runs/{RUN}/steps/collector/output");
    for (path, text) in [
        (page.clone(), "the needle"),
        (format!("{page}?find=NEEDLE"), "1 lines hold"),
        (format!("{page}?line=300000"), "L300000"),
    ] {
        let began = tokio::time::Instant::now();
        let (status, body) = site.get(&path).await;
        println!("{path}: {} KiB in {} ms", body.len() / 1024, began.elapsed().as_millis());
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains(text) && body.len() < 1 << 20, "{path}: {} bytes", body.len());
    }
    site.down().await;
}

#[tokio::test]
async fn control_pages_are_live() {
    let site = Site::up(full()).await;
    let open =
        async |path: &str| site.client.get(format!("{}{path}", site.base)).send().await.expect("an answer");
    let mut dag = open("/events?page=dag&dag=kis-trading-day").await;
    let mut alerts = open("/events?page=alerts&kind=stalled&dag=").await;
    let mut audit = open("/events?page=audit").await;
    // The end of an event's data.
    let end = "}}\n\n";
    assert!(read_until(&mut dag, end).await.contains("Next windows"));
    read_until(&mut alerts, "connection refused").await;
    read_until(&mut audit, "bob").await;
    let mut next = full();
    next.outbox.clear();
    next.audit = Arc::new(vec![audited("eve", "done", 10)]);
    next.dags[1].paused = true;
    site.daemon.snapshots.send_replace(next.into());
    let event = read_until(&mut dag, end).await;
    assert!(
        event.contains("Resume the schedule") && !event.contains("\"grid\""),
        "only what changed is sent: {event}"
    );
    read_until(&mut alerts, "No mail waits").await;
    read_until(&mut audit, "eve").await;
    site.down().await;
}

/// 500 runs of a DAG of 20 steps, the newest 50 of them whole, as a daemon publishes them.
fn years() -> Snapshot {
    let name = |n: usize| format!("step-{n:02}");
    let steps = (0..20).map(|n| match n {
        0 => step(&name(0), StepKind::Task, &[]),
        n => step(&name(n), StepKind::Task, &[(&name(n / 2), Until::Succeeded)]),
    });
    let mut snapshot = full();
    let mut plan = Dag::clone(snapshot.dags[1].dag.as_ref().expect("a DAG"));
    plan = Dag::new(
        plan.name.clone(),
        String::new(),
        String::new(),
        plan.schedule.take(),
        plan.alerts.clone(),
        steps.collect(),
    )
    .expect("a DAG");
    let first: jiff::civil::Date = "2026-11-20".parse().expect("a date");
    let runs: Vec<_> = (0..500_i32)
        .map(|n| {
            let mut run = snapshot.runs[0].run.clone();
            let date = first.saturating_sub(jiff::Span::new().days(n));
            run.id = format!("kis-trading-day@{date}").parse().expect("an id");
            (run.dag, run.session_date, run.state) = (plan.clone(), date, RunState::Succeeded);
            run.created_at = format!("{date}T08:50:00+09:00").parse().expect("a time");
            run.finished_at = Some(run.created_at);
            let mut done = StepRun::new(run.created_at);
            (done.state, done.attempt, done.started_at) = (StepState::Succeeded, 1, Some(run.created_at));
            done.history =
                testing::ended().runs[0].run.steps[&"topics".parse().expect("a name")].history.clone();
            run.steps = plan.steps().iter().map(|s| (s.name.clone(), done.clone())).collect();
            run
        })
        .collect();
    snapshot.history = Arc::new(History::of(runs.iter()));
    snapshot.dags[1].dag = Some(Arc::new(plan));
    snapshot.runs = runs
        .into_iter()
        .take(Snapshot::KEPT_RUNS)
        .map(|run| daemon::snapshot::RunView { run, statuses: Default::default() })
        .collect();
    snapshot
}

#[tokio::test]
async fn five_hundred_runs_of_twenty_steps_are_drawn() {
    let site = Site::up(years()).await;
    for (path, text) in [
        ("/", "kis-trading-day"),
        ("/dags", "kis-trading-day"),
        ("/dags/kis-trading-day", "470 older runs"),
        ("/dags/kis-trading-day?skip=480", "newer runs"),
        ("/runs/kis-trading-day@2026-11-20", "step-19"),
        ("/api/v1/runs?limit=500", "kis-trading-day@2026-11-20"),
        ("/api/v1/dags/kis-trading-day/runs?limit=500", "step-19"),
    ] {
        site.get(path).await;
        let began = tokio::time::Instant::now();
        let (status, body) = site.get(path).await;
        println!("{path}: {} KiB in {} ms", body.len() / 1024, began.elapsed().as_millis());
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        assert!(body.contains(text), "{path} lacks {text}");
    }
    site.down().await;
}

#[tokio::test]
async fn a_backfill_is_asked_for_by_dates() {
    let mut site = Site::up(full()).await;
    let address = format!("{}/api/v1/dags/kis-trading-day/backfill", site.base);
    for (body, text) in [
        (json!({ "from": "2026-11-02" }), "missing field `to`"),
        (json!({ "from": "2026-11-02", "to": "soon" }), "the body is not what was asked for"),
        (
            json!({ "from": "2026-11-02", "to": "2026-11-20", "at_most": -1 }),
            "the body is not what was asked for",
        ),
    ] {
        let reply = site.client.post(&address).json(&body).send().await.expect("an answer");
        assert_eq!(reply.status(), StatusCode::BAD_REQUEST, "{body}");
        let told = reply.text().await.expect("text");
        assert!(told.contains(text), "{told}");
    }
    let answer = r#"[{"run":"kis-trading-day@2026-11-02","date":"2026-11-02","state":"created"},
                     {"run":"kis-trading-day@2026-11-03","date":"2026-11-03","state":"due"}]"#;
    let body = json!({ "from": "2026-11-02", "to": "2026-11-03" });
    let (status, told, command) =
        site.exchange(site.client.post(&address).json(&body), Ok(answer.into())).await;
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((status, &told["sessions"][1]["state"]), (StatusCode::OK, &json!("due")));
    assert_eq!(told["message"], "1 runs created, 1 sessions still without one");
    assert!(
        matches!(command, Command::Backfill { at_most: 1, ref params, .. } if params.is_empty()),
        "{command:?}"
    );
    site.down().await;
}

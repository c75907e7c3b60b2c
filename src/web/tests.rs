//! The site over a real socket, in front of a daemon the test plays itself.

mod api;
mod attacks;
mod control;
mod document;
mod languages;
mod stores;

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use domain::run::{Exit, StepState};

use crate::http::connections;
use crate::routes::router;
use crate::server::Site as Served;
use daemon::Refused;
use daemon::handle::{Answer, Command};
use daemon::testing::{self, Daemon};
use steps::testing::fakes::empty;

/// Longest a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Site {
    pub(crate) daemon: Daemon,
    pub(crate) base: String,
    pub(crate) client: Client,
    pub(crate) site: Served,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

impl Site {
    pub(crate) async fn up(snapshot: daemon::Snapshot) -> Self {
        Self::over(snapshot, empty()).await
    }

    /// A site that shows these stores.
    pub(crate) async fn over(snapshot: daemon::Snapshot, backends: backends::Backends) -> Self {
        Self::of(Daemon::showing(snapshot), backends).await
    }

    /// A site in front of this daemon.
    pub(crate) async fn of(daemon: Daemon, backends: backends::Backends) -> Self {
        Self::made(daemon, backends, crate::Options::default()).await
    }

    /// A site with settings.
    pub(crate) async fn with(
        snapshot: daemon::Snapshot,
        backends: backends::Backends,
        options: crate::Options,
    ) -> Self {
        Self::made(Daemon::showing(snapshot), backends, options).await
    }

    async fn made(daemon: Daemon, backends: backends::Backends, options: crate::Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let stop = CancellationToken::new();
        let site = Served::new(daemon.handle.clone(), backends, stop.clone(), options).expect("a site");
        let server = tokio::spawn(connections::serve(listener, router(site.clone()), stop.clone()));
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .expect("a client");
        Self { daemon, base, client, site, stop, server }
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        let reply = self.client.get(format!("{}{path}", self.base)).send().await.expect("an answer");
        (reply.status(), reply.text().await.expect("a body"))
    }

    /// The status of an answer whose body may never end.
    pub(crate) async fn get_head(&self, path: &str) -> StatusCode {
        self.client.get(format!("{}{path}", self.base)).send().await.expect("an answer").status()
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    pub(crate) async fn csrf(&self) -> String {
        let (_, page) = self.get("/dags").await;
        let at = page.find("name=\"csrf\" value=\"").expect("a token") + 19;
        page[at..at + 64].to_owned()
    }

    /// Sends a form, and answers the command it makes.
    pub(crate) async fn form(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        answer: Result<String, Refused>,
    ) -> (StatusCode, String, Command) {
        let body = fields.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("&");
        let request = self
            .client
            .post(format!("{}{path}", self.base))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        self.exchange(request, answer).await
    }

    pub(crate) async fn exchange(
        &mut self,
        request: reqwest::RequestBuilder,
        answer: Result<String, Refused>,
    ) -> (StatusCode, String, Command) {
        let sent = tokio::spawn(request.send());
        let asked = tokio::time::timeout(PATIENCE, self.daemon.commands.recv())
            .await
            .expect("in time")
            .expect("a command");
        asked.answer.send(answer.map(Answer::Done)).expect("somebody waits for the answer");
        let reply = sent.await.expect("no panic").expect("an answer");
        (reply.status(), reply.text().await.expect("a body"), asked.command)
    }

    pub(crate) async fn down(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.server).await.expect("the site ends when asked");
        ended.expect("no panic").expect("a clean end");
    }
}

#[tokio::test]
async fn every_page_is_there_with_its_security_headers() {
    let site = Site::up(testing::snapshot()).await;
    for (path, text) in [
        ("/", "Ingestion is stalled"),
        ("/dags", "kis-full-session"),
        ("/runs/kis-trading-day@2026-11-20", "attempts, result, actions"),
        ("/assets/openbell.css", "prefers-color-scheme"),
        ("/assets/openbell.js", "EventSource"),
        ("/assets/openbell.svg", "<svg"),
        ("/metrics", "openbell_topic_records"),
        ("/healthz", "ok"),
        ("/readyz", "ready"),
    ] {
        let reply = site.client.get(format!("{}{path}", site.base)).send().await.expect("an answer");
        assert_eq!(reply.status(), StatusCode::OK, "{path}");
        let headers = reply.headers().clone();
        let policy = headers["content-security-policy"].to_str().expect("text");
        assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["x-frame-options"], "DENY");
        assert!(reply.text().await.expect("a body").contains(text), "{path} lacks {text}");
    }
    site.down().await;
}

#[tokio::test]
async fn unknown_paths_runs_and_methods_are_named() {
    let site = Site::up(testing::snapshot()).await;
    for (path, status, text) in [
        ("/nowhere", 404, "nothing at /nowhere"),
        ("/assets/../secret", 404, "nothing at"),
        ("/runs/kis-trading-day@2001-01-01", 404, "no run kis-trading-day@2001-01-01"),
        ("/runs/plain", 400, "is missing"),
        ("/runs/%3Cscript%3E@x", 400, "&#60;script&#62;"),
        ("/events?page=nothing", 400, "no such live page"),
        ("/events", 400, "page=today"),
        ("/runs/kis-trading-day@2026-11-20/steps/collector/output?attempt=x", 400, "attempt=N"),
        (
            "/api/v1/runs/kis-trading-day@2026-11-20/steps/collector/output?tail=x",
            400,
            "not a number of bytes",
        ),
        ("/runs/kis-trading-day@2026-11-20/steps/reconcile/output", 404, "has no output"),
        ("/api/v1/nowhere", 404, "openapi.json"),
        ("/api/v1/runs/plain", 400, "\"remedy\""),
        ("/api/v1/runs/kis-trading-day@2001-01-01", 404, "\"detail\""),
    ] {
        let (got, body) = site.get(path).await;
        assert_eq!(got.as_u16(), status, "{path}: {body}");
        assert!(body.contains(text), "{path} lacks {text}: {body}");
    }
    let reply = site
        .client
        .delete(format!("{}/api/v1/runs", site.base))
        .header("x-openbell", "1")
        .send()
        .await
        .expect("an answer");
    assert_eq!(reply.status(), StatusCode::METHOD_NOT_ALLOWED);
    site.down().await;
}

#[tokio::test]
async fn forms_need_the_token_and_become_commands() {
    let mut site = Site::up(testing::snapshot()).await;
    let run = "/runs/kis-trading-day@2026-11-20";
    for body in ["", "csrf=", "csrf=0000", "step=collector"] {
        let request = site
            .client
            .post(format!("{}{run}/cancel", site.base))
            .header("content-type", "application/x-www-form-urlencoded");
        let reply = request.body(body).send().await.expect("an answer");
        assert_eq!(reply.status(), StatusCode::FORBIDDEN, "{body}");
    }
    let bare =
        site.client.post(format!("{}{run}/cancel", site.base)).body("csrf").send().await.expect("an answer");
    assert_eq!(bare.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let token = site.csrf().await;
    let evil = site.client.post(format!("{}{run}/cancel", site.base)).header("origin", "http://evil.example");
    let evil = evil
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("csrf={token}"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(evil.status(), StatusCode::FORBIDDEN);
    assert!(site.daemon.commands.try_recv().is_err(), "nothing reached the daemon");

    let fine = || Ok("done".to_owned());
    let (dag, id) =
        ("kis-trading-day".parse().expect("a name"), "kis-trading-day@2026-11-20".parse().expect("an id"));
    let (status, _, command) = site.form(&format!("{run}/cancel"), &[("csrf", &token)], fine()).await;
    assert_eq!((status, command), (StatusCode::SEE_OTHER, Command::Cancel(id)));
    let (status, _, command) =
        site.form(&format!("{run}/clear"), &[("csrf", &token), ("step", "vwap")], fine()).await;
    assert!(
        status == StatusCode::SEE_OTHER
            && matches!(command, Command::Clear(_, steps) if steps[0].as_str() == "vwap")
    );
    let (status, _, command) = site
        .form(&format!("{run}/mark"), &[("csrf", &token), ("step", "vwap"), ("as", "failed")], fine())
        .await;
    assert!(status == StatusCode::SEE_OTHER && matches!(command, Command::Mark(_, _, false)));
    let (_, _, command) = site.form("/dags/kis-trading-day/pause", &[("csrf", &token)], fine()).await;
    assert_eq!(command, Command::Pause(dag, true));
    let (_, _, command) = site.form("/dags/kis-trading-day/trigger", &[("csrf", &token)], fine()).await;
    assert!(matches!(command, Command::Trigger { .. }));
    let refused = Err(Refused::foreign("the run <b>has ended</b>", "clear a step to run it again"));
    let (status, page, _) = site.form(&format!("{run}/cancel"), &[("csrf", &token)], refused).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(page.contains("Clear a step to run it again.") && !page.contains("<b>"), "{page}");
    site.down().await;
}

#[tokio::test]
async fn the_api_reads_and_commands() {
    let mut site = Site::up(testing::snapshot()).await;
    assert_eq!(site.json("/api/v1/snapshot").await["speed"], 120.0);
    assert_eq!(site.json("/api/v1/dags").await["dags"][1]["name"], "kis-trading-day");
    assert_eq!(site.json("/api/v1/runs").await["runs"][0]["state"], "running");
    assert_eq!(
        site.json("/api/v1/runs/kis-trading-day@2026-11-20").await["run"]["steps"]["collector"]["attempt"],
        2
    );
    assert_eq!(site.json("/api/v1/alerts").await["alerts"][0]["kind"], "stalled");

    let url = |path: &str| format!("{}/api/v1{path}", site.base);
    let run = "/runs/kis-trading-day@2026-11-20";
    let (trigger, down, clear) = (url("/runs"), url("/down"), url(&format!("{run}/clear")));
    let cancel = url(&format!("{run}/cancel"));
    let naked = site.client.post(&cancel).send().await.expect("an answer");
    assert_eq!(naked.status(), StatusCode::FORBIDDEN);
    let client = site.client.clone();
    for (address, body, text) in [
        (&trigger, json!({ "dag": "NOT A NAME" }), "not a usable name"),
        (&trigger, json!({ "dag": "x", "extra": 1 }), "unknown field"),
        (&clear, json!({ "steps": [] }), "no step is named"),
        (&down, json!({ "drain": "yes" }), "invalid type"),
    ] {
        let reply = client.post(address).json(&body).send().await.expect("an answer");
        assert_eq!(reply.status(), StatusCode::BAD_REQUEST);
        let error: Value = reply.json().await.expect("JSON");
        assert!(error["detail"].as_str().expect("text").contains(text), "{error}");
        assert_eq!(error["type"], "urn:openbell:problem:bad-body");
    }
    let big = client
        .post(&trigger)
        .header("x-openbell", "1")
        .body("x".repeat(70_000))
        .send()
        .await
        .expect("an answer");
    assert_eq!(big.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(site.daemon.commands.try_recv().is_err(), "nothing reached the daemon");

    let (status, body, command) = site
        .exchange(
            client.post(&trigger).json(&json!({ "dag": "x", "params": { "a": "b" } })),
            Ok("x@1".into()),
        )
        .await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "{\"message\":\"x@1\",\"run\":\"x@1\"}"));
    assert!(matches!(command, Command::Trigger { params, until: None, .. } if params["a"] == "b"));
    let (_, _, command) =
        site.exchange(client.post(&down).json(&json!({ "drain": true })), Ok(String::new())).await;
    assert_eq!(command, Command::Down { drain: true });
    let ended = Refused::foreign("the run has ended", "clear a step to run it again");
    let (status, body, _) = site.exchange(client.post(&cancel).header("x-openbell", "1"), Err(ended)).await;
    let said: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &said["type"]), (StatusCode::CONFLICT, &json!("urn:openbell:problem:refused")));
    assert_eq!(
        (&said["detail"], &said["remedy"]),
        (&json!("the run has ended"), &json!("clear a step to run it again"))
    );
    site.down().await;
}

#[tokio::test]
async fn a_name_somebody_pointed_here_is_not_answered() {
    let site = Site::up(testing::snapshot()).await;
    let reply = site
        .client
        .get(format!("{}/api/v1/snapshot", site.base))
        .header("host", "evil.example")
        .send()
        .await
        .expect("an answer");
    assert_eq!(reply.status(), StatusCode::MISDIRECTED_REQUEST);
    let probe = site
        .client
        .get(format!("{}/healthz", site.base))
        .header("host", "openbell.internal")
        .send()
        .await
        .expect("an answer");
    assert_eq!(probe.status(), StatusCode::OK);
    site.down().await;
}

/// Reads a stream of events up to the first that holds `text`.
pub(crate) async fn read_until(reply: &mut reqwest::Response, text: &str) -> String {
    // A chunk may end inside of a letter.
    let mut seen = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&seen).contains(text) {
            seen.extend_from_slice(&reply.chunk().await.expect("a stream").expect("the stream goes on"));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("{text} never came"));
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn a_live_page_gets_what_changed_and_only_that() {
    let site = Site::up(testing::snapshot()).await;
    let mut reply =
        site.client.get(format!("{}/events?page=today", site.base)).send().await.expect("an answer");
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    read_until(&mut reply, "Ingestion is stalled").await;
    let mut next = testing::snapshot();
    next.now = testing::at("13:12:40");
    site.daemon.snapshots.send_replace(next.into());
    let event = read_until(&mut reply, "13:12:40").await;
    assert!(event.contains("\"header\"") && !event.contains("\"alerts\""), "{event}");
    site.down().await;
    assert!(reply.chunk().await.ok().flatten().is_none(), "the stream ends with the site");
}

#[tokio::test]
async fn output_is_shown_from_its_tail_and_followed_to_its_end() {
    let site = Site::up(testing::snapshot()).await;
    let folder = site.daemon.runs.path().join("kis-trading-day@2026-11-20/collector/2");
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("output.log");
    std::fs::write(&file, "first line\nsecond <line>\n").expect("a file");
    let address = "/api/v1/runs/kis-trading-day@2026-11-20/steps/collector/output";
    let reply = site.client.get(format!("{}{address}", site.base)).send().await.expect("an answer");
    assert_eq!(reply.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(reply.text().await.expect("text"), "first line\nsecond <line>\n");
    let (_, tail) = site.get(&format!("{address}?attempt=2&tail=14")).await;
    assert_eq!(tail, "… 11 earlier bytes are left out; tail=all shows them\nsecond <line>\n");
    let (status, _) = site.get(&format!("{address}?attempt=7")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let mut followed =
        site.client.get(format!("{}{address}?follow=1", site.base)).send().await.expect("an answer");
    read_until(&mut followed, "second <line>").await;
    // Added to it, as a step does: a file that is written anew is empty for a moment.
    use std::io::Write;
    std::fs::OpenOptions::new()
        .append(true)
        .open(&file)
        .and_then(|mut f| f.write_all(b"third line\n"))
        .expect("written");
    read_until(&mut followed, "third line").await;
    site.daemon.snapshots.send_replace(testing::ended().into());
    let rest =
        tokio::time::timeout(PATIENCE, followed.text()).await.expect("the stream ends with the attempt");
    assert_eq!(rest.expect("text"), "");
    site.down().await;
}

#[tokio::test]
async fn what_never_started_has_no_output_and_says_why() {
    let mut snapshot = testing::snapshot();
    let run = snapshot.runs[0].run.steps.get_mut(&"collector".parse().expect("a name")).expect("a step");
    run.state = StepState::Failed;
    run.history[0].exit = Exit::NotStarted("image \"x:1\" is not on the engine".into());
    let site = Site::up(snapshot.clone()).await;
    let (status, page) = site.get("/runs/kis-trading-day@2026-11-20/steps/collector/output?attempt=1").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(page.contains("could not be started: image"), "{page}");
    site.down().await;
    snapshot.runs[0]
        .run
        .steps
        .values_mut()
        .filter(|s| !s.history.is_empty())
        .for_each(|s| s.history[0].exit = Exit::Code(7));
    let site = Site::up(snapshot).await;
    assert_eq!(
        site.json("/api/v1/runs/kis-trading-day@2026-11-20").await["advice"]["collector"],
        "see the end of its output"
    );
    site.down().await;
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let mut snapshot = testing::snapshot();
    snapshot.gauges.unreachable.insert("raw".into(), "disk full".into());
    let site = Site::up(snapshot).await;
    let (status, body) = site.get("/readyz").await;
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "raw does not answer: disk full\n")
    );
    site.down().await;
}

#[tokio::test]
async fn addresses_others_can_reach_are_refused() {
    let daemon = Daemon::showing(testing::snapshot());
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let error = crate::serve(listener, daemon.handle.clone(), empty(), CancellationToken::new())
        .await
        .expect_err("refused");
    assert!(error.to_string().contains("openbell user add"), "{error}");
}

/// Writes each page with its stylesheet inside to `target/look`, to be opened in a browser.
#[tokio::test]
async fn pages_are_written_out_to_be_looked_at() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/look");
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut idle = testing::snapshot();
    idle.runs.clear();
    idle.problems.clear();
    let pages = [
        ("today.html", testing::snapshot(), "/"),
        ("ended.html", testing::ended(), "/"),
        ("idle.html", idle, "/"),
        ("dags.html", testing::snapshot(), "/dags"),
        ("run.html", testing::snapshot(), "/runs/kis-trading-day@2026-11-20"),
        ("missing.html", testing::snapshot(), "/nowhere"),
        ("dag.html", testing::snapshot(), "/dags/kis-trading-day"),
        ("alerts.html", testing::snapshot(), "/alerts"),
        ("audit.html", testing::snapshot(), "/audit"),
    ];
    for (file, snapshot, path) in pages {
        let site = Site::up(snapshot).await;
        let (_, html) = site.get(path).await;
        let linked = "<link rel=\"stylesheet\" href=\"/assets/openbell.css\">";
        assert!(html.contains(linked));
        std::fs::write(
            folder.join(file),
            html.replace(linked, &format!("<style>{}</style>", crate::pages::assets::CSS)),
        )
        .expect("a file");
        site.down().await;
    }
}

//! The API over a real socket: problems, requests that are sent again, lists in parts.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::tests::Site;
use daemon::Refused;
use daemon::handle::{Answer, Request};
use daemon::testing::{self, Daemon};
use steps::dead_letters::{Refuser, Stage, dead_letter};
use steps::testing::fakes::{Stores, empty};
use steps::testing::fixtures::{record, trade};

const RUN: &str = "kis-trading-day@2026-11-20";

/// What a program sees of a refusal.
async fn problem(request: RequestBuilder) -> (u16, String, Value) {
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json", "{status}");
    let said: Value = answer.json().await.expect("JSON");
    assert_eq!(said["status"], status);
    assert!(said["detail"].as_str().is_some_and(|d| !d.is_empty()) && said["title"].is_string(), "{said}");
    let kind = said["type"]
        .as_str()
        .and_then(|t| t.strip_prefix("urn:openbell:problem:"))
        .expect("a kind")
        .to_owned();
    (status, kind, said)
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let mut site = Site::up(testing::snapshot()).await;
    let url = |path: &str| format!("{}/api/v1{path}", site.base);
    let get = |path: &str| site.client.get(url(path));
    let post = |path: &str| site.client.post(url(path)).header("x-openbell", "1");
    let run = format!("/runs/{RUN}");
    let long = "x".repeat(70_000);
    for (request, status, kind) in [
        (get("/nowhere"), 404, "unknown-path"),
        (get("/runs/a@1"), 404, "not-found"),
        (get("/dags/nothing"), 404, "not-found"),
        (get("/runs/plain"), 400, "bad-parameter"),
        (get("/runs/%ff@1"), 400, "bad-parameter"),
        (get("/runs?limit=x"), 400, "bad-parameter"),
        (get("/runs?state=odd"), 400, "bad-parameter"),
        (get("/audit?before=soon"), 400, "bad-parameter"),
        (get("/dead-letters/a/-1/0"), 400, "bad-parameter"),
        (get("/topics/none"), 404, "not-found"),
        (get("/market/none"), 404, "not-found"),
        (get("/market?date=2026-13-01"), 400, "bad-parameter"),
        (get(&format!("{run}/steps/reconcile/output")), 404, "not-found"),
        (get(&format!("{run}/steps/reconcile/output?follow=yes")), 400, "bad-parameter"),
        (get(&format!("{run}/steps/reconcile/lines")), 404, "not-found"),
        (get("/snapshot").header("host", "evil.example"), 421, "wrong-host"),
        (site.client.delete(url("/runs")).header("x-openbell", "1"), 405, "wrong-method"),
        (site.client.post(url("/down")), 403, "foreign-request"),
        (post("/down").header("origin", "https://evil.example"), 403, "foreign-request"),
        (post("/down").body("{").header("content-type", "application/json"), 400, "bad-body"),
        (
            post("/down").body("drain=true").header("content-type", "application/x-www-form-urlencoded"),
            415,
            "not-json",
        ),
        (post("/runs").body(long), 413, "too-large"),
        (post("/runs").json(&json!({ "dag": "kis-trading-day", "nonsense": 1 })), 400, "bad-body"),
        (post("/runs").json(&json!(["kis-trading-day", {}, null, null])), 400, "bad-body"),
        (post("/export").json(&json!([])), 400, "bad-body"),
        (post("/runs/a@1/cancel"), 404, "not-found"),
        (post("/runs/a@1/clear").json(&json!({ "steps": ["s"] })), 404, "not-found"),
        (post(&format!("{run}/clear")).json(&json!({ "steps": [] })), 400, "bad-body"),
        (post("/runs/a@1/mark").json(&json!({ "step": "s", "success": true })), 404, "not-found"),
        (post("/dags/nothing/pause"), 404, "not-found"),
        (post("/dags/nothing/resume"), 404, "not-found"),
        (post("/down").header("idempotency-key", "a b"), 400, "bad-parameter"),
        (post("/dead-letters/replay").json(&json!({ "topic": "x" })), 400, "bad-body"),
        (post("/dead-letters/replay").json(&json!({ "topic": "x", "all": true })), 404, "not-found"),
    ] {
        let seen = format!("{request:?}");
        let (got, told, said) = problem(request).await;
        assert_eq!((got, told.as_str()), (status, kind), "{seen}: {said}");
    }
    assert!(site.daemon.commands.try_recv().is_err(), "nothing reached the daemon");
    let wrong = site.client.delete(url("/runs")).header("x-openbell", "1").send().await.expect("an answer");
    let allowed = wrong.headers()["allow"].to_str().expect("text");
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    site.down().await;
}

/// Sends a request; what reached the daemon, and what came back.
async fn command(
    site: &mut Site,
    request: RequestBuilder,
    answer: Result<Answer, Refused>,
) -> (Request, reqwest::Response) {
    let sent = tokio::spawn(request.send());
    let mut asked = tokio::time::timeout(std::time::Duration::from_secs(120), site.daemon.commands.recv())
        .await
        .expect("in time")
        .expect("a command");
    let (spare, _) = tokio::sync::oneshot::channel();
    std::mem::replace(&mut asked.answer, spare).send(answer).expect("somebody waits");
    (asked, sent.await.expect("no panic").expect("an answer"))
}

#[tokio::test]
async fn a_key_reaches_the_daemon_and_its_word_reaches_the_program() {
    let mut site = Site::up(testing::snapshot()).await;
    let client = site.client.clone();
    let url = format!("{}/api/v1/runs", site.base);
    let trigger = |key: &str, body: Value| client.post(&url).header("idempotency-key", key).json(&body);
    let body = || json!({ "dag": "kis-trading-day" });
    let (plain, _) = command(&mut site, client.post(&url).json(&body()), Ok("a@1".into())).await;
    assert_eq!(plain.idempotency, None);
    let (first, answer) = command(&mut site, trigger("k-1", body()), Ok("a@1".into())).await;
    assert!(!answer.headers().contains_key("idempotency-replayed"));
    let first = first.idempotency.expect("a key");
    assert_eq!(first.key, "api k-1");
    let (second, answer) =
        command(&mut site, trigger("\"k-1\"", body()), Ok(Answer::Repeated("a@1".into()))).await;
    assert_eq!(
        (second.idempotency.expect("a key"), &answer.headers()["idempotency-replayed"]),
        (first.clone(), &"true".parse().expect("a value"))
    );
    assert_eq!(answer.json::<Value>().await.expect("JSON"), json!({ "run": "a@1", "message": "a@1" }));
    let (other, answer) =
        command(&mut site, trigger("k-1", json!({ "dag": "kis-full-session" })), Ok(Answer::KeyTaken)).await;
    assert_ne!(other.idempotency.expect("a key").request, first.request);
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.json::<Value>().await.expect("JSON")["type"], "urn:openbell:problem:key-reused");
    site.down().await;
}

#[tokio::test]
async fn a_replay_with_a_key_is_carried_out_once_and_told_to_the_audit() {
    let stores = std::sync::Arc::new(Stores::default());
    let backends = stores.backends();
    backends.log.create_topic("kis.trades", 1).await.expect("created");
    backends.log.create_topic("kis.trades.dlq", 1).await.expect("created");
    backends
        .log
        .append("kis.trades", vec![record(&trade("005930", 1)), record(&trade("005930", 2))])
        .await
        .expect("appended");
    let refuser = Refuser { connector: "day/sink-index".into(), program: "sink/index".into() };
    for stored in stores.records("kis.trades") {
        let refusal = steps::dead_letters::Refusal::new(Stage::TaskPut, "rejected", "a reason");
        backends
            .log
            .append("kis.trades.dlq", vec![dead_letter(&refuser, stored, &refusal, testing::at("13:00:00"))])
            .await
            .expect("appended");
    }
    let (daemon, store) = Daemon::keeping(testing::snapshot());
    let site = Site::of(daemon, backends).await;
    let replay = |key: &str, body: Value| {
        site.client
            .post(format!("{}/api/v1/dead-letters/replay", site.base))
            .header("idempotency-key", key)
            .json(&body)
    };
    let one = || json!({ "topic": "kis.trades", "partition": 0, "offset": 0 });
    let first = replay("k", one()).send().await.expect("an answer");
    assert_eq!((first.status(), first.headers().get("idempotency-replayed")), (StatusCode::OK, None));
    let said: Value = first.json().await.expect("JSON");
    assert_eq!((&said["sent"], &said["before"]), (&json!(1), &json!(0)));
    let again = replay("k", one()).send().await.expect("an answer");
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(
        again.json::<Value>().await.expect("JSON"),
        said,
        "without the key it would say that it was sent before"
    );
    let (status, kind, _) = problem(replay("k", json!({ "topic": "kis.trades", "all": true }))).await;
    assert_eq!((status, kind.as_str()), (422, "key-reused"));
    let fresh: Value = replay("other", one()).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&fresh["sent"], &fresh["before"]), (&json!(0), &json!(1)));
    assert_eq!(stores.records("kis.trades").len(), 3, "one record was sent, once");
    let (status, _, _) = problem(replay("k2", json!({ "topic": "none", "all": true }))).await;
    assert_eq!(status, 404);
    let told: Vec<_> = store
        .audit(10)
        .await
        .expect("read")
        .into_iter()
        .map(|e| format!("{} {} {}: {}", e.who, e.what, e.subject, e.detail))
        .collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(
        told[2],
        "api replay kis.trades 0/0: 1 dead letters: 1 sent again as 1 records, 0 sent before, 0 not readable"
    );
    assert!(told[0].starts_with("api replay none all: failed"), "{told:?}");
    site.down().await;
}

#[tokio::test]
async fn output_is_read_line_by_line_in_parts() {
    let site = Site::of(Daemon::showing(testing::snapshot()), empty()).await;
    let folder = site.daemon.runs.path().join(RUN).join("collector/2");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("output.log"), "one\n\u{1b}[31mtwo\u{1b}[0m\nthree\nfour").expect("written");
    let lines = format!("/api/v1/runs/{RUN}/steps/collector/lines");
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let part = site.json(&format!("{lines}?limit=3&after={after}")).await;
        seen.extend(
            part["lines"]
                .as_array()
                .expect("lines")
                .iter()
                .map(|l| l["text"].as_str().expect("text").to_owned()),
        );
        let Some(next) = part["next"].as_u64() else { break };
        after = next;
    }
    assert_eq!(seen, ["one", "two", "three", "four"]);
    let whole = site.json(&lines).await;
    assert_eq!((&whole["attempt"], &whole["total"], &whole["next"]), (&json!(2), &json!(4), &json!(null)));
    for beyond in [4_u64, 5, u64::MAX] {
        assert_eq!(site.json(&format!("{lines}?after={beyond}")).await["lines"], json!([]), "{beyond}");
    }
    site.down().await;
}

#[tokio::test]
async fn the_limit_of_every_list_is_checked() {
    let site = Site::up(testing::snapshot()).await;
    let document: Value = serde_json::from_str(&crate::routes::OPENAPI).expect("JSON");
    let mut lists = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let parameters = methods["get"]["parameters"].as_array().cloned().unwrap_or_default();
        let Some(limit) = parameters.iter().find(|p| p["name"] == "limit") else { continue };
        assert!(parameters.iter().any(|p| p["name"] == "after"), "{path} has a limit and no cursor");
        lists += 1;
        let most = limit["schema"]["maximum"].as_u64().expect("a maximum");
        let path =
            path.replace("{name}", "kis-trading-day").replace("{id}", RUN).replace("{step}", "collector");
        let path = path.replace("{topic}", "x").replace("{symbol}", "x");
        for bad in ["0", "-1", "x", "1e9", "", "99999999999999999999999999", &(most + 1).to_string()] {
            let (status, kind, said) =
                problem(site.client.request(Method::GET, format!("{}/api/v1{path}?limit={bad}", site.base)))
                    .await;
            let missing = ["/market/x", "/dead-letters/x"].contains(&path.as_str()) && kind == "not-found";
            assert!((status == 400 && kind == "bad-parameter") || missing, "{path}?limit={bad}: {said}");
        }
    }
    assert_eq!(lists, 12, "every list that can grow");
    site.down().await;
}

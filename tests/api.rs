//! The API of the real binary: what is sent again, also after a kill -9, is done once.

mod support;

use std::io::{Read, Write};

use serde_json::{Value, json};
use support::{Daemon, run, wait_for};

const DAGS: [(&str, &str); 2] = [
    (
        "quick.yaml",
        "name: quick\nalerts: { email: [a@example.com] }\nsteps:\n  one: { command: [/bin/true] }\n",
    ),
    (
        "slow.yaml",
        "name: slow\nsteps:\n  wait: { command: [/bin/sleep, \"600\"] }\n  after: { command: [/bin/true], needs: [wait] }\n",
    ),
];

/// A POST: status, whether the answer was given before, and the answer.
fn post(daemon: &Daemon, path: &str, key: Option<&str>, body: &Value) -> (u16, bool, Value) {
    let body = body.to_string();
    let key = key.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
    let request = format!(
        "POST /api/v1{path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{key}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream =
        std::net::TcpStream::connect(daemon.url.trim_start_matches("http://")).expect("the daemon listens");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let replayed = head.to_ascii_lowercase().contains("idempotency-replayed: true");
    (status, replayed, serde_json::from_str(body).expect("JSON"))
}

fn folders() -> (tempfile::TempDir, tempfile::TempDir) {
    let (data, dags) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    for (file, text) in DAGS {
        std::fs::write(dags.path().join(file), text).expect("written");
    }
    (data, dags)
}

fn manual_runs(daemon: &Daemon) -> usize {
    daemon.get("/api/v1/runs?dag=quick")["runs"].as_array().expect("runs").len()
}

#[test]
fn a_request_with_a_key_starts_one_run_whatever_becomes_of_its_answer() {
    let (data, dags) = folders();
    let mut daemon = Daemon::start(data.path(), dags.path(), &[]);
    let trigger = || json!({ "dag": "quick", "params": { "a": "b" } });
    let (status, replayed, first) = post(&daemon, "/runs", Some("one"), &trigger());
    assert_eq!((status, replayed), (200, false), "{first}");
    assert_eq!(post(&daemon, "/runs", Some("one"), &trigger()), (200, true, first.clone()));
    let (status, _, said) = post(&daemon, "/runs", Some("one"), &json!({ "dag": "slow" }));
    assert_eq!((status, &said["type"]), (422, &json!("urn:openbell:problem:key-reused")));
    let (_, _, mail) = post(&daemon, "/alerts/test", Some("two"), &json!({}));
    daemon.kill();
    let mut daemon = Daemon::start(data.path(), dags.path(), &[]);
    assert_eq!(
        post(&daemon, "/runs", Some("one"), &trigger()),
        (200, true, first.clone()),
        "after a kill -9"
    );
    assert_eq!(post(&daemon, "/alerts/test", Some("two"), &json!({})), (200, true, mail));
    assert_eq!(manual_runs(&daemon), 1);
    let (_, replayed, other) = post(&daemon, "/runs", None, &trigger());
    assert!(!replayed && other["run"] != first["run"], "without a key each request is one: {other}");
    assert_eq!(manual_runs(&daemon), 2);
    let told: Vec<Value> = daemon.get("/api/v1/audit")["entries"].as_array().expect("entries").clone();
    let whats: Vec<_> = told.iter().rev().map(|e| e["what"].as_str().expect("a word")).collect();
    assert_eq!(
        whats,
        ["trigger", "test mail", "trigger"],
        "what was only answered again is not told again: {told:?}"
    );
    daemon.terminate();
}

#[test]
fn what_is_idempotent_by_nature_does_no_more_when_it_is_sent_twice() {
    let (data, dags) = folders();
    let daemon = Daemon::start(data.path(), dags.path(), &[]);
    for (path, paused) in [("/dags/slow/pause", true), ("/dags/slow/resume", false)] {
        let first = post(&daemon, path, None, &json!({}));
        assert_eq!((first.0, post(&daemon, path, None, &json!({}))), (200, first.clone()), "{path}");
        let dags = daemon.get("/api/v1/dags");
        let slow = dags["dags"]
            .as_array()
            .expect("dags")
            .iter()
            .find(|d| d["name"] == "slow")
            .expect("there")
            .clone();
        assert_eq!(slow["paused"], paused, "{path}");
    }
    let (_, _, started) = post(&daemon, "/runs", None, &json!({ "dag": "slow" }));
    let id = started["run"].as_str().expect("an id").to_owned();
    let attempts = || daemon.run_view(&id).expect("the run")["steps"]["wait"]["attempt"].as_u64();
    wait_for("the step", || attempts().filter(|attempt| *attempt == 1));
    let mark =
        || post(&daemon, &format!("/runs/{id}/mark"), None, &json!({ "step": "after", "success": true }));
    let state = || daemon.run_view(&id).expect("the run")["steps"]["after"]["state"].clone();
    let (first, marked, second) = (mark(), state(), mark());
    assert_eq!((first.0, marked), (200, json!("succeeded")), "{first:?}");
    assert!(second.0 == 200 || second.0 == 409, "{second:?}");
    assert_eq!(state(), "succeeded");
    let cancel = format!("/runs/{id}/cancel");
    let (status, _, said) = post(&daemon, &cancel, None, &json!({}));
    assert_eq!(status, 200, "{said}");
    let (status, _, said) = post(&daemon, &cancel, None, &json!({}));
    assert!(
        status == 200 || (status == 409 && said["type"] == "urn:openbell:problem:refused"),
        "{status} {said}"
    );
    let ended = wait_for("the run's end", || daemon.run_view(&id).filter(|run| run["state"] == "cancelled"));
    assert_eq!(
        (&ended["steps"]["wait"]["attempt"], &ended["steps"]["after"]["state"]),
        (&json!(1), &json!("succeeded"))
    );
    // Nobody has to wait for a lost answer of the last command: it ends once.
    let (status, _, said) = post(&daemon, "/down", Some("end"), &json!({}));
    assert_eq!(status, 200, "{said}");
}

#[test]
fn the_command_line_tells_of_problems_in_words() {
    let (data, dags) = folders();
    let _daemon = Daemon::start(data.path(), dags.path(), &[]);
    let at = ["--data", data.path().to_str().expect("a plain path")];
    let said = run(&[&["run", "cancel", "slow@2001-01-01"], &at[..]].concat());
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.code() == Some(1) && error.contains("there is no run slow@2001-01-01"), "{error}");
    let said = run(&[&["run", "trigger", "nothing"], &at[..]].concat());
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.status.code() == Some(1) && error.contains("there is no DAG nothing; there are quick, slow"),
        "{error}"
    );
}

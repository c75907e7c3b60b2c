//! Live pages over a real socket: many viewers, slow ones, and those who lose the connection and come back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use reqwest::Response;
use serde_json::{Value, json};

use super::channel::{Channels, Seen};
use super::key::{Key, Watched};
use super::places::PLACES;
use crate::locale::{Language, Reader};
use crate::tests::{Site, read_until};
use daemon::Snapshot;
use daemon::testing::{self, Daemon};
use domain::run::StepState;

const PATIENCE: Duration = Duration::from_secs(120);
const OUTPUT: &str = "/runs/kis-trading-day@2026-11-20/steps/collector/output/live";

/// A snapshot that shows this time.
fn at(time: &str) -> Snapshot {
    let mut snapshot = testing::snapshot();
    snapshot.now = testing::at(time);
    snapshot
}

async fn open(site: &Site, path: &str, last: Option<&str>) -> Response {
    let mut request = site.client.get(format!("{}{path}", site.base)).timeout(PATIENCE * 2);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let reply = request.send().await.expect("an answer");
    assert_eq!(reply.status(), StatusCode::OK, "{path}");
    reply
}

/// An event: id, name, data.
type Told = (String, String, Value);

/// The events of a text, but for beats.
fn told(text: &str) -> Vec<Told> {
    let event = |block: &str| {
        let field =
            |name: &str| block.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().to_owned();
        let data = serde_json::from_str(&field("data: ")).unwrap_or_default();
        (field("id: "), field("event: "), data)
    };
    text.split_terminator("\n\n").map(event).filter(|(_, name, _)| name != "beat").collect()
}

/// Reads the events up to the one that holds `text`, with that one whole.
async fn events(reply: &mut Response, text: &str) -> Vec<Told> {
    let mut seen = read_until(reply, text).await;
    while !seen.ends_with("\n\n") {
        seen.push_str(&read_until(reply, "\n\n").await);
    }
    told(&seen)
}

fn parts(event: &Told) -> BTreeSet<String> {
    event.2["fragments"].as_object().map(|parts| parts.keys().cloned().collect()).unwrap_or_default()
}

async fn changed(seen: &mut tokio::sync::watch::Receiver<Seen>) {
    tokio::time::timeout(PATIENCE, seen.changed()).await.expect("in time").expect("it goes on");
}

#[tokio::test]
async fn a_page_is_drawn_once_for_all_who_see_the_same() {
    let daemon = Daemon::showing(testing::snapshot());
    let stop = tokio_util::sync::CancellationToken::new();
    let channels =
        Channels::new(daemon.handle.clone(), stop.clone(), crate::pages::events::draw).expect("channels");
    let key = |acts| Key { watched: Watched::Dags, acts, reader: Reader::default() };
    let mut many: Vec<_> = (0..200).map(|_| channels.watch(key(true))).collect();
    let viewer = channels.watch(key(false));
    let korean = Reader { language: Language::Korean, ..Reader::default() };
    let korean = channels.watch(Key { reader: korean, ..key(false) });
    assert_eq!(channels.len(), 3, "whoever may act sees forms, and each reads in their language");
    let event = |seen: &tokio::sync::watch::Receiver<Seen>| {
        seen.borrow().state.clone().expect("a page").since(0).expect("all of it")
    };
    let first = event(&many[0]);
    assert!(many.iter().all(|one| event(one).as_ptr() == first.as_ptr()), "the same bytes for all");
    let text = String::from_utf8_lossy(&first).into_owned();
    assert!(text.contains("/pause") && text.contains("of-the-page"), "forms, without anybody's token");
    assert!(!String::from_utf8_lossy(&event(&viewer)).contains("/pause"));
    assert!(
        String::from_utf8_lossy(&event(&korean)).contains("예정된 운영 시간")
            && !text.contains("예정된 운영 시간")
    );

    let mut next = testing::snapshot();
    next.dags[0].paused = !next.dags[0].paused;
    daemon.snapshots.send_replace(next.into());
    for one in &mut many {
        changed(one).await;
    }
    let since = |seen: &tokio::sync::watch::Receiver<Seen>| {
        seen.borrow().state.clone().expect("a page").since(1).expect("something")
    };
    let delta = since(&many[0]);
    assert!(many.iter().all(|one| since(one).as_ptr() == delta.as_ptr()) && delta.len() < first.len());
    stop.cancel();
    for one in &mut many {
        let end = async { while one.changed().await.is_ok() {} };
        tokio::time::timeout(PATIENCE, end).await.expect("pages end with the site");
    }
}

#[tokio::test]
async fn whoever_comes_back_gets_what_changed_since_and_nothing_else() {
    let site = Site::up(at("13:11:00")).await;
    let mut ann = open(&site, "/events?page=today", None).await;
    // Somebody else keeps watching.
    let mut bob = open(&site, "/events?page=today", None).await;
    let first = events(&mut ann, "13:11:00").await;
    assert!(parts(&first[0]).len() > 3, "all of it at first");
    events(&mut bob, "13:11:00").await;
    drop(ann);
    site.daemon.snapshots.send_replace(at("13:12:41").into());
    events(&mut bob, "13:12:41").await;
    let mut next = at("13:12:42");
    next.alerts.clear();
    site.daemon.snapshots.send_replace(next.clone().into());
    events(&mut bob, "13:12:42").await;

    let mut back = open(&site, "/events?page=today", Some(&first[0].0)).await;
    let missed = events(&mut back, "13:12:42").await;
    assert_eq!(missed.len(), 1, "one event holds all that was missed");
    assert!(
        parts(&missed[0]).contains("alerts") && parts(&missed[0]).len() < parts(&first[0]).len(),
        "{:?}",
        parts(&missed[0])
    );
    // Up to date: nothing is said until something changes.
    let mut current = open(&site, "/events?page=today", Some(&missed[0].0)).await;
    next.now = testing::at("13:12:43");
    site.daemon.snapshots.send_replace(next.into());
    let after = events(&mut current, "13:12:43").await;
    assert!(after.len() == 1 && !parts(&after[0]).contains("alerts"), "{after:?}");
    // Ids of another life, of the future and nonsense.
    for odd in ["feedbeef.0-1", "x", "", "feedbeef.0-18446744073709551615"] {
        let mut reply = open(&site, "/events?page=today", Some(odd)).await;
        assert_eq!(parts(&events(&mut reply, "13:12:43").await[0]), parts(&first[0]), "{odd}");
    }
    site.down().await;
}

#[tokio::test]
async fn a_page_nobody_watched_for_a_while_goes_on_where_it_was() {
    let site = Site::up(at("13:11:00")).await;
    let mut only = open(&site, "/events?page=today", None).await;
    let first = events(&mut only, "13:11:00").await;
    drop(only);
    site.daemon.snapshots.send_replace(at("13:12:40").into());
    let mut back = open(&site, "/events?page=today", Some(&first[0].0)).await;
    let missed = events(&mut back, "13:12:40").await;
    assert!(missed.len() == 1 && parts(&missed[0]).len() < parts(&first[0]).len(), "{:?}", parts(&missed[0]));
    site.down().await;
}

#[tokio::test]
async fn a_viewer_who_does_not_read_holds_up_nobody() {
    let site = Site::up(at("13:11:00")).await;
    // Their windows fill up and nobody empties them.
    let mut stuck = Vec::new();
    for _ in 0..20 {
        stuck.push(open(&site, "/events?page=today", None).await);
    }
    let mut quick = open(&site, "/events?page=today", None).await;
    for second in 10..25 {
        let time = format!("13:12:{second}");
        site.daemon.snapshots.send_replace(at(&time).into());
        events(&mut quick, &time).await;
    }
    // Whoever wakes up sees the end of it.
    for mut late in stuck {
        events(&mut late, "13:12:24").await;
    }
    site.down().await;
}

#[tokio::test]
async fn there_is_room_for_many_and_words_for_one_too_many() {
    let site = Site::up(testing::snapshot()).await;
    let mut pages = Vec::new();
    for n in 0..200 {
        let page = ["today", "dags", "audit", "alerts"][n % 4];
        let mut reply = open(&site, &format!("/events?page={page}"), None).await;
        read_until(&mut reply, "\n\n").await;
        pages.push(reply);
    }
    // The rest of the room, without connections.
    let places: Vec<_> = (200..PLACES).map(|_| site.site.places.take(None).expect("room")).collect();
    for path in ["/events?page=today", "/api/v1/events"] {
        let (status, body) = site.get(path).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(body.contains("1024 live pages are open"), "{body}");
    }
    drop(pages);
    let again = async { while site.get_head("/events?page=today").await != StatusCode::OK {} };
    tokio::time::timeout(PATIENCE, again).await.expect("whoever leaves makes room");
    drop(places);
    site.down().await;
}

#[tokio::test]
async fn programs_hear_what_happens_and_miss_nothing() {
    let site = Site::up(testing::snapshot()).await;
    let mut listener = open(&site, "/api/v1/events", None).await;
    assert_eq!(listener.headers()["content-type"], "text/event-stream");
    let start = events(&mut listener, "\n\n").await;
    assert_eq!((start[0].1.as_str(), &start[0].2["read"]), ("start", &json!("/api/v1/snapshot")));
    let vwap = "vwap".parse().expect("a name");
    let now = |state, attempt| {
        let mut snapshot = testing::snapshot();
        let step = snapshot.runs[0].run.steps.get_mut(&vwap).expect("a step");
        (step.state, step.attempt) = (state, attempt);
        snapshot
    };
    let mut told: Vec<Told> = Vec::new();
    let mut last = start[0].0.clone();
    // The connection is cut after every second event, and now and then it comes back late.
    for attempt in 2..40 {
        site.daemon.snapshots.send_replace(now(StepState::Running, attempt).into());
        if attempt % 2 == 0 {
            drop(listener);
            listener = open(&site, "/api/v1/events", Some(&last)).await;
        }
        for event in events(&mut listener, &format!("\"attempt\":{attempt},")).await {
            last.clone_from(&event.0);
            told.push(event);
        }
    }
    let attempts: Vec<_> =
        told.iter().map(|(_, name, data)| (name.as_str(), data["attempt"].as_u64())).collect();
    assert_eq!(attempts, (2..40).map(|n| ("step", Some(n))).collect::<Vec<_>>(), "each once, in order");
    let mut odd = open(&site, "/api/v1/events", Some("feedbeef-3")).await;
    assert_eq!(events(&mut odd, "\n\n").await[0].1, "reset");
    site.daemon.snapshots.send_replace(testing::ended().into());
    let end = events(&mut odd, "\"state\":\"succeeded\"").await;
    assert!(end.iter().any(|(_, name, _)| name == "run"), "{end:?}");
    site.down().await;
}

#[tokio::test]
async fn a_followed_output_loses_no_line_and_tells_none_twice() {
    let site = Site::up(testing::snapshot()).await;
    let folder = site.daemon.runs.path().join("kis-trading-day@2026-11-20/collector/2");
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut text = "first\n".to_owned();
    std::fs::write(folder.join("output.log"), &text).expect("written");
    let path = format!("{OUTPUT}?attempt=2&from=0&line=1");
    let mut lines = Vec::new();
    let mut last: Option<String> = None;
    for n in 0..30 {
        // The end of a line and the whole of the next come together; the line after them is only begun.
        text.push_str(&format!("…{n} half\nwhole {n}\nbegun"));
        std::fs::write(folder.join("output.log"), &text).expect("written");
        let mut reply = open(&site, &path, last.as_deref()).await;
        for (id, _, data) in events(&mut reply, &format!("whole {n}<")).await {
            last = Some(id);
            lines.extend(
                data["html"]
                    .as_str()
                    .expect("lines")
                    .split("id=\"L")
                    .skip(1)
                    .map(|l| l.split('"').next().unwrap_or("").to_owned()),
            );
        }
        // Cut in the middle of it.
        drop(reply);
    }
    assert_eq!(lines, (1..=61).map(|n| n.to_string()).collect::<Vec<_>>());
    site.daemon.snapshots.send_replace(Arc::new(testing::ended()));
    let end = events(&mut open(&site, &path, last.as_deref()).await, "event: over").await;
    assert!(
        end[0].2["html"].as_str().is_some_and(|html| html.contains("begun") && html.contains("L62")),
        "{end:?}"
    );
    site.down().await;
}

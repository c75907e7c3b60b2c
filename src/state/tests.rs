//! One contract for every store, and what sled's fence promises beyond it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::memory::Memory;
use super::sled::Sled;
use super::*;
use domain::alert::{DEFAULT_REMINDER, Key as AlertKey, Rule};
use domain::dag::fixtures::{dag, step};
use domain::dag::{StepKind, Until};
use domain::event::{Created, RunEvent};
use domain::finding::Finding;
use domain::results::Freshness;
use domain::run::{Cause, RunState, StepRun};
use domain::schedule::Window;

fn at(time: &str) -> Timestamp {
    format!("2026-11-20T{time}+09:00").parse().expect("a time")
}

fn created(id: &str) -> Stamped {
    let created = Created {
        id: id.parse().expect("an id"),
        dag: dag(
            "day",
            vec![step("a", StepKind::Task, &[]), step("b", StepKind::Service, &[("a", Until::Succeeded)])],
        ),
        cause: Cause::Scheduled,
        session_date: jiff::civil::date(2026, 11, 20),
        window: Window { open_at: at("08:50:00"), close_at: Some(at("16:00:00")) },
        params: BTreeMap::new(),
    };
    Stamped { at: at("08:50:00"), event: RunEvent::Created(Box::new(created)) }
}

fn tick(time: &str) -> Stamped {
    Stamped { at: at(time), event: RunEvent::Tick }
}

fn finished(id: &str, created_at: &str, finished_at: &str) -> Run {
    let RunEvent::Created(c) = created(id).event else { unreachable!("made above") };
    let steps = c.dag.steps().iter().map(|s| (s.name.clone(), StepRun::new(at(created_at)))).collect();
    Run {
        id: c.id,
        dag: c.dag,
        cause: c.cause,
        session_date: c.session_date,
        window: c.window,
        params: c.params,
        created_at: at(created_at),
        state: RunState::Succeeded,
        steps,
        cancelled_by: None,
        finished_at: Some(at(finished_at)),
    }
}

fn mail(key: &str, time: &str) -> OutboxMail {
    OutboxMail {
        key: key.into(),
        created_at: at(time),
        attempts: 0,
        next_at: at(time),
        last_error: None,
        message: serde_json::json!({ "subject": "stalled" }),
    }
}

fn id(text: &str) -> RunId {
    text.parse().expect("an id")
}

async fn answers_are_kept_and_forgotten(store: &dyn Store) {
    let answered = |key: &str, answer: &str| Answered {
        key: key.into(),
        request: "trigger 0".into(),
        answer: answer.into(),
        at: at("09:00:00"),
    };
    assert_eq!(store.answers().await.expect("read"), Vec::new());
    store
        .put(vec![Put::Answered(answered("ann 1", "a")), Put::Answered(answered("bob 1", "b"))])
        .await
        .expect("put");
    assert_eq!(store.answer("ann 1").await.expect("read"), Some(answered("ann 1", "a")));
    assert_eq!(store.answer("ann").await.expect("read"), None, "a key is no prefix");
    store
        .put(vec![Put::AnswerGone("ann 1".into()), Put::Answered(answered("ann 1", "c"))])
        .await
        .expect("put");
    store.put(vec![Put::AnswerGone("bob 1".into())]).await.expect("put");
    assert_eq!(
        store.answers().await.expect("read"),
        [answered("ann 1", "c")],
        "the last word of a batch counts"
    );
    store.put(vec![Put::AnswerGone("ann 1".into())]).await.expect("put");
}

/// What every store does.
async fn contract(store: &dyn Store) {
    answers_are_kept_and_forgotten(store).await;
    let (run, other) = (id("day@1"), id("day@11"));
    assert_eq!(store.append(&run, &created("day@1"), vec![]).await.expect("appended"), 1);
    assert_eq!(store.append(&other, &created("day@11"), vec![]).await.expect("appended"), 1);
    let extra = vec![Put::Mail(mail("late", "10:00:00")), Put::Mail(mail("early", "09:00:00"))];
    assert_eq!(store.append(&run, &tick("09:00:00"), extra).await.expect("appended"), 2);
    let both = vec![
        (other.clone(), tick("09:01:00")),
        (run.clone(), tick("09:01:00")),
        (run.clone(), tick("09:02:00")),
    ];
    assert_eq!(store.append_all(both, vec![]).await.expect("appended"), Some(4));
    assert_eq!(store.append_all(vec![], vec![]).await.expect("nothing to do"), None);

    let journal = store.events(&run).await.expect("read");
    assert_eq!(journal.events, [created("day@1"), tick("09:00:00"), tick("09:01:00"), tick("09:02:00")]);
    assert!(store.events(&id("day@2")).await.expect("read").events.is_empty());
    let unfinished: Vec<_> =
        store.unfinished().await.expect("read").into_iter().map(|j| (j.run, j.events.len())).collect();
    assert_eq!(unfinished, [(run.clone(), 4), (other.clone(), 2)]);

    let mails = store.outbox().await.expect("read");
    assert_eq!(mails.iter().map(|m| m.key.as_str()).collect::<Vec<_>>(), ["early", "late"], "oldest first");
    let tried = OutboxMail { attempts: 1, last_error: Some("refused".into()), ..mails[0].clone() };
    store
        .put(vec![Put::Mail(tried.clone()), Put::MailDone { key: "late".into(), created_at: at("10:00:00") }])
        .await
        .expect("put");
    assert_eq!(store.outbox().await.expect("read"), [tried]);

    store
        .append(
            &run,
            &tick("16:00:00"),
            vec![Put::Finished(Box::new(finished("day@1", "08:50:00", "16:00:00")))],
        )
        .await
        .expect("ended");
    assert_eq!(store.unfinished().await.expect("read").len(), 1);
    assert_eq!(store.finished_run(&run).await.expect("read").map(|r| r.state), Some(RunState::Succeeded));
    store.append(&run, &tick("16:01:00"), vec![]).await.expect("reopened");
    assert_eq!(
        (store.finished_run(&run).await.expect("read"), store.unfinished().await.expect("read").len()),
        (None, 2)
    );
    assert_eq!(store.events(&run).await.expect("read").events.len(), 6, "a reopened run keeps its journal");
    let ends = vec![
        Put::Finished(Box::new(finished("day@1", "08:50:00", "16:00:00"))),
        Put::Finished(Box::new(finished("day@11", "08:51:00", "16:30:00"))),
        Put::Finished(Box::new(finished("day-two@1", "08:52:00", "16:30:00"))),
    ];
    store.put(ends).await.expect("ended");
    let ids = |runs: Vec<Run>| runs.into_iter().map(|r| r.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(store.finished(None, 2).await.expect("read")), ["day-two@1", "day@11"], "newest first");
    let day = "day".parse().expect("a name");
    assert_eq!(ids(store.finished(Some(&day), 9).await.expect("read")), ["day@11", "day@1"]);
    pauses_audit_and_alerts_are_kept_and_pruned(store, run, day).await;
}

/// After [`contract`]'s first half: `run` ended long ago.
async fn pauses_audit_and_alerts_are_kept_and_pruned(store: &dyn Store, run: RunId, day: DagName) {
    let paused = Paused { by: "ann".into(), at: at("12:00:00") };
    let puts = vec![Put::Pause(day.clone(), paused.clone()), Put::HighWater(day.clone(), at("08:50:00"))];
    store.put(puts).await.expect("put");
    assert_eq!(store.pauses().await.expect("read"), BTreeMap::from([(day.clone(), paused)]));
    assert_eq!(store.high_water().await.expect("read"), BTreeMap::from([(day.clone(), at("08:50:00"))]));
    store.put(vec![Put::Unpause(day)]).await.expect("put");
    assert!(store.pauses().await.expect("read").is_empty());

    let audit = |time: &str, what: &str| {
        let (who, subject, detail) = ("ann".to_owned(), "day@1".to_owned(), String::new());
        Put::Audit(Audit { at: at(time), who, what: what.into(), subject, outcome: Outcome::Done, detail })
    };
    store
        .put(vec![audit("09:00:00", "pause"), audit("09:00:00", "unpause"), audit("17:00:00", "clear")])
        .await
        .expect("put");
    let what = |entries: Vec<Audit>| entries.into_iter().map(|a| a.what).collect::<Vec<_>>();
    assert_eq!(what(store.audit(9).await.expect("read")), ["clear", "unpause", "pause"]);

    let mut alerts = store.alerts().await.expect("read");
    let key =
        AlertKey { run: run.clone(), step: "freshness".parse().expect("a name"), rule: Rule::Freshness };
    let what = Box::new(Finding::Waiting { seconds: 372 });
    let finding = Finding::Stalled { hop: "index".into(), what, last: None, down: None };
    let result = serde_json::json!({ "stalled": true, "finding": finding });
    let finding = Freshness::of(&result).expect("a freshness check's");
    alerts.freshness(&key, &finding, at("10:00:00"), DEFAULT_REMINDER);
    store.put(vec![Put::Alerts(alerts.clone())]).await.expect("put");
    assert_eq!(store.alerts().await.expect("read"), alerts);

    let pruned = store.prune(at("16:10:00")).await.expect("pruned");
    assert_eq!((pruned.runs, pruned.audit_entries), (vec![run.clone()], 2));
    assert!(store.events(&run).await.expect("read").events.is_empty());
    assert_eq!(store.finished(None, 9).await.expect("read").len(), 2);
    assert_eq!(store.alerts().await.expect("read").open().count(), 1, "what is open stays");
    assert_eq!(store.prune(at("16:10:00")).await.expect("pruned"), Pruned::default());
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract(&Memory::new()).await;
}

#[tokio::test]
async fn sled_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, opened) = open(dir.path()).await;
    assert_eq!(opened, Opened::New);
    contract(&store).await;
}

async fn open(dir: &Path) -> (Sled, Opened) {
    Sled::open(&dir.join("state"), &dir.join("state-export")).await.expect("opened")
}

/// A journal with one run of three events, exported after the second.
async fn written(dir: &Path) -> Sled {
    let (store, _) = open(dir).await;
    store.append(&id("day@1"), &created("day@1"), vec![]).await.expect("appended");
    store.append(&id("day@1"), &tick("09:00:00"), vec![]).await.expect("appended");
    store.export(&dir.join("state-export"), at("09:00:01")).await.expect("exported");
    store
        .append(&id("day@1"), &tick("09:01:00"), vec![Put::Mail(mail("m", "09:01:00"))])
        .await
        .expect("appended");
    store
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(written(dir.path()).await);
    let (store, opened) = open(dir.path()).await;
    assert_eq!(opened, Opened::Whole);
    assert_eq!(store.events(&id("day@1")).await.expect("read").events.len(), 3);
    assert_eq!(
        store.append(&id("day@1"), &tick("09:05:00"), vec![]).await.expect("appended"),
        4,
        "numbers go on"
    );
}

#[tokio::test]
async fn a_second_opener_is_told_and_nothing_is_moved() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = written(dir.path()).await;
    let second =
        Sled::open(&dir.path().join("state"), &dir.path().join("state-export")).await.err().expect("refused");
    assert!(matches!(second, StoreError::Locked { .. }), "{second}");
    assert_eq!(store.events(&id("day@1")).await.expect("read").events.len(), 3);
    assert!(!dir.path().join("state.damaged-1").exists());
}

#[tokio::test]
async fn a_folder_that_cannot_be_opened_is_moved_aside_and_the_export_restored() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(written(dir.path()).await);
    fs::write(dir.path().join("state/conf"), b"this is not a configuration").expect("damaged");
    let (store, opened) = open(dir.path()).await;
    let Opened::Restored(restored) = opened else { panic!("{opened:?}") };
    assert_eq!(restored.moved_to, Some(dir.path().join("state.damaged-1")));
    assert!(restored.from.is_some() && restored.lost == ["what was written after the export"], "{restored}");
    assert_eq!(store.events(&id("day@1")).await.expect("read").events.len(), 2);
    drop(store);
    let (_, opened) = open(dir.path()).await;
    assert_eq!(opened, Opened::Whole, "repaired once and for all");
}

#[tokio::test]
async fn a_database_that_comes_back_with_less_is_noticed() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(written(dir.path()).await);
    let db = dir.path().join("state/db");
    let length = fs::metadata(&db).expect("the database").len();
    fs::write(&db, vec![0; usize::try_from(length).expect("fits")]).expect("wiped");
    let (store, opened) = open(dir.path()).await;
    let Opened::Restored(restored) = opened else { panic!("{opened:?}") };
    assert!(restored.moved_to.is_some() && restored.from.is_some(), "{restored}");
    assert_eq!(store.events(&id("day@1")).await.expect("read").events.len(), 2);
}

#[tokio::test]
async fn damage_without_any_export_starts_empty_and_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(written(dir.path()).await);
    fs::remove_dir_all(dir.path().join("state-export")).expect("removed");
    fs::write(dir.path().join("state/conf"), b"this is not a configuration").expect("damaged");
    let (_, opened) = open(dir.path()).await;
    let Opened::Restored(restored) = opened else { panic!("{opened:?}") };
    assert!(
        restored.to_string().contains("not brought back: everything: there is no export yet"),
        "{restored}"
    );
}

#[tokio::test]
async fn one_unreadable_event_comes_from_the_export_and_the_rest_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = written(dir.path()).await;
    store
        .damage(codec::Key::Event { run: id("day@1"), seq: 2 }.encode(), b"\x01{\"at\"".to_vec())
        .await
        .expect("damaged");
    let error = store.events(&id("day@1")).await.expect_err("unreadable");
    assert!(error.to_string().starts_with("event 2 of run day@1 cannot be read"), "{error}");
    assert!(error.to_string().contains("restart the daemon"), "{error}");
    drop(store);
    let (store, opened) = open(dir.path()).await;
    assert!(matches!(&opened, Opened::Restored(r) if r.lost.is_empty()), "{opened:?}");
    assert_eq!(store.events(&id("day@1")).await.expect("read").events.len(), 3);
    assert_eq!(store.outbox().await.expect("read").len(), 1);

    store
        .damage(codec::Key::Event { run: id("day@1"), seq: 3 }.encode(), b"\x01x".to_vec())
        .await
        .expect("damaged");
    store.append(&id("day@1"), &tick("09:09:00"), vec![]).await.expect("appended");
    drop(store);
    let (store, opened) = open(dir.path()).await;
    let Opened::Restored(restored) = opened else { panic!("{opened:?}") };
    assert_eq!(restored.lost, ["event 3 of run day@1", "events of run day@1 from number 3 on"]);
    assert_eq!(store.events(&id("day@1")).await.expect("read").events.len(), 2, "read up to the hole");
}

#[tokio::test]
async fn a_newer_format_is_refused_and_nothing_is_moved() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = written(dir.path()).await;
    store.damage(codec::Key::Alerts.encode(), b"\x02{}".to_vec()).await.expect("written");
    drop(store);
    let error =
        Sled::open(&dir.path().join("state"), &dir.path().join("state-export")).await.err().expect("refused");
    assert!(matches!(error, StoreError::Newer { version: 2, known: 1, .. }), "{error}");
    assert!(dir.path().join("state").exists() && !dir.path().join("state.damaged-1").exists());
}

#[tokio::test]
async fn a_torn_export_is_passed_over_for_an_older_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = written(dir.path()).await;
    let newest = store.export(&dir.path().join("state-export"), at("09:30:00")).await.expect("exported");
    drop(store);
    let text = fs::read_to_string(&newest).expect("text");
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    fs::write(&newest, &text[..text.len() / 2]).expect("torn");
    fs::write(dir.path().join("state/conf"), b"this is not a configuration").expect("damaged");
    let (store, opened) = open(dir.path()).await;
    assert!(
        matches!(&opened, Opened::Restored(r) if r.from.as_ref().is_some_and(|f| *f != newest)),
        "{opened:?}"
    );
    assert_eq!(store.events(&id("day@1")).await.expect("read").events.len(), 2);
}

#[tokio::test]
async fn exports_do_not_pile_up() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Memory::new();
    for second in 10..30 {
        store.export(dir.path(), at(&format!("09:00:{second}"))).await.expect("exported");
    }
    let names = fs::read_dir(dir.path()).expect("a folder").count();
    assert_eq!(names, 5);
}

#[tokio::test]
async fn after_a_panic_the_journal_refuses_to_go_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = written(dir.path()).await;
    assert!(matches!(store.panic_inside().await, Err(StoreError::Broken { .. })));
    assert!(matches!(
        store.append(&id("day@1"), &tick("09:05:00"), vec![]).await,
        Err(StoreError::Broken { .. })
    ));
    drop(store);
    let (store, opened) = open(dir.path()).await;
    assert_eq!((opened, store.events(&id("day@1")).await.expect("read").events.len()), (Opened::Whole, 3));
}

#[tokio::test]
async fn an_unusable_folder_is_an_error_and_not_damage() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("state"), b"a file").expect("written");
    let error =
        Sled::open(&dir.path().join("state"), &dir.path().join("state-export")).await.err().expect("refused");
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
}

use super::*;
use crate::remote::fake::{Fake, Reply, Seen};

fn connect(address: &str) -> Result<ElasticIndex> {
    ElasticIndex::connect(&Endpoint::parse(address).expect("an address"))
}

fn to(fake: &Fake) -> ElasticIndex {
    connect(&format!("http://{}", fake.address)).expect("fine")
}

/// A server whose indices are all there; `script` answers the bulk calls.
async fn bulk_server(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Fake {
    Fake::start(
        move |seen| if seen.path.starts_with("/_bulk") { script(seen) } else { Reply::json(200, "{}") },
    )
    .await
}

fn item(id: &str, source: &str) -> Item {
    Item { index: "i".into(), id: id.into(), op: Op::Create, source: source.as_bytes().to_vec() }
}

fn items() -> Vec<Item> {
    vec![item("a", r#"{"n":1}"#), item("b", r#"{"n":2}"#), item("c", r#"{"n":3}"#)]
}

#[tokio::test]
async fn items_are_judged_one_by_one_and_bad_ones_are_not_sent() {
    let fake = bulk_server(|_| {
        Reply::json(
            200,
            r#"{"items":[{"create":{"status":201}},{"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"full"}}},{"create":{"status":409}}]}"#,
        )
    })
    .await;
    let index = to(&fake);
    let mut all = items();
    all.insert(1, item("bad", "{\"n\":"));
    all.push(item("", "{}"));
    all.push(item("kept", r#"{"openbell_id":"x"}"#));
    let results = index.bulk(all).await.expect("an answer");
    assert_eq!(results[0], ItemResult::Stored);
    assert!(
        matches!(&results[1], ItemResult::Rejected { status: 400, reason } if reason.contains("'bad'")),
        "{results:?}"
    );
    assert_eq!(
        results[2],
        ItemResult::Retry { status: 429, reason: "es_rejected_execution_exception: full".into() }
    );
    assert_eq!(results[3], ItemResult::Exists);
    assert!(results[4..].iter().all(|r| matches!(r, ItemResult::Rejected { .. })), "{results:?}");

    let sent = fake.seen().into_iter().find(|s| s.path.starts_with("/_bulk")).expect("a bulk call");
    assert_eq!(sent.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(
        sent.header("accept"),
        Some("application/json"),
        "media types of one version alone break others"
    );
    let text = String::from_utf8(sent.body).expect("text");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], [r#"{"create":{"_id":"a","_index":"i"}}"#, r#"{"openbell_id":"a","n":1}"#]);
    assert!(lines.len() == 6 && text.ends_with('\n'), "{text}");
}

#[tokio::test]
async fn refusals_of_whole_calls_say_what_to_do() {
    for (status, kind) in [
        (400, ErrorKind::Rejected),
        (401, ErrorKind::Forbidden),
        (403, ErrorKind::Forbidden),
        (404, ErrorKind::NotFound),
        (413, ErrorKind::Rejected),
        (429, ErrorKind::Busy),
        (502, ErrorKind::Unavailable),
        (503, ErrorKind::Unavailable),
    ] {
        let fake = bulk_server(move |_| {
            Reply::json(status, r#"{"error":{"type":"some_exception","reason":"why"}}"#)
        })
        .await;
        let error = to(&fake).bulk(items()).await.expect_err("refused");
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains("some_exception: why"), "{error}");
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_unavailable() {
    for reply in [
        || Reply::Lost,
        || Reply::json(200, "<html>a proxy</html>"),
        || Reply::json(200, r#"{"items":[{"create":{"status":201}}]}"#),
        || Reply::json(200, r#"{"took":1}"#),
    ] {
        let fake = bulk_server(move |_| reply()).await;
        let error = to(&fake).bulk(items()).await.expect_err("unknown");
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        let calls = fake.seen().iter().filter(|s| s.path.starts_with("/_bulk")).count();
        assert_eq!(calls, 1, "only the caller repeats");
    }
}

#[tokio::test]
async fn a_frozen_server_is_told_in_time() {
    let fake = Fake::start(|_| Reply::Frozen).await;
    let index = ElasticIndex { limits: Limits::SHORT, ..to(&fake) };
    let error = index.get("i", "a").await.expect_err("no answer");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    let error = index.bulk(items()).await.expect_err("no answer");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn another_host_is_asked_when_one_is_gone() {
    let fake =
        Fake::start(|_| Reply::json(200, r#"{"found":true,"_source":{"openbell_id":"a","n": 1}}"#)).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("an address");
    let index = connect(&format!("http://{gone},{}", fake.address)).expect("fine");
    for _ in 0..4 {
        assert_eq!(index.get("i", "a").await.expect("reads"), Some(br#"{"n": 1}"#.to_vec()));
    }
    let index = connect(&format!("http://{gone}")).expect("fine");
    assert_eq!(index.get("i", "a").await.expect_err("nobody").kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_cluster_out_of_shards_is_full_and_no_document_is_refused() {
    let fake = Fake::start(|seen| match (seen.path.as_str(), seen.method.as_str()) {
        ("/i/_mapping", _) => {
            Reply::json(404, r#"{"error":{"type":"index_not_found_exception","reason":"no such index"}}"#)
        }
        ("/i", "PUT") => Reply::json(
            400,
            r#"{"error":{"type":"validation_exception","reason":"this action would add [2] shards"}}"#,
        ),
        _ => Reply::json(500, "{}"),
    })
    .await;
    let error = to(&fake).bulk(items()).await.expect_err("full");
    assert!(error.kind == ErrorKind::Full && error.to_string().contains("delete old indices"), "{error}");
}

#[tokio::test]
async fn an_index_that_went_away_is_made_again() {
    let fake = bulk_server(|_| {
        let gone = r#"{"create":{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index"}}}"#;
        Reply::json(200, format!(r#"{{"items":[{gone},{gone},{gone}]}}"#))
    })
    .await;
    let index = to(&fake);
    for _ in 0..2 {
        let results = index.bulk(items()).await.expect("an answer");
        assert!(results.iter().all(|r| matches!(r, ItemResult::Retry { .. })), "{results:?}");
    }
    assert_eq!(fake.seen().iter().filter(|s| s.path == "/i/_mapping").count(), 2, "looked at again");
}

#[tokio::test]
async fn a_search_over_a_part_of_the_data_is_no_answer() {
    let fake = Fake::start(|seen| {
        if seen.path.contains("_search") {
            Reply::json(200, r#"{"timed_out":false,"_shards":{"failed":1},"hits":{"hits":[]}}"#)
        } else {
            Reply::json(200, "{}")
        }
    })
    .await;
    assert_eq!(to(&fake).ids("i", "", None, 10).await.expect_err("partial").kind, ErrorKind::Unavailable);
    assert_eq!(to(&fake).latest("i", "at").await.expect_err("partial").kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_changed_password_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "old").expect("written");
    // "new" as a base64 password of "me".
    let fake = Fake::start(|seen| match seen.header("authorization") {
        Some("Basic bWU6bmV3") => Reply::json(404, "{}"),
        _ => Reply::json(401, r#"{"error":"unauthorized"}"#),
    })
    .await;
    let index = connect(&format!("http://{}?user=me&password=file:{}", fake.address, secret.display()))
        .expect("fine");
    let error = index.get("i", "a").await.expect_err("old");
    assert!(error.kind == ErrorKind::Forbidden && error.to_string().contains("password"), "{error}");
    std::fs::write(&secret, "new").expect("written");
    assert_eq!(index.get("i", "a").await.expect_err("still old").kind, ErrorKind::Forbidden);
    assert_eq!(index.get("i", "a").await, Ok(None));
}

#[tokio::test]
async fn a_password_alone_is_an_api_key() {
    let fake = Fake::start(|_| Reply::json(404, "{}")).await;
    let index = connect(&format!("http://{}?password=a2V5", fake.address)).expect("fine");
    assert_eq!(index.get("i", "a").await, Ok(None));
    assert_eq!(fake.seen()[0].header("authorization"), Some("ApiKey a2V5"));
    for bad in [
        "http://h?password=a%20b",
        "http://h?password=",
        "http://h?sniff=true",
        "http://h:port",
        "http://h?ca=/no/file",
    ] {
        let error = connect(bad).map(drop).expect_err(bad);
        assert!(
            matches!(error.kind, ErrorKind::Forbidden | ErrorKind::Rejected) && !error.remedy.is_empty(),
            "{error}"
        );
    }
}

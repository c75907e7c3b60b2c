use super::*;

fn connect(address: &str) -> Result<MongoRaw> {
    MongoRaw::connect(&Endpoint::parse(address).expect("an address"))
}

#[test]
fn addresses_are_checked_without_a_server_and_never_shown_with_secrets() {
    let raw = connect("mongodb://me:p%40ss%2Fw@a:1,b:2/db?authSource=admin&retryWrites=false&replicaSet=rs")
        .expect("fine");
    assert_eq!((raw.place.as_str(), raw.database.as_str()), ("raw mongodb://a:1,b:2/db", "db"));
    assert_eq!(connect("mongodb://host").expect("fine").database, "openbell");
    for bad in [
        "mongodb://u:hunter2@host/d.b",
        "mongodb://u:hunter2@host/db?retryWrites=perhaps",
        "mongodb://u:hunter2@host/db?socket=1",
        "mongodb://u:hunter2@host/db?ca=/no/such/file",
        "mongodb://u@host/db?password=env:OPENBELL_NO_SUCH_VARIABLE",
    ] {
        let error = connect(bad).map(drop).expect_err(bad);
        assert!(matches!(error.kind, ErrorKind::Rejected | ErrorKind::Forbidden), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn prefixes_end_where_the_next_text_begins() {
    for (prefix, end) in
        [("kis:", Some("kis;")), ("", None), ("가\u{d7ff}", Some("가\u{e000}")), ("a\u{10ffff}", Some("b"))]
    {
        assert_eq!(after_prefix(prefix).as_deref(), end, "{prefix:?}");
    }
    assert_eq!(after_prefix("\u{10ffff}"), None);
}

fn failed(errors: &str) -> Result<usize> {
    let documents: Vec<_> = ["a", "b", "c"].map(|id| (id, RawDocumentBuf::new())).into();
    existing("raw x", &documents, &serde_json::from_str(errors).expect("errors"))
}

#[test]
fn duplicates_are_counted_and_other_errors_name_the_document() {
    let write = |index: usize, code: i32| format!(r#"{{"index":{index},"code":{code},"errmsg":"why"}}"#);
    let all = |errors: &[String]| failed(&format!(r#"{{"writeErrors":[{}]}}"#, errors.join(",")));
    assert_eq!(all(&[write(0, 11000), write(2, 11000)]), Ok(2));
    for (code, kind) in [
        (121, ErrorKind::Rejected),
        (2, ErrorKind::Rejected),
        (13, ErrorKind::Forbidden),
        (14031, ErrorKind::Full),
        (112, ErrorKind::Busy),
        (189, ErrorKind::Unavailable),
    ] {
        let error = all(&[write(0, 11000), write(1, code)]).expect_err("fails");
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains("document b"), "{error}");
    }
    // What passes by itself is told rather than what does not.
    assert_eq!(all(&[write(0, 121), write(1, 189)]).expect_err("fails").kind, ErrorKind::Unavailable);
}

#[test]
fn a_write_that_is_not_safe_yet_is_no_success() {
    let error = failed(
        r#"{"writeConcernError":{"code":64,"codeName":"WriteConcernFailed","errmsg":"waiting for replication timed out"}}"#,
    );
    assert_eq!(error.expect_err("fails").kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn nobody_there_is_told_in_time() {
    // A port that nobody listens on: bound, and given back.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("an address").port();
    let mut raw = connect(&format!("mongodb://me:hunter2@127.0.0.1:{port}/db")).expect("fine");
    raw.limits = Limits::SHORT;
    let error = raw.latest("c").await.expect_err("nobody");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("collection c") && !error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_frozen_server_is_told_in_time() {
    let frozen = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let mut raw =
        connect(&format!("mongodb://{}/db", frozen.local_addr().expect("an address"))).expect("fine");
    raw.limits = Limits::SHORT;
    let error = raw.ids("c", "", None, 5).await.expect_err("no answer");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
}

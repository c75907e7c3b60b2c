use super::*;
use crate::remote::fake::{Fake, Reply};

fn connect(address: &str) -> Result<S3Objects> {
    S3Objects::connect(&Endpoint::parse(address).expect("an address"))
}

fn to(fake: &Fake) -> S3Objects {
    connect(&format!("s3://bucket/a/b?endpoint=http://{}&user=key&password=hunter2", fake.address))
        .expect("fine")
}

fn refusal(status: u16, code: &str) -> Reply {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>because</Message></Error>");
    Reply::Answer(status, vec![("content-type", "application/xml".into())], body)
}

#[tokio::test]
async fn a_put_is_conditional_signed_and_plain() {
    let fake = Fake::start(|_| Reply::Answer(200, vec![("etag", "\"x\"".into())], String::new())).await;
    let metadata = Metadata::from([("end_offset".into(), "7".into()), ("name".into(), "값 5%".into())]);
    assert_eq!(to(&fake).put_if_absent("t/x.gz", b"body".to_vec(), &metadata).await, Ok(Put::Created));
    let [put] = fake.seen().try_into().expect("one request");
    assert!(put.method == "PUT" && put.path.starts_with("/bucket/a/b/t/x.gz"), "{put:?}");
    assert_eq!((put.header("if-none-match"), put.body.as_slice()), (Some("*"), b"body".as_slice()));
    assert!(put.header("authorization").is_some_and(|a| a.starts_with("AWS4-HMAC-SHA256")), "{put:?}");
    assert_eq!(put.header("x-amz-meta-end_offset"), Some("7"));
    assert_eq!(put.header("x-amz-meta-name"), Some("%EA%B0%92 5%25"));
    assert!(put.header("x-amz-trailer").is_none() && put.header("x-amz-checksum-crc32").is_none(), "{put:?}");
}

#[tokio::test]
async fn answers_to_a_put_say_what_the_caller_can_do() {
    let put = async |reply: fn() -> Reply| {
        let fake = Fake::start(move |_| reply()).await;
        let put = to(&fake).put_if_absent("x", vec![1], &Metadata::new()).await;
        assert_eq!(fake.seen().len(), 1, "only the caller repeats");
        put
    };
    assert_eq!(put(|| refusal(412, "PreconditionFailed")).await, Ok(Put::Exists));
    type Case = (fn() -> Reply, ErrorKind, &'static str);
    let cases: [Case; 8] = [
        (|| refusal(409, "ConditionalRequestConflict"), ErrorKind::Busy, "because"),
        (|| refusal(503, "SlowDown"), ErrorKind::Busy, "because"),
        (|| refusal(500, "InternalError"), ErrorKind::Unavailable, "because"),
        (|| refusal(403, "SignatureDoesNotMatch"), ErrorKind::Forbidden, "access key"),
        (|| refusal(404, "NoSuchBucket"), ErrorKind::NotFound, "create the bucket"),
        (|| refusal(400, "MetadataTooLarge"), ErrorKind::Rejected, "because"),
        (|| refusal(507, "XMinioStorageFull"), ErrorKind::Full, "room"),
        (|| Reply::Lost, ErrorKind::Unavailable, "key x"),
    ];
    for (reply, kind, word) in cases {
        let error = put(reply).await.expect_err("fails");
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains(word) && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_exists_at_the_next_try() {
    let taken = std::sync::atomic::AtomicBool::new(false);
    let fake = Fake::start(move |_| {
        let again = taken.swap(true, std::sync::atomic::Ordering::SeqCst);
        if again { refusal(412, "PreconditionFailed") } else { Reply::Lost }
    })
    .await;
    let objects = to(&fake);
    let put = async || objects.put_if_absent("x", vec![1], &Metadata::new()).await;
    assert_eq!(put().await.expect_err("lost").kind, ErrorKind::Unavailable);
    assert_eq!(put().await, Ok(Put::Exists));
}

#[tokio::test]
async fn missing_objects_are_none_and_metadata_is_as_it_was_given() {
    let fake = Fake::start(|seen| match (seen.method.as_str(), seen.path.contains("there")) {
        ("HEAD", true) => {
            let headers =
                vec![("x-amz-meta-End_Offset", "7".into()), ("x-amz-meta-name", "%EA%B0%92 100%".into())];
            Reply::Answer(200, headers, String::new())
        }
        ("GET", true) => Reply::Answer(200, vec![], "body".into()),
        _ => refusal(404, "NoSuchKey"),
    })
    .await;
    let objects = to(&fake);
    assert_eq!((objects.head("x").await, objects.get("x").await), (Ok(None), Ok(None)));
    let metadata = objects.head("there").await.expect("reads").expect("there");
    assert_eq!(
        metadata,
        Metadata::from([("end_offset".into(), "7".into()), ("name".into(), "값 100%".into())])
    );
    assert_eq!(objects.get("there").await, Ok(Some(b"body".to_vec())));
    let none = Fake::start(|_| refusal(404, "NoSuchBucket")).await;
    assert_eq!(to(&none).get("x").await.expect_err("no bucket").kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn long_listings_go_on_after_the_last_key() {
    let fake = Fake::start(|seen| {
        let (key, more) = if seen.path.contains("start-after=a%2Fb%2Ft%2F1") { ("a/b/t/2", false) } else { ("a/b/t/1", true) };
        let body = format!(
            "<ListBucketResult><IsTruncated>{more}</IsTruncated><Contents><Key>{key}</Key></Contents></ListBucketResult>"
        );
        Reply::Answer(200, vec![("content-type", "application/xml".into())], body)
    })
    .await;
    assert_eq!(to(&fake).list("t/", None, 10).await, Ok(vec!["t/1".into(), "t/2".into()]));
    assert!(fake.seen()[0].path.contains("prefix=a%2Fb%2Ft%2F"), "{:?}", fake.seen()[0]);
    assert_eq!(to(&fake).list("t/", None, 0).await, Ok(vec![]));
}

#[tokio::test]
async fn a_frozen_server_is_told_in_time() {
    let fake = Fake::start(|_| Reply::Frozen).await;
    let objects = S3Objects { limits: Limits::SHORT, ..to(&fake) };
    for error in [
        objects.put_if_absent("x", vec![1], &Metadata::new()).await.map(drop),
        objects.get("x").await.map(drop),
        objects.head("x").await.map(drop),
        objects.list("", None, 5).await.map(drop),
    ] {
        assert_eq!(error.expect_err("no answer").kind, ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn addresses_are_checked_without_a_server() {
    for bad in [
        "s3://a,b?user=k&password=hunter2",
        "s3://a:9000?user=k&password=hunter2",
        "s3://a?user=k&password=hunter2&endpoint=127.0.0.1:9000",
        "s3://a?user=k&password=hunter2&path_style=perhaps",
        "s3://a?user=k&password=hunter2&bucket=b",
        "s3://a?user=k",
        "s3://a?user=k&password=env:OPENBELL_NO_SUCH_VARIABLE",
        "s3://a?user=k&password=hunter2&ca=/no/such/file",
    ] {
        let error = connect(bad).map(drop).expect_err(bad);
        assert!(matches!(error.kind, ErrorKind::Forbidden | ErrorKind::Rejected), "{error}");
        assert!(!error.remedy.is_empty() && !error.to_string().contains("hunter2"), "{error}");
    }
}

//! Attacks over a real socket: paths that lead out, headers that are made up, texts that want to be markup,
//! and requests of other sites.

use std::sync::Arc;

use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::tests::Site;
use crate::view::format::part;
use backends::index::{Index, Item, ItemResult, Template};
use backends::log::{Committed, Partition, Polled, Record};
use backends::{BackendError, Backends, ErrorKind, Result};
use daemon::testing;
use steps::dead_letters::PREFIX;
use steps::testing::fakes::{Stores, empty};

const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'";

/// Sends a path as it is: clients tidy up dots before they send them.
async fn raw(site: &Site, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(site.base.trim_start_matches("http://")).await.expect("connected");
    let head = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    tokio::time::timeout(std::time::Duration::from_secs(120), stream.read_to_end(&mut answer))
        .await
        .expect("in time")
        .expect("read");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status =
        text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{path}: {text}"));
    (status, text)
}

/// Ways to ask for something outside of a folder.
const UP: [&str; 23] = [
    "..",
    "%2e%2e",
    "%2E.",
    "..%2f..",
    "%2e%2e%2f%2e%2e",
    "%252e%252e%252f",
    "..%5c..",
    "%5c%5chost",
    "%00",
    "a%00b",
    "%2fetc%2fpasswd",
    "/etc/passwd",
    "....//",
    "C:%5cx",
    "..%2fsecret",
    "a@1%2f..%2fsecret",
    "a@1%2f..%2f..%2fsecret",
    "a@..",
    "a@1%00",
    "%ff",
    "a%0d%0aset-cookie:%20x=1",
    "~root",
    "%c0%ae%c0%ae",
];

#[tokio::test]
async fn no_path_leads_out_of_where_it_belongs() {
    let site = Site::up(testing::snapshot()).await;
    let runs = site.daemon.runs.path();
    let run = "kis-trading-day@2026-11-20";
    for folder in [format!("{run}/collector/1"), "secret/s/1".to_owned(), format!("{run}/secret/1")] {
        std::fs::create_dir_all(runs.join(&folder)).expect("a folder");
        std::fs::write(runs.join(folder).join("output.log"), "the secret").expect("written");
    }
    std::fs::write(runs.join("secret/output.log"), "the secret").expect("written");
    // What is asked for by its name is given, so the others are not refused for another reason.
    let (status, text) = raw(&site, &format!("/api/v1/runs/{run}/steps/collector/output?attempt=1")).await;
    assert!(status == 200 && text.contains("the secret"), "{text}");
    let places = [
        "/assets/{}",
        "/runs/{}",
        "/runs/{}/steps/s/output",
        "/runs/{}/steps/s/output?download=1&attempt=1",
        "/api/v1/runs/{}",
        "/api/v1/runs/{}/steps/s/output?attempt=1",
        "/api/v1/runs/{}/steps/s/lines?attempt=1",
        "/api/v1/runs/kis-trading-day@2026-11-20/steps/{}/output?attempt=1&download=1",
        "/api/v1/runs/kis-trading-day@2026-11-20/steps/{}/lines",
        "/runs/kis-trading-day@2026-11-20/steps/{}/output",
        "/runs/kis-trading-day@2026-11-20/steps/{}/output/live?attempt=1&from=0&line=1",
        "/dags/{}",
        "/api/v1/dags/{}",
        "/api/v1/dags/{}/runs",
        "/api/v1/dags/{}/calendar",
        "/topics/{}",
        "/api/v1/topics/{}",
        "/api/v1/topics/{}/records",
        "/dead-letters/{}",
        "/dead-letters/{}/0/0",
        "/api/v1/dead-letters/{}",
        "/api/v1/dead-letters/{}/0/0",
        "/market/{}",
        "/api/v1/market/{}",
        "/events?page=run&run={}",
        "/events?page=dag&dag={}",
    ];
    for place in places {
        for part in UP {
            let path = place.replace("{}", part);
            let (status, text) = raw(&site, &path).await;
            assert!(status == 400 || status == 404, "{path}: {text}");
            let head = text.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
            assert!(!text.contains("the secret") && !text.contains("root:"), "{path}: {text}");
            assert!(!head.contains("set-cookie") && !head.contains("content-disposition"), "{path}: {head}");
        }
    }
    site.down().await;
}

#[tokio::test]
async fn the_name_of_a_download_is_only_made_of_names() {
    let site = Site::up(testing::snapshot()).await;
    // The longest and oddest names there can be.
    let (dag, step) = ("a".repeat(63), format!("0{}", "-_.".repeat(20)));
    let run = format!("{dag}@2026-11-20+manual.1");
    let folder = site.daemon.runs.path().join(&run).join(&step).join("1");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("output.log"), "x").expect("written");
    for path in [
        format!("/api/v1/runs/{run}/steps/{step}/output?download=1"),
        format!("/runs/{run}/steps/{step}/output?download=1"),
    ] {
        let answer = site.client.get(format!("{}{path}", site.base)).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let kept = answer.headers()["content-disposition"].to_str().expect("text");
        assert_eq!(kept, format!("attachment; filename=\"{run}.{step}.1.log\""));
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    }
    site.down().await;
}

/// An index whose complaints carry markup.
struct Complaining;

fn complain<T>() -> Result<T> {
    Err(BackendError::new(ErrorKind::Unavailable, format!("index {HOSTILE}"), HOSTILE).remedy(HOSTILE))
}

#[async_trait::async_trait]
impl Index for Complaining {
    async fn put_template(&self, _: &Template) -> Result<()> {
        complain()
    }
    async fn bulk(&self, _: Vec<Item>) -> Result<Vec<ItemResult>> {
        complain()
    }
    async fn indices(&self, _: &str) -> Result<Vec<String>> {
        complain()
    }
    async fn ids(&self, _: &str, _: &str, _: Option<&str>, _: usize) -> Result<Vec<String>> {
        complain()
    }
    async fn get(&self, _: &str, _: &str) -> Result<Option<Vec<u8>>> {
        complain()
    }
    async fn latest(&self, _: &str, _: &str) -> Result<Option<String>> {
        complain()
    }
}

/// Stores in which every name and every byte is an attack.
async fn hostile() -> Backends {
    let backends = Arc::new(Stores::default()).backends();
    let log = backends.log.as_ref();
    let dead = format!("{HOSTILE}.dlq");
    let header = |name: &str| (format!("{PREFIX}{name}"), HOSTILE.as_bytes().to_vec());
    let record = Record {
        key: Some(HOSTILE.into()),
        value: HOSTILE.into(),
        headers: vec![
            (HOSTILE.to_owned(), HOSTILE.into()),
            header("connector.name"),
            header("stage"),
            header("exception.class.name"),
            header("exception.message"),
            header("topic"),
        ],
        timestamp: testing::at("13:00:00"),
    };
    for topic in [HOSTILE, dead.as_str()] {
        log.create_topic(topic, 1).await.expect("created");
        log.append(topic, vec![record.clone()]).await.expect("appended");
    }
    let mut member = log.join(HOSTILE, &[HOSTILE.to_owned()], None).await.expect("joined");
    while !matches!(
        member.poll(std::time::Duration::from_secs(120)).await.expect("polled"),
        Polled::Assigned(_)
    ) {}
    let partition = Partition { topic: HOSTILE.to_owned(), number: 0 };
    member.commit(&[Committed { partition, next: 1 }]).await.expect("committed");
    Backends { index: Arc::new(Complaining), ..backends }
}

fn safe(path: &str, html: &str) {
    assert!(
        !html.contains("<script>") && !html.contains("<img"),
        "{path} carries markup of a stranger: {html}"
    );
    assert!(
        html.contains("&#60;script&#62;"),
        "{path} does not show what was hostile, so it proves nothing: {html}"
    );
}

#[tokio::test]
async fn no_text_of_a_store_becomes_markup() {
    let site = Site::over(testing::snapshot(), hostile().await).await;
    let name = part(HOSTILE);
    for path in [
        "/topics".to_owned(),
        format!("/topics/{name}"),
        "/dead-letters".to_owned(),
        format!("/dead-letters/{name}"),
        format!("/dead-letters/{name}?cause={name}"),
        format!("/dead-letters/{name}/0/0"),
        "/market".to_owned(),
        format!("/market/{name}"),
    ] {
        let (status, html) = site.get(&path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {html}");
        safe(&path, &html);
    }
    // What is missing is named too.
    for path in [
        format!("/topics/{name}x"),
        format!("/dead-letters/{name}x"),
        format!("/nowhere/{name}"),
        format!("/assets/{name}"),
        format!("/runs/{name}"),
        format!("/dags/{name}"),
        format!("/alerts?kind={name}"),
        format!("/market?date={name}"),
        format!("/topics/{name}?limit={name}"),
    ] {
        let (status, html) = site.get(&path).await;
        assert!(status.is_client_error(), "{path}: {status}");
        assert!(!html.contains("<script>") && !html.contains("<img"), "{path}: {html}");
    }
    let token = site.csrf().await;
    for (which, value) in [("all", ""), ("cause", ""), ("one", ""), ("edited", HOSTILE)] {
        let fields = [
            ("csrf", token.as_str()),
            ("topic", HOSTILE),
            ("which", which),
            ("cause", HOSTILE),
            ("partition", "0"),
            ("offset", "0"),
            ("value", value),
            ("sure", "yes"),
        ];
        let sent = site
            .client
            .post(format!("{}/dead-letters/replay", site.base))
            .form(&fields)
            .send()
            .await
            .expect("an answer");
        assert_eq!(sent.status(), StatusCode::OK, "{which}");
        safe(&format!("the replay of {which}"), &sent.text().await.expect("a page"));
    }
    site.down().await;
}

#[tokio::test]
async fn answers_for_programs_are_never_read_as_pages() {
    let site = Site::over(testing::snapshot(), hostile().await).await;
    let name = part(HOSTILE);
    for path in [
        format!("/api/v1/topics/{name}"),
        format!("/api/v1/topics/{name}/records"),
        format!("/api/v1/nowhere/{name}"),
        "/api/v1/market".to_owned(),
    ] {
        let answer = site
            .client
            .get(format!("{}{path}", site.base))
            .header("accept", "text/html")
            .send()
            .await
            .expect("an answer");
        let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
        assert!(kind.starts_with("application/"), "{path}: {kind}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path}");
        assert!(answer.text().await.expect("a body").contains("script"), "{path} does not carry the attack");
    }
    let problem = site.client.get(format!("{}/api/v1/market", site.base)).send().await.expect("an answer");
    assert_eq!(
        (problem.status().as_u16(), &problem.headers()["retry-after"]),
        (503, &"5".parse().expect("a value"))
    );
    site.down().await;
}

#[tokio::test]
async fn a_body_of_many_shapes_does_no_harm() {
    let mut site = Site::over(testing::snapshot(), empty()).await;
    let deep = "[".repeat(60_000);
    for body in [
        deep.as_str(),
        "null",
        "[]",
        "0",
        "\"x\"",
        "{\"dag\":{}}",
        "{\"dag\":\"a\",\"dag\":\"b\"}",
        "{\"params\":{\"a\":1}}",
        "\u{feff}{}",
        "{\"dag\":\"\\u0000\"}",
        "{\"dag\":\"\\ud800\"}",
    ] {
        let sent = site
            .client
            .post(format!("{}/api/v1/runs", site.base))
            .header("content-type", "application/json")
            .body(body.to_owned());
        let answer = sent.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{}", &body[..body.len().min(40)]);
        assert_eq!(
            answer.json::<serde_json::Value>().await.expect("JSON")["type"],
            json!("urn:openbell:problem:bad-body")
        );
    }
    assert!(site.daemon.commands.try_recv().is_err());
    site.down().await;
}

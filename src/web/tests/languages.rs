//! Languages and the base path, over a real socket.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE, COOKIE, LOCATION, SET_COOKIE, VARY};
use reqwest::{RequestBuilder, Response, StatusCode};

use crate::server::Options;
use crate::tests::Site;
use crate::tests::stores::{filled, market};
use daemon::testing;

/// Pages of every kind; those of the stores need what `filled` and `market` put there.
const PAGES: [&str; 8] = [
    "/",
    "/dags",
    "/dags/kis-trading-day",
    "/runs/kis-trading-day@2026-11-20",
    "/alerts",
    "/audit",
    "/account",
    "/nowhere",
];
const OF_LOG: [&str; 5] = [
    "/topics",
    "/topics/kis.trades",
    "/dead-letters",
    "/dead-letters/kis.trades?cause=rejected",
    "/dead-letters/kis.trades/0/0",
];
const OF_MARKET: [&str; 2] = ["/market", "/market/005930"];
const EMPTY: [&str; 3] = ["/topics", "/dead-letters", "/market"];

fn asked(site: &Site, path: &str) -> RequestBuilder {
    site.client.get(format!("{}{path}", site.base))
}

fn header<'a>(answer: &'a Response, name: &reqwest::header::HeaderName) -> &'a str {
    answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// Every page with its HTML, for a language and below a base path.
async fn pages(language: &str, base: &str) -> Vec<(String, String)> {
    let (log, figures) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let options = || Options { base: base.parse().expect("a base path"), ..Options::default() };
    let mut found = Vec::new();
    let mut idle = testing::snapshot();
    (idle.runs, idle.problems, idle.alerts, idle.audit) =
        (Vec::new(), Vec::new(), Vec::new(), std::sync::Arc::default());
    for (snapshot, stores, paths) in [
        (testing::snapshot(), filled(log.path()).await, PAGES.iter().chain(&OF_LOG).collect::<Vec<_>>()),
        (testing::ended(), market(figures.path()).await, PAGES.iter().chain(&OF_MARKET).collect()),
        (idle, steps::testing::fakes::empty(), PAGES.iter().chain(&EMPTY).collect()),
    ] {
        let site = Site::with(snapshot, stores, options()).await;
        for path in paths {
            let answer = asked(&site, &format!("{base}{path}"))
                .header(ACCEPT_LANGUAGE, language)
                .send()
                .await
                .expect("an answer");
            found.push((path.to_string(), answer.text().await.expect("a body")));
        }
        site.down().await;
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_is_answered_in_their_language() {
    let site = Site::up(testing::snapshot()).await;
    let read = |request: RequestBuilder| async {
        let answer = request.send().await.expect("an answer");
        let (language, vary) =
            (header(&answer, &CONTENT_LANGUAGE).to_owned(), header(&answer, &VARY).to_owned());
        (language, vary, answer.text().await.expect("a body"))
    };
    let (language, vary, page) = read(asked(&site, "/")).await;
    assert!(
        language == "en" && vary.contains("accept-language") && vary.contains("cookie"),
        "{language} {vary}"
    );
    assert!(page.contains("<html lang=\"en\">") && page.contains("Ingestion is stalled"), "{page}");
    let (language, _, page) =
        read(asked(&site, "/dags?x=1").header(ACCEPT_LANGUAGE, "ko-KR,ko;q=0.9,en;q=0.8")).await;
    assert!(language == "ko" && page.contains("<html lang=\"ko\">") && page.contains("지금 실행"), "{page}");
    let back = "href=\"/language?to=en&#38;back=%2Fdags%3Fx%3D1\" lang=\"en\"";
    assert!(page.contains(back), "the way to the other language leads back: {page}");
    let (_, _, page) =
        read(asked(&site, "/").header(ACCEPT_LANGUAGE, "ko").header(COOKIE, "openbell-language=en")).await;
    assert!(page.contains("Ingestion is stalled"), "what was chosen counts more than what the browser likes");
    let mut live = asked(&site, "/events?page=today")
        .header(COOKIE, "openbell-language=ko")
        .send()
        .await
        .expect("an answer");
    let mut event = String::new();
    while !event.contains("\n\n") {
        let piece = live.chunk().await.expect("read").expect("an event");
        event.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(event.contains("데이터 수신이 멈췄습니다") && !event.contains("Ingestion is stalled"), "{event}");
    drop(live);
    site.down().await;
}

#[tokio::test]
async fn a_language_is_chosen_by_a_link_and_leads_nowhere_else() {
    let site = Site::up(testing::snapshot()).await;
    for (query, to) in [
        ("to=ko&back=%2Fdags%3Fx%3D1", "/dags?x=1"),
        ("to=en", "/"),
        ("to=ko&back=%2F%2Fevil.example", "/"),
        ("to=ko&back=https%3A%2F%2Fevil.example", "/"),
        ("to=ko&back=%2F%5Cevil.example", "/"),
        ("to=ko&back=%2Fa%0D%0Aset-cookie%3A%20x%3D1", "/"),
        ("to=ko&back=%2Flanguage%3Fto%3Den", "/"),
    ] {
        let answer = asked(&site, &format!("/language?{query}")).send().await.expect("an answer");
        assert_eq!((answer.status(), header(&answer, &LOCATION)), (StatusCode::SEE_OTHER, to), "{query}");
        let cookie = header(&answer, &SET_COOKIE);
        assert!(
            cookie.starts_with("openbell-language=")
                && cookie.contains("Path=/;")
                && cookie.contains("SameSite=Lax"),
            "{cookie}"
        );
    }
    for query in ["to=xx", "to=", "", "to=ko%3B%20Path%3D%2Fx"] {
        let answer = asked(&site, &format!("/language?{query}")).send().await.expect("an answer");
        if query.starts_with("to=ko") {
            assert!(!header(&answer, &SET_COOKIE).contains("Path=/x"), "{query}");
        } else {
            assert_eq!(
                (answer.status(), header(&answer, &SET_COOKIE)),
                (StatusCode::BAD_REQUEST, ""),
                "{query}"
            );
        }
    }
    site.down().await;
}

/// Text of a page: what is between its tags, and in the attributes people hear or see.
fn text(html: &str) -> String {
    let mut text = String::new();
    for piece in html.split('<') {
        let (tag, after) = piece.split_once('>').unwrap_or(("", piece));
        for name in ["title=\"", "aria-label=\"", "placeholder=\""] {
            if let Some((_, value)) = tag.split_once(name) {
                text.push_str(value.split('"').next().unwrap_or_default());
                text.push('\n');
            }
        }
        text.push_str(after);
        text.push('\n');
    }
    text.replace("&#39;", "'").replace("&#38;", "&")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_in_korean_says_in_english_what_the_catalogue_has() {
    let catalogue: BTreeMap<String, String> =
        serde_json::from_str(include_str!("../assets/ko.json")).expect("a catalogue");
    // Texts of one piece that cannot be part of a name.
    let whole =
        |english: &&String| english.contains(' ') && english.len() > 8 && !english.contains(['{', '<', '#']);
    let texts: Vec<&String> = catalogue.keys().filter(whole).collect();
    assert!(texts.len() > 150, "{}", texts.len());
    let mut seen = BTreeSet::new();
    for (path, html) in pages("ko", "").await {
        assert!(html.contains("<html lang=\"ko\">"), "{path}");
        let shown = text(&html);
        for english in &texts {
            assert!(!shown.lines().any(|line| line.trim() == english.as_str()), "{path} says \"{english}\"");
            if shown.contains(&catalogue[*english]) {
                seen.insert(english.as_str());
            }
        }
    }
    assert!(seen.len() > 100, "the pages say what the catalogue has: {}", seen.len());
}

/// Values of an attribute.
fn values<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    html.split(&format!(" {name}=\"")).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_address_of_every_page_is_below_the_base_path() {
    let mut found = 0;
    for (path, html) in pages("en", "/ops/openbell").await {
        for name in ["href", "action", "src", "data-events"] {
            for value in values(&html, name) {
                found += 1;
                assert!(
                    value.starts_with("/ops/openbell/") || value.starts_with('#'),
                    "{path}: {name}=\"{value}\""
                );
                assert!(!value.contains("openbell/ops"), "{path}: {name}=\"{value}\" has it twice");
            }
        }
        let other = html.matches("url(").count()
            + html.matches("formaction").count()
            + html.matches("srcset").count();
        assert_eq!(other, 0, "{path} has addresses in other places");
    }
    assert!(found > 500, "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_a_base_path_every_link_leads_somewhere_and_nothing_is_outside() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { base: "/ob".parse().expect("a path"), ..Options::default() };
    let mut site = Site::with(testing::snapshot(), filled(folder.path()).await, options).await;
    let (mut known, mut left) = (BTreeSet::from(["/ob".to_owned()]), vec!["/ob".to_owned()]);
    while let Some(path) = left.pop() {
        let answer = asked(&site, &path).send().await.expect("an answer");
        let status = answer.status();
        // The day of the test has printed nothing, some of its runs are only named, and no averages were
        // written.
        let nothing = status == StatusCode::NOT_FOUND
            && ["/output", "/runs/", "/market/"].iter().any(|p| path.contains(p));
        assert!(status.is_success() || status.is_redirection() || nothing, "{path}: {status}");
        if status.is_redirection() {
            assert!(
                header(&answer, &LOCATION).starts_with("/ob/"),
                "{path} leads to {}",
                header(&answer, &LOCATION)
            );
        }
        let html = answer.text().await.expect("a body");
        for value in values(&html, "href").into_iter().chain(values(&html, "src")) {
            let next =
                value.split('#').next().unwrap_or_default().replace("&#38;", "&").replace("&amp;", "&");
            if known.len() < 250 && !next.is_empty() && known.insert(next.clone()) {
                left.push(next);
            }
        }
    }
    assert!(known.len() > 60, "{known:?}");
    for path in ["/", "/dags", "/obx/dags", "/api/v1/snapshot", "/metrics", "/ob/ob/dags"] {
        let answer = asked(&site, path).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert!(answer.headers().contains_key("content-security-policy"), "{path}");
        let body = answer.text().await.expect("a body");
        assert!(
            path.starts_with("/ob/") || body.contains("base_path") && body.contains("below /ob/"),
            "{path}: {body}"
        );
    }
    for path in ["/healthz", "/readyz", "/ob/healthz", "/ob/readyz"] {
        assert_eq!(asked(&site, path).send().await.expect("an answer").status(), StatusCode::OK, "{path}");
    }
    let document: serde_json::Value = site.json("/ob/api/v1/openapi.json").await;
    assert_eq!(document["servers"][0]["url"], "/ob/api/v1");
    let (_, page) = site.get("/ob/dags").await;
    let csrf = values(&page, "value").into_iter().find(|v| v.len() == 64).expect("a token").to_owned();
    let fields = [("csrf", csrf.as_str()), ("back", "dags")];
    let (status, _, _) = site.form("/ob/dags/kis-trading-day/pause", &fields, Ok("done".into())).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let chosen = asked(&site, "/ob/language?to=ko&back=%2Fdags").send().await.expect("an answer");
    assert_eq!(header(&chosen, &LOCATION), "/ob/dags");
    assert!(header(&chosen, &SET_COOKIE).contains("Path=/ob;"), "{}", header(&chosen, &SET_COOKIE));
    site.down().await;
}

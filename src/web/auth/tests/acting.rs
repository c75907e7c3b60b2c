//! Every route that acts, by table: what no stranger, no viewer and no page of another site may do.

use super::*;
use crate::routes::operations;

/// The paths of forms, as the router's own text has them: a new one is tested without anybody thinking of it.
fn forms() -> Vec<String> {
    let text = include_str!("../../routes.rs");
    let paths: Vec<_> = text
        .lines()
        .filter(|line| line.contains(".route(\"") && line.contains("post("))
        .filter_map(|line| line.split('"').nth(1))
        .map(filled)
        .collect();
    assert!(paths.len() >= 12 && paths.contains(&"/dags/kis-trading-day/pause".to_owned()), "{paths:?}");
    paths
}

fn filled(path: &str) -> String {
    let path = path.replace("{name}", "kis-trading-day").replace("{id}", "kis-trading-day@2026-11-20");
    path.replace("{step}", "collector")
        .replace("{topic}", "kis.trades")
        .replace("{partition}/{offset}", "0/0")
}

/// What is one's own, whatever the role.
const OWN: [&str; 3] = ["/logout", "/account/password", "/account/logout-everywhere"];

#[tokio::test]
async fn every_form_is_refused_to_strangers_viewers_other_sites_and_other_sessions() {
    let mut house = House::up().await;
    let (ann, other, kim) =
        (house.browser("ann", ANN).await, house.browser("ann", ANN).await, house.browser("kim", KIM).await);
    let (mine, theirs, hers) = (ann.csrf(&house).await, other.csrf(&house).await, kim.csrf(&house).await);
    let token = house.token("deploy", Role::Operator, None);
    for path in forms().into_iter().filter(|path| path != "/login") {
        let with = |csrf: &str| house.form(&path, &[("csrf", csrf), ("sure", "yes")]);
        assert_eq!(status(with(&mine)).await, 401, "{path}: a stranger with a stolen token of a form");
        if !OWN.contains(&path.as_str()) {
            assert_eq!(status(kim.on(with(&hers))).await, 403, "{path}: a viewer");
        }
        for csrf in ["", "0000", theirs.as_str(), hers.as_str()] {
            assert_eq!(status(ann.on(with(csrf))).await, 403, "{path}: the token {csrf:?}");
        }
        assert_eq!(status(ann.on(house.form(&path, &[]))).await, 403, "{path}: no token");
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1.evil.example"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(status(ann.on(with(&mine)).header(name, value)).await, 403, "{path}: {name}: {value}");
        }
        assert_eq!(status(with(&mine).bearer_auth(&token)).await, 403, "{path}: a program has no forms");
        let text = ann
            .on(house.request(Method::POST, &path))
            .header("content-type", "text/plain")
            .body(format!("csrf={mine}"));
        assert_eq!(status(text).await, 415, "{path}: no form at all");
    }
    for browser in [&ann, &other, &kim] {
        assert_eq!(status(browser.on(house.get("/dags"))).await, 200, "nobody was logged out by any of it");
    }
    assert!(house.nothing_was_done());
    house.down().await;
}

#[tokio::test]
async fn every_action_of_the_api_is_refused_to_strangers_viewers_and_other_sites() {
    let mut house = House::up().await;
    let (ann, kim) = (house.browser("ann", ANN).await, house.browser("kim", KIM).await);
    let viewer = house.token("look", Role::Viewer, None);
    let mut actions = 0;
    for (method, path) in operations().into_iter().filter(|(method, _)| *method != "get") {
        actions += 1;
        let path = format!("/api/v1{}", filled(&path));
        let method: Method = method.to_uppercase().parse().expect("a method");
        let bare = || house.request(method.clone(), &path);
        let own = || bare().header("x-openbell", "1");
        assert_eq!(status(own()).await, 401, "{path}: a stranger");
        assert_eq!(status(own().bearer_auth("openbell_0_0")).await, 401, "{path}: a made-up token");
        assert_eq!(status(own().bearer_auth(&viewer)).await, 403, "{path}: a viewer's token");
        assert_eq!(status(kim.on(own())).await, 403, "{path}: a viewer's session");
        assert_eq!(status(ann.on(bare())).await, 403, "{path}: without the header no form can send");
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/jsonp",
        ] {
            assert_eq!(
                status(ann.on(bare()).header("content-type", kind).body("{}")).await,
                403,
                "{path}: {kind}"
            );
        }
        for (name, value) in
            [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")]
        {
            assert_eq!(status(ann.on(own()).header(name, value)).await, 403, "{path}: {name}: {value}");
        }
        assert_eq!(
            status(ann.on(own()).header("host", "evil.example")).await,
            421,
            "{path}: another host's name"
        );
        let large = ann.on(own()).header("content-type", "application/json").body(" ".repeat(70_000));
        assert_eq!(status(large).await, 413, "{path}: a large body");
    }
    assert!(actions >= 9, "{actions}");
    assert!(house.nothing_was_done());
    house.down().await;
}

//! Programs: tokens.

use serde_json::Value;

use super::*;
use accounts::store;

#[tokio::test]
async fn a_token_reads_or_acts_by_its_role_until_it_is_revoked() {
    let mut house = House::up().await;
    let (look, deploy) =
        (house.token("grafana", Role::Viewer, None), house.token("deploy", Role::Operator, None));
    assert_eq!(status(house.get("/metrics").bearer_auth(&look)).await, 200);
    let (_, _, who) = read(house.get("/api/v1/whoami").bearer_auth(&look)).await;
    let who: Value = serde_json::from_str(&who).expect("JSON");
    assert_eq!(
        (&who["name"], &who["role"], &who["kind"]),
        (&"grafana".into(), &"viewer".into(), &"token".into())
    );
    let down = |token: &str| {
        house.request(Method::POST, "/api/v1/down").header("x-openbell", "1").bearer_auth(token)
    };
    let (refused, _, said) = read(down(&look)).await;
    assert!(refused == StatusCode::FORBIDDEN && said.contains("viewer grafana may look"), "{said}");
    let asked = down(&deploy);
    assert_eq!(house.command(asked).await, (StatusCode::OK, "token deploy".into()));
    let form = house.form(&format!("{RUN}/cancel"), &[("csrf", "")]).bearer_auth(&deploy);
    assert_eq!(status(form).await, 403, "a program has no pages, so no form can be its own");

    let noted = async {
        while store::last_used(&house.users).len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, noted).await.expect("both uses are written down");
    store::edit(&house.users, |all| all.revoke("deploy")).expect("revoked");
    assert_eq!(status(house.get("/api/v1/runs").bearer_auth(&deploy)).await, 401);
    assert!(house.nothing_was_done());
    house.down().await;
}

#[tokio::test]
async fn an_expired_token_is_worth_nothing() {
    let house = House::up().await;
    let expires = house.clock.now().checked_add(Duration::from_secs(60)).expect("a time");
    let token = house.token("soon", Role::Viewer, Some(expires));
    assert_eq!(status(house.get("/api/v1/runs").bearer_auth(&token)).await, 200);
    house.clock.advance(Duration::from_secs(60));
    let (refused, _, said) = read(house.get("/api/v1/runs").bearer_auth(&token)).await;
    assert!(refused == StatusCode::UNAUTHORIZED && said.contains("expired"), "{said}");
    house.down().await;
}

#[tokio::test]
async fn guessing_a_token_is_slowed_down_and_right_ones_still_count() {
    let house = House::up().await;
    let right = house.token("right", Role::Viewer, None);
    let ask = |token: &str| house.get("/api/v1/runs").bearer_auth(token);
    let guess = format!("{}{}", &right[..26], "0".repeat(64));
    for n in 0..20 {
        let guess = if n % 2 == 0 { guess.clone() } else { format!("guess{n}") };
        assert_eq!(status(ask(&guess)).await, 401);
    }
    let answer = ask("another guess").send().await.expect("an answer");
    assert_eq!(
        (answer.status(), &answer.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().expect("a value"))
    );
    assert_eq!(status(ask(&right)).await, 200, "whoever has a right one is not locked out by others");
    house.down().await;
}

#[tokio::test]
async fn a_wrong_token_is_not_made_good_by_a_session_and_other_schemes_are_not_tokens() {
    let house = House::up().await;
    let ann = house.browser("ann", ANN).await;
    assert_eq!(status(ann.on(house.get("/api/v1/runs")).bearer_auth("wrong")).await, 401);
    assert_eq!(status(ann.on(house.get("/api/v1/runs")).header("authorization", "Basic YTpi")).await, 200);
    assert_eq!(status(house.get("/api/v1/runs").header("authorization", "Bearer")).await, 401);
    assert_eq!(status(house.get("/healthz").bearer_auth("wrong")).await, 200, "probes are for everybody");
    house.down().await;
}

#[tokio::test]
async fn the_command_line_of_this_machine_acts_without_ceremony() {
    let mut house = House::up().await;
    assert_eq!(status(house.get("/api/v1/runs").bearer_auth(LOCAL)).await, 200);
    let down = house
        .request(Method::POST, "/api/v1/down")
        .header("x-openbell", "1")
        .header("user-agent", "openbell-cli/1");
    assert_eq!(house.command(down.bearer_auth(LOCAL)).await, (StatusCode::OK, "cli".into()));
    assert_eq!(status(house.get("/api/v1/runs").bearer_auth(&LOCAL[1..])).await, 401);
    house.down().await;
}

#[tokio::test]
async fn answers_are_kept_by_no_cache() {
    let house = House::up().await;
    let token = house.token("t", Role::Viewer, None);
    for path in ["/api/v1/runs", "/metrics", "/dags", "/nowhere"] {
        let answer = house.get(path).bearer_auth(&token).send().await.expect("an answer");
        assert_eq!(answer.headers()["cache-control"], "no-store", "{path}");
    }
    let style = house.get("/assets/openbell.css").send().await.expect("an answer");
    assert_eq!(style.headers()["cache-control"], "no-cache");
    house.down().await;
}

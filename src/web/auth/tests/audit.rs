//! What the audit is told of logins.

use super::*;

#[tokio::test]
async fn logins_logouts_and_new_passwords_are_told() {
    let mut house = House::up().await;
    let ann = house.browser("ann", ANN).await;
    assert_eq!(house.told(), ["ann|log in||done, from 127.0.0.1"]);
    assert_eq!(house.try_login("kim", "a wrong password", "/").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(house.told(), ["login|log in|kim|failed, from 127.0.0.1"]);
    // Somebody typed their password where the name goes.
    assert_eq!(house.try_login(ANN, "ann", "/").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(house.told(), ["login|log in|an unknown name|failed, from 127.0.0.1"]);
    let csrf = ann.csrf(&house).await;
    let password = |old: &str, new: &str| {
        let fields = [("csrf", csrf.as_str()), ("old", old), ("new", new), ("again", new)];
        ann.on(house.form("/account/password", &fields))
    };
    let (wrong, short) = (password("wrong password", "ann's other password"), password(ANN, "short"));
    let right = password(ANN, "ann's other password").send().await;
    // The right one ended the session: the others are only sent to be refused.
    assert_eq!((status(wrong).await, status(short).await), (401, 401));
    let renewed = Browser { cookie: session_cookie(&right.expect("an answer")) };
    assert_eq!(house.told(), ["ann|change password||done, from 127.0.0.1"]);
    let csrf = renewed.csrf(&house).await;
    let fields = [("csrf", csrf.as_str()), ("old", "wrong password"), ("new", "x"), ("again", "x")];
    assert_eq!(status(renewed.on(house.form("/account/password", &fields))).await, 403);
    assert_eq!(house.told(), ["login|change password|ann|failed, from 127.0.0.1"]);
    assert_eq!(status(renewed.on(house.form("/logout", &[("csrf", &csrf)]))).await, 303);
    let kim = house.browser("kim", KIM).await;
    let csrf = kim.csrf(&house).await;
    assert_eq!(status(kim.on(house.form("/account/logout-everywhere", &[("csrf", &csrf)]))).await, 303);
    assert_eq!(
        house.told(),
        ["ann|log out||done", "kim|log in||done, from 127.0.0.1", "kim|log out everywhere||done"]
    );
    house.down().await;
}

#[tokio::test]
async fn strangers_cannot_fill_the_audit() {
    let options =
        Options { trusted_proxies: vec!["127.0.0.1".parse().expect("a range")], ..Options::default() };
    let mut house = House::with(options, true).await;
    // Each from an address of its own, so that no throttle holds them.
    for n in 0..60 {
        let guess = house.get("/api/v1/runs").header("x-forwarded-for", format!("192.0.2.{n}"));
        assert_eq!(status(guess.bearer_auth(format!("guess {n}"))).await, 401);
    }
    let told = house.told();
    assert_eq!(told.len(), 11, "{told:?}");
    assert_eq!(told[0], "login|wrong token||failed, from 192.0.2.0");
    assert!(told[10].contains("too many fail"), "{told:?}");
    house.clock.advance(Duration::from_secs(600));
    assert_eq!(house.try_login("ann", "a wrong password", "/").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        house.told(),
        ["login|log in|ann|failed, from 127.0.0.1; 50 more failed before, and were only counted"]
    );
    house.down().await;
}

//! People: logging in, sessions, roles.

use std::time::Duration;

use accounts::password::NOBODY;

use super::*;

#[tokio::test]
async fn without_a_login_nothing_is_shown_and_nothing_done() {
    let mut house = House::up().await;
    for path in ["/", "/dags", RUN, "/nowhere", "/account", "/runs/x/steps/y/output"] {
        let answer = house.get(path).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{path}");
        assert!(location(&answer).starts_with("/login"), "{path}: {}", location(&answer));
    }
    for path in
        ["/api/v1/snapshot", "/api/v1/openapi.json", "/api/v1/nowhere", "/events?page=today", "/metrics"]
    {
        let answer = house.get(path).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(answer.headers()["www-authenticate"].to_str().expect("text").starts_with("Bearer"));
        let body = answer.text().await.expect("a body");
        assert!(body.contains("openbell token create") && !body.contains("kis"), "{path}: {body}");
    }
    for path in ["/healthz", "/readyz", "/login", "/assets/openbell.css"] {
        assert_eq!(status(house.get(path)).await, 200, "{path}");
    }
    for request in [
        house.form(&format!("{RUN}/cancel"), &[("csrf", "x")]),
        house.form("/logout", &[]),
        house.request(Method::POST, "/api/v1/down").header("x-openbell", "1"),
        house.request(Method::POST, "/healthz"),
        house.request(Method::DELETE, "/login/x"),
    ] {
        assert_eq!(status(request).await, 401);
    }
    assert!(house.nothing_was_done());
    house.down().await;
}

#[tokio::test]
async fn every_route_of_the_api_is_closed_to_strangers_and_acts_for_operators_only() {
    let mut house = House::up().await;
    let viewer = house.token("look", Role::Viewer, None);
    for (method, path) in crate::routes::operations() {
        let path = path.replace("{name}", "x").replace("{id}", "a@1").replace("{step}", "s");
        let method: Method = method.to_uppercase().parse().expect("a method");
        let ask = || house.request(method.clone(), &format!("/api/v1{path}")).header("x-openbell", "1");
        assert_eq!(status(ask()).await, 401, "{method} {path}");
        let seen = status(ask().bearer_auth(&viewer)).await;
        if method == Method::GET {
            assert!(seen != 401 && seen != 403, "{method} {path}: {seen}");
        } else {
            assert_eq!(seen, 403, "{method} {path}");
        }
    }
    assert!(house.nothing_was_done());
    house.down().await;
}

#[tokio::test]
async fn a_login_leads_to_where_one_wanted_to_go_and_its_cookie_is_kept_from_scripts() {
    let house = House::up().await;
    let wanted = format!("{RUN}?tab=steps");
    let sent = house.get(&wanted).send().await.expect("an answer");
    let (_, _, page) = read(house.get(location(&sent))).await;
    assert_eq!(hidden(&page, "next"), wanted);
    let answer = house.try_login("ann", ANN, &wanted).await;
    assert_eq!((answer.status(), location(&answer)), (StatusCode::SEE_OTHER, wanted.as_str()));
    let cookie = cookies(&answer).into_iter().find(|c| c.starts_with("openbell=")).expect("a session");
    for flag in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=604800"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "this site is not reached encrypted");
    assert_eq!(pair(&cookie).len(), "openbell=".len() + 64);
    let ann = Browser { cookie: pair(&cookie) };
    let (status, _, page) = read(ann.on(house.get("/dags"))).await;
    assert!(
        status == StatusCode::OK
            && page.contains("ann")
            && page.contains("Log out")
            && page.contains("Run now")
    );
    let again = ann.on(house.get("/login?next=/dags")).send().await.expect("an answer");
    assert_eq!(location(&again), "/dags", "who is logged in is not asked again");
    house.down().await;
}

#[tokio::test]
async fn behind_tls_cookies_are_secure_and_browsers_are_told_to_stay() {
    let options = Options { public_url: Some("https://ops.example.com".into()), ..Options::default() };
    let house = House::with(options, true).await;
    let page = house.get("/login").send().await.expect("an answer");
    assert_eq!(page.headers()["strict-transport-security"], "max-age=31536000");
    let answer = house.try_login("ann", ANN, "/").await;
    let cookie = cookies(&answer).into_iter().find(|c| c.starts_with("__Host-openbell=")).expect("a session");
    assert!(cookie.ends_with("; Secure"), "{cookie}");
    house.down().await;
    let plain = House::up().await;
    let page = plain.get("/login").send().await.expect("an answer");
    assert!(!page.headers().contains_key("strict-transport-security"));
    plain.down().await;
}

#[tokio::test]
async fn sessions_end_by_logging_out_by_a_new_password_and_with_their_user() {
    let house = House::up().await;
    let alive = async |browser: &Browser| status(browser.on(house.get("/dags"))).await == 200;
    let (one, two) = (house.browser("ann", ANN).await, house.browser("ann", ANN).await);
    let kim = house.browser("kim", KIM).await;
    assert!(alive(&one).await && alive(&two).await && alive(&kim).await);

    let csrf = one.csrf(&house).await;
    let out = one.on(house.form("/logout", &[("csrf", &csrf)])).send().await.expect("an answer");
    assert_eq!(location(&out), "/login");
    assert!(cookies(&out).iter().any(|c| c.starts_with("openbell=;") && c.contains("Max-Age=0")));
    assert!(!alive(&one).await && alive(&two).await);

    let three = house.browser("ann", ANN).await;
    let csrf = three.csrf(&house).await;
    assert_eq!(status(three.on(house.form("/account/logout-everywhere", &[("csrf", &csrf)]))).await, 303);
    assert!(!alive(&two).await && !alive(&three).await && alive(&kim).await);

    let four = house.browser("ann", ANN).await;
    store::edit(&house.users, |all| all.set_password("ann", NOBODY.into(), Timestamp::UNIX_EPOCH))
        .expect("set");
    assert!(!alive(&four).await, "the password is another one");
    store::edit(&house.users, |all| all.remove_user("kim")).expect("removed");
    assert!(!alive(&kim).await, "the user is gone");
    house.down().await;
}

#[tokio::test]
async fn a_session_ends_when_nobody_uses_it() {
    let house = House::up().await;
    let ann = house.browser("ann", ANN).await;
    house.clock.advance(Duration::from_secs(12 * 3600 - 1));
    assert_eq!(status(ann.on(house.get("/dags"))).await, 200);
    house.clock.advance(Duration::from_secs(12 * 3600));
    assert_eq!(status(ann.on(house.get("/dags"))).await, 303);
    house.down().await;
}

#[tokio::test]
async fn people_change_their_own_password_and_their_other_sessions_end() {
    let house = House::up().await;
    let (here, there) = (house.browser("kim", KIM).await, house.browser("kim", KIM).await);
    let csrf = here.csrf(&house).await;
    let fresh = "kim's other password";
    for (old, new, again, said) in [
        ("wrong password", fresh, fresh, "The old password is wrong."),
        (KIM, fresh, KIM, "differ"),
        (KIM, "short", "short", "at least 12"),
    ] {
        let fields = [("csrf", csrf.as_str()), ("old", old), ("new", new), ("again", again)];
        let (_, _, page) = read(here.on(house.form("/account/password", &fields))).await;
        assert!(page.contains(said), "{said}: {page}");
    }
    assert_eq!(status(there.on(house.get("/dags"))).await, 200, "nothing has changed yet");
    let fields = [("csrf", csrf.as_str()), ("old", KIM), ("new", fresh), ("again", fresh)];
    let answer = here.on(house.form("/account/password", &fields)).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let renewed = Browser { cookie: session_cookie(&answer) };
    assert_eq!(status(renewed.on(house.get("/dags"))).await, 200);
    for old in [&here, &there] {
        assert_eq!(status(old.on(house.get("/dags"))).await, 303);
    }
    assert_eq!(house.try_login("kim", KIM, "/").await.status(), StatusCode::UNAUTHORIZED);
    house.browser("kim", fresh).await;
    house.down().await;
}

#[tokio::test]
async fn a_viewer_sees_everything_and_acts_on_nothing() {
    let mut house = House::up().await;
    let (ann, kim) = (house.browser("ann", ANN).await, house.browser("kim", KIM).await);
    for path in ["/dags", RUN] {
        let (seen, _, page) = read(kim.on(house.get(path))).await;
        assert_eq!(seen, StatusCode::OK);
        assert!(
            !page.contains("action=\"/dags") && !page.contains("action=\"/runs"),
            "{path} offers what a viewer may not do"
        );
        let (_, _, page) = read(ann.on(house.get(path))).await;
        assert!(page.contains("action=\"/dags") || page.contains("action=\"/runs"), "{path}");
    }
    let mut live = kim.on(house.get("/events?page=dags")).send().await.expect("an answer");
    let first = live.chunk().await.expect("a stream").expect("an event");
    assert!(!String::from_utf8_lossy(&first).contains("/pause"), "live pages leave them out too");
    drop(live);

    let csrf = kim.csrf(&house).await;
    let form =
        kim.on(house.form(&format!("{RUN}/cancel"), &[("csrf", &csrf)])).send().await.expect("an answer");
    assert_eq!(form.status(), StatusCode::FORBIDDEN);
    let page = form.text().await.expect("a page");
    assert!(page.contains("Viewer kim may look at everything, but not act."), "{page}");
    let api = kim.on(house.request(Method::POST, "/api/v1/down").header("x-openbell", "1"));
    assert_eq!(status(api).await, 403);
    assert!(house.nothing_was_done());

    let csrf = ann.csrf(&house).await;
    let cancel = ann.on(house.form(&format!("{RUN}/cancel"), &[("csrf", &csrf)]));
    assert_eq!(
        house.command(cancel).await,
        (StatusCode::SEE_OTHER, "ann".into()),
        "it is written down who did it"
    );
    store::edit(&house.users, |all| all.set_role("ann", Role::Viewer)).expect("set");
    let cancel = ann.on(house.form(&format!("{RUN}/cancel"), &[("csrf", &csrf)]));
    assert_eq!(status(cancel).await, 403, "a role counts from now on, in open sessions too");
    house.down().await;
}

#[tokio::test]
async fn a_live_page_ends_with_its_session() {
    let house = House::up().await;
    let ann = house.browser("ann", ANN).await;
    let mut live = ann.on(house.get("/events?page=today")).send().await.expect("an answer");
    assert!(live.chunk().await.expect("a stream").is_some());
    let csrf = ann.csrf(&house).await;
    assert_eq!(status(ann.on(house.form("/logout", &[("csrf", &csrf)]))).await, 303);
    let mut next = testing::snapshot();
    next.now = testing::at("13:12:40");
    house.daemon.snapshots.send_replace(next.into());
    let mut after = String::new();
    let reading = async {
        while let Ok(Some(chunk)) = live.chunk().await {
            after.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the stream ends");
    assert!(!after.contains("13:12:40"), "{after}");
    house.down().await;
}

#[tokio::test]
async fn the_first_user_closes_an_open_site() {
    let house = House::with(Options::default(), false).await;
    assert_eq!(status(house.get("/dags")).await, 200);
    let (_, _, page) = read(house.get("/account")).await;
    assert!(page.contains("openbell user add"));
    let login = house.get("/login").send().await.expect("an answer");
    assert_eq!(location(&login), "/", "there is nothing to log in to");
    let mut live = house.get("/events?page=today").send().await.expect("an answer");
    assert!(live.chunk().await.expect("a stream").is_some());
    let hash = password::hash(ANN).expect("hashed");
    store::edit(&house.users, |all| all.add_user("ann", Role::Operator, hash, Timestamp::UNIX_EPOCH))
        .expect("added");
    assert_eq!(status(house.get("/dags")).await, 303);
    house.daemon.snapshots.send_modify(|_| {});
    let rest = async { while live.chunk().await.is_ok_and(|chunk| chunk.is_some()) {} };
    tokio::time::timeout(PATIENCE, rest).await.expect("pages that were open before end");
    std::fs::remove_file(&house.users).expect("removed");
    assert_eq!(status(house.get("/dags")).await, 303, "a lost file opens nothing");
    house.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_a_base_path_logins_stay_below_it() {
    let base = || "/ob".parse().expect("a path");
    let house = House::with(Options { base: base(), ..Options::default() }, true).await;
    let answer = house.get("/ob/dags").send().await.expect("an answer");
    assert_eq!(answer.headers()["location"], "/ob/login?next=%2Fdags");
    let (status, cookies, page) = read(house.get("/ob/login?next=%2Fdags")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("action=\"/ob/login\"") && page.contains("한국어"), "{page}");
    let cookie = cookies.iter().find(|c| c.starts_with("openbell-login=")).expect("a cookie");
    assert!(cookie.contains("Path=/ob;"), "{cookie}");
    let fields = [("csrf", &*hidden(&page, "csrf")), ("name", "ann"), ("password", ANN), ("next", "/dags")];
    let answer =
        house.form("/ob/login", &fields).header("cookie", pair(cookie)).send().await.expect("an answer");
    assert_eq!(
        (answer.status(), &answer.headers()["location"]),
        (StatusCode::SEE_OTHER, &"/ob/dags".parse().expect("a value"))
    );
    let session = answer.headers().get_all("set-cookie").iter().filter_map(|v| v.to_str().ok());
    let session = session.map(str::to_owned).find(|c| c.starts_with("openbell=")).expect("a session");
    assert!(session.contains("Path=/ob;"), "{session}");
    let (status, _, page) = read(house.get("/ob/account").header("cookie", pair(&session))).await;
    assert!(status == StatusCode::OK && page.contains("action=\"/ob/logout\""), "{page}");
    house.down().await;
    // A cookie of the whole host cannot have a path; encrypted it still says so by its name.
    let options =
        Options { base: base(), public_url: Some("https://ops.example.com/ob".into()), ..Options::default() };
    let house = House::with(options, true).await;
    let (_, cookies, _) = read(house.get("/ob/login")).await;
    assert!(
        cookies.iter().any(|c| c.starts_with("__Secure-openbell-login=") && c.contains("; Secure")),
        "{cookies:?}"
    );
    house.down().await;
}

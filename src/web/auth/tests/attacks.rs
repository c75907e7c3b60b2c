//! People who are not who they say.

use super::*;

#[tokio::test]
async fn a_login_leads_to_this_site_only() {
    let house = House::up().await;
    for next in [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "",
    ] {
        let answer = house.try_login("ann", ANN, next).await;
        assert_eq!((answer.status(), location(&answer)), (StatusCode::SEE_OTHER, "/"), "{next}");
    }
    let (_, _, page) = read(house.get("/login?next=https://evil.example/%22%3E%3Cscript%3E")).await;
    assert!(!page.contains("evil.example"), "{page}");
    let ann = house.browser("ann", ANN).await;
    let again = ann.on(house.get("/login?next=//evil.example")).send().await.expect("an answer");
    assert_eq!(location(&again), "/");
    house.down().await;
}

#[tokio::test]
async fn forms_of_other_pages_and_other_sessions_do_nothing() {
    let mut house = House::up().await;
    let (ann, other) = (house.browser("ann", ANN).await, house.browser("ann", ANN).await);
    let cancel = format!("{RUN}/cancel");
    let (mine, theirs) = (ann.csrf(&house).await, other.csrf(&house).await);
    assert_ne!(mine, theirs);
    let site_wide = house.site.door.form_token.to_string();
    for token in ["", "0000", theirs.as_str(), site_wide.as_str()] {
        assert_eq!(status(ann.on(house.form(&cancel, &[("csrf", token)]))).await, 403, "{token}");
    }
    assert_eq!(status(ann.on(house.form(&cancel, &[]))).await, 403);
    for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
        let sent = ann.on(house.form(&cancel, &[("csrf", &mine)])).header(name, value);
        assert_eq!(status(sent).await, 403, "{name}");
    }
    // What a form of another site can send to the API with a browser's cookie.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let sent = ann
            .on(house.request(Method::POST, "/api/v1/down"))
            .header("content-type", kind)
            .body("{\"drain\":true}");
        assert_eq!(status(sent).await, 403, "{kind}");
    }
    // An unencoded form, as text: its token would not be looked at.
    let plain = ann
        .on(house.request(Method::POST, &cancel))
        .header("content-type", "text/plain")
        .body(format!("csrf={mine}"));
    assert_eq!(status(plain).await, 415);
    assert_eq!(
        status(ann.on(house.form("/logout", &[("csrf", &theirs)]))).await,
        403,
        "nobody is logged out by others"
    );
    assert!(house.nothing_was_done());
    house.down().await;
}

#[tokio::test]
async fn nobody_is_logged_in_by_a_form_that_is_not_of_this_browser() {
    let house = House::up().await;
    let (cookie, csrf) = house.login_page().await;
    let (_, foreign) = house.login_page().await;
    let right = [("csrf", csrf.as_str()), ("name", "ann"), ("password", ANN)];
    let wrong = [("csrf", foreign.as_str()), ("name", "ann"), ("password", ANN)];
    assert_eq!(status(house.form("/login", &right)).await, 403, "no cookie");
    assert_eq!(
        status(house.form("/login", &wrong).header("cookie", &cookie)).await,
        403,
        "another page's token"
    );
    let empty = [("csrf", ""), ("name", "ann"), ("password", ANN)];
    assert_eq!(
        status(house.form("/login", &empty).header("cookie", "openbell-login=")).await,
        403,
        "nothing equals nothing"
    );
    let evil =
        house.form("/login", &right).header("cookie", &cookie).header("origin", "https://evil.example");
    assert_eq!(status(evil).await, 403);
    assert_eq!(house.looked_at(), 0, "no password was looked at");
    assert_eq!(status(house.form("/login", &right).header("cookie", &cookie)).await, 303);
    house.down().await;
}

#[tokio::test]
async fn an_id_somebody_else_chose_is_never_a_session() {
    let house = House::up().await;
    let chosen = format!("openbell={}", "a".repeat(64));
    let (cookie, csrf) = house.login_page().await;
    let fields = [("csrf", csrf.as_str()), ("name", "ann"), ("password", ANN)];
    let sent = house.form("/login", &fields).header("cookie", format!("{cookie}; {chosen}"));
    let answer = sent.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let given = session_cookie(&answer);
    assert_ne!(given, chosen);
    assert_eq!(status(house.get("/dags").header("cookie", &chosen)).await, 303);
    // A second login in the same browser ends the first session.
    let (cookie, csrf) = house.login_page().await;
    let fields = [("csrf", csrf.as_str()), ("name", "kim"), ("password", KIM)];
    let second = house
        .form("/login", &fields)
        .header("cookie", format!("{cookie}; {given}"))
        .send()
        .await
        .expect("an answer");
    assert_ne!(session_cookie(&second), given);
    assert_eq!(status(house.get("/dags").header("cookie", &given)).await, 303);
    house.down().await;
}

#[tokio::test]
async fn an_unknown_name_is_answered_like_a_wrong_password() {
    let house = House::up().await;
    let mut answers = Vec::new();
    for name in ["ann", "nobody"] {
        let before = house.looked_at();
        let answer = house.try_login(name, "a wrong password", "/").await;
        assert_eq!(house.looked_at(), before + 1, "a password is looked at for {name} too: it takes as long");
        let status = answer.status();
        let page = answer.text().await.expect("a page");
        let token = hidden(&page, "csrf");
        answers.push((status, page.replace(&token, "").replace(&format!("value=\"{name}\""), "")));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0, StatusCode::UNAUTHORIZED);
    assert!(answers[0].1.contains("Name or password is wrong."));
    house.down().await;
}

#[tokio::test]
async fn guessing_a_password_is_slowed_down_whether_there_is_such_a_user_or_not() {
    let house = House::up().await;
    for name in ["ann", "nobody"] {
        for _ in 0..5 {
            assert_eq!(
                house.try_login(name, "a wrong password", "/").await.status(),
                StatusCode::UNAUTHORIZED
            );
        }
        let looked_at = house.looked_at();
        let answer = house.try_login(name, ANN, "/").await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{name}: even the right one has to wait");
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(house.looked_at(), looked_at);
    }
    assert_eq!(house.try_login("kim", KIM, "/").await.status(), StatusCode::SEE_OTHER, "others are let in");
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(house.try_login("ann", "a wrong password", "/").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(house.try_login("ann", ANN, "/").await.headers()["retry-after"], "2", "twice as long");
    house.clock.advance(Duration::from_secs(2));
    assert_eq!(house.try_login("ann", ANN, "/").await.status(), StatusCode::SEE_OTHER);
    house.down().await;
}

#[tokio::test]
async fn an_address_that_tries_many_names_waits_and_a_proxys_clients_are_told_apart() {
    let options =
        Options { trusted_proxies: vec!["127.0.0.1".parse().expect("a range")], ..Options::default() };
    let house = House::with(options, true).await;
    let from = async |address: &str, name: &str| {
        let (cookie, csrf) = house.login_page().await;
        let fields = [("csrf", csrf.as_str()), ("name", name), ("password", "a wrong password")];
        let request =
            house.form("/login", &fields).header("cookie", cookie).header("x-forwarded-for", address);
        status(request).await
    };
    for n in 0..20 {
        assert_eq!(from("192.0.2.1", &format!("user{n}")).await, 401);
    }
    assert_eq!(from("192.0.2.1", "another").await, 429);
    assert_eq!(
        from("7.7.7.7, 192.0.2.1", "another").await,
        429,
        "what a client writes itself does not help it"
    );
    assert_eq!(from("192.0.2.2", "another").await, 401);
    house.down().await;
}

#[tokio::test]
async fn what_is_typed_into_the_login_comes_back_as_text() {
    let house = House::up().await;
    let typed = "\"><script>alert(1)</script>";
    let page = house
        .try_login(typed, "a wrong password", &format!("/dags?{typed}"))
        .await
        .text()
        .await
        .expect("a page");
    assert!(!page.contains("<script>alert") && page.contains("&#60;script&#62;alert(1)"), "{page}");
    house.down().await;
}

#[tokio::test]
async fn what_a_stranger_may_send_is_small() {
    let house = House::up().await;
    let (cookie, csrf) = house.login_page().await;
    let long = "x".repeat(66_000);
    let fields = [("csrf", csrf.as_str()), ("name", "ann"), ("password", long.as_str())];
    assert_eq!(status(house.form("/login", &fields).header("cookie", cookie)).await, 413);
    assert_eq!(house.looked_at(), 0);
    house.down().await;
}

#[tokio::test]
async fn other_machines_are_served_only_when_everybody_has_to_log_in() {
    let serve = async |users: bool| {
        let house = House::with(Options::default(), users).await;
        let settings = Settings {
            users: house.users.clone(),
            required: false,
            metrics_open: false,
            idle: SignedDuration::from_hours(1),
            longest: SignedDuration::from_hours(1),
            local: None,
            clock: house.clock.clone(),
        };
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
        let options = Options { auth: Some(settings), ..Options::default() };
        let stop = CancellationToken::new();
        // With users it serves until it is stopped, which it is at once.
        stop.cancel();
        let ended = crate::serve_with(
            listener,
            house.daemon.handle.clone(),
            steps::testing::fakes::empty(),
            stop,
            options,
        )
        .await;
        house.down().await;
        ended
    };
    let refused = serve(false).await.expect_err("refused").to_string();
    assert!(refused.contains("openbell user add") && refused.contains("127.0.0.1"), "{refused}");
    serve(true).await.expect("served");
}

#[tokio::test]
async fn a_site_that_needs_users_does_not_start_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("users.json");
    let start = || {
        let settings = Settings {
            users: path.clone(),
            required: true,
            metrics_open: false,
            idle: SignedDuration::from_hours(1),
            longest: SignedDuration::from_hours(1),
            local: None,
            clock: Clock::manual(Timestamp::UNIX_EPOCH),
        };
        let options = Options { auth: Some(settings), ..Options::default() };
        let daemon = Daemon::showing(testing::snapshot());
        Site::new(daemon.handle, steps::testing::fakes::empty(), CancellationToken::new(), options)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert!(start().expect_err("no file").contains("openbell user add"));
    store::edit(&path, |_| Ok(())).expect("an empty file");
    assert!(start().expect_err("nobody in it").contains("openbell user add"));
    std::fs::write(&path, "users: [ann]").expect("written");
    assert!(start().expect_err("not one of ours").contains("users.json"));
}

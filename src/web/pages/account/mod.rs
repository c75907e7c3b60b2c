//! Logging in and out, and one's own account. Forms that work without a script.

use std::collections::BTreeMap;

use accounts::secret;
use askama::Template;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::header::{HeaderMap, HeaderValue, RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};

use crate::auth::access::{Access, Change, NotIn};
use crate::auth::cookie::Cookie;
use crate::auth::door::{in_force, is_own_login, retry_after, seconds};
use crate::auth::need::local;
use crate::auth::throttle::Key;
use crate::auth::{Caller, Visitor, Who};
use crate::http::reply::{Page, PageRefusal, Refusal};
use crate::locale::{Reader, Text, filters, say, words};
use crate::server::App;
use crate::view::Fragment;
use daemon::handle::Note;
use domain::message::Message;
use domain::said;

/// How long a login page can be left open, in seconds.
const LOGIN_SECONDS: i64 = 24 * 60 * 60;

type Fields = Result<Form<BTreeMap<String, String>>, FormRejection>;

#[derive(Template)]
#[template(path = "pages/account/login.html")]
struct Login<'a> {
    next: &'a str,
    name: &'a str,
    csrf: &'a str,
    error: &'a Text,
}

#[derive(Template)]
#[template(path = "pages/account/account.html")]
struct Account<'a> {
    name: &'a str,
    role: Text,
    /// They may act.
    operator: bool,
    /// Forms are for people with a session.
    session: bool,
    csrf: &'a str,
    error: &'a Text,
}

fn fields(fields: Fields) -> Result<BTreeMap<String, String>, Refusal> {
    let refuse = |error: FormRejection| {
        Refusal::new(error.status(), Message::foreign(error.body_text().to_lowercase()), said!("send the form of the page"))
    };
    fields.map(|Form(fields)| fields).map_err(refuse)
}

fn with_cookie(mut answer: Response, cookie: &str) -> Response {
    // Made of hexadecimal digits and fixed words.
    if let Ok(value) = HeaderValue::from_str(cookie) {
        answer.headers_mut().append(SET_COOKIE, value);
    }
    answer
}

fn no_randomness(error: &std::io::Error) -> Refusal {
    tracing::error!(%error, "no randomness for a login");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, said!("the machine gives no random numbers"), said!("look at /dev/urandom"))
}

/// The login page with what went wrong, if something did.
fn login_page(headers: &HeaderMap, visitor: Visitor, next: &str, name: &str, error: &Text) -> Result<Response, Refusal> {
    let known = Cookie::Login.read(headers, visitor.encrypted);
    let known = known.filter(|value| value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit()));
    let csrf = match known {
        Some(value) => value.to_owned(),
        None => secret::token().map_err(|error| no_randomness(&error))?,
    };
    let form = Login { next: local(next), name, csrf: &csrf, error };
    let page = Page::new("login", say!("Log in"), None, vec![Fragment::new("login", &form, &Reader::current())]).into_response();
    Ok(with_cookie(page, &Cookie::Login.set(&csrf, visitor.encrypted, LOGIN_SECONDS)))
}

/// Asks who it is.
pub(crate) async fn login_form(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    query: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let query = query.map(|Query(query)| query).unwrap_or_default();
    let next = query.get("next").map_or("/", |next| local(next));
    if in_force(&app).is_none() || Caller::current().role.is_some() {
        return Ok(Redirect::to(next).into_response());
    }
    Ok(login_page(&headers, visitor, next, "", &Text::default())?)
}

/// Words and status for somebody who is not let in. They are the same whether there is such a user or not.
fn in_words(why: &NotIn) -> (StatusCode, Text) {
    match why {
        NotIn::Wrong => (StatusCode::UNAUTHORIZED, say!("Name or password is wrong.")),
        NotIn::Wait(wait) => (StatusCode::TOO_MANY_REQUESTS, say!("That failed too often. Try again in {} s.", seconds(*wait))),
        NotIn::Busy => (StatusCode::SERVICE_UNAVAILABLE, say!("Too many people are logging in just now. Try again in a moment.")),
    }
}

fn dress(mut answer: Response, why: &NotIn) -> Response {
    *answer.status_mut() = in_words(why).0;
    match why {
        NotIn::Wrong => {
            let scheme = HeaderValue::from_static("Bearer realm=\"openbell\"");
            answer.headers_mut().insert(HeaderName::from_static("www-authenticate"), scheme);
        }
        NotIn::Wait(wait) => drop(answer.headers_mut().insert(RETRY_AFTER, retry_after(*wait))),
        NotIn::Busy => drop(answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"))),
    }
    answer
}

/// Tells the audit of a wrong password, unless too many are wrong.
fn note_failure(app: &App, access: &Access, what: &'static str, subject: &str, visitor: Visitor) {
    if let Some(note) = access.tell(what, subject, visitor.address) {
        app.handle.note(note);
    }
}

/// Logs somebody in.
pub(crate) async fn log_in(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    sent: Fields,
) -> Result<Response, PageRefusal> {
    let sent = fields(sent)?;
    let field = |name: &str| sent.get(name).map_or("", String::as_str);
    let next = local(field("next"));
    let Some(access) = in_force(&app) else { return Ok(Redirect::to(next).into_response()) };
    let name = field("name").trim();
    if !is_own_login(&headers, visitor, sent.get("csrf")) {
        let stale = say!("This page was open for too long, or cookies are off. Try again.");
        let mut page = login_page(&headers, visitor, next, name, &stale)?;
        *page.status_mut() = StatusCode::FORBIDDEN;
        return Ok(page);
    }
    let from = Key::address(visitor.address);
    match access.log_in(name, field("password").to_owned(), from).await {
        Ok(id) => {
            // Whoever was logged in here before no longer is: an id is never carried over.
            if let Some(old) = Cookie::Session.read(&headers, visitor.encrypted) {
                access.log_out(old);
            }
            tracing::info!(user = name, address = %visitor.address, "logged in");
            app.handle.note(Note::new(name, "log in", "", format!("done, from {}", visitor.address)));
            let cookie = Cookie::Session.set(&id, visitor.encrypted, access.longest().as_secs());
            let answer = with_cookie(Redirect::to(next).into_response(), &cookie);
            Ok(with_cookie(answer, &Cookie::Login.set("", visitor.encrypted, 0)))
        }
        Err(why) => {
            if why == NotIn::Wrong {
                tracing::warn!(address = %visitor.address, "a login failed: name or password is wrong");
                note_failure(&app, access, "log in", &access.known_name(name), visitor);
            }
            Ok(dress(login_page(&headers, visitor, next, name, &in_words(&why).1)?, &why))
        }
    }
}

/// Ends the session.
pub(crate) async fn log_out(State(app): State<App>, Extension(visitor): Extension<Visitor>) -> Response {
    if let (Some(access), Who::User { name, session }) = (in_force(&app), &Caller::current().who) {
        access.log_out(session);
        app.handle.note(Note::new(name, "log out", "", "done"));
    }
    with_cookie(Redirect::to("/login").into_response(), &Cookie::Session.set("", visitor.encrypted, 0))
}

/// Ends all sessions of whoever asks.
pub(crate) async fn log_out_everywhere(State(app): State<App>, Extension(visitor): Extension<Visitor>) -> Response {
    if let (Some(access), Who::User { name, .. }) = (in_force(&app), &Caller::current().who) {
        access.log_out_everywhere(name);
        tracing::info!(user = name, "logged out everywhere");
        app.handle.note(Note::new(name, "log out everywhere", "", "done"));
    }
    with_cookie(Redirect::to("/login").into_response(), &Cookie::Session.set("", visitor.encrypted, 0))
}

fn account_page(caller: &Caller, error: &Text) -> Response {
    let session = matches!(caller.who, Who::User { .. });
    let account = Account {
        name: caller.name().unwrap_or_default(),
        role: caller.role.map_or_else(Text::default, words::role),
        operator: caller.acts(),
        session,
        csrf: &caller.csrf,
        error,
    };
    Page::new("account", say!("Account"), None, vec![Fragment::new("account", &account, &Reader::current())]).into_response()
}

/// One's own account.
pub(crate) async fn account() -> Response {
    account_page(&Caller::current(), &Text::default())
}

/// Sets one's own password, and ends all other sessions.
pub(crate) async fn change_password(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    sent: Fields,
) -> Result<Response, PageRefusal> {
    let sent = fields(sent)?;
    let caller = Caller::current();
    let (Some(access), Who::User { name, .. }) = (in_force(&app), &caller.who) else {
        return Err(Refusal::bad(said!("only users have a password"), said!("log in as one")).into());
    };
    let field = |name: &str| sent.get(name).cloned().unwrap_or_default();
    if field("new") != field("again") {
        return Ok(account_page(&caller, &say!("The two new passwords differ.")));
    }
    match access.change_password(name, field("old"), field("new"), Key::address(visitor.address)).await {
        Ok(id) => {
            tracing::info!(user = name, "changed their password");
            app.handle.note(Note::new(name, "change password", "", format!("done, from {}", visitor.address)));
            let cookie = Cookie::Session.set(&id, visitor.encrypted, access.longest().as_secs());
            // The page's forms need the new session's token: it is asked for again.
            Ok(with_cookie(Redirect::to("/account").into_response(), &cookie))
        }
        Err(Change::NotIn(NotIn::Wrong)) => {
            note_failure(&app, access, "change password", name, visitor);
            let mut page = account_page(&caller, &say!("The old password is wrong."));
            *page.status_mut() = StatusCode::FORBIDDEN;
            Ok(page)
        }
        Err(Change::NotIn(why)) => Ok(dress(account_page(&caller, &in_words(&why).1), &why)),
        Err(Change::Unfit(why)) => {
            let mut page = account_page(&caller, &Text::plain(why));
            *page.status_mut() = StatusCode::BAD_REQUEST;
            Ok(page)
        }
        Err(Change::Failed(error)) => {
            tracing::error!(%error, "a password could not be changed");
            let remedy = said!("look at the daemon's log");
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, said!("the password could not be changed"), remedy).into())
        }
    }
}

//! Logging in and out, and one's own account. Forms that work without a script.

use std::collections::BTreeMap;
use std::sync::Arc;

use accounts::secret;
use askama::Template;
use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{HeaderMap, HeaderValue, RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};

use crate::auth::Visitor;
use crate::auth::access::{Access, Change, NotIn};
use crate::auth::cookie::Cookie;
use crate::auth::door::{in_force, is_own_login, retry_after, seconds};
use crate::auth::need::local;
use crate::auth::throttle::Key;
use crate::http::caller::Who;
use crate::http::form::Fields;
use crate::http::page::Frame;
use crate::http::reply::{PageRefusal, Refusal};
use crate::locale::{Text, filters, say, words};
use crate::view::Fragment;
use config::BasePath;
use daemon::Handle;
use daemon::handle::Note;
use domain::said;

/// How long a login page can be left open, in seconds.
const LOGIN_SECONDS: i64 = 24 * 60 * 60;

type Logins = State<Option<Arc<Access>>>;

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

fn with_cookie(mut answer: Response, cookie: &str) -> Response {
    // Made of hexadecimal digits and fixed words.
    if let Ok(value) = HeaderValue::from_str(cookie) {
        answer.headers_mut().append(SET_COOKIE, value);
    }
    answer
}

fn no_randomness(error: &std::io::Error) -> Refusal {
    tracing::error!(%error, "no randomness for a login");
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        said!("the machine gives no random numbers"),
        said!("look at /dev/urandom"),
    )
}

/// The login page with what went wrong, if something did.
fn login_page(
    frame: &Frame,
    headers: &HeaderMap,
    visitor: Visitor,
    next: &str,
    name: &str,
    error: &Text,
) -> Result<Response, Refusal> {
    let known = Cookie::Login.read(headers, visitor.encrypted, &frame.reader.base);
    let known = known.filter(|value| value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit()));
    let csrf = match known {
        Some(value) => value.to_owned(),
        None => secret::token().map_err(|error| no_randomness(&error))?,
    };
    let form = Login { next: local(next), name, csrf: &csrf, error };
    let parts = vec![Fragment::new("login", &form, &frame.reader)];
    let page = frame.page("login", say!("Log in"), None, parts).into_response();
    Ok(with_cookie(page, &Cookie::Login.set(&csrf, visitor.encrypted, &frame.reader.base, LOGIN_SECONDS)))
}

/// Asks who it is.
pub(crate) async fn login_form(
    State(access): Logins,
    Extension(visitor): Extension<Visitor>,
    frame: Frame,
    headers: HeaderMap,
    query: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let query = query.map(|Query(query)| query).unwrap_or_default();
    let next = query.get("next").map_or("/", |next| local(next));
    if in_force(access.as_ref()).is_none() || frame.caller.role.is_some() {
        return Ok(Redirect::to(next).into_response());
    }
    Ok(login_page(&frame, &headers, visitor, next, "", &Text::default())?)
}

/// Words and status for somebody who is not let in. They are the same whether there is such a user or not.
fn in_words(why: &NotIn) -> (StatusCode, Text) {
    match why {
        NotIn::Wrong => (StatusCode::UNAUTHORIZED, say!("Name or password is wrong.")),
        NotIn::Wait(wait) => {
            (StatusCode::TOO_MANY_REQUESTS, say!("That failed too often. Try again in {} s.", seconds(*wait)))
        }
        NotIn::Busy => (
            StatusCode::SERVICE_UNAVAILABLE,
            say!("Too many people are logging in just now. Try again in a moment."),
        ),
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
fn note_failure(handle: &Handle, access: &Access, what: &'static str, subject: &str, visitor: Visitor) {
    if let Some(note) = access.tell(what, subject, visitor.address) {
        handle.note(note);
    }
}

/// Logs somebody in.
pub(crate) async fn log_in(
    State(access): Logins,
    State(handle): State<Handle>,
    Extension(visitor): Extension<Visitor>,
    frame: Frame,
    headers: HeaderMap,
    Fields(sent): Fields,
) -> Result<Response, PageRefusal> {
    let base = &frame.reader.base;
    let field = |name: &str| sent.get(name).map_or("", String::as_str);
    let next = local(field("next"));
    let Some(access) = in_force(access.as_ref()) else { return Ok(Redirect::to(next).into_response()) };
    let name = field("name").trim();
    if !is_own_login(&headers, visitor, base, sent.get("csrf")) {
        let stale = say!("This page was open for too long, or cookies are off. Try again.");
        let mut page = login_page(&frame, &headers, visitor, next, name, &stale)?;
        *page.status_mut() = StatusCode::FORBIDDEN;
        return Ok(page);
    }
    let from = Key::address(visitor.address);
    match access.log_in(name, field("password").to_owned(), from).await {
        Ok(id) => {
            // Whoever was logged in here before no longer is: an id is never carried over.
            if let Some(old) = Cookie::Session.read(&headers, visitor.encrypted, base) {
                access.log_out(old);
            }
            tracing::info!(user = name, address = %visitor.address, "logged in");
            handle.note(Note::new(name, "log in", "", format!("done, from {}", visitor.address)));
            let cookie = Cookie::Session.set(&id, visitor.encrypted, base, access.longest().as_secs());
            let answer = with_cookie(Redirect::to(next).into_response(), &cookie);
            Ok(with_cookie(answer, &Cookie::Login.set("", visitor.encrypted, base, 0)))
        }
        Err(why) => {
            if why == NotIn::Wrong {
                tracing::warn!(address = %visitor.address, "a login failed: name or password is wrong");
                note_failure(&handle, access, "log in", &access.known_name(name), visitor);
            }
            Ok(dress(login_page(&frame, &headers, visitor, next, name, &in_words(&why).1)?, &why))
        }
    }
}

/// Where somebody is led who is no longer logged in here.
fn logged_out(visitor: Visitor, base: &BasePath) -> Response {
    with_cookie(Redirect::to("/login").into_response(), &Cookie::Session.set("", visitor.encrypted, base, 0))
}

/// Ends the session.
pub(crate) async fn log_out(
    State(access): Logins,
    State(handle): State<Handle>,
    Extension(visitor): Extension<Visitor>,
    frame: Frame,
) -> Response {
    if let (Some(access), Who::User { name, session }) = (in_force(access.as_ref()), &frame.caller.who) {
        access.log_out(session);
        handle.note(Note::new(name, "log out", "", "done"));
    }
    logged_out(visitor, &frame.reader.base)
}

/// Ends all sessions of whoever asks.
pub(crate) async fn log_out_everywhere(
    State(access): Logins,
    State(handle): State<Handle>,
    Extension(visitor): Extension<Visitor>,
    frame: Frame,
) -> Response {
    if let (Some(access), Who::User { name, .. }) = (in_force(access.as_ref()), &frame.caller.who) {
        access.log_out_everywhere(name);
        tracing::info!(user = name, "logged out everywhere");
        handle.note(Note::new(name, "log out everywhere", "", "done"));
    }
    logged_out(visitor, &frame.reader.base)
}

fn account_page(frame: &Frame, error: &Text) -> Response {
    let caller = &frame.caller;
    let session = matches!(caller.who, Who::User { .. });
    let account = Account {
        name: caller.name().unwrap_or_default(),
        role: caller.role.map_or_else(Text::default, words::role),
        operator: caller.acts(),
        session,
        csrf: &caller.csrf,
        error,
    };
    let parts = vec![Fragment::new("account", &account, &frame.reader)];
    frame.page("account", say!("Account"), None, parts).into_response()
}

/// One's own account.
pub(crate) async fn account(frame: Frame) -> Response {
    account_page(&frame, &Text::default())
}

/// Sets one's own password, and ends all other sessions.
pub(crate) async fn change_password(
    State(access): Logins,
    State(handle): State<Handle>,
    Extension(visitor): Extension<Visitor>,
    frame: Frame,
    Fields(sent): Fields,
) -> Result<Response, PageRefusal> {
    let (caller, base) = (&frame.caller, &frame.reader.base);
    let (Some(access), Who::User { name, .. }) = (in_force(access.as_ref()), &caller.who) else {
        return Err(Refusal::bad(said!("only users have a password"), said!("log in as one")).into());
    };
    let field = |name: &str| sent.get(name).cloned().unwrap_or_default();
    if field("new") != field("again") {
        return Ok(account_page(&frame, &say!("The two new passwords differ.")));
    }
    match access.change_password(name, field("old"), field("new"), Key::address(visitor.address)).await {
        Ok(id) => {
            tracing::info!(user = name, "changed their password");
            handle.note(Note::new(name, "change password", "", format!("done, from {}", visitor.address)));
            let cookie = Cookie::Session.set(&id, visitor.encrypted, base, access.longest().as_secs());
            // The page's forms need the new session's token: it is asked for again.
            Ok(with_cookie(Redirect::to("/account").into_response(), &cookie))
        }
        Err(Change::NotIn(NotIn::Wrong)) => {
            note_failure(&handle, access, "change password", name, visitor);
            let mut page = account_page(&frame, &say!("The old password is wrong."));
            *page.status_mut() = StatusCode::FORBIDDEN;
            Ok(page)
        }
        Err(Change::NotIn(why)) => Ok(dress(account_page(&frame, &in_words(&why).1), &why)),
        Err(Change::Unfit(why)) => {
            let mut page = account_page(&frame, &Text::plain(why));
            *page.status_mut() = StatusCode::BAD_REQUEST;
            Ok(page)
        }
        Err(Change::Failed(error)) => {
            tracing::error!(%error, "a password could not be changed");
            let remedy = said!("look at the daemon's log");
            Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                said!("the password could not be changed"),
                remedy,
            )
            .into())
        }
    }
}

//! Stands in front of every handler: finds out who asks, whether they may, and whether a form came from a
//! page of theirs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use accounts::{Role, secret};
use axum::Form;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, FromRequest, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::access::{Access, NotIn};
use super::cookie::Cookie;
use super::need::{Need, need};
use super::throttle::Key;
use super::visitor::Visitor;
use crate::http::caller::{Caller, Who};
use crate::http::guard::check_token;
use crate::http::problem::Kind;
use crate::http::reader::Address;
use crate::http::reply::Refusal;
use config::{BasePath, Network};
use daemon::Handle;
use domain::message::Message;
use domain::said;

/// Longest time a body may take to arrive, in real time.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Largest body of a stranger, in bytes.
const BODY_OF_STRANGERS: usize = 64 * 1024;
/// Largest body of anybody, in bytes; routes have lower limits of their own.
const BODY_OF_OPERATORS: usize = 4 * 1024 * 1024;

/// Why a request goes no further.
#[derive(Debug)]
struct Stopped {
    caller: Caller,
    refusal: Refusal,
    /// Try again after this long.
    wait: Option<Duration>,
    /// A page that is worth a login: where to go afterwards.
    to_login: Option<String>,
}

impl Stopped {
    fn new(caller: Caller, refusal: Refusal) -> Box<Self> {
        Box::new(Self { caller, refusal, wait: None, to_login: None })
    }

    fn status(status: StatusCode, error: Message, remedy: Message) -> Box<Self> {
        Self::new(Caller::stranger(), Refusal::new(status, error, remedy))
    }
}

/// What answers programs, and is never led to the login page.
fn for_programs(path: &str) -> bool {
    path.starts_with("/api/") || path == "/events" || path == "/metrics"
}

/// Whole seconds to wait, at least one.
pub(crate) fn seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX)
}

/// Seconds as the header `Retry-After`.
pub(crate) fn retry_after(wait: Duration) -> HeaderValue {
    HeaderValue::from(seconds(wait))
}

/// What the door decides by.
#[derive(Clone)]
pub(crate) struct Door {
    /// Who may come in; `None`: nobody ever has to log in.
    pub(crate) access: Option<Arc<Access>>,
    /// Hidden in every form while nobody has to log in; new with every start of the site.
    pub(crate) form_token: Arc<str>,
    /// Proxies whose word about a request is believed.
    pub(crate) trusted_proxies: Arc<[Network]>,
    /// Where people reach the site.
    pub(crate) address: Address,
    /// Hears of failures, for the audit.
    pub(crate) handle: Handle,
}

/// Lets in who may, and leaves with request and answer who it is.
pub(crate) async fn door(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let mut visitor = Visitor::of(
        peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        request.headers(),
        &door.trusted_proxies,
    );
    visitor.encrypted |= door.address.https;
    request.extensions_mut().insert(visitor);
    let programs = for_programs(request.uri().path());
    let public = request.uri().path().starts_with("/assets/");
    let (caller, mut answer) = match enter(&door, request, visitor).await {
        Ok((caller, mut request)) => {
            request.extensions_mut().insert(caller.clone());
            (caller, next.run(request).await)
        }
        Err(stopped) => (stopped.caller.clone(), stop(*stopped, programs)),
    };
    // What one reader may see, no cache keeps for another.
    if caller.who != Who::Anyone && !public && !answer.headers().contains_key(CACHE_CONTROL) {
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    answer.extensions_mut().insert(caller);
    answer
}

fn stop(stopped: Stopped, programs: bool) -> Response {
    let Stopped { refusal, wait, to_login, .. } = stopped;
    if let Some(next) = to_login {
        let query = if next == "/" {
            String::new()
        } else {
            format!(
                "?next={}",
                percent_encoding::utf8_percent_encode(&next, percent_encoding::NON_ALPHANUMERIC)
            )
        };
        return Redirect::to(&format!("/login{query}")).into_response();
    }
    let unknown = refusal.status == StatusCode::UNAUTHORIZED;
    let mut answer = refusal.answer(programs);
    if unknown {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"openbell\""));
    }
    if let Some(wait) = wait {
        answer.headers_mut().insert(RETRY_AFTER, retry_after(wait));
    }
    answer
}

async fn enter(door: &Door, request: Request, visitor: Visitor) -> Result<(Caller, Request), Box<Stopped>> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let needed = need(&method, uri.path(), door.access.as_ref().is_some_and(|a| a.metrics_open));
    let caller = identify(door, request.headers(), visitor, needed)?;
    admit(&caller, needed, &method, uri.path_and_query().map_or("/", |p| p.as_str()))?;
    if matches!(method, Method::GET | Method::HEAD) {
        return Ok((caller, request));
    }
    let most = if caller.role.is_some() { BODY_OF_OPERATORS } else { BODY_OF_STRANGERS };
    let (parts, body) = request.into_parts();
    let body = collect(body, most, BODY_TIME).await?;
    // The API is protected by a header that no form can send; a login form by a cookie of its own.
    if !uri.path().starts_with("/api/") && needed != Need::Nothing {
        check_form(&caller, &parts.headers, body.clone()).await?;
    }
    Ok((caller, Request::from_parts(parts, Body::from(body))))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (kind, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    kind.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Who asks.
fn identify(
    door: &Door,
    headers: &HeaderMap,
    visitor: Visitor,
    needed: Need,
) -> Result<Caller, Box<Stopped>> {
    let anyone =
        || Caller { who: Who::Anyone, role: Some(Role::Operator), csrf: door.form_token.to_string() };
    let Some(access) = &door.access else { return Ok(anyone()) };
    let Some(accounts) = access.accounts() else { return Ok(anyone()) };
    if let Some(token) = bearer(headers)
        && needed != Need::Nothing
    {
        let found = access.by_token(&accounts, token, &Key::address(visitor.address));
        if found == Err(NotIn::Wrong)
            && let Some(note) = access.tell("wrong token", "", visitor.address)
        {
            door.handle.note(note);
        }
        return found.map_err(refused_token);
    }
    let session = Cookie::Session.read(headers, visitor.encrypted, &door.address.base);
    Ok(session.and_then(|id| access.by_session(&accounts, id)).unwrap_or_else(Caller::stranger))
}

fn refused_token(why: NotIn) -> Box<Stopped> {
    match why {
        NotIn::Wait(wait) => {
            let wait_for = seconds(wait).to_string();
            let error = said!(
                "too many wrong tokens came from this address; the next is looked at in {} s",
                wait_for
            );
            let remedy = said!("send the right one; `openbell token create NAME` makes one");
            let mut stopped = Stopped::status(StatusCode::TOO_MANY_REQUESTS, error, remedy);
            stopped.wait = Some(wait);
            stopped
        }
        NotIn::Wrong | NotIn::Busy => {
            let remedy = said!(
                "it may have expired or been revoked; `openbell token list` shows what counts, `openbell token create NAME` makes one"
            );
            let refusal = Refusal::new(
                StatusCode::UNAUTHORIZED,
                said!("the token is not one of this openbell"),
                remedy,
            );
            Stopped::new(Caller::stranger(), refusal.kind(Kind::WrongToken))
        }
    }
}

/// Whether a caller may do what they ask for. Pure.
fn admit(caller: &Caller, needed: Need, method: &Method, place: &str) -> Result<(), Box<Stopped>> {
    let asks = matches!(*method, Method::GET | Method::HEAD);
    let path = place.split('?').next().unwrap_or_default();
    let role = match (needed, caller.role) {
        (Need::Nothing, _) | (Need::Own, Some(_)) => return Ok(()),
        (Need::Role(least), Some(role)) if role >= least => return Ok(()),
        (_, role) => role,
    };
    if let Some(role) = role {
        let who = caller.name().unwrap_or("this caller");
        let error = said!("{} {} may look at everything, but not act", role.to_string(), who);
        let remedy = said!(
            "ask somebody who is an operator, or for the role (`openbell user role NAME operator`; a token is made with --role)"
        );
        return Err(Stopped::new(caller.clone(), Refusal::new(StatusCode::FORBIDDEN, error, remedy)));
    }
    if for_programs(path) {
        let remedy = said!(
            "send a token (Authorization: Bearer …, made with `openbell token create NAME`), or log in at /login"
        );
        return Err(Stopped::status(StatusCode::UNAUTHORIZED, said!("nobody is logged in"), remedy));
    }
    if asks {
        let mut stopped =
            Stopped::status(StatusCode::UNAUTHORIZED, said!("nobody is logged in"), said!("log in first"));
        stopped.to_login = Some(place.to_owned());
        return Err(stopped);
    }
    Err(Stopped::status(
        StatusCode::UNAUTHORIZED,
        said!("the session has ended, and nothing was done"),
        said!("go back, log in and do it again"),
    ))
}

async fn collect(body: Body, most: usize, patience: Duration) -> Result<Bytes, Box<Stopped>> {
    match tokio::time::timeout(patience, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => {
            let error = said!("the body is larger than {} KiB, or was cut off", (most / 1024).to_string());
            Err(Stopped::status(StatusCode::PAYLOAD_TOO_LARGE, error, said!("send less")))
        }
        Err(_) => Err(Stopped::status(
            StatusCode::REQUEST_TIMEOUT,
            said!("the body did not arrive in {} s", patience.as_secs().to_string()),
            said!("send it faster, or send less"),
        )),
    }
}

/// Whether a form carries the token of the caller's session, which no page of another site knows.
async fn check_form(caller: &Caller, headers: &HeaderMap, body: Bytes) -> Result<(), Box<Stopped>> {
    let mut form = Request::new(Body::from(body));
    if let Some(kind) = headers.get(CONTENT_TYPE) {
        form.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    let refuse = |refusal| Stopped::new(caller.clone(), refusal);
    let fields = match Form::<BTreeMap<String, String>>::from_request(with_method(form), &()).await {
        Ok(Form(fields)) => fields,
        Err(error) => {
            return Err(refuse(Refusal::new(
                error.status(),
                Message::foreign(error.body_text().to_lowercase()),
                said!("send the form of the page"),
            )));
        }
    };
    check_token(fields.get("csrf"), &caller.csrf).map_err(refuse)
}

/// A form of a `GET` would be read from its address.
fn with_method(mut form: Request) -> Request {
    *form.method_mut() = Method::POST;
    form
}

/// Whether the login form came from the page this browser was given: its hidden token is that of its cookie.
pub(crate) fn is_own_login(
    headers: &HeaderMap,
    visitor: Visitor,
    base: &BasePath,
    given: Option<&String>,
) -> bool {
    let cookie = Cookie::Login.read(headers, visitor.encrypted, base).filter(|value| value.len() == 64);
    given.zip(cookie).is_some_and(|(given, cookie)| secret::equal(given, cookie))
}

/// The logins of a site that has them switched on.
pub(crate) fn in_force(access: Option<&Arc<Access>>) -> Option<&Arc<Access>> {
    access.filter(|access| access.accounts().is_some())
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;

    #[tokio::test]
    async fn a_body_that_is_endless_or_slow_is_given_up() {
        let slow =
            Body::from_stream(stream::once(async { Ok::<_, std::io::Error>("a") }).chain(stream::pending()));
        let stopped = collect(slow, 100, Duration::from_millis(20)).await.expect_err("too slow");
        assert_eq!(stopped.refusal.status, StatusCode::REQUEST_TIMEOUT);
        let endless = Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>("aaaaaaaaaa")));
        let stopped = collect(endless, 100, Duration::from_secs(20)).await.expect_err("too much");
        assert_eq!(stopped.refusal.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(
            collect(Body::from("fine"), 100, Duration::from_secs(20))
                .await
                .is_ok_and(|bytes| bytes == "fine")
        );
    }

    #[test]
    fn who_may_what() {
        let caller = |role| Caller { who: Who::Token { name: "t".into() }, role, csrf: String::new() };
        let status = |role, needed, method: Method, place: &str| {
            admit(&caller(role), needed, &method, place)
                .map_err(|stopped| (stopped.refusal.status.as_u16(), stopped.to_login))
        };
        let (viewer, operator) = (Some(Role::Viewer), Some(Role::Operator));
        assert_eq!(status(None, Need::Nothing, Method::GET, "/login"), Ok(()));
        assert_eq!(
            status(None, Need::Role(Role::Viewer), Method::GET, "/dags?a=1"),
            Err((401, Some("/dags?a=1".into())))
        );
        assert_eq!(
            status(None, Need::Role(Role::Viewer), Method::GET, "/events?page=today"),
            Err((401, None))
        );
        assert_eq!(status(None, Need::Own, Method::POST, "/logout"), Err((401, None)));
        assert_eq!(status(viewer, Need::Role(Role::Viewer), Method::GET, "/dags"), Ok(()));
        assert_eq!(
            status(viewer, Need::Role(Role::Operator), Method::POST, "/api/v1/down"),
            Err((403, None))
        );
        assert_eq!(status(viewer, Need::Own, Method::POST, "/logout"), Ok(()));
        assert_eq!(status(operator, Need::Role(Role::Operator), Method::POST, "/api/v1/down"), Ok(()));
    }
}

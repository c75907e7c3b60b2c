//! The site over a real socket, with users.

mod acting;
mod attacks;
mod audit;
mod logins;
mod programs;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use accounts::{Role, Token, password, secret, store};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Settings;
use crate::http::connections;
use crate::routes;
use crate::server::{Options, Site};
use clock::Clock;
use daemon::handle::Note;
use daemon::testing::{self, Daemon};

/// Longest a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(120);
const ANN: &str = "ann's long password";
const KIM: &str = "kim's long password";
const LOCAL: &str = "the token of this machine";
const RUN: &str = "/runs/kis-trading-day@2026-11-20";

/// A site with the operator ann and the viewer kim.
struct House {
    daemon: Daemon,
    /// What the audit is told.
    notes: tokio::sync::mpsc::Receiver<Note>,
    site: Site,
    base: String,
    client: Client,
    clock: Clock,
    users: PathBuf,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    _folder: tempfile::TempDir,
}

/// What a browser holds after logging in.
struct Browser {
    cookie: String,
}

impl House {
    async fn up() -> Self {
        Self::with(Options::default(), true).await
    }

    async fn with(options: Options, users: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users.json");
        if users {
            let now = Timestamp::UNIX_EPOCH;
            for (name, role, password) in [("ann", Role::Operator, ANN), ("kim", Role::Viewer, KIM)] {
                let hash = password::hash(password).expect("hashed");
                store::edit(&path, |all| all.add_user(name, role, hash, now)).expect("added");
            }
        }
        let clock = Clock::manual("2026-11-20T00:00:00Z".parse().expect("a time"));
        let settings = Settings {
            users: path.clone(),
            required: false,
            metrics_open: false,
            idle: SignedDuration::from_hours(12),
            longest: SignedDuration::from_hours(24 * 7),
            local: Some(LOCAL.into()),
            clock: clock.clone(),
        };
        let (daemon, notes) = Daemon::noting(testing::snapshot());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let stop = CancellationToken::new();
        let options = Options { auth: Some(settings), ..options };
        let site = Site::new(daemon.handle.clone(), steps::testing::fakes::empty(), stop.clone(), options)
            .expect("a site");
        let server = tokio::spawn(connections::serve(listener, routes::router(site.clone()), stop.clone()));
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .expect("a client");
        Self { daemon, notes, site, base, client, clock, users: path, stop, server, _folder: folder }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    fn form(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let body: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        self.request(Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.join("&"))
    }

    /// Cookie and hidden token of a fresh login page.
    async fn login_page(&self) -> (String, String) {
        let (_, cookies, page) = read(self.get("/login")).await;
        let cookie = cookies.iter().find(|c| c.contains("openbell-login=")).expect("a cookie").clone();
        (pair(&cookie), hidden(&page, "csrf"))
    }

    /// Tries to log in; the answer.
    async fn try_login(&self, name: &str, password: &str, next: &str) -> Response {
        let (cookie, csrf) = self.login_page().await;
        let fields = [("csrf", csrf.as_str()), ("name", name), ("password", password), ("next", next)];
        self.form("/login", &fields).header("cookie", cookie).send().await.expect("an answer")
    }

    async fn browser(&self, name: &str, password: &str) -> Browser {
        let answer = self.try_login(name, password, "/").await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{name} logs in");
        Browser { cookie: session_cookie(&answer) }
    }

    /// A token's whole text.
    fn token(&self, name: &str, role: Role, expires_at: Option<Timestamp>) -> String {
        let (id, whole) = secret::api_token().expect("random");
        let digest = secret::digest(&whole).expect("a digest");
        let token =
            Token { id, name: name.into(), role, digest, created_at: Timestamp::UNIX_EPOCH, expires_at };
        store::edit(&self.users, |all| all.add_token(token)).expect("added");
        whole
    }

    /// How many passwords were looked at.
    fn looked_at(&self) -> u64 {
        self.site.access.as_ref().expect("logins").looked_at.load(Ordering::Relaxed)
    }

    /// Sends what becomes a command; its answer, and who gave it.
    async fn command(&mut self, request: RequestBuilder) -> (StatusCode, String) {
        let sent = tokio::spawn(request.send());
        let asked = tokio::time::timeout(PATIENCE, self.daemon.commands.recv())
            .await
            .expect("in time")
            .expect("a command");
        asked.answer.send(Ok("done".into())).expect("somebody waits for the answer");
        (sent.await.expect("no panic").expect("an answer").status(), asked.by)
    }

    fn nothing_was_done(&mut self) -> bool {
        self.daemon.commands.try_recv().is_err()
    }

    /// What the audit was told since the last look.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(note) = self.notes.try_recv() {
            told.push(format!("{}|{}|{}|{}", note.by, note.what, note.subject, note.detail));
        }
        told
    }

    async fn down(self) {
        self.stop.cancel();
        drop((self.client, self.daemon));
        let ended = tokio::time::timeout(PATIENCE, self.server).await.expect("the site ends when asked");
        ended.expect("no panic").expect("a clean end");
        // The site's own, and its door's.
        let held = self.site.access.as_ref().map(Arc::strong_count);
        assert_eq!(held, Some(2), "no request outlives the site");
    }
}

impl Browser {
    fn on(&self, request: RequestBuilder) -> RequestBuilder {
        request.header("cookie", &self.cookie)
    }

    /// The hidden token of its pages.
    async fn csrf(&self, house: &House) -> String {
        hidden(&read(self.on(house.get("/account"))).await.2, "csrf")
    }
}

/// `name=value` of a `Set-Cookie`.
fn pair(cookie: &str) -> String {
    cookie.split(';').next().unwrap_or_default().to_owned()
}

fn cookies(answer: &Response) -> Vec<String> {
    answer.headers().get_all("set-cookie").iter().map(|v| v.to_str().expect("text").to_owned()).collect()
}

fn session_cookie(answer: &Response) -> String {
    let all = cookies(answer);
    pair(
        all.iter()
            .find(|c| c.starts_with("openbell=") || c.starts_with("__Host-openbell="))
            .expect("a session"),
    )
}

/// The value of a page's hidden field.
fn hidden(page: &str, name: &str) -> String {
    let before = format!("name=\"{name}\" value=\"");
    let rest = page.split(&before).nth(1).unwrap_or_else(|| panic!("{name} is in {page}"));
    rest.split('"').next().unwrap_or_default().to_owned()
}

fn location(answer: &Response) -> &str {
    answer.headers().get("location").map_or("", |v| v.to_str().expect("text"))
}

async fn read(request: RequestBuilder) -> (StatusCode, Vec<String>, String) {
    let answer = request.send().await.expect("an answer");
    (answer.status(), cookies(&answer), answer.text().await.expect("a body"))
}

/// The status alone: the body of an answer may never end.
async fn status(request: RequestBuilder) -> u16 {
    request.send().await.expect("an answer").status().as_u16()
}

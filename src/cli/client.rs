//! Talks to a running daemon over its API.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::exit::Failure;
use crate::daemon::lock::Note;

/// How long the daemon may take to accept a connection, in real time.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a drained daemon may take to end, in real time: sinks drain and teardown steps run first.
const GOING_DOWN: Duration = Duration::from_secs(15 * 60);
/// How often the lock of a daemon that goes down is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The note of the daemon of a data folder; `None` if there is none.
///
/// # Errors
/// When there is one that cannot be read.
pub fn read_note(data: &Path) -> Result<Option<Note>, Failure> {
    let path = Note::path(data);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure::unusable(format!("{}: {error}; give this user the right to read it", path.display())));
        }
    };
    let unreadable = |error| {
        Failure::unusable(format!("{} is not the note of a daemon: {error}; give its address with --url", path.display()))
    };
    serde_json::from_str(&text).map(Some).map_err(unreadable)
}

/// A way to a daemon.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    /// The data folder it was found by.
    data: Option<PathBuf>,
    /// What it says who it is by.
    token: Option<String>,
    http: reqwest::Client,
}

/// Variable with a token; it comes before the data folder's own, so that whoever has one acts under its name.
const TOKEN: &str = "OPENBELL_TOKEN";

fn token_in(text: &str) -> Option<String> {
    Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn nobody(data: &Path) -> Failure {
    let data = data.display();
    Failure::unusable(format!("no daemon runs on data folder {data}; start one with `openbell up --data {data}`"))
}

impl Client {
    /// The daemon that runs on a data folder, by the note it left there. Whether it still lives shows at the first request.
    ///
    /// # Errors
    /// When there is no note, or it cannot be read.
    pub fn find(data: &Path) -> Result<Self, Failure> {
        let note = read_note(data)?.ok_or_else(|| nobody(data))?;
        let client = Self::at(&note.url)?;
        // Unreadable for other users of the machine: the daemon then says that it wants to know who asks.
        let own = || std::fs::read_to_string(Note::token_path(data)).ok().and_then(|text| token_in(&text));
        Ok(Self { data: Some(data.to_owned()), token: client.token.clone().or_else(own), ..client })
    }

    /// With the token in a file.
    ///
    /// # Errors
    /// A file that cannot be read, or holds none.
    pub fn with_token_of(self, file: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::unusable(format!("--token-file {}: {error}", file.display())))?;
        let none = || {
            Failure::unusable(format!(
                "--token-file {}: there is no token in it; `openbell token create NAME` makes one",
                file.display()
            ))
        };
        Ok(Self { token: Some(token_in(&text).ok_or_else(none)?), ..self })
    }

    /// The daemon at an address.
    ///
    /// # Errors
    /// When the address is not an `http://` or `https://` URL.
    pub fn at(url: &str) -> Result<Self, Failure> {
        let right = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).is_some_and(|rest| !rest.is_empty());
        if !right {
            return Err(Failure::usage(format!(
                "\"{url}\" is not the address of a daemon; write for example --url http://127.0.0.1:8650"
            )));
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-openbell", HeaderValue::from_static("1"));
        // The daemon is on this machine or behind the operator's own proxy: the environment's proxies are for elsewhere.
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT)
            .user_agent(concat!("openbell-cli/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .build()
            .map_err(|error| Failure::unusable(format!("cannot make an HTTP client: {error}")))?;
        let token = crate::config::variable(TOKEN).and_then(|text| token_in(&text));
        Ok(Self { base: url.trim_end_matches('/').to_owned(), data: None, token, http })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, Failure> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| match &self.data {
            // Its note outlived it.
            Some(data) if error.is_connect() => nobody(data),
            _ => self.broken(&error),
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.text().await.map_err(|error| self.broken(&error))?;
        if status == StatusCode::UNAUTHORIZED {
            return Err(self.unknown());
        }
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        let part = |key: &str| said.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
        Err(Failure::fault(match (part("error"), part("remedy")) {
            (Some(error), Some(remedy)) => format!("{error}; {remedy}"),
            (Some(error), None) => error.to_owned(),
            _ => format!("{}{path} answered {status}; is this the address of an openbell daemon?", self.base),
        }))
    }

    /// The daemon does not know who asks.
    fn unknown(&self) -> Failure {
        let remedy = match (&self.token, &self.data) {
            (Some(_), _) => {
                "make another with `openbell token create NAME` on its machine, and give it with OPENBELL_TOKEN or --token-file"
                    .to_owned()
            }
            (None, Some(data)) => format!(
                "be the user who may read {}, or make a token with `openbell token create NAME` and give it with OPENBELL_TOKEN or --token-file",
                Note::token_path(data).display()
            ),
            (None, None) => {
                "make a token with `openbell token create NAME` on its machine, and give it with OPENBELL_TOKEN or --token-file"
                    .to_owned()
            }
        };
        let what = if self.token.is_some() { "does not take this token" } else { "wants to know who asks" };
        Failure::unusable(format!("the daemon at {} {what}; {remedy}", self.base))
    }

    fn broken(&self, error: &reqwest::Error) -> Failure {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(deeper) = cause {
            text = format!("{text}: {deeper}");
            cause = deeper.source();
        }
        Failure::unusable(format!("the daemon at {} did not answer: {text}", self.base))
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// No daemon, or its refusal with the remedy.
    pub async fn get_json(&self, path: &str) -> Result<Value, Failure> {
        self.json(self.send(Method::GET, path, None).await?).await
    }

    /// Gives a command with a JSON body.
    ///
    /// # Errors
    /// No daemon, or its refusal with the remedy.
    pub async fn post_json(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.json(self.send(Method::POST, path, Some(body)).await?).await
    }

    /// Reads an answer piece by piece, as it comes.
    ///
    /// # Errors
    /// No daemon, or its refusal with the remedy; or what `each` fails with.
    pub async fn get_pieces(&self, path: &str, mut each: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut response = self.send(Method::GET, path, None).await?;
        while let Some(piece) = response.chunk().await.map_err(|error| self.broken(&error))? {
            each(&piece)?;
        }
        Ok(())
    }

    async fn json(&self, response: Response) -> Result<Value, Failure> {
        let text = response.text().await.map_err(|error| self.broken(&error))?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::unusable(format!(
                "{} did not answer with JSON: {error}; is this the address of an openbell daemon?",
                self.base
            ))
        })
    }
}

/// Waits until nobody holds the lock of a data folder any more.
///
/// # Errors
/// When the lock cannot be looked at, or somebody still holds it after a quarter of an hour.
pub async fn wait_unlocked(lock: &Path) -> Result<(), Failure> {
    let wait = async {
        loop {
            let file = match std::fs::File::open(lock) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(Failure::unusable(format!("{}: {error}", lock.display()))),
            };
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(LOOK).await,
                Err(errno) => return Err(Failure::unusable(format!("{}: {errno}", lock.display()))),
            }
        }
    };
    tokio::time::timeout(GOING_DOWN, wait).await.map_err(|_| {
        Failure::fault(format!("the daemon still holds {} after 15 min; look at its page for what it waits for", lock.display()))
    })?
}

/// Carries out the asynchronous part of a command.
///
/// # Errors
/// What the part fails with, or a machine that cannot run it.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::unusable(format!("cannot start the async runtime: {error}")))?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn a_folder_without_a_daemon_says_how_to_start_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let failure = Client::find(folder.path()).expect_err("nobody is there");
        let data = folder.path().display();
        assert_eq!(failure.message, format!("no daemon runs on data folder {data}; start one with `openbell up --data {data}`"));
        assert_eq!(failure.exit, Exit::Unusable);
        std::fs::write(folder.path().join("daemon.json"), "{").expect("written");
        assert!(Client::find(folder.path()).expect_err("torn").message.contains("--url"));
    }

    #[tokio::test]
    async fn a_note_that_outlived_its_daemon_is_not_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let note = format!("{{\"url\": \"http://{}\", \"pid\": 1}}", listener.local_addr().expect("an address"));
        drop(listener);
        std::fs::write(folder.path().join("daemon.json"), note).expect("written");
        let client = Client::find(folder.path()).expect("a note");
        let failure = client.get_json("/api/v1/runs").await.expect_err("nobody is there");
        assert!(failure.message.starts_with("no daemon runs on data folder"), "{failure}");
    }

    #[test]
    fn an_address_must_be_a_url() {
        for bad in ["127.0.0.1:8650", "http://", "ftp://x"] {
            assert_eq!(Client::at(bad).expect_err("refused").exit, Exit::Usage);
        }
    }

    #[tokio::test]
    async fn a_lock_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("openbell.lock");
        wait_unlocked(&path).await.expect("no lock, no wait");
        let held = std::fs::File::create(&path).expect("a file");
        flock(&held, FlockOperation::LockExclusive).expect("locked");
        let waiter = tokio::spawn(async move { wait_unlocked(&path).await });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(held);
        tokio::time::timeout(Duration::from_secs(20), waiter).await.expect("in time").expect("no panic").expect("free");
    }
}

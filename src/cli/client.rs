//! Talks to a running daemon over its API.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::exit::Failure;
use daemon::lock::Note;

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
            return Err(Failure::unusable(format!(
                "{}: {error}; give this user the right to read it",
                path.display()
            )));
        }
    };
    let unreadable = |error| {
        Failure::unusable(format!(
            "{} is not the note of a daemon: {error}; give its address with --url",
            path.display()
        ))
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
    Failure::unusable(format!(
        "no daemon runs on data folder {data}; start one with `openbell up --data {data}`"
    ))
}

impl Client {
    /// The daemon that runs on a data folder, by the note it left there. Whether it still lives shows at the
    /// first request.
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
        let right = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"))
            .is_some_and(|rest| !rest.is_empty());
        if !right {
            return Err(Failure::usage(format!(
                "\"{url}\" is not the address of a daemon; write for example --url http://127.0.0.1:8650"
            )));
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-openbell", HeaderValue::from_static("1"));
        // The daemon is on this machine or behind the operator's own proxy: the environment's proxies are for
        // elsewhere.
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT)
            .user_agent(concat!("openbell-cli/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .build()
            .map_err(|error| Failure::unusable(format!("cannot make an HTTP client: {error}")))?;
        let token = config::variable(TOKEN).and_then(|text| token_in(&text));
        Ok(Self { base: url.trim_end_matches('/').to_owned(), data: None, token, http })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder, path: &str) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.unsent(&error))?;
        self.taken(response, path).await
    }

    /// No answer came.
    fn unsent(&self, error: &reqwest::Error) -> Failure {
        match &self.data {
            // Its note outlived it.
            Some(data) if error.is_connect() => nobody(data),
            _ => self.broken(error),
        }
    }

    /// An answer, if it is no refusal.
    async fn taken(&self, response: Response, path: &str) -> Result<Response, Failure> {
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.text().await.map_err(|error| self.broken(&error))?;
        Err(self.refused(status, &text, path))
    }

    /// What a refusal says.
    fn refused(&self, status: StatusCode, text: &str, path: &str) -> Failure {
        if status == StatusCode::UNAUTHORIZED {
            return self.unknown();
        }
        let said: Value = serde_json::from_str(text).unwrap_or_default();
        let part = |key: &str| said.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
        // Daemons before the problems of RFC 9457 wrote it as "error".
        Failure::fault(match (part("detail").or_else(|| part("error")), part("remedy")) {
            (Some(error), Some(remedy)) => format!("{error}; {remedy}"),
            (Some(error), None) => error.to_owned(),
            _ => format!("{}{path} answered {status}; is this the address of an openbell daemon?", self.base),
        })
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
        self.json(self.send(self.request(Method::GET, path), path).await?).await
    }

    /// Gives a command with a JSON body. Where the connection breaks before its answer is there, it is given
    /// once more; it has a key by which the daemon knows it, so that it is carried out once.
    ///
    /// # Errors
    /// No daemon, or its refusal with the remedy.
    pub async fn post_json(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let key = accounts::secret::token()
            .map_err(|error| Failure::unusable(format!("the machine gives no random numbers: {error}")))?;
        let request = || self.request(Method::POST, path).header("idempotency-key", &key).json(body);
        let asked = async {
            let response = request().send().await?;
            let status = response.status();
            Ok::<_, reqwest::Error>((status, response.bytes().await?))
        };
        match asked.await {
            Ok((status, bytes)) if status.is_success() => self.read_json(&bytes),
            // One that could not be reached at all has nothing to give an answer to, and one that refused
            // would do so again.
            Err(error) if !error.is_connect() => self.json(self.send(request(), path).await?).await,
            Err(error) => Err(self.unsent(&error)),
            Ok((status, bytes)) => Err(self.refused(status, &String::from_utf8_lossy(&bytes), path)),
        }
    }

    /// Reads an answer piece by piece, as it comes.
    ///
    /// # Errors
    /// No daemon, or its refusal with the remedy; or what `each` fails with.
    pub async fn get_pieces(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut response = self.send(self.request(Method::GET, path), path).await?;
        while let Some(piece) = response.chunk().await.map_err(|error| self.broken(&error))? {
            each(&piece)?;
        }
        Ok(())
    }

    async fn json(&self, response: Response) -> Result<Value, Failure> {
        let bytes = response.bytes().await.map_err(|error| self.broken(&error))?;
        self.read_json(&bytes)
    }

    fn read_json(&self, bytes: &[u8]) -> Result<Value, Failure> {
        serde_json::from_slice(bytes).map_err(|error| {
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
        Failure::fault(format!(
            "the daemon still holds {} after 15 min; look at its page for what it waits for",
            lock.display()
        ))
    })?
}

/// Carries out the asynchronous part of a command.
///
/// # Errors
/// What the part fails with, or a machine that cannot run it.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(|error| Failure::unusable(format!("cannot start the async runtime: {error}")))?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_folder_without_a_daemon_says_how_to_start_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let failure = Client::find(folder.path()).expect_err("nobody is there");
        let data = folder.path().display();
        assert_eq!(
            failure.message,
            format!("no daemon runs on data folder {data}; start one with `openbell up --data {data}`")
        );
        assert_eq!(failure.exit, Exit::Unusable);
        std::fs::write(folder.path().join("daemon.json"), "{").expect("written");
        assert!(Client::find(folder.path()).expect_err("torn").message.contains("--url"));
    }

    #[tokio::test]
    async fn a_note_that_outlived_its_daemon_is_not_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let note =
            format!("{{\"url\": \"http://{}\", \"pid\": 1}}", listener.local_addr().expect("an address"));
        drop(listener);
        std::fs::write(folder.path().join("daemon.json"), note).expect("written");
        let client = Client::find(folder.path()).expect("a note");
        let failure = client.get_json("/api/v1/runs").await.expect_err("nobody is there");
        assert!(failure.message.starts_with("no daemon runs on data folder"), "{failure}");
    }

    /// A daemon that loses the connection of its first request, and answers the second.
    #[tokio::test]
    async fn a_command_whose_connection_breaks_is_given_once_more_with_the_same_key() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move {
            let mut keys = Vec::new();
            for answers in [false, true] {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut head = Vec::new();
                while !String::from_utf8_lossy(&head).ends_with("{\"dag\":\"x\"}") {
                    assert!(stream.read_buf(&mut head).await.expect("read") > 0, "the request is whole");
                }
                let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
                let key = head
                    .lines()
                    .find_map(|line| line.strip_prefix("idempotency-key: "))
                    .expect("a key")
                    .to_owned();
                assert!(key.len() == 64, "{key}");
                keys.push(key);
                if answers {
                    let answer =
                        "HTTP/1.1 200 OK\r\ncontent-length: 13\r\nconnection: close\r\n\r\n{\"run\":\"x@1\"}";
                    stream.write_all(answer.as_bytes()).await.expect("sent");
                }
            }
            keys
        });
        let client = Client::at(&url).expect("a client");
        let answer =
            client.post_json("/api/v1/runs", &serde_json::json!({ "dag": "x" })).await.expect("an answer");
        assert_eq!(answer["run"], "x@1");
        let keys = server.await.expect("no panic");
        assert_eq!(keys[0], keys[1]);
    }

    #[test]
    fn refusals_are_told_with_their_remedy_also_those_of_older_daemons() {
        let client = Client::at("http://127.0.0.1:1").expect("a client");
        for body in [
            r#"{"type": "urn:openbell:problem:refused", "detail": "no", "remedy": "wait"}"#,
            r#"{"error": "no", "remedy": "wait"}"#,
        ] {
            assert_eq!(client.refused(StatusCode::CONFLICT, body, "/x").message, "no; wait");
        }
        assert!(
            client
                .refused(StatusCode::BAD_GATEWAY, "<html>", "/x")
                .message
                .contains("is this the address of an openbell daemon?")
        );
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
        tokio::time::timeout(Duration::from_secs(120), waiter)
            .await
            .expect("in time")
            .expect("no panic")
            .expect("free");
    }
}

//! What black-box tests share: a daemon on a folder of its own, waits with a deadline.
#![allow(dead_code, clippy::allow_attributes, reason = "every test program uses another part of it")]

pub mod collector;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long is waited for what must come. It is only how long a failure takes, so it is far more than one
/// busy core needs.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// The same for a day of the demo, or a stretch of one.
pub const A_DAY: Duration = Duration::from_secs(1800);

/// The binary under test.
pub fn openbell() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_openbell"));
    command.stdin(Stdio::null());
    command
}

/// A server's address from the environment, or a line that says why the test does nothing. Where servers are
/// required (`scripts/test` sets `OPENBELL_SERVERS`), a missing one is a failure.
pub fn server(name: &str, test: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        assert!(
            std::env::var("OPENBELL_SERVERS").is_err(),
            "{test}: {name} is not set; scripts/services up starts a server, scripts/services env says where"
        );
        println!("skipped: {test} ({name} is not set; scripts/services up)");
    }
    value
}

/// An image or an address of a Docker Engine, in the same way; `scripts/test` sets `OPENBELL_ENGINE` where an
/// engine is required.
pub fn engine(name: &str, test: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        let required = std::env::var("OPENBELL_ENGINE").is_ok();
        assert!(!required, "{test}: {name} is not set; scripts/engine up, its images, and eval its env");
        println!("skipped: {test} ({name} is not set; scripts/engine up)");
    }
    value
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    openbell().args(arguments).output().expect("the binary starts")
}

/// Waits until `check` gives something; panics with `what` where it never does.
pub fn wait_for<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, check)
}

/// The same with another limit.
pub fn wait_within<T>(limit: Duration, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Where the process `pid` serves its page, by the note it leaves in its data folder.
pub fn url_of(data: &Path, pid: u32) -> Option<String> {
    let note: Value = serde_json::from_str(&std::fs::read_to_string(data.join("daemon.json")).ok()?).ok()?;
    (note["pid"].as_u64() == Some(pid.into())).then(|| note["url"].as_str().map(str::to_owned))?
}

/// Sends a request to the address of a page; gives the body of the answer.
pub fn request(url: &str, request: &str) -> std::io::Result<String> {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(url.trim_start_matches("http://"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok(body.to_owned())
}

/// A snapshot of the daemon there; `None` while it does not answer.
pub fn snapshot(url: &str) -> Option<Value> {
    let text = request(url, "GET /api/v1/snapshot HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").ok()?;
    serde_json::from_str(&text).ok()
}

/// Waits until a demo day (`--hold-at`, with a pipe for its standard input) is held; gives the address of its
/// page. It stands still from then on, until the pipe is dropped.
pub fn until_held(child: &mut Child, data: &Path, output: impl Fn() -> String) -> String {
    wait_within(A_DAY, "the day to be held", || {
        if let Some(status) = child.try_wait().expect("a child") {
            panic!("the day ended with {status}:\n{}", output());
        }
        let url = url_of(data, child.id())?;
        (snapshot(&url)?["speed"] == 0.0).then_some(url)
    })
}

/// A running `openbell up`.
pub struct Daemon {
    pub child: Child,
    pub url: String,
    data: PathBuf,
}

impl Daemon {
    /// Starts one and waits until it answers.
    pub fn start(data: &Path, dags: &Path, more: &[&str]) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(data.join("up.out"))
            .expect("an output file");
        let child = openbell()
            .args(["up", "--port", "0", "--data"])
            .arg(data)
            .arg("--dags")
            .arg(dags)
            .args(more)
            .stdout(log.try_clone().expect("the file"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let mut daemon = Self { child, url: String::new(), data: data.to_owned() };
        daemon.url = wait_for("the daemon's note", || {
            if let Some(status) = daemon.child.try_wait().expect("a child") {
                panic!("the daemon ended with {status}:\n{}", daemon.output());
            }
            url_of(data, daemon.child.id())
        });
        daemon
    }

    /// What it printed.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.data.join("up.out")).unwrap_or_default()
    }

    /// A GET of its API.
    pub fn get(&self, path: &str) -> Value {
        let text = self.request(&format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}:\n{text}"))
    }

    /// A page, as HTML.
    pub fn page(&self, path: &str) -> String {
        self.request(&format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"))
    }

    /// A POST to its API.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let text = self.request(&format!(
            "POST {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nx-openbell: 1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}:\n{text}"))
    }

    fn request(&self, text: &str) -> String {
        request(&self.url, text).unwrap_or_else(|e| panic!("{}: {e}:\n{text}", self.url))
    }

    /// A run by id, from the snapshot.
    pub fn run_view(&self, id: &str) -> Option<Value> {
        let snapshot = self.get("/api/v1/snapshot");
        snapshot["runs"].as_array()?.iter().map(|v| &v["run"]).find(|r| r["id"] == id).cloned()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("reaped");
    }

    /// SIGTERM, and its exit status.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        wait_for("the daemon's end", || self.child.try_wait().expect("a child"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The test is over; a daemon that is gone already is fine.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

//! A demo day to look at: held in its afternoon for as long as somebody looks, and after its end.

use serde_json::Value;

use crate::support::{A_DAY, openbell, request, until_held, wait_for, wait_within};

/// The day's run.
pub const RUN: &str = "kis-trading-day@2026-11-20";
/// By then the day has had all its incidents: a disconnect, a killed sink, a stall and its recovery, five
/// malformed messages.
const HELD_AT: &str = "14:40";

/// A demo day, played by a process of its own that ends with this.
pub struct Day {
    child: std::process::Child,
    /// Where its page is.
    pub url: String,
    root: tempfile::TempDir,
}

impl Day {
    /// Starts one, and waits until it is held and has a dead letter.
    pub fn start() -> Self {
        let root = tempfile::Builder::new().prefix("openbell-").tempdir().expect("a folder");
        // Pictures show where the DAG folder is, which should not be somebody's checkout.
        let dags = root.path().join("dags");
        let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dags");
        let copied =
            std::process::Command::new("cp").arg("-r").arg(shipped).arg(&dags).status().expect("cp runs");
        assert!(copied.success(), "the DAG folder is copied");
        let data = root.path().join("data");
        std::fs::create_dir(&data).expect("a folder");
        let said = root.path().join("demo.out");
        let log = std::fs::File::create(&said).expect("an output file");
        let mut command = openbell();
        command.args([
            "demo",
            "--quiet",
            "--port",
            "0",
            "--speed",
            "300",
            "--seed",
            "21",
            "--hold-at",
            HELD_AT,
        ]);
        command.arg("--dags").arg(dags).arg("--data").arg(&data);
        // The day is held until the other end of its standard input is dropped.
        command.stdin(std::process::Stdio::piped()).stdout(log.try_clone().expect("the file")).stderr(log);
        let child = command.spawn().expect("the binary starts");
        let mut day = Self { child, url: String::new(), root };
        day.url = until_held(&mut day.child, &data, || std::fs::read_to_string(&said).unwrap_or_default());
        assert!(data.join("runs").join(RUN).join("freshness/4").exists(), "the day's checks");
        wait_for("a dead letter", || day.letter().map(drop));
        day
    }

    /// The page of a dead letter whose price is no number.
    pub fn letter(&self) -> Option<String> {
        let asked = "GET /api/v1/dead-letters/kis.trades HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n";
        let found: Value = serde_json::from_str(&request(&self.url, asked).ok()?).ok()?;
        let letter = found["letters"].as_array()?.iter().find(|l| l["cause"] == "bad_number")?.clone();
        Some(format!(
            "/dead-letters/kis.trades/{}/{}",
            letter["partition"].as_u64()?,
            letter["offset"].as_u64()?
        ))
    }

    /// Lets the day go on, and waits for its end; gives the folder it leaves, with its data in `data`.
    pub fn end(mut self) -> tempfile::TempDir {
        drop(self.child.stdin.take());
        let status = wait_within(A_DAY, "the day's end", || self.child.try_wait().expect("a child"));
        assert!(
            status.success(),
            "{}",
            std::fs::read_to_string(self.root.path().join("demo.out")).unwrap_or_default()
        );
        std::mem::replace(&mut self.root, tempfile::tempdir().expect("a folder"))
    }
}

impl Drop for Day {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).unwrap_or_default();
    }
}

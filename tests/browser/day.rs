//! A demo day to look at: while it is played, and after its end.

use std::time::Duration;

use serde_json::Value;

use crate::support::{openbell, wait_within};

/// The day's run.
pub const RUN: &str = "kis-trading-day@2026-11-20";

/// A demo day, played by a process of its own that ends with this.
pub struct Day {
    child: std::process::Child,
    /// Where its page is.
    pub url: String,
    root: tempfile::TempDir,
}

impl Day {
    /// Starts one, and waits until it has gone on for some checks and has a dead letter.
    pub fn start() -> Self {
        let root = tempfile::Builder::new().prefix("openbell-").tempdir().expect("a folder");
        // Pictures show where the DAG folder is, which should not be somebody's checkout.
        let dags = root.path().join("dags");
        let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dags");
        let copied = std::process::Command::new("cp").arg("-r").arg(shipped).arg(&dags).status().expect("cp runs");
        assert!(copied.success(), "the DAG folder is copied");
        let data = root.path().join("data");
        std::fs::create_dir(&data).expect("a folder");
        let mut command = openbell();
        command.args(["demo", "--quiet", "--port", "0", "--speed", "240", "--seed", "21", "--dags"]).arg(dags);
        let child = command.arg("--data").arg(&data).stdout(std::process::Stdio::null()).spawn().expect("the binary starts");
        let limit = Duration::from_secs(180);
        let url = wait_within(limit, "the demo's note", || {
            let note: Value = serde_json::from_str(&std::fs::read_to_string(data.join("daemon.json")).ok()?).ok()?;
            note["url"].as_str().map(str::to_owned)
        });
        let day = Self { child, url, root };
        let checks = data.join("runs").join(RUN).join("freshness");
        wait_within(limit, "the day's first checks", || checks.join("4").exists().then_some(()));
        wait_within(limit, "a dead letter", || day.letter().map(drop));
        day
    }

    /// The page of a dead letter whose price is no number.
    pub fn letter(&self) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let letters = format!("{}/api/v1/dead-letters/kis.trades", self.url);
        let found: Value = runtime.block_on(async { reqwest::get(letters).await.ok()?.json().await.ok() })?;
        let letter = found["letters"].as_array()?.iter().find(|l| l["cause"] == "bad_number")?.clone();
        Some(format!("/dead-letters/kis.trades/{}/{}", letter["partition"].as_u64()?, letter["offset"].as_u64()?))
    }

    /// Waits for the day's end; gives the folder it leaves, with its data in `data`.
    pub fn end(mut self) -> tempfile::TempDir {
        wait_within(Duration::from_secs(300), "the day's end", || self.child.try_wait().expect("a child"));
        std::mem::replace(&mut self.root, tempfile::tempdir().expect("a folder"))
    }
}

impl Drop for Day {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).unwrap_or_default();
    }
}

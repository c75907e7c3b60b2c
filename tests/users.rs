//! Users and tokens with the real binary: the daemon asks who it is, and the command line of its own machine
//! goes on.

mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use support::{Daemon, openbell, run};

const PASSWORD: &str = "a password for tests";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(dir: &Path) -> &str {
    dir.to_str().expect("a plain path")
}

/// Runs `openbell user …` with a password on its standard input.
fn typed(arguments: &[&str], password: &str) -> Output {
    let mut child = openbell()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // One that refuses before it reads has closed its end.
    drop(writeln!(child.stdin.take().expect("a pipe"), "{password}"));
    child.wait_with_output().expect("it ends")
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).expect("there").permissions().mode() & 0o777
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_daemon_with_users_asks_who_it_is_and_its_own_machine_goes_on() {
    let (data, dags) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let at = ["--data", path(data.path())];
    let config = data.path().join("openbell.yaml");
    std::fs::write(&config, "listen: 0.0.0.0:0\nauth: { users: file:users.json }\n").expect("written");

    let up = ["up", "--config", path(&config), "--data", path(data.path()), "--dags", path(dags.path())];
    let nobody = run(&up);
    let error = text(&nobody.stderr);
    assert_eq!(nobody.status.code(), Some(3), "{error}");
    assert!(error.contains("openbell user add"), "{error}");

    let short = typed(&[&["user", "add", "ann"], &at[..]].concat(), "short");
    assert!(
        short.status.code() == Some(1) && text(&short.stderr).contains("at least 12"),
        "{}",
        text(&short.stderr)
    );
    let added = typed(&[&["user", "add", "ann", "--role", "operator"], &at[..]].concat(), PASSWORD);
    assert!(added.status.success(), "{}", text(&added.stderr));
    let twice = typed(&[&["user", "add", "ann"], &at[..]].concat(), PASSWORD);
    assert!(text(&twice.stderr).contains("user passwd ann"), "{}", text(&twice.stderr));
    let wrong = run(&[&["user", "add", "bob", "--role", "admin"], &at[..]].concat());
    assert!(
        wrong.status.code() == Some(2) && text(&wrong.stderr).contains("operator"),
        "{}",
        text(&wrong.stderr)
    );
    let made = run(&[&["token", "create", "look", "--expires", "1d"], &at[..]].concat());
    let token = text(&made.stdout).trim().to_owned();
    assert!(token.starts_with("openbell_") && !text(&made.stderr).contains(&token), "{}", text(&made.stderr));
    let users = data.path().join("users.json");
    let kept = std::fs::read_to_string(&users).expect("a file");
    assert!(
        mode(&users) == 0o600
            && kept.contains("$argon2id$")
            && !kept.contains(PASSWORD)
            && !kept.contains(&token)
    );

    let mut daemon = Daemon::start(data.path(), dags.path(), &["--config", path(&config)]);
    assert!(daemon.url.starts_with("http://127.0.0.1:"), "{}", daemon.url);
    assert_eq!(mode(&data.path().join("daemon.token")), 0o600);
    let list =
        |more: &[&str]| openbell().args(["run", "list", "--json"]).args(more).output().expect("it runs");
    json(&list(&at));
    let url = ["--url", daemon.url.as_str()];
    let stranger = list(&url);
    let error = text(&stranger.stderr);
    assert_eq!(stranger.status.code(), Some(3), "{error}");
    assert!(error.contains("wants to know who asks") && error.contains("--token-file"), "{error}");
    let by_variable = |more: &[&str]| {
        openbell().args(more).args(url).env("OPENBELL_TOKEN", &token).output().expect("it runs")
    };
    json(&by_variable(&["run", "list", "--json"]));
    let viewer = by_variable(&["run", "pause", "x"]);
    let error = text(&viewer.stderr);
    assert!(
        viewer.status.code() == Some(1) && error.contains("viewer look may look at everything, but not act"),
        "{error}"
    );
    let file = data.path().join("look.token");
    std::fs::write(&file, format!("{token}\n")).expect("written");
    json(&list(&[&url[..], &["--token-file", path(&file)]].concat()));
    let tokens = || json(&run(&[&["token", "list", "--json"], &at[..]].concat()));
    support::wait_for("the token's last use", || {
        tokens()["tokens"][0]["last_used_at"].as_str().map(str::to_owned)
    });
    assert!(run(&[&["token", "revoke", "look"], &at[..]].concat()).status.success());
    assert!(
        text(&list(&[&url[..], &["--token-file", path(&file)]].concat()).stderr)
            .contains("does not take this token")
    );
    let people = json(&run(&[&["user", "list", "--json"], &at[..]].concat()));
    assert!(people["users"][0]["name"] == "ann" && people["users"][0].get("password").is_none(), "{people}");

    let down = run(&[&["down"], &at[..]].concat());
    assert!(down.status.success(), "{}", text(&down.stderr));
    support::wait_for("its end", || daemon.child.try_wait().expect("a child"));
    assert!(!data.path().join("daemon.token").exists());
}

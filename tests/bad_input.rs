//! Bad input and taken places, on the real binary: each gets an error that names the input, the place and the
//! remedy.

mod support;

use std::path::Path;

use serde_json::json;
use support::{Daemon, run, wait_for};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn dags(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = folder();
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content).expect("written");
    }
    dir
}

fn path(dir: &Path) -> &str {
    dir.to_str().expect("a plain path")
}

#[test]
fn a_taken_port_is_named() {
    let (data, dags) = (folder(), dags(&[]));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = run(&["up", "--port", &port, "--data", path(data.path()), "--dags", path(dags.path())]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains(&port) && error.contains("--port 0"), "{error}");
}

#[test]
fn a_second_daemon_on_a_data_folder_is_refused() {
    let (data, dags) = (folder(), dags(&[]));
    let first = Daemon::start(data.path(), dags.path(), &[]);
    let output = run(&["up", "--port", "0", "--data", path(data.path()), "--dags", path(dags.path())]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains(&first.child.id().to_string()) && error.contains("openbell down"), "{error}");
}

#[test]
fn a_dag_folder_that_is_not_there_is_named() {
    let data = folder();
    let output = run(&["up", "--port", "0", "--data", path(data.path()), "--dags", "/nonexistent/dags"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("/nonexistent/dags") && error.contains("--dags"), "{error}");
}

#[test]
fn a_configuration_with_an_unknown_key_is_refused_with_its_place() {
    let (data, dags) = (folder(), dags(&[]));
    let config = data.path().join("openbell.yaml");
    std::fs::write(&config, "listen: 127.0.0.1:0\nlogg: embedded:log\n").expect("written");
    let output =
        run(&["up", "--config", path(&config), "--data", path(data.path()), "--dags", path(dags.path())]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("openbell.yaml") && error.contains("logg"), "{error}");
}

#[test]
fn lint_names_file_line_and_column() {
    let dags = dags(&[(
        "bad.yaml",
        "name: bad\nsteps:\n  a: { command: [\"true\"], needs: [b] }\n  b: { comand: [\"true\"], needs: [a] }\n",
    )]);
    let output = run(&["dag", "lint", "--dags", path(dags.path())]);
    let all = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{all}");
    assert!(all.contains("bad.yaml:4:") && all.contains("command"), "{all}");
}

const BROKEN: &str = "name: hello\nsteps:\n  greet: { command: [\"true\"], retires: 3 }\n";
const WORKING: &str = "name: hello\nsteps:\n  greet: { command: [\"true\"] }\n";

#[test]
fn a_broken_file_never_removes_the_version_that_runs() {
    let (data, dags) = (folder(), dags(&[("hello.yaml", WORKING)]));
    let daemon = Daemon::start(data.path(), dags.path(), &[]);
    std::fs::write(dags.path().join("hello.yaml"), BROKEN).expect("written");
    let problem = wait_for("the import error", || {
        let snapshot = daemon.get("/api/v1/snapshot");
        snapshot["problems"].as_array().and_then(|p| p.first()).cloned()
    });
    assert_eq!(problem["previous_kept"], true, "{problem}");
    assert!(problem["text"].as_str().expect("text").contains("retries"), "{problem}");
    assert_eq!(daemon.get("/api/v1/snapshot")["dags"][0]["name"], "hello");
    let id = trigger(&daemon, "hello");
    wait_for_state(&daemon, &id, "succeeded");
}

fn trigger(daemon: &Daemon, dag: &str) -> String {
    let answer = daemon.post("/api/v1/runs", &json!({ "dag": dag }));
    answer["run"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn wait_for_state(daemon: &Daemon, id: &str, state: &str) -> serde_json::Value {
    wait_for(&format!("run {id} to be {state}"), || daemon.run_view(id).filter(|r| r["state"] == state))
}

#[test]
fn a_missing_secret_is_named_in_the_steps_output() {
    let dag = "name: needs-key\nsteps:\n  collector:\n    kind: task\n    uses: topics\n    with: { create: [t] }\n    secrets: { app_key: env:OPENBELL_TEST_NO_SUCH_KEY }\n";
    let (data, dags) = (folder(), dags(&[("needs-key.yaml", dag)]));
    let daemon = Daemon::start(data.path(), dags.path(), &[]);
    let id = trigger(&daemon, "needs-key");
    wait_for_state(&daemon, &id, "failed");
    let output = std::fs::read_to_string(data.path().join("runs").join(&id).join("collector/1/output.log"))
        .expect("an output");
    assert!(output.contains("OPENBELL_TEST_NO_SUCH_KEY") && output.contains("app_key"), "{output}");
}

#[test]
fn a_corrupt_journal_is_set_aside_and_the_history_comes_back() {
    let (data, dags) = (folder(), dags(&[("hello.yaml", WORKING)]));
    let mut daemon = Daemon::start(data.path(), dags.path(), &[]);
    let id = trigger(&daemon, "hello");
    wait_for_state(&daemon, &id, "succeeded");
    assert!(daemon.terminate().success(), "{}", daemon.output());
    drop(daemon);
    let mut damaged = 0;
    for entry in std::fs::read_dir(data.path().join("state")).expect("the state folder").flatten() {
        if entry.file_type().expect("a type").is_file() {
            std::fs::write(entry.path(), vec![0xa5; 4096]).expect("damaged");
            damaged += 1;
        }
    }
    assert!(damaged > 0, "nothing to damage");
    let daemon = Daemon::start(data.path(), dags.path(), &[]);
    let snapshot = daemon.get("/api/v1/snapshot");
    let notices = snapshot["notices"].to_string();
    assert!(notices.contains("damaged"), "{notices}\n{}", daemon.output());
    assert_eq!(daemon.run_view(&id).expect("the run is still known")["state"], "succeeded");
    let aside = std::fs::read_dir(data.path())
        .expect("the folder")
        .flatten()
        .any(|e| e.file_name().to_string_lossy().contains("damaged"));
    assert!(aside, "the damaged journal must be kept");
}

#[test]
fn a_daemon_that_goes_down_leaves_processes_alive_and_adopts_them() {
    let dag = "name: long\nsteps:\n  wait: { command: [\"sh\", \"-c\", \"echo begun; while [ ! -e $GO ]; do sleep 0.05; done; echo ended\"], env: { GO: GOFILE } }\n";
    let data = folder();
    let go = data.path().join("go");
    let dags = dags(&[("long.yaml", &dag.replace("GOFILE", path(&go)))]);
    let mut daemon = Daemon::start(data.path(), dags.path(), &[]);
    let id = trigger(&daemon, "long");
    let output = data.path().join("runs").join(&id).join("wait/1/output.log");
    wait_for("the step's first line", || {
        std::fs::read_to_string(&output).ok().filter(|t| t.contains("begun"))
    });
    daemon.kill();
    drop(daemon);
    let daemon = Daemon::start(data.path(), dags.path(), &[]);
    std::fs::write(&go, "").expect("written");
    let run = wait_for_state(&daemon, &id, "succeeded");
    assert_eq!(
        (run["steps"]["wait"]["attempt"].as_u64(), run["steps"]["wait"]["retries_used"].as_u64()),
        (Some(1), Some(0)),
        "{run}"
    );
    assert_eq!(std::fs::read_to_string(&output).expect("an output").matches("begun").count(), 1);
}

//! `openbell dag` from the outside: output, exit codes, messages.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs `openbell dag …`; gives back exit code, output and errors.
fn dag(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_openbell"));
    let output = command
        .arg("dag")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn the_shipped_folder_lists_and_lints() {
    let (code, out, err) = dag(&["list"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.lines().any(|l| l.starts_with("kis-trading-day ") && l.contains("enabled")), "{out}");
    assert!(out.lines().any(|l| l.starts_with("kis-full-session ") && l.contains("off")), "{out}");
    let (code, out, _) = dag(&["lint", "--json"]);
    assert_eq!((code, json(&out)["errors"].as_u64()), (0, Some(0)), "{out}");
}

#[test]
fn lint_names_file_line_and_column_and_fails() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("bad.yaml");
    fs::write(&file, "name: bad\nsteps:\n  a: { command: [x], tiemout: 5m, needs: [b] }\n").expect("a file");
    let path = file.display().to_string();
    for arguments in [vec!["lint", &path], vec!["lint", "--dags", dir.path().to_str().expect("UTF-8")]] {
        let (code, out, _) = dag(&arguments);
        assert_eq!(code, 1, "{out}");
        assert!(out.contains(&format!("{path}:3:22: error: unknown key \"tiemout\"")), "{out}");
        assert!(
            out.contains("help: did you mean \"timeout\"?") && out.contains(&format!("{path}:3:43: error:")),
            "{out}"
        );
    }
    let (code, out, err) = dag(&["show", "bad", "--dags", dir.path().to_str().expect("UTF-8")]);
    assert!(code == 1 && out.is_empty() && err.contains("bad.yaml:3:22"), "{err}");
}

#[test]
fn show_tells_what_containers_are_given() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = "name: day\ndefaults: { container: { memory: 256MiB } }\nsteps:\n  here: { command: [x] }\n  \
                there: { command: [x], image: i, container: { cpus: 0.5, network: none, user: 1000, mounts: [/srv/models:/models] } }\n";
    fs::write(dir.path().join("day.yaml"), text).expect("a file");
    let folder = dir.path().to_str().expect("UTF-8");
    let (code, out, err) = dag(&["show", "day", "--dags", folder]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (_, containers) = out.split_once("CONTAINER\n").expect("a table of containers");
    let words = "memory 256MiB, cpus 0.5, network none, user 1000, mount /srv/models:/models:ro";
    assert_eq!(
        containers.split_once("there").map(|(before, line)| (before, line.trim())),
        Some(("", words)),
        "{out}"
    );
    let (_, out, _) = dag(&["show", "day", "--dags", folder, "--json"]);
    let steps = &json(&out)["dag"]["steps"];
    assert_eq!(
        (&steps[1]["container"]["memory_bytes"], &steps[0].get("container")),
        (&serde_json::json!(268435456), &None)
    );
}

#[test]
fn next_names_late_opens_closed_days_and_the_calendars_end() {
    let (code, out, _) = dag(&["next", "kis-full-session", "-n", "4", "--from", "2026-11-17"]);
    assert_eq!(code, 0);
    let csat = out.lines().find(|l| l.contains("2026-11-19")).expect("the day");
    assert!(csat.contains("09:50 - 17:00 KST") && csat.contains("CSAT"), "{out}");
    let (_, out, _) = dag(&["next", "kis-trading-day", "-n", "3", "--from", "2027-12-29", "--json"]);
    let next = json(&out);
    assert_eq!(next["closed"][0]["date"], "2027-12-31");
    assert_eq!(next["windows"][2]["open_at"], "2028-01-03T08:50:00+09:00");
    assert!(next["warning"].as_str().is_some_and(|w| w.contains("ends 2027-12-31")), "{next}");
}

#[test]
fn what_is_not_there_is_said_plainly() {
    let nowhere = Path::new("/nonexistent/dags").to_str().expect("UTF-8");
    let (code, _, err) = dag(&["list", "--dags", nowhere]);
    assert!(code == 3 && err.contains(nowhere), "{err}");
    let (code, _, err) = dag(&["graph", "kis-trading-dya"]);
    assert!(code == 2 && err.contains("did you mean \"kis-trading-day\"?"), "{err}");
}

#[test]
fn graph_and_schema_are_machine_readable() {
    let (_, out, _) = dag(&["graph", "kis-trading-day", "--json"]);
    let graph = json(&out);
    assert_eq!(graph["steps"].as_array().map(Vec::len), Some(7));
    assert!(graph["needs"].as_array().is_some_and(|n| {
        n.iter().any(|n| n["step"] == "vwap" && n["needs"] == "collector" && n["until"] == "ready")
    }));
    let (code, out, _) = dag(&["schema"]);
    assert!(code == 0 && json(&out)["properties"]["steps"].is_object());
}

#[test]
fn the_shipped_folder_is_fine() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dags"));
    let shipped = openbell::daemon::folder::read(folder, openbell::steps::programs()).expect("the folder");
    assert_eq!(shipped.problems, []);
    for file in &shipped.files {
        assert!(file.dag.is_ok() && file.warnings.is_empty(), "{file:?}");
    }
    let enabled: Vec<_> =
        shipped.files.iter().filter(|f| f.enabled).filter_map(|f| f.name.as_deref()).collect();
    assert_eq!(enabled, ["kis-trading-day"]);
    assert!(shipped.calendars.contains_key("krx"));
}

#[test]
fn programs_are_listed_and_told_one_by_one() {
    let (code, out, _) = dag(&["programs"]);
    assert!(code == 0 && openbell::steps::programs().iter().all(|p| out.contains(p.name)), "{out}");
    let (_, out, _) = dag(&["programs", "sink/objects"]);
    assert!(out.contains("rotate.size") && out.contains("64MiB") && out.contains("swarm"), "{out}");
    let (_, out, _) = dag(&["programs", "collect/kis", "--json"]);
    let told = json(&out);
    assert_eq!((&told["role"], &told["secrets"][0]["variable"]), (&"source".into(), &"KIS_APP_KEY".into()));
    let (code, _, err) = dag(&["programs", "sink/indx"]);
    assert!(code == 2 && err.contains("did you mean \"sink/index\"?"), "{err}");
}

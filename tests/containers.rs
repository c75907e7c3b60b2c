//! Steps that go wrong in a container, each in its own way, on the real binary and a real engine: the command
//! line, the page and the mail call each what it is, and say what to do.
//!
//! The image is `OPENBELL_TEST_IMAGE` (`scripts/engine test-image`: a shell and the usual small tools).

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Daemon, run, wait_for};

/// The deaf one has time to start and to set its trap, whatever else starts: its timeout is of the real
/// clock.
const DAG: &str = r#"
name: bad-steps
alerts:
  email: [oncall@example.com]
  on: [step_failed, run_failed, deadline_missed, output_cut]
steps:
  deaf:
    command: [sh, -c, "trap '' TERM; echo I do not listen; while :; do sleep 0.1; done"]
    image: IMAGE
    timeout: 30s
    stop: { signal: SIGTERM, grace: 1s }
  greedy:
    command: [sh, -c, "x=0123456789abcdef; while :; do x=$x$x; done"]
    image: IMAGE
  flood:
    command: [sh, -c, "yes a line of a very talkative program that never stops to talk | head -c 90000000; echo; echo no such table; exit 3"]
    image: IMAGE
  missing:
    command: ["true"]
    image: openbell-no-such-image:1
  own:
    command: [sh, -c, "echo I end so; exit 137"]
    image: IMAGE
  fine:
    command: [sh, -c, "echo all is well"]
    image: IMAGE
"#;

/// What each of them is called, wherever it is told, and a word of what to do.
const CALLED: [(&str, &str, &str); 5] = [
    ("deaf", "timed out after 30s, ignored SIGTERM for 1s, and was killed", "(timeout:)"),
    ("greedy", "out of memory", "more memory"),
    ("flood", "exit code 3", "end of its output"),
    ("missing", "is not on the engine and cannot be pulled", "build or load it there"),
    ("own", "exit code 137 (openbell sent it no signal)", "128 + 9"),
];
const FLOODED: &str = "printed more than 64 MiB";

/// The containers of a data folder's daemon, removed at the end of the test whatever happens.
struct Containers(String);

impl Containers {
    fn of(data: &Path) -> Self {
        let data = data.canonicalize().expect("a folder");
        Self(format!("openbell-{:08x}-", crc32fast::hash(data.as_os_str().as_encoded_bytes())))
    }

    fn left(&self) -> Vec<String> {
        let listed = Command::new("docker")
            .args(["ps", "-a", "--format", "{{.Names}}"])
            .output()
            .expect("a docker client");
        String::from_utf8_lossy(&listed.stdout)
            .lines()
            .filter(|name| name.starts_with(&self.0))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let left = self.left();
        if !left.is_empty() {
            let removed = Command::new("docker").args(["rm", "-f"]).args(&left).output();
            removed.map(drop).unwrap_or_default();
        }
    }
}

/// Subject and text of the mails in a folder.
fn mails(outbox: &Path) -> Vec<(String, String)> {
    let Ok(files) = std::fs::read_dir(outbox) else { return Vec::new() };
    let texts = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    texts.map(|text| mail(&text.replace("\r\n", "\n"))).collect()
}

fn mail(text: &str) -> (String, String) {
    let (head, body) = text.split_once("\n\n").expect("a head and a body");
    let head = head.replace("\n ", " ");
    let subject = head.lines().find_map(|line| line.strip_prefix("Subject: ")).expect("a subject").to_owned();
    if !head.contains("quoted-printable") {
        return (subject, body.to_owned());
    }
    let mut parts = body.split('=');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.strip_prefix('\n') {
            Some(rest) => bytes.extend(rest.bytes()),
            None => {
                bytes.push(u8::from_str_radix(&part[..2], 16).expect("two digits"));
                bytes.extend(part[2..].bytes());
            }
        }
    }
    (subject, String::from_utf8(bytes).expect("UTF-8"))
}

/// What the command line prints.
fn says(data: &Path, arguments: &[&str]) -> String {
    let arguments = [arguments, &["--data", data.to_str().expect("a plain path")]].concat();
    let output = run(&arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The pieces of a text that begin with a step's name, by step.
fn by_step<'a>(
    text: &'a str,
    separator: &str,
    mark: impl Fn(&str) -> String,
) -> BTreeMap<&'static str, &'a str> {
    let piece = |name: &str| text.split(separator).find(|piece| piece.contains(&mark(name)));
    CALLED.iter().filter_map(|(name, ..)| Some((*name, piece(name)?))).collect()
}

#[test]
fn what_goes_wrong_in_a_container_is_told_as_what_it_is() {
    let test = "what_goes_wrong_in_a_container_is_told_as_what_it_is";
    let Some(image) = support::engine("OPENBELL_TEST_IMAGE", test) else { return };
    let (data, dags) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    std::fs::write(dags.path().join("bad-steps.yaml"), DAG.replace("IMAGE", &image)).expect("written");
    let config = data.path().join("openbell.yaml");
    std::fs::write(&config, "executor: docker\ndocker: { memory_bytes: 33554432, network: none }\n")
        .expect("written");
    let containers = Containers::of(data.path());
    let daemon =
        Daemon::start(data.path(), dags.path(), &["--config", config.to_str().expect("a plain path")]);
    let id = says(data.path(), &["run", "trigger", "bad-steps"]).trim().to_owned();
    wait_for("the run's end", || (daemon.run_view(&id)?["state"] == "failed").then_some(()));

    // The command line, for people and for programs.
    let table = says(data.path(), &["run", "show", &id]);
    let view: Value =
        serde_json::from_str(&says(data.path(), &["run", "show", &id, "--json"])).expect("JSON");
    for (step, called, to_do) in CALLED {
        let begin = format!("\n{step}: ");
        let (_, said) =
            table.split_once(&begin).unwrap_or_else(|| panic!("{step} is not explained in\n{table}"));
        let said = said
            .split("\n")
            .take_while(|line| !line.is_empty())
            .scan(true, |first, line| (std::mem::take(first) || line.starts_with(' ')).then_some(line));
        let said = said.collect::<Vec<_>>().join("\n");
        assert!(said.contains(called) && said.contains(to_do), "{step}: {said}");
        let state = &view["run"]["steps"][step];
        let reason = state["reason"].as_str().expect("a reason");
        assert!(reason.contains(called), "{step}: {reason}");
        assert!(format!("{reason} {}", view["advice"][step]).contains(to_do), "{step}: {view:#}");
    }
    let steps = &view["run"]["steps"];
    let exit = |step: &str| steps[step]["history"][0]["exit"].clone();
    assert_eq!((exit("deaf")["signal"].as_i64(), steps["deaf"]["killed"].as_bool()), (Some(9), Some(true)));
    assert_eq!((exit("greedy").as_str(), exit("own")["code"].as_i64()), (Some("out_of_memory"), Some(137)));
    assert!(exit("missing")["not_started"].is_string(), "{:#}", steps["missing"]);
    assert!(steps["flood"]["notice"].as_str().is_some_and(|n| n.contains(FLOODED)), "{:#}", steps["flood"]);
    assert_eq!(
        (steps["fine"]["state"].as_str(), steps["fine"]["reason"].as_str()),
        (Some("succeeded"), None)
    );
    assert!(table.contains(FLOODED) && !table.contains("\nfine: "), "{table}");
    // Every line of the table fits: a long reason stands below it.
    assert!(table.lines().take(9).all(|line| line.chars().count() < 120), "{table}");
    let output = says(data.path(), &["run", "output", &id, "flood"]);
    assert!((64 << 20..65 << 20).contains(&output.len()), "{} bytes", output.len());
    assert!(
        output.contains("cut here, after 64 MiB") && output.ends_with("\nno such table\n"),
        "its end is there"
    );

    // The page of the run, and the first page.
    let page = daemon.page(&format!("/runs/{id}"));
    let rows = by_step(&page, "<tbody>", |step| format!("<strong>{step}</strong>"));
    let today = daemon.page("/");
    let lines = by_step(&today, "<li>", |step| format!("step {step} failed: "));
    for (step, called, to_do) in CALLED {
        assert!(rows[step].contains(called) && rows[step].contains(to_do), "{step}: {}", rows[step]);
        assert!(lines[step].contains(called), "{step}: {}", lines[step]);
    }
    assert!(rows["flood"].contains(FLOODED) && today.contains(&format!("step flood: {FLOODED}")));
    let shown = daemon.page(&format!("/runs/{id}/steps/flood/output"));
    assert!(
        shown.len() < 1 << 20 && shown.contains("no such table"),
        "a browser gets the end of it: {} bytes",
        shown.len()
    );
    assert!(daemon.page(&format!("/runs/{id}/steps/missing/output")).contains("could not be started"));

    // One mail for each that failed, one for the flood, one for the run.
    let outbox = data.path().join("outbox");
    let mails = wait_for("the mails", || Some(mails(&outbox)).filter(|mails| mails.len() >= 7));
    let about = |kind: &str| {
        mails.iter().filter(|(subject, _)| subject.contains(&format!("[openbell] {kind}:"))).count()
    };
    assert_eq!(
        ["step_failed", "output_cut", "run_failed", "deadline_missed"].map(about),
        [5, 1, 1, 0],
        "{mails:#?}"
    );
    for (step, called, to_do) in CALLED {
        let mail = mails.iter().find(|(subject, _)| subject.contains(&format!("step_failed: task {step}: ")));
        let (subject, text) = mail.unwrap_or_else(|| panic!("no mail about {step}: {mails:#?}"));
        assert!(text.contains(called) && text.contains(to_do), "{step}: {text}");
        assert!(subject.chars().count() < 150, "{subject}");
    }
    assert!(
        mails.iter().any(|(subject, _)| subject.contains(&format!("output_cut: flood: {FLOODED}"))),
        "{mails:#?}"
    );
    wait_for("the containers to be removed", || containers.left().is_empty().then_some(()));
}

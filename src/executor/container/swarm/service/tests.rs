//! Services as they are asked for.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::container::swarm::secrets::needed;
use crate::testing::{self, installation};
use config::DockerSettings;
use domain::dag::fixtures::step;
use domain::dag::{Program, SecretRef};

fn attempt(kind: StepKind, replicas: u32) -> AttemptSpec {
    let mut step = step("sink-index", kind, &[]);
    step.program = Program::Uses("sink/index".into());
    step.replicas = replicas;
    step.env = BTreeMap::from([("PATTERN".to_owned(), "{{.Node.ID}}".to_owned())]);
    step.secrets = BTreeMap::from([
        ("key".to_owned(), SecretRef::Env("KIS_APP_KEY".into())),
        ("secret".to_owned(), SecretRef::File("/etc/kis".into())),
    ]);
    testing::attempt(step, 2)
}

fn service(kind: StepKind, replicas: u32) -> ServiceSpec {
    let attempt = attempt(kind, replicas);
    let body =
        definition::body(&attempt, &DockerSettings::default(), &installation(), |_| None).expect("a body");
    let given = ServiceSettings {
        image: "sha256:1".into(),
        constraints: vec!["node.labels.x==y".into()],
        ..ServiceSettings::default()
    };
    spec(&attempt, name("i", &attempt.id), body, given)
}

#[test]
fn only_several_copies_are_restarted_by_the_swarm() {
    let restart = |spec: &ServiceSpec| {
        spec.task_template
            .as_ref()
            .and_then(|t| t.restart_policy.as_ref())
            .and_then(|r| r.condition)
            .expect("a condition")
    };
    let replicas =
        |spec: &ServiceSpec| spec.mode.as_ref().and_then(|m| m.replicated.as_ref()).and_then(|r| r.replicas);
    let (check, one, three) =
        (service(StepKind::Check, 1), service(StepKind::Service, 1), service(StepKind::Service, 3));
    for single in [&check, &one] {
        assert_eq!(
            restart(single),
            TaskSpecRestartPolicyConditionEnum::NONE,
            "an attempt is one life of the step"
        );
        assert_eq!(replicas(single), Some(1));
    }
    assert_eq!((restart(&three), replicas(&three)), (TaskSpecRestartPolicyConditionEnum::ANY, Some(3)));
}

#[test]
fn a_task_has_no_powers_and_is_not_taken_for_a_container() {
    let spec = service(StepKind::Service, 2);
    let installation = installation().id();
    let labels = spec.labels.clone().expect("labels");
    assert_eq!(definition::attempt_of(&installation, &labels).map(|a| a.attempt), Some(2));
    let task = spec.task_template.expect("a task").container_spec.expect("a container");
    assert_eq!(definition::attempt_of(&installation, &task.labels.expect("labels")), None);
    assert_eq!((task.read_only, task.capability_drop), (Some(true), Some(vec!["ALL".to_owned()])));
    let environment = task.env.expect("an environment");
    for wanted in
        ["OPENBELL_TASK={{.Task.ID}}", "OPENBELL_REPLICA={{.Task.Slot}}", "PATTERN={{\"{{\"}}.Node.ID}}"]
    {
        assert!(environment.iter().any(|e| e == wanted), "{wanted} in {environment:?}");
    }
}

#[test]
fn eviction_is_done_once() {
    let spec = service(StepKind::Service, 1);
    assert!(!is_evicted(&spec));
    let evicted = evicted(spec).expect("a change");
    assert!(is_evicted(&evicted));
    assert_eq!(super::evicted(evicted), None);
}

#[test]
fn names_are_short_and_allowed() {
    let mut id = attempt(StepKind::Task, 1).id;
    assert_eq!(name("12345678", &id), "openbell-12345678-day-2026-11-20-sink-index-2");
    id.run = format!("{}@2026-11-20", "a".repeat(60)).parse().expect("a run");
    let first = name("12345678", &id);
    assert!(first.len() <= 63 && first.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{first}");
    id.step = "sink-raw".parse().expect("a step");
    assert_ne!(first, name("12345678", &id));
}

#[test]
fn secrets_become_files_that_only_the_task_reads() {
    let variable = |name: &str| (name == "KIS_APP_KEY").then(|| "k".to_owned());
    let read = |path: &std::path::Path| path.ends_with("kis").then(|| b"s".to_vec());
    let all = needed(&attempt(StepKind::Service, 1), &installation(), variable, read).expect("what is there");
    assert_eq!(all.iter().map(|n| n.target.as_str()).collect::<Vec<_>>(), ["env.KIS_APP_KEY", "/etc/kis"]);
    let spec = all[0].spec(HashMap::new());
    assert_eq!(spec.data.as_deref(), Some("aw=="));
    let file = all[0].reference("id".into(), "1000:1001").file.expect("a file");
    assert_eq!(
        (file.uid.as_deref(), file.gid.as_deref(), file.mode),
        (Some("1000"), Some("1001"), Some(0o400))
    );
    assert!(all.iter().all(|n| n.name.len() <= 64));
}

#[test]
fn a_command_finds_its_secrets_by_name_or_does_not_start() {
    let mut spec = attempt(StepKind::Task, 1);
    spec.step.program = Program::Command { argv: vec!["fetch".into()], image: Some("fetch:1".into()) };
    let variable = |name: &str| (name == "KIS_APP_KEY").then(|| "k".to_owned());
    let read = |_: &std::path::Path| Some(b"s".to_vec());
    let all = needed(&spec, &installation(), variable, read).expect("all there");
    assert_eq!(all.iter().map(|n| n.target.as_str()).collect::<Vec<_>>(), ["key", "secret"]);
    let why = needed(&spec, &installation(), |_| None, read).err().expect("a variable is not set");
    assert!(
        why.contains("\"key\" (env:KIS_APP_KEY)") && why.contains("set it where openbell is started"),
        "{why}"
    );
    let why = needed(&spec, &installation(), variable, |_| Some(Vec::new())).err().expect("a file is empty");
    assert!(why.contains("\"secret\" (file:/etc/kis)") && why.contains("it is empty"), "{why}");
}

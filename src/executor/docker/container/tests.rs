//! Containers as they are asked for.

use std::collections::BTreeMap;

use super::*;
use crate::domain::dag::StepKind;
use crate::domain::dag::fixtures::step;
use crate::domain::schedule::Window;

fn spec(program: Program) -> AttemptSpec {
    let mut step = step("sink-index", StepKind::Service, &[]);
    step.program = program;
    step.secrets = BTreeMap::from([
        ("app_key".to_owned(), SecretRef::Env("KIS_APP_KEY".into())),
        ("app_secret".to_owned(), SecretRef::File("/run/secrets/kis".into())),
    ]);
    let at = "2026-11-20T08:50:00+09:00".parse().expect("a time");
    AttemptSpec {
        id: AttemptId { run: "day@2026-11-20".parse().expect("a run"), step: step.name.clone(), attempt: 2 },
        step,
        session_date: "2026-11-20".parse().expect("a date"),
        timezone: "Asia/Seoul".into(),
        calendar: None,
        window: Window { open_at: at, close_at: None },
        deadline: Some(at),
        params: BTreeMap::new(),
        folder: "/data/runs/day@2026-11-20/sink-index/2".into(),
    }
}

fn around() -> Surroundings {
    let config = r#"{"raw":"mongodb://h/db?password=env:MONGO_PASSWORD&x=1","log":"kafka://h?password=file:/etc/kafka.pw"}"#;
    Surroundings {
        data: "/data".into(),
        dags: "/dags".into(),
        environment: vec![("OPENBELL_STEP_CONFIG".into(), config.into())],
        owner: (1000, 1001),
    }
}

#[test]
fn a_built_in_step_has_its_folders_and_secrets_and_no_powers() {
    let settings = DockerSettings::default();
    let variable = |name: &str| (name != "AWS_SESSION_TOKEN").then(|| format!("value of {name}"));
    let body = body(&spec(Program::Uses("sink/index".into())), &settings, &around(), variable).expect("a body");
    let environment = body.env.expect("an environment");
    for wanted in ["KIS_APP_KEY=value of KIS_APP_KEY", "MONGO_PASSWORD=value of MONGO_PASSWORD", "OPENBELL_ATTEMPT=2"] {
        assert!(environment.iter().any(|e| e == wanted), "{wanted} in {environment:?}");
    }
    assert!(!environment.iter().any(|e| e.starts_with("AWS_SESSION_TOKEN")));
    let host = body.host_config.expect("a host configuration");
    let mounts: Vec<_> =
        host.mounts.expect("mounts").into_iter().map(|m| (m.source.expect("a source"), m.read_only.expect("said"))).collect();
    let mount = |path: &str, read_only| (path.to_owned(), read_only);
    assert_eq!(
        mounts,
        [mount("/data", false), mount("/dags", true), mount("/etc/kafka.pw", true), mount("/run/secrets/kis", true)]
    );
    assert_eq!((host.readonly_rootfs, host.cap_drop), (Some(true), Some(vec!["ALL".to_owned()])));
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges:true".to_owned()]));
    assert_eq!(body.user.as_deref(), Some("1000:1001"));
    assert_eq!(body.cmd.expect("a command")[..2], ["step", "--folder"]);
}

#[test]
fn a_command_sees_its_own_folder_only() {
    let program = Program::Command { argv: vec!["python".into(), "main.py".into()], image: Some("report:1".into()) };
    let body = body(&spec(program), &DockerSettings::default(), &around(), |_| Some("secret".into())).expect("a body");
    assert_eq!(
        (body.image.as_deref(), body.entrypoint, body.cmd),
        (Some("report:1"), Some(vec!["python".into()]), Some(vec!["main.py".into()]))
    );
    assert!(body.env.expect("an environment").iter().all(|e| !e.contains("secret")));
    let mounts = body.host_config.expect("a host configuration").mounts.expect("mounts");
    assert_eq!(mounts.into_iter().filter_map(|m| m.source).collect::<Vec<_>>(), ["/data/runs/day@2026-11-20/sink-index/2"]);
    let bare = spec(Program::Command { argv: vec!["x".into()], image: None });
    let refused = super::body(&bare, &DockerSettings::default(), &around(), |_| None).expect_err("no image");
    assert!(refused.contains("image: NAME:TAG"), "{refused}");
}

#[test]
fn labels_give_the_attempt_back_and_names_are_allowed() {
    let spec = spec(Program::Uses("topics".into()));
    let body = body(&spec, &DockerSettings::default(), &around(), |_| None).expect("a body");
    let (labels, installation) = (body.labels.expect("labels"), around().installation());
    assert_eq!(attempt_of(&installation, &labels), Some(spec.id.clone()));
    assert_eq!(attempt_of("another", &labels), None);
    let name = name(&installation, &spec.id);
    assert_eq!(name, format!("openbell-{installation}-day.2026-11-20-sink-index-2"));
}

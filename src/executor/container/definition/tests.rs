//! Containers as they are asked for.

use std::collections::BTreeMap;

use super::*;
use crate::testing;
use domain::dag::StepKind;
use domain::dag::container::Container;
use domain::dag::fixtures::step;

fn spec(program: Program) -> AttemptSpec {
    let mut step = step("sink-index", StepKind::Service, &[]);
    step.program = program;
    step.secrets = BTreeMap::from([
        ("app_key".to_owned(), SecretRef::Env("KIS_APP_KEY".into())),
        ("app_secret".to_owned(), SecretRef::File("/run/secrets/kis".into())),
    ]);
    testing::attempt(step, 2)
}

fn installation() -> Installation {
    let config = r#"{"raw":"mongodb://h/db?password=env:MONGO_PASSWORD&x=1","log":"kafka://h?password=file:/etc/kafka.pw"}"#;
    let environment = vec![("OPENBELL_STEP_CONFIG".into(), config.into())];
    Installation { environment, ..testing::installation() }
}

#[test]
fn a_built_in_step_has_its_folders_and_secrets_and_no_powers() {
    let settings = DockerSettings::default();
    let variable = |name: &str| (name != "AWS_SESSION_TOKEN").then(|| format!("value of {name}"));
    let body = body(&spec(Program::Uses("sink/index".into())), &settings, &installation(), variable)
        .expect("a body");
    let environment = body.env.expect("an environment");
    for wanted in
        ["KIS_APP_KEY=value of KIS_APP_KEY", "MONGO_PASSWORD=value of MONGO_PASSWORD", "OPENBELL_ATTEMPT=2"]
    {
        assert!(environment.iter().any(|e| e == wanted), "{wanted} in {environment:?}");
    }
    assert!(!environment.iter().any(|e| e.starts_with("AWS_SESSION_TOKEN")));
    let host = body.host_config.expect("a host configuration");
    let mounts: Vec<_> = host
        .mounts
        .expect("mounts")
        .into_iter()
        .map(|m| (m.source.expect("a source"), m.read_only.expect("said")))
        .collect();
    let mount = |path: &str, read_only| (path.to_owned(), read_only);
    assert_eq!(
        mounts,
        [
            mount("/data", false),
            mount("/dags", true),
            mount("/etc/kafka.pw", true),
            mount("/run/secrets/kis", true)
        ]
    );
    assert_eq!((host.readonly_rootfs, host.cap_drop), (Some(true), Some(vec!["ALL".to_owned()])));
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges:true".to_owned()]));
    assert_eq!(body.user.as_deref(), Some("1000:1001"));
    assert_eq!(body.cmd.expect("a command")[..2], ["step", "--folder"]);
}

#[test]
fn a_command_sees_its_own_folder_only() {
    let program =
        Program::Command { argv: vec!["python".into(), "main.py".into()], image: Some("report:1".into()) };
    let body = body(&spec(program), &DockerSettings::default(), &installation(), |_| Some("secret".into()))
        .expect("a body");
    assert_eq!(
        (body.image.as_deref(), body.entrypoint, body.cmd),
        (Some("report:1"), Some(vec!["python".into()]), Some(vec!["main.py".into()]))
    );
    assert!(body.env.expect("an environment").iter().all(|e| !e.contains("secret")));
    let mounts = body.host_config.expect("a host configuration").mounts.expect("mounts");
    assert_eq!(
        mounts.into_iter().filter_map(|m| m.source).collect::<Vec<_>>(),
        ["/data/runs/day@2026-11-20/sink-index/2"]
    );
    let bare = spec(Program::Command { argv: vec!["x".into()], image: None });
    let refused =
        super::body(&bare, &DockerSettings::default(), &installation(), |_| None).expect_err("no image");
    assert!(refused.contains("image: NAME:TAG"), "{refused}");
}

#[test]
fn a_step_has_the_mounts_and_the_health_check_that_it_asks_for() {
    let program = Program::Command { argv: vec!["serve".into()], image: Some("model:1".into()) };
    let mut spec = spec(program);
    spec.step.container = Container {
        memory_bytes: Some(64 << 20),
        cpus: Some(0.5),
        mounts: ["/srv/models:/models", "cache:/var/cache:rw"].map(|m| m.parse().expect("a mount")).into(),
        health: Some(Health {
            command: vec!["curl".into(), "-f".into(), "localhost".into()],
            interval: Duration::from_millis(1500),
            timeout: Duration::from_secs(2),
            start_period: Duration::from_secs(10),
            retries: 4,
        }),
        ..Container::default()
    };
    let settings = DockerSettings::default().of(&spec.step);
    let made = body(&spec, &settings, &installation(), |_| None).expect("a body");
    let health = made.healthcheck.expect("a health check");
    assert_eq!(health.test.expect("a test"), ["CMD", "curl", "-f", "localhost"]);
    assert_eq!(
        (health.interval, health.timeout, health.start_period, health.retries),
        (Some(1_500_000_000), Some(2_000_000_000), Some(10_000_000_000), Some(4))
    );
    let host = made.host_config.expect("a host configuration");
    assert_eq!(
        (host.memory, host.memory_swap, host.nano_cpus),
        (Some(64 << 20), Some(64 << 20), Some(500_000_000))
    );
    assert!(host.tmpfs.expect("a temporary folder").contains_key("/tmp"));
    let mounts: Vec<_> = host
        .mounts
        .expect("mounts")
        .into_iter()
        .map(|m| (m.typ, m.source, m.target, m.read_only))
        .skip(1)
        .collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        mounts,
        [
            (Some(MountType::BIND), text("/srv/models"), text("/models"), Some(true)),
            (Some(MountType::VOLUME), text("cache"), text("/var/cache"), Some(false)),
        ]
    );
    spec.step.container.mounts = vec!["scratch:/tmp:rw".parse().expect("a mount")];
    let host = body(&spec, &settings, &installation(), |_| None)
        .expect("a body")
        .host_config
        .expect("a host configuration");
    assert_eq!(host.tmpfs, None, "an engine refuses two mounts at one place");
}

#[test]
fn a_mount_over_what_the_step_is_given_is_refused() {
    let program = || Program::Command { argv: vec!["x".into()], image: Some("x:1".into()) };
    let built_in = || Program::Uses("sink/index".into());
    for (program, target, taken) in [
        (program(), "/data", Some("/data/runs/day@2026-11-20/sink-index/2")),
        (
            program(),
            "/data/runs/day@2026-11-20/sink-index/2/x",
            Some("/data/runs/day@2026-11-20/sink-index/2"),
        ),
        (program(), "/data/models", None),
        (program(), "/database", None),
        (built_in(), "/data/models", Some("/data")),
        (built_in(), "/dags", Some("/dags")),
        (built_in(), "/run/secrets", Some("/run/secrets/kis")),
        (built_in(), "/etc/ssl/ours", None),
    ] {
        let mut spec = spec(program);
        spec.step.container.mounts = vec![format!("/srv/x:{target}").parse().expect("a mount")];
        let made = body(&spec, &DockerSettings::default(), &installation(), |_| None).map(drop);
        let said = made.clone().err().unwrap_or_default();
        match taken {
            Some(taken) => assert!(said.contains(&format!("/srv/x:{target}:ro is over {taken},")), "{said}"),
            None => assert_eq!(made, Ok(())),
        }
    }
}

#[test]
fn labels_give_the_attempt_back_and_names_are_allowed() {
    let spec = spec(Program::Uses("topics".into()));
    let body = body(&spec, &DockerSettings::default(), &installation(), |_| None).expect("a body");
    let (labels, installation) = (body.labels.expect("labels"), installation().id());
    assert_eq!(attempt_of(&installation, &labels), Some(spec.id.clone()));
    assert_eq!(attempt_of("another", &labels), None);
    let name = name(&installation, &spec.id);
    assert_eq!(name, format!("openbell-{installation}-day.2026-11-20-sink-index-2"));
}

//! The table `container:`.

use super::*;
use domain::dag::container::{Container, Health, Mount, Pull, User};

/// One step with a command in an image, and this `container:`.
fn with(table: &str) -> String {
    steps(&format!("  a: {{ command: [x], image: i, container: {table} }}\n"))
}

/// A service with this `container:`.
fn service(table: &str) -> String {
    steps(&format!("  a: {{ kind: service, command: [x], image: i, container: {table} }}\n"))
}

fn container<'a>(dag: &'a Dag, name: &str) -> &'a Container {
    &dag.step(&name.parse().expect("a name")).expect("a step").container
}

#[test]
fn a_whole_table_is_read() {
    let dag = fine(&steps(
        r#"  a:
    kind: service
    command: [serve]
    image: model:1
    executor: swarm
    container:
      memory: 256MiB
      cpus: 0.5
      pids: 64
      network: market
      pull: never
      user: 1000:1001
      mounts:
        - /srv/models:/models
        - cache:/var/cache:rw
        - { source: /etc/ssl/ours, target: /etc/ssl/certs }
        - { source: state, target: /state, read_only: false }
      health: { command: [curl, -f, "http://localhost:8080"], interval: 2s, timeout: 1s, start_period: 10s, retries: 5 }
      placement: [node.labels.zone == a, "node.role != manager"]
"#,
    ));
    let mounts = [
        "/srv/models:/models:ro",
        "cache:/var/cache:rw",
        "/etc/ssl/ours:/etc/ssl/certs:ro",
        "state:/state:rw",
    ];
    let whole = Container {
        memory_bytes: Some(256 << 20),
        cpus: Some(0.5),
        pids: Some(64),
        network: Some("market".into()),
        pull: Some(Pull::Never),
        user: Some(User { uid: 1000, gid: Some(1001) }),
        mounts: mounts.map(|m| m.parse().expect("a mount")).into(),
        health: Some(Health {
            command: ["curl", "-f", "http://localhost:8080"].map(String::from).into(),
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            start_period: Duration::from_secs(10),
            retries: 5,
        }),
        placement: vec!["node.labels.zone == a".into(), "node.role != manager".into()],
    };
    assert_eq!(*container(&dag, "a"), whole);
    let dag = fine(&with("{ user: 1000, cpus: 2 }"));
    assert_eq!(
        *container(&dag, "a"),
        Container { user: Some(User { uid: 1000, gid: None }), cpus: Some(2.0), ..Container::default() }
    );
}

#[test]
fn a_step_stands_over_the_defaults_key_by_key() {
    let dag = fine(
        r#"name: x
schedule: { timezone: UTC, open: "0 9 * * *", close: "0 17 * * *" }
defaults:
  container:
    memory: 256MiB
    pids: 64
    mounts: [/etc/ssl/ours:/certs, /srv/models:/models]
    health: { command: [healthy] }
    placement: [node.labels.zone == a]
steps:
  task: { command: [x], image: i, container: { memory: 1GiB, mounts: [cache:/cache:rw, "/srv/new:/models"] } }
  web: { kind: service, command: [x], image: i }
  far: { command: [x], image: i, executor: swarm }
  near: { command: [x], image: i, executor: swarm, container: { placement: [] } }
  bare: { command: [x] }
  local: { command: [x], executor: process }
  inside: { uses: topics, with: { create: [a] }, executor: embedded }
  open: { uses: topics, with: { create: [a] } }
"#,
    );
    let task = container(&dag, "task");
    assert_eq!((task.memory_bytes, task.pids), (Some(1 << 30), Some(64)));
    let mounts: Vec<String> = task.mounts.iter().map(Mount::to_string).collect();
    assert_eq!(
        mounts,
        ["/etc/ssl/ours:/certs:ro", "cache:/cache:rw", "/srv/new:/models:ro"],
        "its own stands at the same target"
    );
    assert_eq!(
        (task.health.is_some(), task.placement.len()),
        (false, 0),
        "a task never gets ready, and Docker has one node"
    );
    let web = container(&dag, "web");
    let health = web.health.as_ref().expect("a health command");
    assert_eq!(
        (health.command[0].as_str(), health.interval, health.retries),
        ("healthy", Duration::from_secs(5), 3)
    );
    assert_eq!(container(&dag, "far").placement, ["node.labels.zone == a"]);
    assert!(container(&dag, "near").placement.is_empty());
    for name in ["bare", "local", "inside"] {
        assert!(container(&dag, name).is_empty(), "{name} has no container");
    }
    assert_eq!(container(&dag, "open").memory_bytes, Some(256 << 20), "the configuration says where it runs");
}

#[test]
fn limits_out_of_range() {
    one(
        &with("{ memory: 5MiB }"),
        "4:53",
        &["\"memory\" of \"container\" of step \"a\" is less than an engine takes", "6MiB"],
    );
    one(&with("{ memory: 512m }"), "4:53", &["\"512m\", which is not a size", "64MiB"]);
    one(&with("{ memory: 512 }"), "4:53", &["give it a unit: 512MiB"]);
    for bad in ["0", "-1", "0.001", "2000"] {
        one(
            &with(&format!("{{ cpus: {bad} }}")),
            "4:51",
            &["not a number from 0.01 to 1024", "for example 0.5"],
        );
    }
    one(&with("{ cpus: half }"), "4:51", &["is a text, not a number"]);
    one(&with("{ pids: 0 }"), "4:51", &["is 0, not a whole number of at least 1"]);
    for (bad, word) in
        [("root", "not a user in numbers"), ("\"1000:\"", "UID:GID"), ("[1]", "is a list"), ("-1", "is -1")]
    {
        one(&with(&format!("{{ user: {bad} }}")), "4:51", &[word]);
    }
    one(&with("{ network: container:other }"), "4:54", &["is not a network", "docker network ls"]);
    one(&with("{ pull: sometimes }"), "4:51", &["cannot be \"sometimes\"", "always"]);
    let defaults = "name: x\ndefaults: { container: { memory: 1MiB } }\nsteps:\n  a: { command: [x], image: i }\n  b: { command: [x], image: i }\n";
    one(defaults, "2:34", &["\"memory\" of \"container\" of \"defaults\" is less"]);
}

#[test]
fn mounts_that_cannot_be() {
    for (bad, word) in [
        ("models:models", "not an absolute path in the container"),
        ("./models:/models", "neither an absolute path nor a volume's name"),
        ("/srv:/", "hides the image's own files"),
        ("/srv:/dev/shm", "belongs to the system"),
        ("/srv:/srv:rwx", "\"rwx\""),
        ("/srv", "SOURCE:TARGET"),
    ] {
        one(&with(&format!("{{ mounts: [\"{bad}\"] }}")), "4:54", &[word]);
    }
    one(&with("{ mounts: [{ source: models/, target: /m }] }"), "4:64", &["neither an absolute path"]);
    one(
        &with("{ mounts: [{ source: /srv, target: m }] }"),
        "4:78",
        &["not an absolute path in the container"],
    );
    one(&with("{ mounts: [{ source: /srv }] }"), "4:54", &["has no \"target\""]);
    one(&with("{ mounts: [\"/a:/m\", \"b:/m/\"] }"), "4:63", &["two mounts are at \"/m\""]);
    one(&with("{ volumes: [\"/a:/m\"] }"), "4:45", &["did you mean \"mounts\"?"]);
    let found = faults(&with("{ mounts: [\"/var/run/docker.sock:/docker.sock\"] }"));
    assert!(
        found.len() == 1 && found[0].starts_with("4:54 warning: ") && found[0].contains("the whole machine"),
        "{found:?}"
    );
}

#[test]
fn a_finding_points_into_the_table() {
    let parsed = parsed(&steps(
        "  a:\n    command: [x]\n    image: i\n    container:\n      mounts:\n        - models:models\n",
    ));
    let said = parsed.diagnostics[0].render("x.yaml");
    let expected = "x.yaml:9:11: error: \"models\" is not an absolute path in the container\n   |\n 9 |         - models:models\n   |           ^^^^^^^^^^^^^\nhelp: write where the container sees it, from / on";
    assert_eq!(said, expected);
}

#[test]
fn only_steps_in_containers_have_one() {
    let step = |rest: &str| steps(&format!("  a: {{ command: [x], {rest}container: {{ pids: 9 }} }}\n"));
    one(
        &step("executor: process, "),
        "4:41",
        &["the executor process has no containers", "executor: docker and image: NAME:TAG"],
    );
    one(&step(""), "4:22", &["a command without an image runs as a process", "add image: NAME:TAG"]);
    let topics = |executor| {
        steps(&format!(
            "  a: {{ uses: topics, with: {{ create: [a] }}, executor: {executor}, container: {{ pids: 9 }} }}\n"
        ))
    };
    one(
        &topics("embedded"),
        "4:65",
        &["the executor embedded has no containers", "write executor: docker, or remove container"],
    );
    one(
        &topics("process"),
        "4:64",
        &["the executor process has no containers", "write executor: docker, or remove container"],
    );
    fine(&topics("docker"));
    let of_file = format!(
        "executor: process\n{}",
        steps("  a: { uses: topics, with: { create: [a] }, container: { pids: 9 } }\n")
    );
    one(&of_file, "5:45", &["the executor process has no containers"]);
    one(&steps("  a: { command: [x], image: i, memory: 1GiB }\n"), "4:32", &["did you mean \"container\"?"]);
}

#[test]
fn placement_is_for_swarms() {
    one(
        &with("{ placement: [node.role == worker] }"),
        "4:45",
        &["does not run on one", "add executor: swarm"],
    );
    let swarm = |constraint: &str| {
        steps(&format!(
            "  a: {{ command: [x], image: i, executor: swarm, container: {{ placement: [\"{constraint}\"] }} }}\n"
        ))
    };
    one(&swarm("zone == a"), "4:74", &["nodes have no \"zone\"", "node.labels.zone == a"]);
    one(&swarm("node.role = worker"), "4:74", &["compares nothing"]);
}

#[test]
fn health_is_for_services_that_do_not_speak_for_themselves() {
    let health = |rest: &str| service(&format!("{{ health: {{ {rest} }} }}"));
    one(
        &with("{ health: { command: [x] } }"),
        "4:45",
        &["\"health\" does not go with a task", "kind: service"],
    );
    let sink = "  a: { kind: service, uses: sink/index, container: { health: { command: [x] } } }\n";
    one(&steps(sink), "4:54", &["a built-in program says itself", "remove health"]);
    one(&health("interval: 1s"), "4:60", &["has no \"command\""]);
    one(&health("command: []"), "4:79", &["the health command is empty"]);
    one(&health("command: [CMD, curl]"), "4:79", &["a word of compose", "[sh, -c, \"…\"]"]);
    one(
        &health("command: [x], interval: 0s"),
        "4:94",
        &["\"interval\" of \"health\" of \"container\" of step \"a\" is zero"],
    );
    one(&health("command: [x], retries: 0"), "4:93", &["at least 1"]);
    one(&service("{ healthcheck: { command: [x] } }"), "4:60", &["did you mean \"health\"?"]);
    one(&health("test: [x], command: [x]"), "4:70", &["did you mean \"command\"?"]);
    let found = faults(&health("command: [x], interval: 30s"));
    assert!(
        found.len() == 1 && found[0].starts_with("4:94 warning: the first look comes after 30 s"),
        "{found:?}"
    );
    let found = faults(&health("command: \"curl x || exit 1\""));
    assert!(
        found.len() == 1 && found[0].contains("warning: the command runs without a shell, so ||"),
        "{found:?}"
    );
}

#[test]
fn the_schema_knows_the_table() {
    let schema = schema::schema(PROGRAMS);
    let step =
        &schema["properties"]["steps"]["additionalProperties"]["properties"]["container"]["properties"];
    assert_eq!(step, &schema["properties"]["defaults"]["properties"]["container"]["properties"]);
    assert_eq!(
        (&step["cpus"]["minimum"], &step["pids"]["minimum"]),
        (&serde_json::json!(0.01), &serde_json::json!(1))
    );
    assert_eq!(step["mounts"]["items"]["anyOf"][1]["required"], serde_json::json!(["source", "target"]));
    assert_eq!(step["pull"]["enum"], serde_json::json!(["always", "missing", "never"]));
}

#[test]
fn the_example_for_steps_of_your_own_is_fine() {
    let text = include_str!("../../../containers/examples/README.md");
    let (_, rest) = text.split_once("```yaml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let dag = fine(example);
    let (waiting, vendors) = (container(&dag, "broker-is-up"), container(&dag, "vendors"));
    assert_eq!((waiting.memory_bytes, vendors.memory_bytes), (Some(64 << 20), Some(256 << 20)));
    assert_eq!((waiting.cpus, vendors.cpus, vendors.mounts.len()), (Some(0.5), Some(0.5), 1));
}

//! Small DAGs for tests of this and higher floors.
use super::*;

/// A step with plain defaults.
pub fn step(name: &str, kind: StepKind, needs: &[(&str, Until)]) -> Step {
    Step {
        name: name.parse().expect("valid name"),
        kind,
        program: Program::Command { argv: vec!["true".into()], image: None },
        executor: None,
        needs: needs
            .iter()
            .map(|(n, until)| Need { step: n.parse().expect("valid name"), until: *until })
            .collect(),
        trigger_rule: TriggerRule::AllSuccess,
        with: serde_json::Map::new(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        retries: 0,
        backoff: Backoff::default(),
        timeout: Some(Duration::from_secs(600)),
        ready_within: Duration::from_secs(30),
        restart: RestartPolicy { policy: Restart::Always, backoff: Backoff::default(), max: None },
        stop: StopPolicy { signal: StopSignal::Term, grace: Duration::from_secs(30) },
        drain: None,
        every: (kind == StepKind::Check).then_some(Duration::from_secs(300)),
        replicas: 1,
        when: None,
        container: Container::default(),
    }
}

/// A DAG without a schedule.
pub fn dag(name: &str, steps: Vec<Step>) -> Dag {
    Dag::new(
        name.parse().expect("valid name"),
        String::new(),
        String::new(),
        None,
        AlertPolicy::default(),
        steps,
    )
    .expect("valid DAG")
}

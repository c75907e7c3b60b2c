//! What happened between two snapshots, for programs. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use daemon::Snapshot;
use daemon::snapshot::{AlertView, RunView};
use domain::ids::RunId;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    /// Name of the event.
    pub(crate) kind: &'static str,
    /// Its data.
    pub(crate) data: Value,
}

impl Change {
    fn new(kind: &'static str, data: Value) -> Self {
        Self { kind, data }
    }
}

/// What happened between two snapshots: DAGs and their files, runs and their steps, alerts, dead letters.
/// Where something changed more than once in between, the last state is told.
pub(crate) fn changes(old: &Snapshot, new: &Snapshot) -> Vec<Change> {
    let mut found = Vec::new();
    dags(old, new, &mut found);
    let before: BTreeMap<&RunId, &RunView> = old.runs.iter().map(|v| (&v.run.id, v)).collect();
    // Oldest first, as they began.
    for view in new.runs.iter().rev() {
        run(before.get(&view.run.id).copied(), view, &mut found);
    }
    alerts(old, new, &mut found);
    for (topic, held) in &new.gauges.dead_letters {
        if old.gauges.dead_letters.get(topic).copied().unwrap_or_default() != *held {
            found.push(Change::new("dead_letters", json!({ "topic": topic, "held": held })));
        }
    }
    found
}

fn dags(old: &Snapshot, new: &Snapshot, found: &mut Vec<Change>) {
    for dag in &new.dags {
        if old
            .dag(&dag.name)
            .is_none_or(|before| (before.paused, &before.schedule) != (dag.paused, &dag.schedule))
        {
            let data = json!({ "dag": dag.name, "paused": dag.paused, "schedule": dag.schedule, "file": dag.file, "gone": false });
            found.push(Change::new("dag", data));
        }
    }
    for gone in old.dags.iter().filter(|dag| new.dag(&dag.name).is_none()) {
        found.push(Change::new("dag", json!({ "dag": gone.name, "file": gone.file, "gone": true })));
    }
    let text = |snapshot: &Snapshot| -> BTreeMap<String, String> {
        snapshot.problems.iter().map(|p| (p.file.clone(), p.text.clone())).collect()
    };
    let (before, after) = (text(old), text(new));
    for (file, text) in &after {
        if before.get(file) != Some(text) {
            found.push(Change::new("problem", json!({ "file": file, "text": text, "gone": false })));
        }
    }
    for file in before.keys().filter(|file| !after.contains_key(*file)) {
        found.push(Change::new("problem", json!({ "file": file, "gone": true })));
    }
}

fn run(before: Option<&RunView>, view: &RunView, found: &mut Vec<Change>) {
    let run = &view.run;
    if before.is_none_or(|before| before.run.state != run.state) {
        let data = json!({
            "run": run.id, "dag": run.id.dag(), "session_date": run.session_date, "state": run.state,
            "created_at": run.created_at, "finished_at": run.finished_at,
        });
        found.push(Change::new("run", data));
    }
    for (name, step) in &run.steps {
        let known = before.and_then(|before| before.run.steps.get(name));
        if known.is_none_or(|known| (known.state, known.attempt) != (step.state, step.attempt)) {
            let data = json!({
                "run": run.id, "step": name, "state": step.state, "attempt": step.attempt, "reason": step.reason,
            });
            found.push(Change::new("step", data));
        }
    }
}

fn alerts(old: &Snapshot, new: &Snapshot, found: &mut Vec<Change>) {
    let same = |a: &AlertView, b: &AlertView| {
        (a.at, a.kind, &a.rule, &a.run, &a.step) == (b.at, b.kind, &b.rule, &b.run, &b.step)
    };
    let raised =
        new.alerts.iter().take_while(|alert| old.alerts.first().is_none_or(|known| !same(alert, known)));
    let mut raised: Vec<_> = raised.map(|alert| Change::new("alert", json!(alert))).collect();
    raised.reverse();
    found.append(&mut raised);
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing;
    use domain::finding::Finding;
    use domain::run::StepState;

    fn kinds(found: &[Change]) -> Vec<&'static str> {
        found.iter().map(|c| c.kind).collect()
    }

    #[test]
    fn what_did_not_change_is_not_told() {
        let (old, mut new) = (testing::snapshot(), testing::snapshot());
        new.now = testing::at("13:12:40");
        assert_eq!(changes(&old, &new), []);
        let all = changes(&Snapshot::default(), &new);
        for kind in ["dag", "problem", "run", "step", "alert"] {
            assert!(all.iter().any(|c| c.kind == kind), "{kind} is missing from {:?}", kinds(&all));
        }
    }

    #[test]
    fn each_change_is_told_with_what_it_is_about() {
        let (old, mut new) = (testing::snapshot(), testing::snapshot());
        new.dags[0].paused = !new.dags[0].paused;
        let file = new.problems.remove(0).file;
        let vwap = "vwap".parse().expect("a name");
        new.runs[0].run.steps.get_mut(&vwap).expect("a step").state = StepState::Failed;
        let mut alert = new.alerts[0].clone();
        (alert.at, alert.finding) = (new.now, Finding::text("again"));
        new.alerts.insert(0, alert);
        new.gauges.dead_letters.insert("odd.dlq".into(), 3);
        let found = changes(&old, &new);
        assert_eq!(kinds(&found), ["dag", "problem", "step", "alert", "dead_letters"]);
        assert_eq!((&found[1].data["file"], &found[1].data["gone"]), (&json!(file), &json!(true)));
        assert_eq!((&found[2].data["step"], &found[2].data["state"]), (&json!("vwap"), &json!("failed")));
        assert_eq!(found[3].data["summary"], "again");
        assert_eq!(found[4].data, json!({ "topic": "odd.dlq", "held": 3 }));
        let mut gone = new.clone();
        let dag = gone.dags.remove(0).name;
        assert_eq!(changes(&new, &gone)[0].data["dag"], json!(dag));
        assert_eq!(
            changes(&old, &testing::ended()).iter().filter(|c| c.kind == "run").count(),
            1,
            "it has ended"
        );
    }
}

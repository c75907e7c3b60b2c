//! `dag list` and `dag show`.

use serde_json::json;

use super::{Result, print, print_json, table};
use daemon::folder::{DagFile, Folder};
use domain::dag::{Container, Dag, Need, Program, Restart, Step, StepKind, Until};
use domain::program::{self, Parameter};
use domain::schedule::Schedule;
use domain::units;

pub(super) fn list(folder: &Folder, json: bool) -> Result {
    if json {
        let files: Vec<_> = folder.files.iter().map(as_json).collect();
        let problems: Vec<_> = folder
            .problems
            .iter()
            .map(|p| json!({"file": p.path, "line": p.line, "message": p.message}))
            .collect();
        return print_json(
            &json!({"dags": files, "calendars": folder.calendars.keys().collect::<Vec<_>>(), "problems": problems}),
        );
    }
    let mut rows = vec![["NAME", "STATE", "SCHEDULE", "STEPS", "OWNER", "FILE"].map(String::from)];
    rows.extend(folder.files.iter().map(row));
    let mut text = if folder.files.is_empty() {
        "no DAG files (*.yaml) in this folder\n".to_owned()
    } else {
        table::columns(&rows)
    };
    for problem in &folder.problems {
        text.push_str(&format!("\n{problem}"));
    }
    if folder.files.iter().any(|f| f.dag.is_err()) || !folder.problems.is_empty() {
        text.push_str("\nopenbell dag lint shows what is wrong\n");
    }
    print(&text)
}

fn row(file: &DagFile) -> [String; 6] {
    let path = file.path.display().to_string();
    match &file.dag {
        Ok(dag) => [
            dag.name.to_string(),
            if file.enabled { "enabled" } else { "off" }.into(),
            dag.schedule.as_ref().map_or("by hand".into(), edges),
            dag.steps().len().to_string(),
            dag.owner.clone(),
            path,
        ],
        Err(errors) => {
            let name = file.name.clone().unwrap_or_else(|| "?".into());
            let count = format!("{} error{}", errors.len(), if errors.len() == 1 { "" } else { "s" });
            [name, "broken".into(), count, String::new(), String::new(), path]
        }
    }
}

fn as_json(file: &DagFile) -> serde_json::Value {
    let schedule = file.dag.as_ref().ok().and_then(|d| d.schedule.as_ref());
    json!({
        "name": file.name, "file": file.path, "enabled": file.enabled, "ok": file.dag.is_ok(),
        "description": file.dag.as_ref().ok().map(|d| d.description.as_str()),
        "owner": file.dag.as_ref().ok().map(|d| d.owner.as_str()),
        "schedule": schedule, "steps": file.dag.as_ref().ok().map(|d| d.steps().iter().map(|s| s.name.as_str()).collect::<Vec<_>>()),
        "errors": file.dag.as_ref().err(), "warnings": file.warnings,
    })
}

fn edges(schedule: &Schedule) -> String {
    let close = schedule.close.as_ref().map(|c| format!(" to {c}")).unwrap_or_default();
    let calendar = schedule.calendar.as_ref().map(|c| format!(", {c}")).unwrap_or_default();
    format!("{}{close} ({}{calendar})", schedule.open, schedule.timezone)
}

pub(super) fn show(file: &DagFile, dag: &Dag, json: bool) -> Result {
    if json {
        let parameters: serde_json::Map<_, _> =
            dag.steps().iter().filter_map(|s| Some((s.name.to_string(), all_parameters(s)?))).collect();
        return print_json(
            &json!({"file": file.path, "enabled": file.enabled, "dag": dag, "parameters": parameters, "warnings": file.warnings}),
        );
    }
    let mut facts = vec![["name".to_owned(), dag.name.to_string()]];
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            facts.push([name.to_owned(), value]);
        }
    };
    fact("description", dag.description.clone());
    fact("owner", dag.owner.clone());
    fact("file", file.path.display().to_string());
    fact("state", if file.enabled { "enabled".into() } else { "off: starts as paused".into() });
    fact("schedule", dag.schedule.as_ref().map_or("by hand".into(), edges));
    if let Some(schedule) = &dag.schedule {
        fact("late start", format!("{:?}", schedule.late_start).to_lowercase());
        fact("catchup", format!("{:?}", schedule.catchup).to_lowercase());
    }
    fact("mail to", dag.alerts.email.join(", "));
    fact("alerts", dag.alerts.on.iter().map(|k| k.as_str()).collect::<Vec<_>>().join(", "));
    fact("params", dag.params.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", "));
    let mut rows = vec![["STEP", "KIND", "RUNS", "NEEDS", "POLICY"].map(String::from)];
    rows.extend(
        dag.steps()
            .iter()
            .map(|s| [s.name.to_string(), s.kind.as_str().into(), runs(s), needs(dag, s), policy(s)]),
    );
    let mut text = format!("{}\n{}", table::columns(&facts), table::columns(&rows));
    let mut rows = vec![["STEP", "PARAMETER", "VALUE"].map(String::from)];
    rows.extend(dag.steps().iter().flat_map(parameters));
    if rows.len() > 1 {
        text.push_str(&format!("\n{}", table::columns(&rows)));
    }
    let mut rows = vec![["STEP", "CONTAINER"].map(String::from)];
    rows.extend(
        dag.steps()
            .iter()
            .filter(|s| !s.container.is_empty())
            .map(|s| [s.name.to_string(), container(&s.container)]),
    );
    if rows.len() > 1 {
        text.push_str(&format!("\n{}", table::columns(&rows)));
    }
    print(&text)
}

/// What a step gives a parameter; the keys of a table are named with a dot.
fn given<'a>(step: &'a Step, name: &str) -> Option<&'a serde_json::Value> {
    match name.split_once('.') {
        Some((table, key)) => step.with.get(table)?.get(key),
        None => step.with.get(name),
    }
}

/// The parameters of a step that uses a built-in program, with what holds where it says nothing.
fn parameters(step: &Step) -> Vec<[String; 3]> {
    let Some(program) = program::of(steps::programs(), step) else { return Vec::new() };
    let row = |(name, parameter): (String, &Parameter)| {
        let value = match given(step, &name) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => {
                let holds = program.text(&step.with, &name).map(std::borrow::Cow::into_owned);
                format!("{} (default)", holds.or_else(|| parameter.fallback.words())?)
            }
        };
        Some([step.name.to_string(), name, value])
    };
    program.all_parameters().into_iter().filter_map(row).collect()
}

/// The same for programs: values, and whether they are defaults.
fn all_parameters(step: &Step) -> Option<serde_json::Value> {
    let program = program::of(steps::programs(), step)?;
    let value = |(name, _): (String, &Parameter)| {
        let value = given(step, &name).cloned().unwrap_or_else(|| json!(program.text(&step.with, &name)));
        let default = given(step, &name).is_none();
        (name, json!({"value": value, "default": default}))
    };
    Some(program.all_parameters().into_iter().map(value).collect::<serde_json::Map<_, _>>().into())
}

/// What a step says of its container; the rest is the configuration's.
fn container(container: &Container) -> String {
    let mut words = Vec::new();
    let mut word =
        |name: &str, value: Option<String>| words.extend(value.map(|value| format!("{name} {value}")));
    word("memory", container.memory_bytes.map(units::size));
    word("cpus", container.cpus.map(|n| n.to_string()));
    word("pids", container.pids.map(|n| n.to_string()));
    word("network", container.network.clone());
    word("pull", container.pull.map(|p| p.as_str().to_owned()));
    word("user", container.user.map(|u| u.to_string()));
    for mount in &container.mounts {
        word("mount", Some(mount.to_string()));
    }
    let health = container.health.as_ref();
    word("health", health.map(|h| format!("{} every {}", h.command.join(" "), table::duration(h.interval))));
    for constraint in &container.placement {
        word("on", Some(constraint.clone()));
    }
    words.join(", ")
}

/// What a step runs, in a few words.
pub(super) fn runs(step: &Step) -> String {
    let program = match &step.program {
        Program::Uses(name) => name.clone(),
        Program::Command { argv, image: None } => argv.join(" "),
        Program::Command { argv, image: Some(image) } => format!("{} in {image}", argv.join(" ")),
    };
    match step.executor {
        Some(executor) => format!("{program} ({})", executor.as_str()),
        None => program,
    }
}

fn needs(dag: &Dag, step: &Step) -> String {
    step.needs.iter().map(|n| need(dag, n)).collect::<Vec<_>>().join(", ")
}

/// A need; the point is named unless it is the usual one of the needed step's kind.
pub(super) fn need(dag: &Dag, need: &Need) -> String {
    let usual = match dag.step(&need.step).map(|s| s.kind) {
        Some(StepKind::Service) => Until::Ready,
        Some(StepKind::Check) => Until::Started,
        _ => Until::Succeeded,
    };
    if need.until == usual { need.step.to_string() } else { format!("{} {}", need.step, until(need.until)) }
}

pub(super) fn until(until: Until) -> &'static str {
    match until {
        Until::Started => "started",
        Until::Ready => "ready",
        Until::Succeeded => "succeeded",
        Until::Done => "done",
    }
}

fn restart(policy: Restart) -> &'static str {
    match policy {
        Restart::Always => "always",
        Restart::OnFailure => "on_failure",
        Restart::Never => "never",
    }
}

fn policy(step: &Step) -> String {
    let mut words = Vec::new();
    if let Some(every) = step.every {
        words.push(format!("every {}", table::duration(every)));
    }
    if step.retries > 0 {
        words.push(format!("{} retries", step.retries));
    }
    if let Some(timeout) = step.timeout {
        words.push(format!("timeout {}", table::duration(timeout)));
    }
    if step.kind == StepKind::Service {
        words.push(format!("ready within {}", table::duration(step.ready_within)));
        words.push(format!("restart {}", restart(step.restart.policy)));
    }
    if let Some(drain) = step.drain {
        words.push(format!("drain {}", table::duration(drain)));
    }
    if step.replicas > 1 {
        words.push(format!("{} replicas", step.replicas));
    }
    if let Some(when) = &step.when {
        words.push(format!("when {}={}", when.param, when.equals));
    }
    words.join(", ")
}

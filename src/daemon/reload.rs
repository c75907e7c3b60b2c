//! Hot reload: the DAG folder as it is now, over the versions in force.

use std::collections::BTreeMap;

use super::folder::Folder;
use super::snapshot::Problem;
use domain::dag::Dag;
use domain::ids::DagName;

/// DAGs in force, by name, with their files.
pub type InForce = BTreeMap<DagName, (String, Dag)>;

/// The DAGs in force after reading `folder`, and the files that do not work. A file that broke keeps its last good version;
/// a file that is gone takes its DAG with it (its open run goes on with its frozen copy).
pub fn merge(before: &InForce, folder: &Folder) -> (InForce, Vec<Problem>) {
    let mut dags = InForce::new();
    let mut problems: Vec<Problem> = folder
        .problems
        .iter()
        .map(|p| Problem { file: p.path.display().to_string(), text: p.to_string(), previous_kept: false })
        .collect();
    for file in &folder.files {
        let path = file.path.display().to_string();
        match &file.dag {
            Ok(dag) => {
                dags.insert(dag.name.clone(), (path, dag.clone()));
            }
            Err(errors) => {
                let previous = before.iter().find(|(_, (p, _))| p == &path);
                if let Some((name, (_, dag))) = previous {
                    dags.entry(name.clone()).or_insert_with(|| (path.clone(), dag.clone()));
                }
                let text = errors.iter().map(|e| e.render(&path)).collect::<Vec<_>>().join("\n");
                problems.push(Problem { file: path, text, previous_kept: previous.is_some() });
            }
        }
    }
    (dags, problems)
}

//! Hot reload: the DAG folder as it is now, over the versions in force.

use std::collections::BTreeMap;

use super::folder::Folder;
use super::snapshot::Problem;
use domain::dag::Dag;
use domain::ids::DagName;

/// DAGs in force, by name, with their files.
pub type InForce = BTreeMap<DagName, (String, Dag)>;

/// The DAGs in force after reading `folder`, and the files that do not work. A file that broke keeps its last
/// good version; a file that is gone takes its DAG with it (its open run goes on with its frozen copy).
pub fn merge(before: &InForce, folder: &Folder) -> (InForce, Vec<Problem>) {
    let mut dags = InForce::new();
    let mut problems: Vec<Problem> = folder
        .problems
        .iter()
        .map(|p| Problem::new(p.path.display().to_string(), vec![p.into()], false))
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
                let faults = errors.iter().map(Into::into).collect();
                problems.push(Problem::new(path, faults, previous.is_some()));
            }
        }
    }
    (dags, problems)
}

//! DAG files that do not work: each fault with its place, and the snippet it leads to.

use daemon::snapshot::{self, Problem};

/// A broken file.
#[derive(Debug, Clone, PartialEq)]
pub struct ProblemRow {
    /// Path.
    pub file: String,
    /// Its faults.
    pub faults: Vec<Fault>,
    /// An earlier version goes on.
    pub previous_kept: bool,
}

/// A fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// `file:line:column`
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// The lines of the file, with what to write; empty if there are none.
    pub snippet: String,
}

/// Broken files.
pub fn rows<'a>(problems: impl Iterator<Item = &'a Problem>) -> Vec<ProblemRow> {
    problems.map(row).collect()
}

fn row(problem: &Problem) -> ProblemRow {
    let fault = |fault: &snapshot::Fault| Fault {
        place: fault.place(&problem.file),
        message: format!("{}: {}", fault.severity, fault.message),
        snippet: fault.below(),
    };
    let faults = problem.faults.iter().map(fault).collect();
    ProblemRow { file: problem.file.clone(), faults, previous_kept: problem.previous_kept }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::testing;

    #[test]
    fn each_fault_has_its_place_and_its_snippet() {
        let mut problem = testing::snapshot().problems.remove(0);
        let plain = snapshot::Fault { at: None, excerpt: None, help: None, ..problem.faults[0].clone() };
        problem.faults.push(snapshot::Fault { message: "the file: it\nis none".into(), ..plain });
        let found = row(&problem).faults;
        let told: Vec<_> = found.iter().map(|f| (f.place.as_str(), f.message.as_str())).collect();
        assert_eq!(
            told,
            [
                ("dags/broken.yaml:7:5", "error: unknown key \"shedule\""),
                ("dags/broken.yaml", "error: the file: it\nis none"),
            ]
        );
        assert!(
            found[0].snippet.ends_with("\nhelp: did you mean \"schedule\"?") && found[1].snippet.is_empty()
        );
    }
}

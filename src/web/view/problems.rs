//! DAG files that do not work: each fault with its place, and the snippet it leads to.

use daemon::snapshot::Problem;

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

/// A rendered list of findings, cut into its faults: each begins with the file's name and a place.
fn faults(file: &str, text: &str) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    for line in text.lines() {
        let head = line.strip_prefix(file).and_then(|rest| {
            let (place, message) = rest.split_once(": ")?;
            place.chars().all(|c| c == ':' || c.is_ascii_digit()).then(|| (format!("{file}{place}"), message.to_owned()))
        });
        match (head, faults.last_mut()) {
            (Some((place, message)), _) => faults.push(Fault { place, message, snippet: String::new() }),
            (None, Some(fault)) => {
                fault.snippet.push_str(line);
                fault.snippet.push('\n');
            }
            (None, None) => faults.push(Fault { place: file.to_owned(), message: line.to_owned(), snippet: String::new() }),
        }
    }
    faults
}

/// Broken files.
pub fn rows<'a>(problems: impl Iterator<Item = &'a Problem>) -> Vec<ProblemRow> {
    let row = |p: &Problem| ProblemRow { file: p.file.clone(), faults: faults(&p.file, &p.text), previous_kept: p.previous_kept };
    problems.map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_place_and_its_snippet() {
        let text = "d/a.yaml:7:5: error: unknown key \"shedule\"\n   |\n 7 |     shedule: x\n   |     ^^^^\nhelp: write \"schedule\"\n\
                    d/a.yaml:9:1: warning: nothing: else\nd/a.yaml: error: no steps";
        let found = faults("d/a.yaml", text);
        let told: Vec<_> = found.iter().map(|f| (f.place.as_str(), f.message.as_str())).collect();
        assert_eq!(
            told,
            [
                ("d/a.yaml:7:5", "error: unknown key \"shedule\""),
                ("d/a.yaml:9:1", "warning: nothing: else"),
                ("d/a.yaml", "error: no steps"),
            ]
        );
        assert!(found[0].snippet.ends_with("help: write \"schedule\"\n") && found[1].snippet.is_empty());
        assert_eq!(faults("x", "cannot be read\nat all").len(), 1);
    }
}

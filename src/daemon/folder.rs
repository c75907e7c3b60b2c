//! The folder of DAG files: `*.yaml` with one DAG each, and `calendars/*.csv`.
//!
//! Reading never fails half-way: a broken file is an entry with its diagnostics, and everything else is
//! there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dagfile::{self, Diagnostic, Known, Parsed, Severity};
use domain::calendar::Calendar;
use domain::dag::Dag;
use domain::ids::DagName;
use domain::program::Program;

/// A DAG file is written by people; one that is larger is something else.
const LARGEST_FILE: u64 = 1 << 20;

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Folder {
    /// The DAG files, by path.
    pub files: Vec<DagFile>,
    /// The usable calendars, by name.
    pub calendars: BTreeMap<String, Calendar>,
    /// What is wrong with anything else than a DAG file.
    pub problems: Vec<Problem>,
}

/// A DAG file.
#[derive(Debug)]
pub struct DagFile {
    /// Where it is.
    pub path: PathBuf,
    /// The name it gives its DAG, also when it is broken.
    pub name: Option<String>,
    /// The DAG, or the errors that keep it from being one.
    pub dag: Result<Dag, Vec<Diagnostic>>,
    /// Findings that do not keep it from being used.
    pub warnings: Vec<Diagnostic>,
    /// Whether it starts by itself; the daemon starts one that does not as paused.
    pub enabled: bool,
}

impl DagFile {
    /// Errors and warnings, from top to bottom.
    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        let errors = self.dag.as_ref().err().map(Vec::as_slice).unwrap_or_default();
        let mut all: Vec<&Diagnostic> = errors.iter().chain(&self.warnings).collect();
        all.sort_by_key(|d| (d.line, d.column));
        all.into_iter()
    }
}

/// A fault outside of DAG files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}:1: error: {}", self.path.display(), self.message),
            None => write!(f, "{}: error: {}", self.path.display(), self.message),
        }
    }
}

/// Why a folder cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the DAG folder {}: {source}; name a readable folder with --dags", path.display())]
pub struct FolderError {
    /// The folder.
    pub path: PathBuf,
    /// What happened.
    pub source: io::Error,
}

impl Folder {
    /// The usable DAGs, by name.
    pub fn dags(&self) -> BTreeMap<DagName, &Dag> {
        self.files.iter().filter_map(|f| f.dag.as_ref().ok()).map(|dag| (dag.name.clone(), dag)).collect()
    }

    /// The calendar a DAG's schedule names.
    pub fn calendar_of(&self, dag: &Dag) -> Option<&Calendar> {
        self.calendars.get(dag.schedule.as_ref()?.calendar.as_ref()?)
    }
}

/// Reads a folder; `programs` are those that steps may use.
///
/// # Errors
/// When the folder itself cannot be listed.
pub fn read(folder: &Path, programs: &[Program]) -> Result<Folder, FolderError> {
    let unreadable = |source| FolderError { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if is_dag_file(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    let mut read = Folder::default();
    (read.calendars, read.problems) = calendars(folder);
    let (files, names) =
        all(&paths, folder, &Known { programs, calendars: &read.calendars }).into_iter().unzip();
    read.files = files;
    refuse_shared_names(&mut read.files, names);
    Ok(read)
}

/// Reads one DAG file; what it refers to is looked up in `folder`.
pub fn read_file(path: &Path, folder: &Path, known: &Known<'_>) -> DagFile {
    one(path, folder, known).0
}

/// Reads the calendars of a folder: the usable ones, and what is wrong with the others. No folder of
/// calendars means none.
pub fn calendars(folder: &Path) -> (BTreeMap<String, Calendar>, Vec<Problem>) {
    let (mut calendars, mut problems) = (BTreeMap::new(), Vec::new());
    let folder = folder.join("calendars");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                problems.push(Problem {
                    path: folder,
                    line: None,
                    message: format!("cannot be read: {error}"),
                });
            }
            return (calendars, problems);
        }
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
    paths.sort();
    for path in paths.into_iter().filter(|p| p.extension().is_some_and(|e| e == "csv")) {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        match fs::read_to_string(&path) {
            Err(error) => {
                problems.push(Problem { path, line: None, message: format!("cannot be read: {error}") })
            }
            Ok(text) => match Calendar::parse(&name, &text) {
                Ok(calendar) => drop(calendars.insert(name, calendar)),
                Err(faults) => {
                    problems.extend(faults.into_iter().map(|f| Problem {
                        path: path.clone(),
                        line: Some(f.line),
                        message: f.why,
                    }));
                }
            },
        }
    }
    (calendars, problems)
}

fn is_dag_file(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    !hidden && path.extension().is_some_and(|e| e == "yaml" || e == "yml") && path.is_file()
}

/// Reads files, in order; thousands of them on all cores.
fn all(paths: &[PathBuf], folder: &Path, known: &Known<'_>) -> Vec<(DagFile, Option<Diagnostic>)> {
    const WORTH_A_THREAD: usize = 200;
    let threads = std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(paths.len() / WORTH_A_THREAD)
        .max(1);
    let share = paths.len().div_ceil(threads).max(1);
    let read = |paths: &[PathBuf]| -> Vec<_> { paths.iter().map(|path| one(path, folder, known)).collect() };
    if threads == 1 {
        return read(paths);
    }
    std::thread::scope(|scope| {
        let shares: Vec<_> =
            paths.chunks(share).map(|paths| (paths, scope.spawn(move || read(paths)))).collect();
        // A thread that panicked is done again here, where the panic reaches the caller.
        shares.into_iter().flat_map(|(paths, thread)| thread.join().unwrap_or_else(|_| read(paths))).collect()
    })
}

/// A file, and what to say at its name if another file has the same.
fn one(path: &Path, folder: &Path, known: &Known<'_>) -> (DagFile, Option<Diagnostic>) {
    let parsed = match text(path) {
        Ok(text) => dagfile::parse(&text, known),
        Err(unreadable) => Parsed { diagnostics: vec![*unreadable], enabled: true, ..Parsed::default() },
    };
    let missing = parsed.files.into_iter().filter(|f| !folder.join(&f.path).is_file()).map(|f| f.if_missing);
    let (mut errors, warnings): (Vec<_>, Vec<_>) =
        parsed.diagnostics.into_iter().chain(missing).partition(|d| d.severity == Severity::Error);
    errors.sort_by_key(|d| (d.line, d.column));
    let dag = match parsed.dag {
        Some(dag) if errors.is_empty() => Ok(dag),
        _ => Err(errors),
    };
    (
        DagFile { path: path.to_owned(), name: parsed.name, dag, warnings, enabled: parsed.enabled },
        parsed.if_taken,
    )
}

fn text(path: &Path) -> Result<String, Box<Diagnostic>> {
    let fault = |line: usize, message: String, help: &str| {
        let help = Some(help.to_owned());
        Box::new(Diagnostic {
            severity: Severity::Error,
            line,
            column: 1,
            width: 1,
            message,
            help,
            source: String::new(),
        })
    };
    let unreadable = |error: io::Error| {
        fault(1, format!("the file cannot be read: {error}"), "check that it exists and who may read it")
    };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > LARGEST_FILE {
        return Err(fault(
            1,
            format!("the file has {size} bytes, and a DAG file at most {LARGEST_FILE}"),
            "split it into several DAGs",
        ));
    }
    String::from_utf8(fs::read(path).map_err(unreadable)?).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|b| **b == b'\n').count() + 1;
        fault(line, "the file is not UTF-8 text".into(), "save it as UTF-8")
    })
}

/// Neither of two files with the same name is used: nobody can say which one was meant.
fn refuse_shared_names(files: &mut [DagFile], if_taken: Vec<Option<Diagnostic>>) {
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, file) in files.iter().enumerate() {
        if let Some(name) = &file.name {
            by_name.entry(name.clone()).or_default().push(at);
        }
    }
    for (name, sharing) in by_name.into_iter().filter(|(_, sharing)| sharing.len() > 1) {
        for at in &sharing {
            let others: Vec<String> =
                sharing.iter().filter(|o| *o != at).map(|o| files[*o].path.display().to_string()).collect();
            let Some(mut finding) = if_taken[*at].clone() else { continue };
            finding.message = format!("the name \"{name}\" is also used by {}", others.join(" and "));
            let mut errors =
                std::mem::replace(&mut files[*at].dag, Err(Vec::new())).err().unwrap_or_default();
            errors.push(finding);
            errors.sort_by_key(|d| (d.line, d.column));
            files[*at].dag = Err(errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::program::testing::PROGRAMS;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        dir
    }

    fn dag(name: &str) -> String {
        format!("name: {name}\nsteps: {{ a: {{ command: [x] }} }}\n")
    }

    #[test]
    fn a_broken_file_does_not_hide_the_others() {
        let dir = folder(&[
            ("good.yaml", &dag("good")),
            ("broken.yml", "name: broken\nstps: {}\n"),
            ("calendars/bad.csv", "date,name,kind,open,close\n2026-13-01,x,closed,,\n"),
            ("calendars/note.txt", "not a calendar"),
            (".hidden.yaml", "x"),
            ("notes.txt", "x"),
        ]);
        fs::write(dir.path().join("latin.yaml"), b"name: a\nowner: caf\xe9\n").expect("a file");
        let read = read(dir.path(), PROGRAMS).expect("the folder");
        let names: Vec<_> =
            read.files.iter().map(|f| (f.path.file_name().and_then(|n| n.to_str()), f.dag.is_ok())).collect();
        assert_eq!(
            names,
            [(Some("broken.yml"), false), (Some("good.yaml"), true), (Some("latin.yaml"), false)]
        );
        assert_eq!(
            read.files[2].diagnostics().next().map(|d| (d.line, d.message.contains("UTF-8"))),
            Some((2, true))
        );
        assert_eq!(
            read.problems.iter().map(|p| p.line).collect::<Vec<_>>(),
            [Some(2), Some(2), Some(2)],
            "{:?}",
            read.problems
        );
        assert_eq!(read.dags().len(), 1);
    }

    #[test]
    fn a_shared_name_is_an_error_in_both_files() {
        let dir = folder(&[("a.yaml", &dag("same")), ("b.yaml", &dag("same")), ("c.yaml", &dag("other"))]);
        let read = read(dir.path(), PROGRAMS).expect("the folder");
        assert_eq!(read.dags().into_keys().map(String::from).collect::<Vec<_>>(), ["other"]);
        for (at, other) in [(0, "b.yaml"), (1, "a.yaml")] {
            let finding = read.files[at].diagnostics().next().expect("a finding");
            assert!(
                (finding.line, finding.column) == (1, 7) && finding.message.contains(other),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn files_that_parameters_name_must_exist() {
        let text = "name: x\nsteps:\n  a: { uses: topics, with: { create: \"file:topics.txt\" } }\n";
        let dir = folder(&[("x.yaml", text)]);
        let file = &read(dir.path(), PROGRAMS).expect("the folder").files[0];
        let finding = file.diagnostics().next().expect("a finding");
        assert!(
            (finding.line, finding.column) == (3, 38) && finding.message.contains("topics.txt"),
            "{finding:?}"
        );
        fs::write(dir.path().join("topics.txt"), "a").expect("a file");
        assert!(read(dir.path(), PROGRAMS).expect("the folder").files[0].dag.is_ok());
    }

    #[test]
    fn an_unreadable_folder_says_so() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = read(&dir.path().join("nowhere"), PROGRAMS).expect_err("no folder").to_string();
        assert!(error.contains("nowhere") && error.contains("--dags"), "{error}");
    }
}

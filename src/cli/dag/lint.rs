//! `dag lint`: every fault of DAG files and calendars.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Exit, Failure, Result, Shared, print, print_json};
use clock::Clock;
use daemon::folder::{self, DagFile, Problem};
use dagfile::{Known, Severity};
use domain::calendar::Calendar;

/// A calendar that ends sooner than this is warned about.
const CALENDAR_NOTICE_DAYS: i64 = 60;

/// A finding without the parts that only people read.
struct Finding {
    file: String,
    severity: Severity,
    line: Option<usize>,
    column: Option<usize>,
    message: String,
    help: Option<String>,
    /// As people read it.
    text: String,
}

pub(super) fn lint(files: &[PathBuf], shared: &Shared) -> Result {
    let (checked, mut findings) =
        if files.is_empty() { whole_folder(shared.folder())? } else { single_files(files, shared)? };
    findings.dedup_by(|a, b| a.text == b.text);
    let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
    let exit = if errors == 0 { Exit::Fine } else { Exit::Fault };
    if shared.json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| json!({"file": f.file, "line": f.line, "column": f.column, "severity": f.severity, "message": f.message, "help": f.help}))
            .collect();
        print_json(&json!({"files": checked, "errors": errors, "findings": list}))?;
        return Ok(exit);
    }
    let mut text: String = findings.iter().map(|f| format!("{}\n\n", f.text)).collect();
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let warnings = findings.len() - errors;
    text.push_str(&format!(
        "{} checked: {}, {}\n",
        count(checked, "file"),
        count(errors, "error"),
        count(warnings, "warning")
    ));
    print(&text)?;
    Ok(exit)
}

fn whole_folder(path: &Path) -> std::result::Result<(usize, Vec<Finding>), Failure> {
    let folder = super::read(path)?;
    let mut findings: Vec<Finding> = folder.problems.iter().map(of_problem).collect();
    findings.extend(folder.calendars.values().filter_map(|c| ending(c, path)));
    findings.extend(folder.files.iter().flat_map(of_file));
    let faulty_calendars =
        folder.problems.iter().map(|p| &p.path).collect::<std::collections::BTreeSet<_>>().len();
    Ok((folder.files.len() + folder.calendars.len() + faulty_calendars, findings))
}

fn single_files(files: &[PathBuf], shared: &Shared) -> std::result::Result<(usize, Vec<Finding>), Failure> {
    let mut findings = Vec::new();
    for path in files {
        if !path.is_file() {
            return Err(Failure::unusable(format!("cannot read {}: it is not a file", path.display())));
        }
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = shared.dags.as_deref().unwrap_or(parent);
        let (calendars, problems) = folder::calendars(folder);
        findings.extend(problems.iter().map(of_problem));
        findings.extend(of_file(&folder::read_file(
            path,
            folder,
            &Known { programs: steps::programs(), calendars: &calendars },
        )));
    }
    Ok((files.len(), findings))
}

fn of_file(file: &DagFile) -> Vec<Finding> {
    let path = file.path.display().to_string();
    let finding = |d: &dagfile::Diagnostic| Finding {
        file: path.clone(),
        severity: d.severity,
        line: Some(d.line),
        column: Some(d.column),
        message: d.message.clone(),
        help: d.help.clone(),
        text: d.render(&path),
    };
    file.diagnostics().map(finding).collect()
}

fn of_problem(problem: &Problem) -> Finding {
    Finding {
        file: problem.path.display().to_string(),
        severity: Severity::Error,
        line: problem.line,
        column: problem.line.map(|_| 1),
        message: problem.message.clone(),
        help: None,
        text: problem.to_string(),
    }
}

/// A warning for a calendar that ends soon.
fn ending(calendar: &Calendar, folder: &Path) -> Option<Finding> {
    let zone = jiff::tz::TimeZone::get(&calendar.timezone).ok()?;
    let soon = zone
        .to_datetime(Clock::system().now())
        .date()
        .saturating_add(jiff::Span::new().days(CALENDAR_NOTICE_DAYS));
    let (_, last) = calendar.covered()?;
    if soon <= last {
        return None;
    }
    let file = folder.join("calendars").join(format!("{}.csv", calendar.name)).display().to_string();
    let message = format!("the calendar ends {last}; add the days of the following year");
    let text = format!("{file}: warning: {message}");
    Some(Finding { file, severity: Severity::Warning, line: None, column: None, message, help: None, text })
}

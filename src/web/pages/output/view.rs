//! What an attempt printed: its lines, a search in them, and the way to other attempts.

use askama::Template;

use crate::locale::{Reader, Text, filters, say, words};
use crate::view::format::{Zone, bytes, count, span};
use crate::view::states::state_class;
use crate::view::{Fragment, Html};
use daemon::Snapshot;
use daemon::snapshot::RunView;
use domain::ids::{RunId, StepName};

/// Attempts offered, the newest.
const ATTEMPTS: u32 = 200;
/// Lines shown before a match that is followed to its place.
const CONTEXT: u64 = 20;

/// What the page is about.
pub struct About<'a> {
    /// The run.
    pub run: &'a RunId,
    /// The step.
    pub step: &'a StepName,
    /// Number of the attempt.
    pub attempt: u32,
    /// The run itself, if it is still known.
    pub held: Option<&'a RunView>,
    /// More lines come.
    pub live: bool,
}

/// How much there is.
pub struct Counts {
    /// Lines of the output.
    pub total: u64,
    /// Lines that hold the text looked for.
    pub matches: u64,
    /// Bytes of the output.
    pub bytes: u64,
}

/// A line in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub number: u64,
    /// Its text: pieces that were looked for, and those between.
    pub pieces: Vec<(bool, String)>,
    /// Bytes that are left out, in words; empty if none are.
    pub cut: Text,
}

impl Row {
    /// The line with which a page that shows this one in its place begins.
    pub fn context(&self) -> u64 {
        self.number.saturating_sub(CONTEXT).max(1)
    }
}

/// A line, with what was looked for told apart.
pub fn row(number: u64, text: &str, cut: u64, find: &str) -> Row {
    let cut = if cut > 0 { say!("… {} more", bytes(cut)) } else { Text::default() };
    // ASCII letters keep their length in lower case, so that places in one text are places in the other.
    let (lower, needle) = (text.to_ascii_lowercase(), find.to_ascii_lowercase());
    let mut pieces = Vec::new();
    let mut from = 0;
    while !needle.is_empty() {
        let Some(at) = lower[from..].find(&needle).map(|at| at + from) else { break };
        pieces.push((false, text[from..at].to_owned()));
        from = at + needle.len();
        pieces.push((true, text[at..from].to_owned()));
    }
    pieces.push((false, text[from..].to_owned()));
    pieces.retain(|(_, text)| !text.is_empty());
    Row { number, pieces, cut }
}

/// Lines.
#[derive(Debug, Template)]
#[template(path = "pages/output/lines.html")]
struct Rows {
    rows: Vec<Row>,
    /// Address of the page to which a number leads; empty: to the line on this page.
    to: String,
}

/// Lines as HTML, for a page that grows.
pub fn rows(rows: Vec<Row>, reader: &Reader) -> Html {
    Html::of(&Rows { rows, to: String::new() }, reader)
}

#[derive(Debug, Template)]
#[template(path = "pages/output/output_head.html")]
struct Head {
    run: String,
    step: String,
    attempt: u32,
    attempts: Vec<Choice>,
    state: Text,
    class: &'static str,
    times: Text,
    size: Text,
    live: bool,
    find: String,
    matches: String,
    shown: usize,
    more: bool,
}

/// An attempt to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Choice {
    number: u32,
    words: Text,
    chosen: bool,
}

#[derive(Debug, Template)]
#[template(path = "pages/output/output.html")]
struct Output {
    lines: Html,
    empty: Text,
    first: Option<String>,
    earlier: Option<String>,
    later: Option<String>,
    newest: Option<String>,
    range: Text,
}

fn head(snapshot: &Snapshot, about: &About<'_>, counts: &Counts, find: &str, shown: usize) -> Head {
    let zone = Zone::new(&snapshot.timezone);
    let run = about.held.and_then(|v| v.run.steps.get(about.step));
    let newest = run.map_or(about.attempt, |r| r.attempt.max(about.attempt));
    let how = |number: u32| {
        let ended = run.and_then(|r| r.history.iter().find(|a| a.attempt == number));
        match (ended, run) {
            (Some(a), _) => words::exit_in_brief(&a.exit),
            (None, Some(r)) if r.attempt == number => words::step_state(r.state),
            _ => Text::default(),
        }
    };
    let choice = |number| Choice { number, words: how(number), chosen: number == about.attempt };
    let ended = run.and_then(|r| r.history.iter().find(|a| a.attempt == about.attempt));
    let (state, class, times) = match (ended, run) {
        (Some(a), _) => {
            let lived = span(a.ended_at.duration_since(a.started_at).as_secs());
            let times = say!("{} – {} ({})", zone.full(a.started_at), zone.full(a.ended_at), lived);
            (words::exit(&a.exit), if a.exit.is_success() { "good" } else { "bad" }, times)
        }
        (None, Some(r)) if r.attempt == about.attempt => {
            let since = r.attempt_started_at.or(r.started_at);
            (
                words::step_state(r.state),
                state_class(r.state),
                since.map_or_else(Text::default, |at| say!("since {}", zone.full(at))),
            )
        }
        _ => (Text::default(), "quiet", Text::default()),
    };
    Head {
        run: about.run.to_string(),
        step: about.step.to_string(),
        attempt: about.attempt,
        attempts: (newest.saturating_sub(ATTEMPTS - 1).max(1)..=newest).rev().map(choice).collect(),
        state,
        class,
        times,
        size: say!("{} lines, {}", count(counts.total), bytes(counts.bytes)),
        live: about.live,
        find: find.to_owned(),
        matches: count(counts.matches),
        shown,
        more: counts.matches > shown as u64,
    }
}

/// The page.
pub fn page(
    snapshot: &Snapshot,
    about: &About<'_>,
    lines: Vec<Row>,
    counts: &Counts,
    find: &str,
    reader: &Reader,
) -> Vec<Fragment> {
    let base = format!("/runs/{}/steps/{}/output?attempt={}", about.run, about.step, about.attempt);
    let searching = !find.is_empty();
    let (first, last) = (lines.first().map_or(0, |l| l.number), lines.last().map_or(0, |l| l.number));
    let from = |line: u64| format!("{base}&line={line}");
    let page = crate::pages::output::lines::SHOWN;
    let earlier = (!searching && first > 1).then(|| from(first.saturating_sub(page).max(1)));
    let later = (!searching && last < counts.total && !about.live).then(|| from(last + 1));
    let head = head(snapshot, about, counts, find, lines.len());
    let empty = match (lines.is_empty(), searching, about.live) {
        (false, ..) => Text::default(),
        (true, true, _) => say!("No line holds this text. Upper and lower case of A to Z count as the same."),
        (true, false, true) => say!("Nothing was printed yet; lines appear here as they come."),
        (true, false, false) => say!("The attempt printed nothing."),
    };
    let range = if searching || lines.is_empty() {
        Text::default()
    } else {
        say!("lines {} to {} of {}", count(first), count(last), count(counts.total))
    };
    let output = Output {
        lines: Html::of(
            &Rows { rows: lines, to: if searching { base.clone() } else { String::new() } },
            reader,
        ),
        empty,
        first: earlier.as_ref().map(|_| from(1)),
        newest: (searching || later.is_some()).then(|| base.clone()),
        earlier,
        later,
        range,
    };
    vec![Fragment::new("output-head", &head, reader), Fragment::new("output", &output, reader)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_for_is_told_apart_whatever_its_case() {
        let row = row(7, "Error: 오류 ERROR <b>", 0, "error");
        let told = |hit: bool, text: &str| (hit, text.to_owned());
        assert_eq!(
            row.pieces,
            [told(true, "Error"), told(false, ": 오류 "), told(true, "ERROR"), told(false, " <b>")]
        );
        let html = rows(vec![row], &Reader::default()).to_string();
        assert!(
            html.contains("<mark>Error</mark>") && html.contains("&#60;b&#62;") && html.contains("id=\"L7\""),
            "{html}"
        );
    }
}

//! The rules of the house that a compiler does not know: floors, purity, file sizes, names. Every breach names file and line.

use std::fs;
use std::path::{Path, PathBuf};

/// Top-level modules and their floors. Imports run down, or sideways inside one module, never up and never to a neighbour.
const FLOORS: [(&str, u8); 15] = [
    ("domain", 0),
    ("clock", 1),
    ("config", 1),
    ("dagfile", 1),
    ("engine", 1),
    ("feed", 1),
    ("files", 1),
    ("backends", 2),
    ("executor", 2),
    ("state", 2),
    ("steps", 3),
    ("simulate", 3),
    ("daemon", 3),
    ("web", 4),
    ("cli", 4),
];

/// The top floor: its modules are doors and may use everything, each other too.
const DOORS: u8 = 4;

const LONGEST_FILE: usize = 500;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "helpers", "helper", "common", "manager", "misc", "shared"];

/// What pure modules must not mention, and why.
const IMPURE: [(&str, &str); 9] = [
    ("tokio", "no runtime: decide here, wait and act above"),
    ("std::fs", "no files: take the text as an argument"),
    ("std::net", "no network"),
    ("std::env", "no environment: take the value as an argument"),
    ("SystemTime", "no clock: `now` is an argument"),
    ("Instant", "no clock: `now` is an argument"),
    ("fastrand", "no randomness: take the number as an argument"),
    ("Timestamp::now", "no clock: `now` is an argument"),
    ("Zoned::now", "no clock: `now` is an argument"),
];

const PURE: [&str; 4] = ["domain", "dagfile", "engine", "feed"];

/// A source file without its comments.
struct Source {
    /// Path below `src`.
    path: PathBuf,
    /// Lines, comments and the insides of plain strings blanked.
    lines: Vec<String>,
}

impl Source {
    fn new(path: PathBuf, text: &str) -> Self {
        let mut in_block = 0usize;
        Self { path, lines: text.lines().map(|line| without_comments(line, &mut in_block)).collect() }
    }

    /// The top-level module the file belongs to.
    fn module(&self) -> String {
        let first = self.path.iter().next().unwrap_or_default().to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    }

    /// How deep the file's module is: 1 for a top-level one.
    fn depth(&self) -> usize {
        let parts = self.path.iter().count();
        if self.path.file_name().is_some_and(|n| n == "mod.rs") { parts - 1 } else { parts }
    }

    fn breach(&self, line: usize, why: &str) -> String {
        format!("src/{}:{}: {why}", self.path.display(), line + 1)
    }
}

fn without_comments(line: &str, in_block: &mut usize) -> String {
    let mut kept = String::new();
    let mut rest = line;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let step = if *in_block > 0 {
            if rest.starts_with("*/") {
                *in_block -= 1;
                2
            } else {
                c.len_utf8()
            }
        } else if in_string {
            in_string = c != '"';
            if c == '\\' { c.len_utf8() + rest[1..].chars().next().map_or(0, char::len_utf8) } else { c.len_utf8() }
        } else if rest.starts_with("//") {
            break;
        } else if rest.starts_with("/*") {
            *in_block += 1;
            2
        } else if rest.starts_with("'\"'") {
            3
        } else {
            in_string = c == '"';
            kept.push(c);
            c.len_utf8()
        };
        rest = &rest[step..];
    }
    kept
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources").map(|e| e.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&entry).expect("a source file");
                found.push(Source::new(entry.strip_prefix(&root).expect("below src").to_owned(), &text));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "the sources were not found");
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The word a text starts with.
fn word(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

/// Where `what` stands in `line` as whole words.
fn occurrences<'a>(line: &'a str, what: &'a str) -> impl Iterator<Item = usize> + 'a {
    line.match_indices(what).map(|(at, _)| at).filter(move |at| {
        let before = line[..*at].chars().next_back().is_some_and(is_word);
        let after = line[at + what.len()..].chars().next().is_some_and(is_word) && what.ends_with(is_word);
        !before && !after
    })
}

/// The top-level modules a file refers to, with their lines: `crate::x`, `crate::{x, y}`, and `super::` chains that reach the root.
fn references(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let text = source.lines.join("\n");
    let line_of = |at: usize| text[..at].matches('\n').count();
    for at in occurrences(&text, "crate::") {
        let rest = text[at + "crate::".len()..].trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut start = true;
            for (offset, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if start && is_word(c) => {
                        found.push((
                            line_of(text.len() - group.len() + offset).min(source.lines.len()),
                            word(&group[offset..]).to_owned(),
                        ));
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.push((line_of(at), word(rest).to_owned()));
        }
    }
    for at in occurrences(&text, "super::").filter(|at| !text[..*at].ends_with("super::")) {
        let mut rest = &text[at..];
        let mut ups = 0;
        while let Some(further) = rest.strip_prefix("super::") {
            (rest, ups) = (further, ups + 1);
        }
        if ups >= source.depth() && FLOORS.iter().any(|(name, _)| *name == word(rest)) {
            found.push((line_of(at), word(rest).to_owned()));
        }
    }
    found
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn check_floors(source: &Source) -> Vec<String> {
    let module = source.module();
    if module == "lib" || module == "main" {
        return Vec::new();
    }
    let Some(own) = floor(&module) else {
        return vec![
            source.breach(0, &format!("module \"{module}\" has no floor; give it one in tests/architecture.rs and in lib.rs")),
        ];
    };
    let wrong = |(line, other): (usize, String)| {
        let theirs = floor(&other)?;
        let allowed = other == module || theirs < own || (own == DOORS && theirs == DOORS);
        let why = if theirs == own { "is a neighbour on the same floor" } else { "is above it" };
        (!allowed).then(|| {
            source.breach(
                line,
                &format!(
                    "{module} (floor {own}) uses {other} (floor {theirs}), which {why}; imports run down, never up or across"
                ),
            )
        })
    };
    references(source).into_iter().filter_map(wrong).collect()
}

fn check_purity(source: &Source) -> Vec<String> {
    let module = source.module();
    // Tests above the lowest floor may measure and read recordings.
    let tests = source.path.file_stem().is_some_and(|name| name.to_string_lossy().ends_with("tests"));
    if !PURE.contains(&module.as_str()) || (tests && module != "domain") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, line) in source.lines.iter().enumerate() {
        for (what, why) in IMPURE {
            if occurrences(line, what).next().is_some() {
                found.push(source.breach(at, &format!("{module} is pure and must not mention {what}: {why}")));
            }
        }
    }
    found
}

fn check_names(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for part in source.path.iter().map(|p| p.to_string_lossy().trim_end_matches(".rs").to_owned()) {
        if EMPTY_NAMES.contains(&part.as_str()) {
            found.push(
                source.breach(0, &format!("\"{part}\" says nothing about what is inside; name the module after what it is for")),
            );
        }
    }
    for (at, line) in source.lines.iter().enumerate() {
        for at_mod in occurrences(line, "mod") {
            let name = word(line[at_mod + 3..].trim_start());
            if EMPTY_NAMES.contains(&name) {
                found.push(
                    source.breach(
                        at,
                        &format!("module \"{name}\" says nothing about what is inside; name it after what it is for"),
                    ),
                );
            }
        }
    }
    found
}

fn check_length(source: &Source) -> Vec<String> {
    let lines = source.lines.len();
    let why = format!("{lines} lines; a file has at most {LONGEST_FILE}, so split it along what it does");
    if lines > LONGEST_FILE { vec![source.breach(LONGEST_FILE, &why)] } else { Vec::new() }
}

#[track_caller]
fn assert_none(check: impl Fn(&Source) -> Vec<String>) {
    let breaches: Vec<String> = sources().iter().flat_map(check).collect();
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn imports_run_down() {
    assert_none(check_floors);
}

#[test]
fn pure_modules_touch_nothing() {
    assert_none(check_purity);
}

#[test]
fn names_say_something() {
    assert_none(check_names);
}

#[test]
fn files_stay_readable() {
    assert_none(check_length);
}

/// The checks themselves must be able to fail.
#[test]
fn breaches_are_found() {
    let breaches = |path: &str, text: &str| {
        let source = Source::new(path.into(), text);
        [check_floors(&source), check_purity(&source), check_names(&source), check_length(&source)].concat()
    };
    for (path, text, expected) in [
        (
            "domain/dag.rs",
            "\nuse crate::dagfile::parse;",
            "src/domain/dag.rs:2: domain (floor 0) uses dagfile (floor 1), which is above it",
        ),
        ("engine/a.rs", "use crate::{\n    domain::dag,\n    feed::kis,\n};", "src/engine/a.rs:3: engine (floor 1) uses feed"),
        (
            "steps/sink/a.rs",
            "fn f() { crate::daemon::run() }",
            "src/steps/sink/a.rs:1: steps (floor 3) uses daemon (floor 3), which is a neighbour",
        ),
        ("engine/a.rs", "use super::super::clock::Clock;", "src/engine/a.rs:1: engine (floor 1) uses clock"),
        ("domain/a.rs", "use std::fs;", "must not mention std::fs"),
        ("domain/a.rs", "let t = std::time::Instant::now();", "must not mention Instant"),
        ("dagfile/a.rs", "tokio::spawn(x);", "must not mention tokio"),
        ("steps/utils.rs", "", "\"utils\" says nothing"),
        ("steps/a.rs", "pub mod helpers;", "module \"helpers\" says nothing"),
        ("steps/a.rs", &"\n".repeat(501), "src/steps/a.rs:501: 501 lines"),
        ("misplaced.rs", "", "has no floor"),
    ] {
        let found = breaches(path, text);
        assert!(found.len() == 1 && found[0].contains(expected), "{path} {text:?}: {found:?}");
    }
    for (path, text) in [
        ("cli/a.rs", "use crate::web::x; use crate::domain::y;"),
        ("steps/a.rs", "use crate::backends::log; use crate::steps::b; use super::c;"),
        (
            "domain/a.rs",
            "// like crate::dagfile and tokio\n/* std::fs\n tokio */ let text = \"tokio // std::fs\"; let instantly = 1;",
        ),
        ("domain/a.rs", "/// [`crate::dagfile`]\nuse super::ids; use super::calendar::instant;"),
        ("steps/a.rs", "tokio::fs::read(x); let common = 1;"),
        ("feed/kis/tests.rs", "let start = std::time::Instant::now();"),
        ("main.rs", "openbell::cli::main()"),
    ] {
        assert_eq!(breaches(path, text), Vec::<String>::new(), "{path} {text:?}");
    }
}

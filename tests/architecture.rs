//! The rules of the house that a compiler does not know: which floor may use which, purity, length of
//! functions, names, places of tests. Every breach names file and line.

use std::fs;
use std::path::{Path, PathBuf};

/// Crates of `src/` and their floors. A crate depends on those of lower floors only, never on a neighbour;
/// the compiler holds the code to it.
const FLOORS: [(&str, u8); 16] = [
    ("domain", 0),
    ("clock", 1),
    ("config", 1),
    ("dagfile", 1),
    ("engine", 1),
    ("feed", 1),
    ("files", 1),
    ("accounts", 2),
    ("backends", 2),
    ("executor", 2),
    ("state", 2),
    ("steps", 3),
    ("simulate", 3),
    ("daemon", 3),
    ("web", 4),
    ("cli", 4),
];

/// The top floor: its crates are doors and may use everything, each other too.
const DOORS: u8 = 4;

/// Rooms of the site, the lowest last. Code in one uses what stands below it or in it, never what stands
/// above.
const SITE: [&str; 10] =
    ["routes", "server", "pages", "api", "live", "auth", "http", "view", "locale", "cache"];
/// Rooms that use each other: what serves, and the paths it serves.
const SERVING: [&str; 2] = ["routes", "server"];

const LONGEST_FUNCTION: usize = 70;

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
            if c == '\\' {
                c.len_utf8() + rest[1..].chars().next().map_or(0, char::len_utf8)
            } else {
                c.len_utf8()
            }
        } else if rest.starts_with("//") {
            break;
        } else if rest.starts_with("/*") {
            *in_block += 1;
            2
        } else if ["'\"'", "'{'", "'}'"].iter().any(|literal| rest.starts_with(literal)) {
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
        for entry in fs::read_dir(&folder).expect("a folder of sources").map(|e| e.expect("an entry").path())
        {
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

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// What is wrong with a crate's manifest, `text`.
fn check_floors(module: &str, text: &str) -> Vec<String> {
    let breach = |line: usize, why: &str| format!("src/{module}/Cargo.toml:{}: {why}", line + 1);
    let Some(own) = floor(module) else {
        return vec![breach(
            0,
            &format!(
                "crate \"{module}\" has no floor; give it one in tests/architecture.rs and in src/lib.rs"
            ),
        )];
    };
    let wrong = |(at, line): (usize, &str)| {
        let other = line.split_once("path = \"../")?.1.split('"').next()?;
        let theirs = floor(other)?;
        let allowed = theirs < own || (own == DOORS && theirs == DOORS);
        let why = if theirs == own { "is a neighbour on the same floor" } else { "is above it" };
        let what = format!(
            "{module} (floor {own}) uses {other} (floor {theirs}), which {why}; dependencies run down, never up or across"
        );
        (!allowed).then(|| breach(at, &what))
    };
    text.lines().enumerate().filter_map(wrong).collect()
}

fn manifests() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folders = fs::read_dir(&root).expect("a folder of crates").map(|e| e.expect("an entry").path());
    let found: Vec<_> = folders
        .filter_map(|folder| {
            let text = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
            let name = folder.file_name()?.to_string_lossy().into_owned();
            (name != "workspace-hack").then_some((name, text))
        })
        .collect();
    assert!(found.len() >= FLOORS.len(), "the crates were not found");
    found
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
                found
                    .push(source.breach(at, &format!("{module} is pure and must not mention {what}: {why}")));
            }
        }
    }
    found
}

/// Where a path that begins with `crate::` or `super::` leads to, as a room of the site.
fn room_of<'a>(path: &'a Path, line: &'a str, at: usize) -> Option<&'a str> {
    let mut rest = &line[at..];
    if let Some(inside) = rest.strip_prefix("crate::") {
        return Some(word(inside));
    }
    // Folders between the file and the root of the crate; a `mod.rs` is its folder.
    let mut depth = path.components().count() - 2;
    depth += usize::from(path.file_name().is_some_and(|name| name != "mod.rs"));
    while let Some(outside) = rest.strip_prefix("super::") {
        (rest, depth) = (outside, depth.checked_sub(1)?);
    }
    (depth == 0).then(|| word(rest))
}

/// Code of the site that uses a room above its own. Tests may look at everything.
fn check_rooms(source: &Source) -> Vec<String> {
    let parts: Vec<_> = source.path.iter().map(|part| part.to_string_lossy()).collect();
    let place = |room: &str| SITE.iter().position(|known| *known == room);
    let tests = parts.iter().any(|part| part.trim_end_matches(".rs") == "tests");
    let ["web", room, ..] = parts.iter().map(|part| part.trim_end_matches(".rs")).collect::<Vec<_>>()[..]
    else {
        return Vec::new();
    };
    if tests || room == "mod" {
        return Vec::new();
    }
    let Some(own) = place(room) else {
        return vec![source.breach(
            0,
            &format!("\"{room}\" is no room of the site; give it a place in tests/architecture.rs"),
        )];
    };
    let own = if SERVING.contains(&room) { 0 } else { own };
    let mut found = Vec::new();
    for (at, line) in source.lines.iter().enumerate() {
        // The tests of a file stand at its end.
        if line.starts_with("#[cfg(test)]")
            && source.lines.get(at + 1).is_some_and(|next| next.trim_end().ends_with('{'))
        {
            break;
        }
        let starts = occurrences(line, "crate")
            .chain(occurrences(line, "super"))
            .filter(|at| !line[..*at].ends_with("::"));
        for other in starts.filter_map(|start| room_of(&source.path, line, start)) {
            if place(other).is_some_and(|theirs| theirs < own) {
                found.push(
                    source.breach(at, &format!("{room} uses {other}, which stands above it in the site")),
                );
            }
        }
    }
    found
}

fn check_names(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for part in source.path.iter().map(|p| p.to_string_lossy().trim_end_matches(".rs").to_owned()) {
        if EMPTY_NAMES.contains(&part.as_str()) {
            found.push(source.breach(
                0,
                &format!(
                    "\"{part}\" says nothing about what is inside; name the module after what it is for"
                ),
            ));
        }
    }
    for (at, line) in source.lines.iter().enumerate() {
        for at_mod in occurrences(line, "mod") {
            let name = word(line[at_mod + 3..].trim_start());
            if EMPTY_NAMES.contains(&name) {
                found.push(source.breach(
                    at,
                    &format!(
                        "module \"{name}\" says nothing about what is inside; name it after what it is for"
                    ),
                ));
            }
        }
    }
    found
}

/// Functions that are too long: from the line of `fn` to that of the brace that closes it.
fn check_functions(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    // Functions whose body is open: name, line of `fn`, depth of braces outside.
    let mut open: Vec<(String, usize, usize)> = Vec::new();
    let mut announced: Option<(String, usize)> = None;
    let mut depth = 0;
    for (at, line) in source.lines.iter().enumerate() {
        let starts: Vec<usize> =
            occurrences(line, "fn").filter(|at| line[at + 2..].starts_with(' ')).collect();
        for (place, c) in line.char_indices() {
            if starts.contains(&place) {
                let name = word(&line[place + 3..]);
                announced = (!name.is_empty()).then(|| (name.to_owned(), at)).or(announced);
            }
            match c {
                '{' => {
                    open.extend(announced.take().map(|(name, line)| (name, line, depth)));
                    depth += 1;
                }
                '}' => {
                    depth = usize::saturating_sub(depth, 1);
                    if let Some((name, first, _)) = open.pop_if(|(_, _, outside)| *outside == depth)
                        && at + 1 - first > LONGEST_FUNCTION
                    {
                        let why = format!(
                            "{name} has {} lines; a function has at most {LONGEST_FUNCTION}",
                            at + 1 - first
                        );
                        found.push(source.breach(first, &why));
                    }
                }
                // A function of a trait without a body.
                ';' if announced
                    .as_ref()
                    .is_some_and(|_| !line[..place].ends_with(|c: char| c.is_ascii_digit())) =>
                {
                    announced = None;
                }
                _ => {}
            }
        }
    }
    found
}

#[track_caller]
fn assert_none(check: impl Fn(&Source) -> Vec<String>) {
    let breaches: Vec<String> = sources().iter().flat_map(check).collect();
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn dependencies_run_down() {
    let breaches: Vec<String> =
        manifests().iter().flat_map(|(module, text)| check_floors(module, text)).collect();
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn pure_modules_touch_nothing() {
    assert_none(check_purity);
}

#[test]
fn rooms_of_the_site_use_what_stands_below_them() {
    assert_none(check_rooms);
}

#[test]
fn names_say_something() {
    assert_none(check_names);
}

#[test]
fn functions_stay_readable() {
    assert_none(check_functions);
}

/// The checks themselves must be able to fail.
#[test]
fn breaches_are_found() {
    let manifest = |path: &str| {
        format!("[dependencies]\nx = {{ path = \"../{path}\", package = \"openbell-{path}\" }}\n")
    };
    for (module, uses, expected) in [
        (
            "domain",
            "dagfile",
            "src/domain/Cargo.toml:2: domain (floor 0) uses dagfile (floor 1), which is above it",
        ),
        ("steps", "daemon", "steps (floor 3) uses daemon (floor 3), which is a neighbour"),
        ("misplaced", "domain", "has no floor"),
    ] {
        let found = check_floors(module, &manifest(uses));
        assert!(found.len() == 1 && found[0].contains(expected), "{module}: {found:?}");
    }
    for (module, uses) in [("steps", "backends"), ("cli", "web"), ("engine", "domain")] {
        assert_eq!(check_floors(module, &manifest(uses)), Vec::<String>::new(), "{module} on {uses}");
    }
    let breaches = |path: &str, text: &str| {
        let source = Source::new(path.into(), text);
        [check_purity(&source), check_rooms(&source), check_names(&source), check_functions(&source)].concat()
    };
    let long =
        format!("fn f(a: [u8; 4]) {{\n    let c = '}}';\n{}}}", "    let s = \"}\"; // }\n".repeat(69));
    for (path, text, expected) in [
        ("domain/a.rs", "use std::fs;", "must not mention std::fs"),
        ("domain/a.rs", "let t = std::time::Instant::now();", "must not mention Instant"),
        ("dagfile/a.rs", "tokio::spawn(x);", "must not mention tokio"),
        (
            "web/http/a.rs",
            "use crate::auth::Access;",
            "src/web/http/a.rs:1: http uses auth, which stands above it",
        ),
        ("web/view/mod.rs", "let x = super::http::reply::sentence(y);", "view uses http"),
        ("web/attic/a.rs", "", "\"attic\" is no room of the site"),
        ("steps/utils.rs", "", "\"utils\" says nothing"),
        ("steps/a.rs", "pub mod helpers;", "module \"helpers\" says nothing"),
        (
            "steps/a.rs",
            &format!("trait T {{ fn a(&self); }}\nmod m {{\n{long}\n}}"),
            "src/steps/a.rs:3: f has 72 lines",
        ),
    ] {
        let found = breaches(path, text);
        assert!(found.len() == 1 && found[0].contains(expected), "{path} {text:?}: {found:?}");
    }
    for (path, text) in [
        (
            "domain/a.rs",
            "// like tokio\n/* std::fs\n tokio */ let text = \"tokio // std::fs\"; let instantly = 1;",
        ),
        ("web/auth/a.rs", "use crate::http::reply; use super::live; use self::server;"),
        ("web/http/tests.rs", "use crate::routes::router;"),
        ("web/http/a.rs", "#[cfg(test)]\nmod tests {\n    use crate::routes;\n}"),
        ("web/server.rs", "use crate::routes;"),
        ("steps/a.rs", "tokio::fs::read(x); let common = 1;"),
        ("feed/kis/tests.rs", "let start = std::time::Instant::now();"),
        ("steps/a.rs", &"fn f() {\n    g();\n}\n".repeat(40)),
    ] {
        assert_eq!(breaches(path, text), Vec::<String>::new(), "{path} {text:?}");
    }
}

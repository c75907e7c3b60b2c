//! The catalogue against what the pages say: every text has a translation, every translation is of a text,
//! and both have the same places.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::catalogue::KOREAN;
use super::*;

/// The catalogue as it stands in its file: a map would hide what stands there twice.
struct Entries(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Entries;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(Entries(all))
            }
        }
        from.deserialize_map(All)
    }
}

fn catalogue() -> Vec<(String, String)> {
    serde_json::from_str::<Entries>(KOREAN).expect("the catalogue is a map of texts").0
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
}

/// A string literal at the beginning of a text, and what follows it.
fn literal(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut letters = text.strip_prefix('"')?.char_indices();
    while let Some((at, c)) = letters.next() {
        match c {
            '"' => return Some((out, &text[at + 2..])),
            '\\' => match letters.next()?.1 {
                'n' => out.push('\n'),
                other => out.push(other),
            },
            c => out.push(c),
        }
    }
    None
}

/// Texts of templates: `"…"|t` and `"…"|rich`.
fn of_templates(texts: &mut BTreeMap<String, String>) {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")), "html", &mut found);
    for path in found {
        let text = fs::read_to_string(&path).expect("a template");
        for (at, _) in text.match_indices('"') {
            let Some((key, after)) = literal(&text[at..]) else { continue };
            let filter = after
                .strip_prefix('|')
                .map(|f| f.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default());
            let inside = text[..at]
                .rfind("{{")
                .is_some_and(|open| text[..at].rfind("}}").is_none_or(|close| close < open));
            if inside && matches!(filter, Some("t" | "rich")) {
                texts.insert(key, path.display().to_string());
            }
        }
    }
}

/// Adds the texts of a macro in a source.
fn of_macro(name: &str, code: &str, path: &Path, texts: &mut BTreeMap<String, String>) {
    let code: String =
        code.lines().filter(|l| !l.trim_start().starts_with("//")).map(|l| format!("{l}\n")).collect();
    for (at, _) in code.match_indices(name) {
        if let Some((key, _)) = literal(code[at + name.len()..].trim_start()) {
            texts.insert(key, path.display().to_string());
        }
    }
}

/// Messages of every crate, which pages tell as texts: `said!("…"`. Those of tests are nobody's.
fn of_messages(texts: &mut BTreeMap<String, String>) {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), "rs", &mut found);
    let is_test = |path: &Path| {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        stem.ends_with("tests") || path.components().any(|part| part.as_os_str() == "tests")
    };
    for path in found.iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(path).expect("a source");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        of_macro("said!(", code, path, texts);
    }
}

/// Texts of the code: `say!("…"`.
fn of_code(texts: &mut BTreeMap<String, String>) {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")), "rs", &mut found);
    for path in found.iter().filter(|p| !p.ends_with("locale/tests.rs")) {
        of_macro("say!(", &fs::read_to_string(path).expect("a source"), path, texts);
    }
}

fn texts() -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    of_templates(&mut texts);
    of_code(&mut texts);
    of_messages(&mut texts);
    texts
}

#[test]
fn every_text_has_a_translation_and_every_translation_a_text() {
    let (texts, catalogue) = (texts(), catalogue());
    assert!(texts.len() > 300, "the texts are found: {}", texts.len());
    let known: BTreeSet<&str> = catalogue.iter().map(|(english, _)| english.as_str()).collect();
    assert_eq!(known.len(), catalogue.len(), "a text stands twice in the catalogue");
    let missing: Vec<_> = texts.iter().filter(|(key, _)| !known.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "without a translation: {missing:#?}");
    let unused: Vec<_> = known.iter().filter(|key| !texts.contains_key(**key)).collect();
    assert!(unused.is_empty(), "of no text: {unused:#?}");
}

/// Places of a message, each with how often it is there.
fn places(message: &str) -> BTreeMap<usize, usize> {
    let mut places = BTreeMap::new();
    let (mut rest, mut next) = (message, 0);
    while let Some((_, after)) = rest.split_once('{') {
        let (number, tail) = after.split_once('}').expect("a place is closed");
        let at = if number.is_empty() { next } else { number.parse().expect("a place is a number") };
        next += usize::from(number.is_empty());
        *places.entry(at).or_default() += 1;
        rest = tail;
    }
    places
}

/// Tags of a message.
fn tags(message: &str) -> Vec<&str> {
    let mut tags: Vec<_> = message
        .split('<')
        .skip(1)
        .map(|t| t.split_once('>').map_or(t, |(tag, _)| tag.split(' ').next().unwrap_or_default()))
        .collect();
    tags.sort_unstable();
    tags
}

#[test]
fn translations_have_the_places_and_the_markup_of_their_texts() {
    for (english, korean) in catalogue() {
        assert_eq!(places(&english), places(&korean), "{english}: {korean}");
        assert_eq!(tags(&english), tags(&korean), "{english}: {korean}");
        assert!(!korean.trim().is_empty() && !korean.contains("##"), "{english}: {korean}");
        let hangul = korean.chars().any(|c| ('가'..='힣').contains(&c));
        // Names of things and bare frames of numbers are the same in both.
        let shown = english.split("##").next().unwrap_or_default();
        assert!(hangul || shown == korean || shown.len() < 15, "{english}: {korean}");
    }
}

fn korean() -> Reader {
    Reader { language: Language::Korean, ..Reader::default() }
}

#[test]
fn messages_are_put_together_in_the_language_of_the_reader() {
    let text = Text::message("{} to {} of {}").with("a").with(2_u32).with(say!("running"));
    assert_eq!(text, "a to 2 of running");
    // The order of a translation is its own.
    let each = |message: &'static str| Text::message(message).with("one").with("two").to_string();
    assert_eq!(each("{1} before {0}"), "two before one");
    assert_eq!(each("nothing {2}, and {"), "nothing , and {");
    assert_eq!(say!("last##price"), "last");
    assert_eq!(korean().read(&say!("running")), "실행 중");
    assert_eq!(
        korean().read(&Text::message("no such text {}").with(3_u32)),
        "no such text 3",
        "what is missing is English"
    );
    let joined = Text::joined(", ", vec![Text::plain("a"), Text::default(), say!("running")]);
    assert_eq!((joined.to_string().as_str(), joined.is_empty()), ("a, running", false));
    assert!(Text::joined(", ", vec![Text::default()]).is_empty());
}

#[derive(askama::Template)]
#[template(
    source = r#"{{ "running"|t }}|{{ what }}|{{ ("<b>{}</b>"|rich).with(what) }}|{{ "/dags?a=1&b"|link }}"#,
    ext = "html"
)]
struct Shown {
    what: Text,
}

#[test]
fn templates_find_their_reader_and_escape_what_is_not_ours() {
    let shown = Shown { what: Text::message("{}").with("<i>") };
    let base = "/ob".parse().expect("a path");
    let html = crate::view::Html::of(&shown, &Reader { base, ..korean() });
    assert_eq!(html.as_str(), "실행 중|&#60;i&#62;|<b>&#60;i&#62;</b>|/ob/dags?a=1&#38;b");
    let html = crate::view::Html::of(&shown, &Reader::default());
    assert_eq!(html.as_str(), "running|&#60;i&#62;|<b>&#60;i&#62;</b>|/dags?a=1&#38;b");
}

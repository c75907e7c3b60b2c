//! YAML as a tree whose nodes know their place.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::diagnostic::{Diagnostic, Severity};

/// A place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Length in characters, at least 1; may run over the end of the line.
    pub width: usize,
    /// First byte, where the text was defined (behind an alias: at the anchor).
    pub start: usize,
    /// Length in bytes.
    pub bytes: usize,
}

/// A YAML node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub value: Value,
    pub span: Span,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

impl Node {
    /// What the value is, in words for a message.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "empty",
            Value::Bool(_) => "a yes/no value",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a table",
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn count(&self) -> Option<u64> {
        match &self.value {
            Value::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<f64> {
        match &self.value {
            Value::Number(number) => number.as_f64(),
            _ => None,
        }
    }

    pub fn bool(&self) -> Option<bool> {
        match &self.value {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The entries of a table; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; a single value counts as a list of one.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Null => &[],
            _ => std::slice::from_ref(self),
        }
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|e| e.key == key)
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.value)
    }

    /// A text, number or yes/no value as it is written in the file (`010` stays `010`).
    pub fn scalar<'a>(&'a self, source: &'a str) -> Option<&'a str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Bool(_) | Value::Number(_) => {
                source.get(self.span.start..self.span.start + self.span.bytes)
            }
            _ => None,
        }
    }

    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(number) => Json::Number(number.clone()),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect())
            }
        }
    }
}

/// Reads YAML text. Later checks find repeated keys themselves, so that a file with one still shows its other
/// faults.
pub(super) fn parse(text: &str) -> Result<Node, Box<Diagnostic>> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Box::new(fault(text, &error)))
}

fn fault(text: &str, error: &serde_saphyr::Error) -> Diagnostic {
    let place = error.location();
    let (line, column) = place.map_or((1, 1), |l| (as_usize(l.line()).max(1), as_usize(l.column()).max(1)));
    let message = error.without_snippet().render();
    // The place is shown anyway; the library repeats it at either end of its message.
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let message = message.strip_prefix(&format!("line {line} column {column}: ")).unwrap_or(message);
    let message = message.split(" at line ").next().unwrap_or(message);
    Diagnostic {
        severity: Severity::Error,
        line,
        column,
        width: 1,
        message: format!("this is not YAML: {message}"),
        help: Some("look for a missing quote, colon, bracket or indentation here or just above".into()),
        source: if near_secrets(text, line) {
            String::new()
        } else {
            text.lines().nth(line - 1).unwrap_or_default().to_owned()
        },
    }
}

/// Whether a line may hold a secret written out: without a tree nobody knows, so nothing near the word is
/// shown.
fn near_secrets(text: &str, line: usize) -> bool {
    text.lines().take(line).skip(line.saturating_sub(8)).any(super::diagnostics::is_secret)
}

fn as_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn span<T>(spanned: &Spanned<T>) -> Span {
    let (place, origin) = (spanned.referenced, spanned.defined.span());
    Span {
        line: as_usize(place.line()).max(1),
        column: as_usize(place.column()).max(1),
        width: as_usize(place.span().len()).max(1),
        start: as_usize(origin.byte_offset().unwrap_or(0)),
        bytes: as_usize(origin.byte_len().unwrap_or(0)),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let span = span(&spanned);
        Ok(Self { value: spanned.value, span })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }
    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(serde_json::Number::from_f64(value).map_or_else(|| Value::Text(value.to_string()), Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key_span = span(&key);
            entries.push(Entry { key: key.value, key_span, value: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Place = (usize, usize, usize);

    fn places(text: &str) -> Vec<(String, Place, Place)> {
        let node = parse(text).expect("YAML");
        let place = |s: Span| (s.line, s.column, s.width);
        node.entries().iter().map(|e| (e.key.clone(), place(e.key_span), place(e.value.span))).collect()
    }

    #[test]
    fn keys_and_values_know_their_place() {
        let places = places("a: 010\n# comment\nlonger: \"text\"\nlist: [1, 2]\nname: { x: 1 }\non: no\n");
        assert_eq!(places[0], ("a".into(), (1, 1, 1), (1, 4, 3)));
        assert_eq!(places[1], ("longer".into(), (3, 1, 6), (3, 9, 6)));
        assert_eq!((places[2].1, places[3].1, places[4].1), ((4, 1, 4), (5, 1, 4), (6, 1, 2)));
    }

    #[test]
    fn scalars_keep_their_spelling() {
        let text = "a: 010\nb: 1e3\nc: no\nd: true\ne: \"7\"\nf: &x 08:50\ng: *x\n";
        let node = parse(text).expect("YAML");
        let spelled: Vec<_> = node.entries().iter().map(|e| e.value.scalar(text).unwrap_or("?")).collect();
        assert_eq!(spelled, ["010", "1e3", "no", "true", "7", "08:50", "08:50"]);
    }

    #[test]
    fn repeated_keys_stay_visible() {
        assert_eq!(places("a: 1\nb: 2\na: 3\n").len(), 3);
    }

    #[test]
    fn faults_of_the_yaml_have_a_place() {
        for (text, line) in
            [("a: [1, 2\nb: 3\n", 2), ("a: 1\n b: 2\n", 2), ("a: \"x\nb: 1\n", 2), ("a: *nowhere\n", 1)]
        {
            let fault = parse(text).expect_err(text);
            assert!(fault.line >= 1 && fault.line <= line + 1, "{text:?}: {fault:?}");
            assert!(!fault.message.contains("at line"), "{}", fault.message);
        }
    }
}

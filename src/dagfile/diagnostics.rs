//! The lines of the file as findings may show them, and the findings themselves.

use super::diagnostic::{Diagnostic, Severity};
use super::tree::{Node, Span, Value};

/// Words of keys under which a secret may have been written out.
const SECRET_WORDS: [&str; 7] = ["secret", "password", "passwd", "token", "app_key", "appkey", "api_key"];

/// Whether a key, or a line, speaks of secrets.
pub(super) fn is_secret(text: &str) -> bool {
    let text = text.to_lowercase();
    SECRET_WORDS.iter().any(|word| text.contains(word))
}

/// Whether a value is a reference and can be shown.
pub(super) fn is_reference(text: &str) -> bool {
    text.starts_with("env:") || text.starts_with("file:")
}

/// Collects findings; never shows a secret that was written out instead of referred to.
pub(super) struct Diagnostics<'a> {
    pub text: &'a str,
    secrets: Vec<Span>,
    found: Vec<Diagnostic>,
}

impl<'a> Diagnostics<'a> {
    pub fn new(text: &'a str, root: &Node) -> Self {
        let mut secrets = Vec::new();
        collect_secrets(root, false, &mut secrets);
        Self { text, secrets, found: Vec::new() }
    }

    /// A line of the file, from 1, with literal secrets covered.
    fn line(&self, number: usize) -> String {
        let Some(line) = self.text.lines().nth(number.saturating_sub(1)) else { return String::new() };
        let start = line.as_ptr() as usize - self.text.as_ptr() as usize;
        let hidden =
            |at: usize| self.secrets.iter().any(|s| (s.start..s.start + s.bytes).contains(&(start + at)));
        line.char_indices().map(|(at, c)| if hidden(at) { '*' } else { c }).collect()
    }

    pub fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        let finding = self.at(Severity::Error, span, message.into(), help.into());
        self.found.push(finding);
    }

    pub fn warning(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        let finding = self.at(Severity::Warning, span, message.into(), help.into());
        self.found.push(finding);
    }

    /// A finding that is not (yet) one of the file's.
    pub fn at(&self, severity: Severity, span: Span, message: String, help: String) -> Diagnostic {
        let source = self.line(span.line);
        let rest = source.chars().count().saturating_sub(span.column - 1).max(1);
        let help = (!help.is_empty()).then_some(help);
        Diagnostic {
            severity,
            line: span.line,
            column: span.column,
            width: span.width.clamp(1, rest),
            message,
            help,
            source,
        }
    }

    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|d| d.severity == Severity::Error)
    }

    /// Everything found, from top to bottom.
    pub fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|d| (d.line, d.column));
        self.found.dedup();
        self.found
    }
}

fn collect_secrets(node: &Node, secret: bool, spans: &mut Vec<Span>) {
    match &node.value {
        Value::Map(entries) => {
            entries.iter().for_each(|e| collect_secrets(&e.value, secret || is_secret(&e.key), spans))
        }
        Value::List(items) => items.iter().for_each(|item| collect_secrets(item, secret, spans)),
        Value::Text(text) if secret && !is_reference(text) => spans.push(node.span),
        Value::Number(_) if secret => spans.push(node.span),
        _ => {}
    }
}

//! A finding in a file: where, what, and what to write instead.

use std::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, and probably does not do what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A finding in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters the carets cover.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line of the file; literal secrets are covered with asterisks.
    pub source: String,
}

impl Diagnostic {
    /// The finding for people, several lines, without a line end: `file:line:column: error: message`, the
    /// line with carets below, and help.
    pub fn render(&self, file: &str) -> String {
        let Self { severity, line, column, message, .. } = self;
        let mut text = format!("{file}:{line}:{column}: {severity}: {message}");
        if let Some(excerpt) = self.excerpt() {
            text.push('\n');
            text.push_str(&excerpt);
        }
        if let Some(help) = &self.help {
            text.push_str("\nhelp: ");
            text.push_str(help);
        }
        text
    }

    /// The line of the file with carets below, without a line end; `None` where there is none to show.
    pub fn excerpt(&self) -> Option<String> {
        if self.source.trim().is_empty() {
            return None;
        }
        let (number, before) = (self.line.to_string(), self.column.saturating_sub(1));
        let margin = " ".repeat(number.len());
        let indent: String = self.source.chars().take(before).map(blank).collect();
        let marked: usize = self.source.chars().skip(before).take(self.width).map(columns).sum();
        let carets = "^".repeat(marked.max(1));
        Some(format!(" {margin} |\n {number} | {}\n {margin} | {indent}{carets}", self.source.trim_end()))
    }
}

/// Terminal columns a character takes: two for the wide ones of Korean, Chinese and Japanese.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x1100..=0x115F
        | 0x2E80..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

/// Space as wide as the character; tabs stay, so that carets line up whatever the terminal makes of them.
fn blank(c: char) -> &'static str {
    match (c, columns(c)) {
        ('\t', _) => "\t",
        (_, 2) => "  ",
        _ => " ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_place() {
        let mut finding = Diagnostic {
            severity: Severity::Error,
            line: 12,
            column: 5,
            width: 7,
            message: "unknown key \"tiemout\"".into(),
            help: Some("did you mean \"timeout\"?".into()),
            source: "    tiemout: 5m".into(),
        };
        let expected = "dags/x.yaml:12:5: error: unknown key \"tiemout\"\n    |\n 12 |     tiemout: 5m\n    |     ^^^^^^^\nhelp: did you mean \"timeout\"?";
        assert_eq!(finding.render("dags/x.yaml"), expected);
        finding.source = "a: \"장전\" x".into();
        (finding.column, finding.width, finding.line, finding.help) = (9, 1, 3, None);
        assert_eq!(
            finding.render("f").lines().last(),
            Some("   |           ^"),
            "wide characters take two columns"
        );
    }
}

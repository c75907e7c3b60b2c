//! Aligned columns for people.

use std::time::Duration;

/// Lays rows out in columns, two spaces apart; the first row is the head.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A duration as DAG files write it: `1h30m`.
pub(super) fn duration(length: Duration) -> String {
    let milliseconds = length.as_millis();
    let mut rest = milliseconds;
    let mut text = String::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        assert_eq!(
            columns(&[row("NAME", "X"), row("a", "longer"), row("longest", "")]),
            "NAME     X\na        longer\nlongest\n"
        );
    }

    #[test]
    fn durations_read_like_files() {
        for text in ["0s", "250ms", "30s", "1m30s", "1h", "2d3h"] {
            assert_eq!(duration(crate::domain::units::duration(text).expect("a duration")), text);
        }
    }
}

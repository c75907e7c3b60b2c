//! Tables and text for people, on standard output.

use std::io::{self, Write};

use super::exit::Failure;

/// Lays rows out in columns, two spaces apart; the first row is the head.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
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

/// Writes to standard output. A reader that went away (`| head`) is not a fault.
///
/// # Errors
/// When it cannot be written, for example on a full disk.
pub fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::unusable(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a JSON value, indented.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(format!("{value:#}\n"))
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
}

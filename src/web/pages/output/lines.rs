//! Lines of an output file, however long the file or its lines are: some of them by number, or those that
//! hold a text.
//!
//! A file is read twice in pieces: once to count its lines, which is as fast as the disk, and once from the
//! piece in which the wanted lines begin. Nothing larger than what is shown is held.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Lines shown at a time.
pub(crate) const SHOWN: u64 = 1_000;
/// Matches shown of a search, the newest.
pub(crate) const MATCHES: usize = 200;
/// Bytes shown of a line.
const LONGEST: usize = 4 * 1024;
/// Bytes of a line that are searched; more of a single line is not looked at.
const SEARCHED: usize = 64 * 1024;
/// Read at a time, in bytes.
const PIECE: usize = 256 * 1024;

/// What is wanted of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The last lines.
    Newest,
    /// Lines from this number on, counted from 1.
    From(u64),
    /// Lines that hold this text, whatever the case of its ASCII letters.
    Find(String),
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// Its text, without colours and other control characters.
    pub(crate) text: String,
    /// Bytes of it that are left out.
    pub(crate) cut: u64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// Lines, in order.
    pub(crate) lines: Vec<Line>,
    /// Lines of the file; the last one may not be whole yet.
    pub(crate) total: u64,
    /// Matches of a search, shown or not.
    pub(crate) matches: u64,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// Bytes up to the end of the last whole line.
    pub(crate) whole: u64,
    /// Number of whole lines.
    pub(crate) whole_lines: u64,
}

/// Reads what is wanted of a file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(path: &Path, wish: &Wish) -> io::Result<Found> {
    let mut file = File::open(path)?;
    let index = Index::of(&mut file)?;
    let mut found = Found {
        total: index.lines + u64::from(index.whole < index.bytes),
        bytes: index.bytes,
        whole: index.whole,
        whole_lines: index.lines,
        ..Found::default()
    };
    let first = match wish {
        Wish::Newest => found.total.saturating_sub(SHOWN) + 1,
        Wish::From(line) => (*line).clamp(1, found.total.max(1)),
        Wish::Find(_) => 1,
    };
    let needle = match wish {
        Wish::Find(text) => Some(text.to_ascii_lowercase().into_bytes()),
        _ => None,
    };
    let (number, offset) = index.before(first);
    file.seek(SeekFrom::Start(offset))?;
    let mut newest: VecDeque<Line> = VecDeque::new();
    let mut lower = Vec::new();
    let mut splitter = Splitter::new(number);
    let mut left = index.bytes - offset;
    let mut piece = vec![0; PIECE];
    let mut take = |number: u64, bytes: &[u8], length: u64| {
        if let Some(needle) = &needle {
            lower.clear();
            lower.extend(bytes.iter().map(u8::to_ascii_lowercase));
            if contains(&lower, needle) {
                found.matches += 1;
                newest.push_back(line(number, bytes, length));
                if newest.len() > MATCHES {
                    newest.pop_front();
                }
            }
            return true;
        }
        if number >= first {
            newest.push_back(line(number, bytes, length));
        }
        number + 1 < first + SHOWN
    };
    while left > 0 {
        let want = PIECE.min(usize::try_from(left).unwrap_or(PIECE));
        let n = file.read(&mut piece[..want])?;
        if n == 0 {
            break;
        }
        left -= n as u64;
        if !splitter.push(&piece[..n], &mut take) {
            left = 0;
            splitter.held_length = 0;
        }
    }
    splitter.end(&mut take);
    found.lines = newest.into();
    Ok(found)
}

/// Text of a line for people.
fn line(number: u64, bytes: &[u8], length: u64) -> Line {
    let shown = &bytes[..bytes.len().min(LONGEST)];
    Line { number, text: plain(&String::from_utf8_lossy(shown)), cut: length - shown.len() as u64 }
}

/// Text without what only a terminal understands: colours, cursor moves, bells, carriage returns.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        match c {
            // ECMA-48: a control sequence ends with a byte between @ and ~.
            '\u{1b}' if letters.peek() == Some(&'[') => {
                letters.next();
                while letters.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    match needle {
        [] => true,
        [first, ..] => {
            let mut rest = text;
            while let Some(at) = rest.iter().position(|b| b == first) {
                rest = &rest[at..];
                if rest.starts_with(needle) {
                    return true;
                }
                rest = &rest[1..];
            }
            false
        }
    }
}

/// Where lines are, a note for each piece of the file.
struct Index {
    /// Whole lines.
    lines: u64,
    bytes: u64,
    /// End of the last whole line.
    whole: u64,
    /// Whole lines before each piece.
    before: Vec<u64>,
}

impl Index {
    fn of(file: &mut File) -> io::Result<Self> {
        let mut index = Self { lines: 0, bytes: 0, whole: 0, before: Vec::new() };
        let mut piece = vec![0; PIECE];
        loop {
            index.before.push(index.lines);
            let n = fill(file, &mut piece)?;
            let read = &piece[..n];
            index.lines += read.iter().filter(|b| **b == b'\n').count() as u64;
            if let Some(at) = read.iter().rposition(|b| *b == b'\n') {
                index.whole = index.bytes + at as u64 + 1;
            }
            index.bytes += n as u64;
            if n < PIECE {
                return Ok(index);
            }
        }
    }

    /// A line that begins no later than `line`, with the place of the piece where its text goes on.
    ///
    /// That piece may begin inside of the line; whoever wants `line` itself is given the piece before.
    fn before(&self, line: u64) -> (u64, u64) {
        let piece = self.before.partition_point(|before| *before + 1 < line).saturating_sub(1);
        (self.before[piece] + 1, piece as u64 * PIECE as u64)
    }
}

/// Reads until the piece is full or the file ends.
fn fill(file: &mut File, piece: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < piece.len() {
        match file.read(&mut piece[n..])? {
            0 => break,
            read => n += read,
        }
    }
    Ok(n)
}

/// Cuts pieces into lines.
struct Splitter {
    number: u64,
    held: Vec<u8>,
    held_length: u64,
}

impl Splitter {
    fn new(number: u64) -> Self {
        Self { number, held: Vec::new(), held_length: 0 }
    }

    /// Gives each line that ends in this piece, until `each` has enough; says whether it wants more.
    fn push(&mut self, piece: &[u8], each: &mut impl FnMut(u64, &[u8], u64) -> bool) -> bool {
        let mut rest = piece;
        while let Some(at) = rest.iter().position(|b| *b == b'\n') {
            let wants = if self.held_length == 0 {
                each(self.number, &rest[..at.min(SEARCHED)], at as u64)
            } else {
                self.hold(&rest[..at]);
                each(self.number, &self.held, self.held_length)
            };
            self.held.clear();
            (self.held_length, self.number, rest) = (0, self.number + 1, &rest[at + 1..]);
            if !wants {
                return false;
            }
        }
        self.hold(rest);
        true
    }

    fn hold(&mut self, bytes: &[u8]) {
        let room = SEARCHED.saturating_sub(self.held.len());
        self.held.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.held_length += bytes.len() as u64;
    }

    /// Gives the last line, if no line end follows it.
    fn end(&mut self, each: &mut impl FnMut(u64, &[u8], u64) -> bool) {
        if self.held_length > 0 {
            each(self.number, &self.held, self.held_length);
        }
    }
}

/// Whole lines of a followed file's new bytes; what has no line end yet is left for later unless `all`.
pub(crate) fn whole_lines(bytes: &[u8], first: u64, all: bool) -> (Vec<Line>, usize) {
    let end = if all { bytes.len() } else { bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1) };
    let mut lines = Vec::new();
    let mut splitter = Splitter::new(first);
    let mut take = |number: u64, bytes: &[u8], length: u64| {
        lines.push(line(number, bytes, length));
        true
    };
    splitter.push(&bytes[..end], &mut take);
    splitter.end(&mut take);
    (lines, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        file
    }

    fn numbers(found: &Found) -> (u64, u64) {
        (found.lines.first().map_or(0, |l| l.number), found.lines.last().map_or(0, |l| l.number))
    }

    #[test]
    fn lines_are_found_by_number_and_from_the_end_in_a_large_file() {
        let text: String = (1..=100_000).map(|n| format!("line {n} of a file that has many\n")).collect();
        let file = file(text.as_bytes());
        let newest = read(file.path(), &Wish::Newest).expect("readable");
        assert_eq!((newest.total, numbers(&newest)), (100_000, (99_001, 100_000)));
        // The numbers around the ends of the pieces in which the file is read are those that could go wrong.
        for first in (1..=100_000).step_by(997).chain([7_900, 8_000, 99_999, 100_000]) {
            let some = read(file.path(), &Wish::From(first)).expect("readable");
            assert_eq!(numbers(&some), (first, (first + SHOWN - 1).min(100_000)));
            assert_eq!(some.lines[0].text, format!("line {first} of a file that has many"));
        }
        assert_eq!(numbers(&read(file.path(), &Wish::From(u64::MAX)).expect("readable")), (100_000, 100_000));
    }

    #[test]
    fn a_search_counts_all_and_shows_the_newest() {
        let text: String = (1..=5_000)
            .map(|n| if n % 10 == 0 { format!("ERROR {n}\n") } else { "fine\n".to_owned() })
            .collect();
        let file = file(text.as_bytes());
        let found = read(file.path(), &Wish::Find("error ".into())).expect("readable");
        assert_eq!((found.matches, found.lines.len(), numbers(&found)), (500, MATCHES, (3_010, 5_000)));
        assert_eq!(read(file.path(), &Wish::Find("nowhere".into())).expect("readable").lines, []);
    }

    #[test]
    fn endless_lines_torn_ends_and_terminal_codes_do_no_harm() {
        let mut bytes = b"\x1b[31mred\x1b[0m\x07 \xff\n".to_vec();
        bytes.extend(vec![b'x'; 3 << 20]);
        bytes.extend(b"\nlast without end");
        let found = read(file(&bytes).path(), &Wish::Newest).expect("readable");
        assert_eq!(found.lines[0].text, "red \u{fffd}");
        assert_eq!((found.lines[1].text.len(), found.lines[1].cut), (LONGEST, (3 << 20) - LONGEST as u64));
        assert_eq!((found.lines[2].number, found.lines[2].text.as_str()), (3, "last without end"));
        assert_eq!((found.total, found.whole_lines, found.bytes - found.whole), (3, 2, 16));
        assert_eq!(read(file(b"").path(), &Wish::Newest).expect("readable").total, 0);
        let (lines, used) = whole_lines(b"a\nb\nhalf", 7, false);
        assert_eq!((lines.len(), lines[1].number, used), (2, 8, 4));
        assert_eq!(whole_lines(b"half", 7, true).0[0].text, "half");
    }
}

//! The output that an engine keeps of an attempt, copied into `output.log`, also across restarts of the
//! daemon.
//!
//! How far it came is noted as the time stamp that the engine gave the last line and the length of the file
//! then. A daemon that takes over cuts the file to that length and goes on after that line, so that nothing
//! is there twice. Of a flood the beginning and the end are kept.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::query_parameters::LogsOptions;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::engine::{Engine, http_status};
use crate::Notice;
use crate::folder::{self, Durability};
use clock::Clock;
use domain::dag::AlertKind;

/// File name of the note.
const POSITION: &str = "output.position";
/// File name of the executor's own lines.
const SAID: &str = "said";
/// Bytes of output that are kept of an attempt, not counting its end.
const MOST: u64 = 64 << 20;
/// Bytes of the end of an output that was cut; what went wrong is told there.
const END_BYTES: usize = 64 << 10;
/// Lines of the end that the engine is asked for.
const END_LINES: &str = "1000";
/// Real time between two notes.
const NOTE_EVERY: Duration = Duration::from_millis(250);
/// Real time without any more of it after which the rest of an output is given up.
const SILENCE: Duration = Duration::from_secs(10);
/// Bytes of the output's end in which the engine's init is looked for.
const TAIL: u64 = 4096;
/// Width of the engine's time stamps.
const STAMP: usize = "2026-11-20T09:00:00.000000000Z".len();

/// How far the output was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// Length of `output.log` then.
    length: u64,
    /// The engine's stamp of the last line; such stamps sort as text.
    newest: String,
    /// No more is kept.
    full: bool,
    /// The end of what was cut is here too.
    #[serde(default)]
    ended: bool,
}

/// Whose output it is, and by which name the engine knows it.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A container's.
    Container(String),
    /// That of all containers of a service.
    Service(String),
}

impl Source {
    fn lines<'a>(
        &'a self,
        client: &'a bollard::Docker,
        options: LogsOptions,
    ) -> BoxStream<'a, Result<bollard::container::LogOutput, bollard::errors::Error>> {
        match self {
            Self::Container(name) => client.logs(name, Some(options)).boxed(),
            Self::Service(name) => client.service_logs(name, Some(options)).boxed(),
        }
    }
}

/// Why the copying broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The engine did not go on.
    #[error("{0}")]
    Engine(#[from] bollard::errors::Error),
    /// The file cannot be written.
    #[error("{0}")]
    File(#[from] io::Error),
}

impl CopyError {
    /// Whether the engine has given what it has: of a task on a lost node it says so.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Engine(bollard::errors::Error::DockerStreamError { .. }))
    }
}

/// Copies one attempt's output.
pub(crate) struct Copier {
    folder: PathBuf,
    source: Source,
    log: File,
    position: Position,
    /// Lines up to this stamp were copied before.
    before: String,
    noted: Instant,
}

impl Copier {
    /// Goes on where an earlier one stopped.
    fn open(folder: &Path, source: Source) -> io::Result<Self> {
        let position: Option<Position> = folder::read_or_warn(&folder.join(POSITION));
        let mut log = OpenOptions::new().create(true).append(true).open(folder.join(folder::OUTPUT))?;
        let known = position.is_some();
        let position = position.unwrap_or_default();
        // After the cut nothing is copied, and others may have written.
        if known && !position.full && log.metadata()?.len() > position.length {
            cut(folder, &mut log, position.length)?;
        }
        let (folder, before) = (folder.to_owned(), position.newest.clone());
        let mut copier = Self { folder, source, log, position, before, noted: Instant::now() };
        if !known {
            // So that whoever takes over knows that nothing was copied before.
            copier.note()?;
        }
        Ok(copier)
    }

    /// Copies what comes until the container ends. An engine ends the stream with it, however far behind its
    /// reader is: what is left comes with [`Copier::rest`].
    async fn follow(&mut self, client: &bollard::Docker) -> Result<(), CopyError> {
        self.read(client, true).await
    }

    /// Copies what there is once the container has ended.
    async fn rest(&mut self, client: &bollard::Docker) -> Result<(), CopyError> {
        self.read(client, false).await?;
        self.end(client).await
    }

    /// What people should hear of an output that was cut. The same output gives the same notice.
    fn notice(&self) -> Option<Notice> {
        let at = self.position.newest.parse().ok().filter(|_| self.position.full)?;
        let text = format!(
            "printed more than {} MiB; the rest of its output is not kept, except its end",
            MOST >> 20
        );
        Some(Notice { at, kind: AlertKind::OutputCut, text })
    }

    /// Copies the end of an output that was cut.
    async fn end(&mut self, client: &bollard::Docker) -> Result<(), CopyError> {
        if !self.position.full || self.position.ended {
            return Ok(());
        }
        let tail = END_LINES.to_owned();
        let options =
            LogsOptions { stdout: true, stderr: true, timestamps: true, tail, ..LogsOptions::default() };
        let source = self.source.clone();
        let mut lines = source.lines(client, options);
        let mut end = Tail::default();
        while let Some(line) = lines.next().await {
            end.take(line?.as_ref(), &self.position.newest);
        }
        self.close(&end)?;
        Ok(())
    }

    fn close(&mut self, end: &Tail) -> io::Result<()> {
        if !end.lines.is_empty() {
            self.log.write_all("… and this is its end:\n".as_bytes())?;
            end.lines.iter().try_for_each(|line| self.log.write_all(line))?;
        }
        self.position.ended = true;
        self.note()
    }

    async fn read(&mut self, client: &bollard::Docker, follow: bool) -> Result<(), CopyError> {
        if self.position.full {
            return Ok(());
        }
        self.before.clone_from(&self.position.newest);
        // The engine counts in whole seconds here; what comes twice is left out by its stamp.
        let since = self
            .before
            .parse::<Timestamp>()
            .map_or(0, |at| i32::try_from(at.as_second()).unwrap_or_default());
        let options = LogsOptions {
            follow,
            stdout: true,
            stderr: true,
            since,
            timestamps: true,
            ..LogsOptions::default()
        };
        let source = self.source.clone();
        let mut lines = source.lines(client, options);
        let outcome = loop {
            match lines.next().await {
                None => break Ok(()),
                Some(Err(error)) => break Err(CopyError::Engine(error)),
                Some(Ok(line)) => {
                    if let Err(error) = self.take(line.as_ref()) {
                        break Err(CopyError::File(error));
                    }
                    if self.position.full {
                        break Ok(());
                    }
                }
            }
        };
        self.note()?;
        outcome
    }

    /// Takes a line, or a part of a long one, behind its stamp.
    fn take(&mut self, line: &[u8]) -> io::Result<()> {
        let Some((stamp, text)) = stamped(line) else { return self.log.write_all(line) };
        if stamp <= self.before.as_str() {
            return Ok(());
        }
        let room = MOST.saturating_sub(self.log.metadata()?.len());
        if (text.len() as u64) > room {
            self.position.full = true;
            let word = format!("\n… the output is cut here, after {} MiB\n", MOST >> 20);
            self.log.write_all(word.as_bytes())?;
        } else {
            self.log.write_all(text)?;
        }
        stamp.clone_into(&mut self.position.newest);
        if self.noted.elapsed() >= NOTE_EVERY || self.position.full {
            self.note()?;
        }
        Ok(())
    }

    fn note(&mut self) -> io::Result<()> {
        self.noted = Instant::now();
        self.position.length = self.log.metadata()?.len();
        folder::write(&self.folder.join(POSITION), &self.position, Durability::Volatile)
    }
}

/// What is to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// What comes while it runs.
    Live,
    /// What is left after its end.
    Rest,
}

/// Copies an attempt's output from the engine; gives what people should hear of it. An output that the engine
/// does not have any more is copied.
pub(crate) async fn copy(
    engine: &Engine,
    folder: &Path,
    source: Source,
    part: Part,
) -> Result<Option<Notice>, CopyError> {
    let mut copier = Copier::open(folder, source)?;
    let client = engine.client().await?;
    let copied = match part {
        Part::Live => copier.follow(client).await,
        Part::Rest => copier.rest(client).await,
    };
    match copied {
        Err(CopyError::Engine(error)) if http_status(&error) == Some(404) => Ok(copier.notice()),
        copied => copied.map(|()| copier.notice()),
    }
}

/// Waits for the rest of an output; `None` when no more of it has come for [`SILENCE`]. A machine under load
/// needs its time for a flood.
pub(crate) async fn while_it_grows<T>(folder: &Path, rest: impl Future<Output = T>) -> Option<T> {
    let path = folder.join(folder::OUTPUT);
    let length = || std::fs::metadata(&path).map_or(0, |m| m.len());
    let mut rest = std::pin::pin!(rest);
    let mut before = length();
    loop {
        if let Ok(done) = tokio::time::timeout(SILENCE, &mut rest).await {
            return Some(done);
        }
        let now = length();
        if now == before {
            return None;
        }
        before = now;
    }
}

/// The newest lines of an output.
#[derive(Default)]
struct Tail {
    lines: VecDeque<Vec<u8>>,
    length: usize,
}

impl Tail {
    /// Takes a line behind its stamp, if it is newer than what was copied.
    fn take(&mut self, line: &[u8], copied: &str) {
        let text = match stamped(line) {
            Some((stamp, _)) if stamp <= copied => return,
            Some((_, text)) => text,
            None => line,
        };
        self.length += text.len();
        self.lines.push_back(text.to_owned());
        while self.length > END_BYTES && self.lines.len() > 1 {
            self.length -= self.lines.pop_front().map_or(0, |oldest| oldest.len());
        }
    }
}

/// The stamp and the rest of a line.
fn stamped(line: &[u8]) -> Option<(&str, &[u8])> {
    let (stamp, rest) = line.split_at_checked(STAMP)?;
    let stamp = std::str::from_utf8(stamp).ok().filter(|s| s.ends_with('Z') && s.as_bytes()[4] == b'-')?;
    Some((stamp, rest.strip_prefix(b" ")?))
}

/// Writes a line of the executor's own among an attempt's output, and beside it, so that it stays when the
/// output is copied anew.
pub(crate) fn append(folder: &Path, clock: &Clock, text: &str) -> io::Result<()> {
    let line = format!("{} {text}\n", clock.now());
    for name in [SAID, folder::OUTPUT] {
        let mut file = OpenOptions::new().create(true).append(true).open(folder.join(name))?;
        // In one write: readers see whole lines.
        file.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// Cuts off what was copied and not noted; the executor's own lines in it stay.
fn cut(folder: &Path, log: &mut File, length: u64) -> io::Result<()> {
    let said = match std::fs::read(folder.join(SAID)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        said => said?,
    };
    let mut tail = Vec::new();
    if !said.is_empty() {
        let mut reader = File::open(folder.join(folder::OUTPUT))?;
        reader.seek(SeekFrom::Start(length))?;
        reader.read_to_end(&mut tail)?;
    }
    log.set_len(length)?;
    let said: Vec<_> = said.split_inclusive(|b| *b == b'\n').collect();
    tail.split_inclusive(|b| *b == b'\n')
        .filter(|line| said.contains(line))
        .try_for_each(|line| log.write_all(line))
}

/// The end of an attempt's output; empty if it cannot be read.
pub(crate) fn tail(folder: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(folder.join(folder::OUTPUT))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: u32, text: &str) -> Vec<u8> {
        format!("2026-11-20T09:00:00.{n:09}Z {text}").into_bytes()
    }

    #[test]
    fn output_goes_on_where_it_was_and_holds_nothing_twice() {
        let dir = tempfile::tempdir().expect("a folder");
        let all: Vec<_> = (1..=6).map(|n| line(n, &format!("line {n}\n"))).collect();
        let mut first = Copier::open(dir.path(), Source::Container("c".into())).expect("opened");
        all[..3].iter().for_each(|l| first.take(l).expect("taken"));
        first.note().expect("noted");
        // Copied, and not noted before the daemon died.
        first.take(&all[3]).expect("taken");
        drop(first);
        let mut second = Copier::open(dir.path(), Source::Container("c".into())).expect("opened");
        // The engine begins at the whole second again.
        all.iter().for_each(|l| second.take(l).expect("taken"));
        let text = std::fs::read_to_string(dir.path().join(folder::OUTPUT)).expect("output");
        assert_eq!(text, "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\n");
    }

    #[test]
    fn what_the_executor_said_stays_when_the_output_is_copied_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Clock::manual("2026-11-20T16:00:00+09:00".parse().expect("a time"));
        let mut first = Copier::open(dir.path(), Source::Container("c".into())).expect("opened");
        first.take(&line(1, "line 1\n")).expect("taken");
        first.note().expect("noted");
        first.take(&line(2, "line 2\n")).expect("taken");
        drop(first);
        append(dir.path(), &clock, "the deadline has passed").expect("written");
        let mut second = Copier::open(dir.path(), Source::Container("c".into())).expect("opened");
        second.take(&line(2, "line 2\n")).expect("taken");
        second.note().expect("noted");
        drop(Copier::open(dir.path(), Source::Container("c".into())).expect("opened"));
        let text = std::fs::read_to_string(dir.path().join(folder::OUTPUT)).expect("output");
        assert_eq!(text, "line 1\n2026-11-20T07:00:00Z the deadline has passed\nline 2\n");
    }

    #[test]
    fn a_flood_is_cut_and_says_so() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut copier = Copier::open(dir.path(), Source::Container("c".into())).expect("opened");
        let text = "x".repeat(1 << 20);
        let mut n = 0;
        while !copier.position.full {
            n += 1;
            copier.take(&line(n, &text)).expect("taken");
            assert!(n < 100, "it ends");
        }
        let log = std::fs::read(dir.path().join(folder::OUTPUT)).expect("output");
        assert!(log.len() as u64 <= MOST + 200 && log.ends_with(b"cut here, after 64 MiB\n"));
        let notice = copier.notice().expect("people hear of it");
        assert_eq!((notice.kind, notice.text.contains("64 MiB")), (AlertKind::OutputCut, true));
        std::fs::OpenOptions::new()
            .append(true)
            .open(dir.path().join(folder::OUTPUT))
            .expect("opened")
            .write_all(b"killed\n")
            .expect("written");
        let again = Copier::open(dir.path(), Source::Container("c".into())).expect("opened");
        assert!(again.position.full, "nothing more is taken by the next daemon either");
        assert_eq!(again.notice(), Some(notice), "and it tells the same");
        assert!(std::fs::read(dir.path().join(folder::OUTPUT)).expect("output").ends_with(b"killed\n"));
    }

    #[test]
    fn the_end_of_a_flood_is_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut copier = Copier::open(dir.path(), Source::Container("c".into())).expect("opened");
        copier.take(&line(1, "first\n")).expect("taken");
        let mut end = Tail::default();
        end.take(&line(1, "first\n"), &copier.position.newest);
        assert!(end.lines.is_empty(), "what is there already");
        (2..9000).for_each(|n| end.take(&line(n, "and so on and on\n"), &copier.position.newest));
        end.take(&line(9000, "error: no such table\n"), &copier.position.newest);
        copier.close(&end).expect("written");
        let log = std::fs::read(dir.path().join(folder::OUTPUT)).expect("output");
        assert!(
            log.starts_with("first\n… and this is its end:\nand so".as_bytes())
                && log.ends_with(b"error: no such table\n")
        );
        assert!(log.len() < END_BYTES + 200, "{}", log.len());
    }
}

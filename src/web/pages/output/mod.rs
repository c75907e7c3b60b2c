//! What an attempt printed, for people: the newest lines, lines by number, or those that hold a text; and
//! what comes after, live.

pub(crate) mod api;
mod lines;
pub(crate) mod text;
mod view;

use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

use crate::http::page::Frame;
use crate::http::reply::{PageRefusal, Refusal};
use crate::live::{self as live_pages, Place as Room, Subscriber};
use crate::locale::{Reader, Text, say};
use daemon::Handle;
use domain::ids::{RunId, StepName};
use domain::message::Message;
use domain::said;
use lines::Wish;
use text::{self as output, Followed, Ids, LOOK};

/// Characters of a search.
const LONGEST_SEARCH: usize = 200;
/// Looks at a silent file before a beat goes out, so that a page can tell silence from a lost connection.
const BEAT_AFTER: u32 = 20;

/// What a page is asked for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    /// Number of the attempt; the newest without it.
    attempt: Option<u32>,
    /// Number of the first line wanted.
    line: Option<u64>,
    /// Text to look for.
    #[serde(default)]
    find: String,
    /// `1`: all of it, as a file.
    download: Option<String>,
}

type Query1 = Result<Query<Asked>, QueryRejection>;

/// The page.
pub(crate) async fn page(
    State(handle): State<Handle>,
    subscriber: Subscriber,
    frame: Frame,
    ids: Ids,
    asked: Query1,
) -> Result<Response, PageRefusal> {
    let (run, step) = output::named(ids)?;
    let Query(asked) = asked.map_err(|e| {
        Refusal::unread(
            &e.body_text(),
            said!("use attempt=N, line=N, find=TEXT, download=1; the API has tail and follow"),
        )
    })?;
    if asked.download.as_deref().is_some_and(|d| d != "0") {
        return Ok(output::download(handle, subscriber, run, step, asked.attempt).await?);
    }
    let attempt = match asked.attempt {
        Some(attempt) => attempt,
        None => output::newest(&handle, &run, &step).await?,
    };
    let find = asked.find.trim().chars().take(LONGEST_SEARCH).collect::<String>();
    let wish = match asked.line {
        _ if !find.is_empty() => Wish::Find(find.clone()),
        Some(line) => Wish::From(line),
        None => Wish::Newest,
    };
    let newest = wish == Wish::Newest;
    let file = handle.output_file(&run, &step, attempt);
    let read = tokio::task::spawn_blocking(move || lines::read(&file, &wish)).await;
    let read = read.map_err(|error| {
        tracing::error!(%error, "reading an output failed");
        Refusal::new(
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            said!("the output could not be read"),
            said!("the daemon's log says why"),
        )
    })?;
    let found = read.map_err(|error| {
        let ended = output::how_it_ended(&handle, &run, &step, attempt);
        output::unreadable(&error, &run, &step, attempt, ended)
    })?;
    let held = handle.run(&run).await.map_err(|error| {
        tracing::error!(%error, "a run cannot be read");
        Refusal::new(
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            Message::foreign(error.to_string()),
            Message::none(),
        )
    })?;
    let followed =
        Followed { handle: handle.clone(), subscriber, run: run.clone(), step: step.clone(), attempt };
    // An older part, and an attempt that has ended, do not change.
    let live = newest && !followed.ended();
    let (whole, next) = (found.whole, found.whole_lines + 1);
    let shown =
        if live { found.lines.into_iter().filter(|l| l.number < next).collect() } else { found.lines };
    let lines = shown.into_iter().map(|l| view::row(l.number, &l.text, l.cut, &find)).collect();
    let snapshot = handle.snapshot();
    let about = view::About { run: &run, step: &step, attempt, held: held.as_ref(), live };
    let counts = view::Counts { total: found.total, matches: found.matches, bytes: found.bytes };
    let fragments = view::page(&snapshot, &about, lines, &counts, &find, &frame.reader);
    // '+' of a manual run's key reads as itself in a path.
    let events = live
        .then(|| format!("/runs/{run}/steps/{step}/output/live?attempt={attempt}&from={whole}&line={next}"));
    let title = format!("{step} · {run}");
    Ok(frame.page("output", &title, events, fragments).into_response())
}

/// Where a live page stands.
#[derive(Debug, Deserialize)]
pub(crate) struct Place {
    attempt: u32,
    /// Byte at which the next line begins.
    from: u64,
    /// Number of that line.
    line: u64,
}

/// The event that says that no more comes, and why.
fn over(reader: &Reader, why: &Text) -> Bytes {
    Bytes::from(format!("event: over\ndata: {}\n\n", reader.read(why)))
}

struct Tail {
    followed: Followed,
    reader: Reader,
    file: File,
    from: u64,
    line: u64,
    /// Bytes read that do not end a line yet.
    held: Vec<u8>,
    over: bool,
    _room: Room,
}

/// A line that does not end is shown in parts of this many bytes.
const LONGEST_HELD: usize = 64 * 1024;

impl Tail {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.over {
            return None;
        }
        let mut silent = 0;
        let reader = self.reader.clone();
        loop {
            // Asked before reading: what was written before the end is then still read.
            let ended = self.followed.ended();
            if !self.followed.subscriber.may_go_on() {
                return None;
            }
            let mut bytes = vec![0; output::CHUNK_BYTES];
            match self.file.read(&mut bytes).await {
                Ok(n) if n > 0 => {
                    self.held.extend_from_slice(&bytes[..n]);
                    if let Some(event) = self.lines(false) {
                        return Some((Ok(event), self));
                    }
                }
                Ok(_) if ended => {
                    self.over = true;
                    let rest = self.lines(true);
                    let end = || over(&reader, &say!("the attempt has ended"));
                    return match rest {
                        // The end itself follows at the next call.
                        Some(event) => {
                            self.over = false;
                            Some((Ok(event), self))
                        }
                        None => Some((Ok(end()), self)),
                    };
                }
                Ok(_) => {
                    tokio::time::sleep(LOOK).await;
                    silent += 1;
                    if silent >= BEAT_AFTER {
                        return Some((Ok(Bytes::from_static(live_pages::BEAT)), self));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a followed output cannot be read on");
                    self.over = true;
                    return Some((Ok(over(&reader, &say!("the rest cannot be read"))), self));
                }
            }
        }
    }

    fn lines(&mut self, all: bool) -> Option<Bytes> {
        let all = all || self.held.len() > LONGEST_HELD;
        let (lines, used) = lines::whole_lines(&self.held, self.line, all);
        if used == 0 {
            return None;
        }
        self.held.drain(..used);
        self.from += used as u64;
        self.line += lines.len() as u64;
        let rows: Vec<_> = lines.into_iter().map(|l| view::row(l.number, &l.text, l.cut, "")).collect();
        let data = serde_json::json!({ "html": view::rows(rows, &self.reader).as_str() }).to_string();
        // Whoever comes back after a lost connection says where it stood.
        Some(Bytes::from(format!("id: {}-{}\nevent: append\ndata: {data}\n\n", self.from, self.line)))
    }
}

/// Streams the lines that come after a place.
pub(crate) async fn live(
    State(handle): State<Handle>,
    subscriber: Subscriber,
    reader: Reader,
    ids: Ids,
    headers: HeaderMap,
    place: Result<Query<Place>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let (run, step): (RunId, StepName) = output::named(ids)?;
    let Query(Place { attempt, mut from, mut line }) =
        place.map_err(|e| Refusal::unread(&e.body_text(), said!("use attempt=N&from=BYTE&line=N")))?;
    let last = live_pages::last_id(&headers);
    let last = last.as_deref().and_then(|id| id.split_once('-'));
    if let Some((Ok(byte), Ok(number))) = last.map(|(byte, number)| (byte.parse(), number.parse())) {
        (from, line) = (byte, number);
    }
    let path = handle.output_file(&run, &step, attempt);
    let ended = output::how_it_ended(&handle, &run, &step, attempt);
    let unreadable = |error: std::io::Error| output::unreadable(&error, &run, &step, attempt, ended.clone());
    let mut file = File::open(&path).await.map_err(unreadable)?;
    file.seek(SeekFrom::Start(from)).await.map_err(unreadable)?;
    let room = subscriber.place()?;
    let followed = Followed { handle, subscriber, run: run.clone(), step: step.clone(), attempt };
    let tail = Tail { followed, reader, file, from, line, held: Vec::new(), over: false, _room: room };
    Ok(live_pages::answer(unfold(tail, Tail::next)))
}

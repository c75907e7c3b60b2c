//! Serves recorded frames instead of a market.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_tungstenite::tungstenite::{Bytes, Utf8Bytes};

use super::Event;
use super::exchange::Exchange;
use crate::connection::Outgoing;

/// Recorded frames and when to send them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The frames, bytes as recorded.
    pub frames: Vec<Vec<u8>>,
    /// Send them when a session has this many registrations. Without it: when a session has registered for
    /// everything that is in the frames, or has registered for something and has been quiet for 300 ms.
    pub after: Option<usize>,
    /// Pause between two frames, in the clock's time.
    pub interval: Duration,
}

/// How long a session must have registered for nothing more.
const QUIET: Duration = Duration::from_millis(300);

impl Replay {
    /// Reads frames from a file, one a line, and leaves out empty lines.
    ///
    /// # Errors
    /// When the file cannot be read or holds no frame.
    pub fn read(path: &Path) -> io::Result<Self> {
        let name = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
        };
        let bytes = std::fs::read(path).map_err(name)?;
        let frames: Vec<Vec<u8>> = bytes
            .split(|b| *b == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
            .map(<[u8]>::to_vec)
            .collect();
        if frames.is_empty() {
            return Err(name(io::Error::new(
                io::ErrorKind::InvalidData,
                "it holds no frame; write one a line",
            )));
        }
        Ok(Self { frames, after: None, interval: Duration::ZERO })
    }

    /// The registrations that the frames are about, as far as they can be read.
    fn wanted(&self) -> BTreeSet<(String, String)> {
        let mut wanted = BTreeSet::new();
        for frame in &self.frames {
            let text = String::from_utf8_lossy(frame);
            let parts: Vec<&str> = text.splitn(4, '|').collect();
            let ["0", tr_id, count, payload] = parts[..] else { continue };
            let fields: Vec<&str> = payload.split('^').collect();
            let count = count.parse().unwrap_or(0_usize);
            let width = fields.len().checked_div(count).unwrap_or(0);
            if width == 0 || !fields.len().is_multiple_of(count) {
                continue;
            }
            wanted
                .extend(fields.iter().step_by(width).map(|symbol| (tr_id.to_owned(), (*symbol).to_owned())));
        }
        wanted
    }
}

/// Waits for a session that has registered, and sends it the frames, once.
pub(super) async fn run(exchange: Arc<Exchange>, replay: Replay) {
    let wanted = replay.wanted();
    let mut registered = exchange.registered.subscribe();
    let session = loop {
        let ready = |all: bool| {
            let state = exchange.state();
            let ready = state.live.iter().find(|(_, live)| match replay.after {
                Some(count) => live.registrations.len() >= count,
                None if all => {
                    !wanted.is_empty() && wanted.iter().all(|key| live.registrations.contains_key(key))
                }
                None => !live.registrations.is_empty(),
            });
            ready.map(|(session, live)| (*session, live.queue.clone()))
        };
        // Seen before looking, so that a registration between the look and the wait is not missed.
        registered.mark_unchanged();
        if let Some(session) = ready(true) {
            break session;
        }
        if replay.after.is_none() && *registered.borrow() > 0 {
            tokio::select! {
                changed = registered.changed() => {
                    if changed.is_err() { return }
                }
                // A fast clock must not outrun a client that pauses between its messages.
                ((), ()) = async { tokio::join!(exchange.played.clock.sleep(QUIET), tokio::time::sleep(QUIET)) } => {
                    if let Some(session) = ready(false) {
                        break session;
                    }
                    if registered.changed().await.is_err() { return }
                }
            }
        } else if registered.changed().await.is_err() {
            return;
        }
    };
    let (session, queue) = session;
    for (index, frame) in replay.frames.iter().enumerate() {
        if index > 0 && !replay.interval.is_zero() {
            exchange.played.clock.sleep(replay.interval).await;
        }
        let message = match Utf8Bytes::try_from(Bytes::from(frame.clone())) {
            Ok(text) => Outgoing::Text(text),
            Err(_) => Outgoing::Binary(Bytes::from(frame.clone())),
        };
        if queue.send(message).await.is_err() {
            tracing::warn!(session, sent = index, "the session ended in the middle of the replay");
            return;
        }
    }
    let now = exchange.played.clock.now();
    exchange.state().note(now, Event::Replayed { frames: replay.frames.len() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_tell_what_they_are_about_and_bad_ones_nothing() {
        let frames = [
            "0|H0STCNT0|002|005930^1^2^000660^3^4",
            "garbage",
            "0|H0STCNT0|003|a^b",
            "0|H0STASP0|001|005930^1",
            "{}",
        ];
        let replay = Replay {
            frames: frames.iter().map(|f| f.as_bytes().to_vec()).collect(),
            after: None,
            interval: Duration::ZERO,
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let expected = [pair("H0STASP0", "005930"), pair("H0STCNT0", "000660"), pair("H0STCNT0", "005930")];
        assert_eq!(replay.wanted().into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_file_without_frames_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("frames.txt");
        std::fs::write(&file, "\n\r\n").expect("written");
        let error = Replay::read(&file).expect_err("empty").to_string();
        assert!(error.contains("frames.txt") && error.contains("one a line"), "{error}");
        std::fs::write(&file, b"a\n\xff\n").expect("written");
        assert_eq!(Replay::read(&file).expect("two").frames, [b"a".to_vec(), b"\xff".to_vec()]);
    }
}

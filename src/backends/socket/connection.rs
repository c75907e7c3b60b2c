//! The client's connection: many calls at once, and a new one when the old one is gone.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::protocol::{Answer, Call, Reply, Request};
use super::{HELLO, frame};
use crate::{BackendError, ErrorKind, Result};

/// Real time in which a daemon has to answer; far more than any call takes, so that only a hung daemon
/// exceeds it.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Real time in which a connection has to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Real time between attempts to connect: doubled from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// The way to a daemon, whether it is up or not.
pub(super) struct Link {
    path: PathBuf,
    pub(super) place: String,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    /// The last failed attempt, and how many failed in a row.
    failed: Option<(Instant, u32, BackendError)>,
}

/// A connection; dead for good once it is.
pub(super) struct Connection {
    place: String,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    next: AtomicU64,
    waiting: Arc<Waiting>,
}

/// Who waits for which answer; `None` once the connection is dead.
type Waiting = Mutex<Option<HashMap<u64, oneshot::Sender<Result<Reply>>>>>;

/// A call that was sent.
pub(super) struct Sent {
    pub(super) id: u64,
    answer: oneshot::Receiver<Result<Reply>>,
}

impl Link {
    pub(super) fn new(path: PathBuf) -> Self {
        let place = format!("daemon socket {}", path.display());
        Self { path, place, state: tokio::sync::Mutex::default() }
    }

    /// Calls the daemon, over a new connection if there is none.
    pub(super) async fn call(&self, request: Request) -> Result<Reply> {
        self.connection().await?.call(request).await
    }

    /// The connection, or a new one.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(connection) = state.connection.as_ref().filter(|c| !c.is_dead()) {
            return Ok(Arc::clone(connection));
        }
        state.connection = None;
        if let Some((at, times, error)) = &state.failed {
            if *at >= asked {
                // Somebody tried while this call was waiting for its turn.
                return Err(error.clone());
            }
            let pause = BACKOFF.0.saturating_mul(1 << (*times).min(10)).min(BACKOFF.1);
            tokio::time::sleep_until(*at + pause).await;
        }
        let attempt = tokio::time::timeout(CONNECT_WITHIN, self.attempt()).await;
        match attempt.unwrap_or_else(|_| Err(self.away("the daemon does not answer"))) {
            Ok(connection) => {
                *state = State { connection: Some(Arc::clone(&connection)), failed: None };
                Ok(connection)
            }
            Err(error) => {
                let times = state.failed.as_ref().map_or(0, |(_, times, _)| times + 1);
                state.failed = Some((Instant::now(), times, error.clone()));
                Err(error)
            }
        }
    }

    async fn attempt(&self) -> Result<Arc<Connection>> {
        let stream = UnixStream::connect(&self.path).await.map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => BackendError::io(&self.place, &e),
            _ => self.away(&format!("no daemon is there: {e}")),
        })?;
        let (mut reader, mut writer) = stream.into_split();
        let mut theirs = [0; HELLO.len()];
        let hello = async {
            writer.write_all(&HELLO).await?;
            reader.read_exact(&mut theirs).await
        };
        hello.await.map_err(|e| self.away(&format!("the daemon closed the connection: {e}")))?;
        if theirs != HELLO {
            let message = "what listens there is not an openbell daemon of this version";
            return Err(BackendError::new(ErrorKind::Rejected, &self.place, message)
                .remedy("use the same openbell binary for the daemon and its steps; restart the daemon after an upgrade"));
        }
        let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(HashMap::new())));
        let (outgoing, to_write) = mpsc::unbounded_channel();
        tokio::spawn(write(writer, to_write, Arc::clone(&waiting)));
        tokio::spawn(read(reader, self.place.clone(), Arc::clone(&waiting)));
        Ok(Arc::new(Connection { place: self.place.clone(), outgoing, next: AtomicU64::new(1), waiting }))
    }

    fn away(&self, message: &str) -> BackendError {
        BackendError::new(ErrorKind::Unavailable, &self.place, message)
            .remedy("start it with `openbell up`; work goes on by itself then")
    }
}

impl Connection {
    pub(super) fn is_dead(&self) -> bool {
        self.waiting.lock().is_none()
    }

    /// Calls and waits for the answer.
    pub(super) async fn call(&self, request: Request) -> Result<Reply> {
        let mut sent = self.send(request)?;
        match tokio::time::timeout(ANSWER_WITHIN, self.answer(&mut sent)).await {
            Ok(answer) => answer,
            Err(_) => {
                let message = format!(
                    "no answer within {} s; the call may or may not have happened",
                    ANSWER_WITHIN.as_secs()
                );
                Err(BackendError::new(ErrorKind::Unavailable, &self.place, message)
                    .remedy("look at the daemon's output"))
            }
        }
    }

    /// Sends a call whose answer is waited for later.
    pub(super) fn send(&self, request: Request) -> Result<Sent> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = self.encode(id, request)?;
        let (sender, answer) = oneshot::channel();
        match self.waiting.lock().as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(self.lost()),
        };
        self.outgoing.send(bytes).map_err(|_| self.lost())?;
        Ok(Sent { id, answer })
    }

    /// Sends a call whose answer nobody waits for. A lost connection has done what it asks for already.
    pub(super) fn send_and_forget(&self, request: Request) -> Result<()> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = self.encode(id, request)?;
        self.outgoing.send(bytes).map_err(|_| self.lost())
    }

    /// Waits for a sent call's answer. Dropping this loses nothing.
    pub(super) async fn answer(&self, sent: &mut Sent) -> Result<Reply> {
        (&mut sent.answer).await.unwrap_or_else(|_| Err(self.lost()))
    }

    /// A number for a consumer.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn encode(&self, id: u64, request: Request) -> Result<Vec<u8>> {
        frame::encode(&Call { id, request }).map_err(|why| {
            BackendError::new(ErrorKind::Rejected, &self.place, why).remedy("send fewer at once")
        })
    }

    fn lost(&self) -> BackendError {
        BackendError::new(
            ErrorKind::Unavailable,
            &self.place,
            "the connection to the daemon was lost; the call may or may not have happened",
        )
        .remedy("it comes back by itself once the daemon runs")
    }

    /// An answer of the wrong kind.
    pub(super) fn unexpected<T>(place: &str) -> Result<T> {
        Err(BackendError::new(
            ErrorKind::Unavailable,
            place,
            "the daemon's answer is of another kind than the call, which is a fault of openbell",
        ))
    }
}

/// Ends when the connection's owners are gone, which closes the sending direction and thereby the connection.
async fn write(
    mut writer: OwnedWriteHalf,
    mut to_write: mpsc::UnboundedReceiver<Vec<u8>>,
    waiting: Arc<Waiting>,
) {
    while let Some(bytes) = to_write.recv().await {
        if writer.write_all(&bytes).await.is_err() {
            break;
        }
    }
    // Those who still wait are woken, and told that the connection is lost.
    waiting.lock().take();
}

async fn read(reader: OwnedReadHalf, place: String, waiting: Arc<Waiting>) {
    let mut reader = BufReader::new(reader);
    loop {
        match frame::read::<Answer>(&mut reader).await {
            Ok(Some(Answer { id, outcome })) => {
                let mut waiting = waiting.lock();
                let Some(waiting) = waiting.as_mut() else { return };
                if let Some(asker) = waiting.remove(&id) {
                    // The asker may have given up, and does not want to know then.
                    drop(asker.send(outcome));
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "{place}: the connection ended"),
        }
        waiting.lock().take();
        return;
    }
}

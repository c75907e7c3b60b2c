//! What an attempt printed, as plain text: its tail, all of it, or as it grows. The page shows it to people.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use utoipa::IntoParams;

use crate::api::schemas;
use crate::http::query::path;
use crate::http::reply::Refusal;
use crate::live::Subscriber;
use daemon::Handle;
use domain::ids::{RunId, StepName};
use domain::run::Exit;
use domain::said;

/// How much is shown unless more is asked for, in bytes.
const TAIL_BYTES: u64 = 256 * 1024;
/// Read and sent at a time, in bytes.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;
/// How often a followed file is looked at, in real time.
pub(crate) const LOOK: Duration = Duration::from_millis(250);

/// What is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// Number of the attempt; the newest without it.
    #[param(minimum = 1, maximum = 4294967295u32)]
    attempt: Option<u32>,
    /// Last bytes wanted (default 262144), or `all`.
    #[param(value_type = Option<schemas::Tail>, inline)]
    tail: Option<String>,
    /// `1`: go on as it grows, until the attempt ends.
    #[param(value_type = Option<schemas::Switch>, inline)]
    follow: Option<String>,
    /// `1`: all of it, as a file to keep.
    #[param(value_type = Option<schemas::Switch>, inline)]
    download: Option<String>,
}

/// Path parameters.
pub(crate) type Ids = Result<Path<(String, String)>, PathRejection>;
pub(crate) type Wish = Result<Query<Asked>, QueryRejection>;

/// Run and step of a path.
pub(crate) fn named(ids: Ids) -> Result<(RunId, StepName), Refusal> {
    let (run, step) = path(ids)?;
    Ok((run.parse()?, step.parse()?))
}

/// All of an attempt's output as a file.
pub(crate) async fn download(
    handle: Handle,
    subscriber: Subscriber,
    run: RunId,
    step: StepName,
    attempt: Option<u32>,
) -> Result<Response, Refusal> {
    plain(
        handle,
        subscriber,
        run,
        step,
        Asked { attempt, download: Some("1".to_owned()), ..Asked::default() },
    )
    .await
}

pub(crate) async fn output(
    handle: Handle,
    subscriber: Subscriber,
    ids: Ids,
    asked: Wish,
) -> Result<Response, Refusal> {
    let (run, step) = named(ids)?;
    let Query(asked) = asked.map_err(|e| {
        Refusal::unread(&e.body_text(), said!("use attempt=N, tail=BYTES or tail=all, follow=1, download=1"))
    })?;
    plain(handle, subscriber, run, step, asked).await
}

/// `1` or `0`; nothing is `0`.
fn switch(name: &str, text: Option<&str>) -> Result<bool, Refusal> {
    match text {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(text) => Err(Refusal::bad(
            said!("{}=\"{}\" is neither 0 nor 1", name, text),
            said!("write {}=1, or leave it out", name),
        )),
    }
}

async fn plain(
    handle: Handle,
    subscriber: Subscriber,
    run: RunId,
    step: StepName,
    asked: Asked,
) -> Result<Response, Refusal> {
    let (keeps, follows) =
        (switch("download", asked.download.as_deref())?, switch("follow", asked.follow.as_deref())?);
    let tail = match asked.tail.as_deref() {
        _ if keeps => u64::MAX,
        None => TAIL_BYTES,
        Some("all") => u64::MAX,
        Some(text) => text.parse().map_err(|_| {
            Refusal::bad(
                said!("tail=\"{}\" is not a number of bytes", text),
                said!("write tail=65536 or tail=all"),
            )
        })?,
    };
    let attempt = match asked.attempt {
        Some(attempt) => attempt,
        None => newest(&handle, &run, &step).await?,
    };
    let file = handle.output_file(&run, &step, attempt);
    let opened = File::open(&file).await;
    let unreadable = |error: std::io::Error| {
        unreadable(&error, &run, &step, attempt, how_it_ended(&handle, &run, &step, attempt))
    };
    let mut opened = opened.map_err(unreadable)?;
    let length = opened.metadata().await.map_err(unreadable)?.len();
    let from = length.saturating_sub(tail);
    opened.seek(SeekFrom::Start(from)).await.map_err(unreadable)?;
    // Names hold letters, digits and a few marks that headers and file systems take.
    let keep = keeps.then(|| format!("attachment; filename=\"{run}.{step}.{attempt}.log\""));
    let follow = follows.then(|| Followed { handle: handle.clone(), subscriber, run, step, attempt });
    let reader = Reader {
        file: opened,
        cut: from > 0,
        left: if follow.is_some() { u64::MAX } else { length - from },
        follow,
    };
    let body = Body::from_stream(unfold(Some(reader), move |reader| async move { reader?.next(from).await }));
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    let mut answer = (headers, body).into_response();
    if let Some(value) = keep.and_then(|keep| HeaderValue::from_str(&keep).ok()) {
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(answer)
}

/// The end of an attempt, if it is among those that are kept.
pub(crate) fn how_it_ended(handle: &Handle, run: &RunId, step: &StepName, attempt: u32) -> Option<Exit> {
    let snapshot = handle.snapshot();
    let step = snapshot.runs.iter().find(|v| v.run.id == *run)?.run.steps.get(step)?;
    step.history.iter().find(|a| a.attempt == attempt).map(|a| a.exit.clone())
}

/// Why there is no output.
pub(crate) fn unreadable(
    error: &std::io::Error,
    run: &RunId,
    step: &StepName,
    attempt: u32,
    ended: Option<Exit>,
) -> Refusal {
    if error.kind() == std::io::ErrorKind::NotFound {
        let why = match ended {
            Some(Exit::NotStarted(why)) => said!("it could not be started: {}", why),
            _ => said!("it has not started, or its output was removed"),
        };
        return Refusal::missing(
            said!("attempt {} of {} in {} has no output", attempt.to_string(), step, run),
            why,
        );
    }
    tracing::warn!(%error, run = run.as_str(), step = step.as_str(), attempt, "cannot read the output of an attempt");
    let status = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
    Refusal::new(
        status,
        said!(
            "the output of attempt {} of {} cannot be read: {}",
            attempt.to_string(),
            step,
            error.to_string()
        ),
        said!("look at the data folder's rights and disk"),
    )
}

/// The newest attempt: the run's own word if it is among the newest, else the highest folder.
pub(crate) async fn newest(handle: &Handle, run: &RunId, step: &StepName) -> Result<u32, Refusal> {
    let snapshot = handle.snapshot();
    if let Some(step_run) = snapshot
        .runs
        .iter()
        .find(|v| v.run.id == *run)
        .and_then(|v| v.run.steps.get(step))
        .filter(|s| s.attempt > 0)
    {
        return Ok(step_run.attempt);
    }
    let none = || {
        Refusal::missing(
            said!("{} in {} has no output", step, run),
            said!("it has not started, there is no such step, or its output was removed"),
        )
    };
    let attempt_folder = handle.output_file(run, step, 1).parent().map(PathBuf::from);
    let folder = attempt_folder.as_deref().and_then(std::path::Path::parent).ok_or_else(none)?;
    let mut entries = tokio::fs::read_dir(folder).await.map_err(|_| none())?;
    let mut highest = None;
    while let Ok(Some(entry)) = entries.next_entry().await {
        highest = highest.max(entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()));
    }
    highest.ok_or_else(none)
}

/// An attempt whose output is followed.
pub(crate) struct Followed {
    pub(crate) handle: Handle,
    pub(crate) subscriber: Subscriber,
    pub(crate) run: RunId,
    pub(crate) step: StepName,
    pub(crate) attempt: u32,
}

impl Followed {
    /// Whether nothing will be written any more.
    pub(crate) fn ended(&self) -> bool {
        let snapshot = self.handle.snapshot();
        let step =
            snapshot.runs.iter().find(|v| v.run.id == self.run).and_then(|v| v.run.steps.get(&self.step));
        self.subscriber.stop.is_cancelled()
            || !self.subscriber.may_go_on()
            || step.is_none_or(|s| s.attempt != self.attempt || !s.state.is_alive())
    }
}

struct Reader {
    file: File,
    /// Earlier bytes are left out, and the first line may be cut.
    cut: bool,
    left: u64,
    follow: Option<Followed>,
}

impl Reader {
    /// The next piece, and the reader if there may be more.
    async fn next(mut self, skipped: u64) -> Option<(Result<Bytes, Infallible>, Option<Self>)> {
        if self.cut {
            self.cut = false;
            let note = format!("… {skipped} earlier bytes are left out; tail=all shows them\n");
            return Some((Ok(note.into()), Some(self)));
        }
        loop {
            // Asked before reading: what was written before the end is then still read.
            let ended = self.follow.as_ref().is_none_or(Followed::ended);
            let mut bytes = vec![0; CHUNK_BYTES.min(usize::try_from(self.left).unwrap_or(CHUNK_BYTES))];
            match self.file.read(&mut bytes).await {
                Ok(0) if ended => return None,
                Ok(0) => tokio::time::sleep(LOOK).await,
                Ok(n) => {
                    bytes.truncate(n);
                    self.left -= n as u64;
                    return Some((Ok(bytes.into()), Some(self)));
                }
                Err(error) => {
                    return Some((Ok(format!("\n… the rest cannot be read: {error}\n").into()), None));
                }
            }
        }
    }
}

//! The daemon's end.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::protocol::{Answer, Call, Reply, Request};
use super::{HELLO, frame};
use crate::bytes::Blob;
use crate::log::{Consumer, Polled};
use crate::{BackendError, Backends, ErrorKind, Result};

/// Calls of one connection that are worked on at once; further ones wait in the socket. Polls do not count.
const CALLS_AT_ONCE: usize = 64;
/// Real time in which a new connection has to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// A poll waits no longer than this (real time); the client asks again.
const LONGEST_POLL: Duration = Duration::from_secs(60);

/// Serves the stores to whoever connects, until stopped. Returns once every connection has ended and let go
/// of the stores.
pub async fn serve(listener: UnixListener, backends: Backends, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            // Frees the memory of ended connections.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let (backends, stop) = (backends.clone(), stop.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        ended = connection(stream, backends) => if let Err(error) = ended {
                            tracing::warn!(%error, "a connection to the daemon's stores was closed");
                        }
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: that passes when connections end.
                tracing::warn!(%error, "cannot accept a connection to the daemon's stores");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.shutdown().await;
}

/// A consumer of a connection.
struct Member {
    consumer: Mutex<Box<dyn Consumer>>,
    /// Polls up to this call number are to return.
    interrupted: watch::Sender<u64>,
}

/// Greets the other end; `false` when it goes away without a word.
async fn hello(stream: &mut UnixStream) -> io::Result<bool> {
    let hello = tokio::time::timeout(HELLO_WITHIN, async {
        let mut theirs = [0; HELLO.len()];
        stream.read_exact(&mut theirs).await?;
        // Answered even to another version, so that the other end can tell what is wrong.
        stream.write_all(&HELLO).await?;
        Ok::<_, io::Error>(theirs)
    });
    match hello.await {
        Ok(theirs) if theirs.as_ref().is_ok_and(|t| *t == HELLO) => Ok(true),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the other end is not an openbell of this version",
        )),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the other end did not say hello")),
    }
}

/// Works until the client ends the connection (fine) or sends garbage (an error). Dropping it ends all its
/// work and its consumers.
async fn connection(mut stream: UnixStream, backends: Backends) -> io::Result<()> {
    if !hello(&mut stream).await? {
        return Ok(());
    }
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let (answers, outgoing) = mpsc::channel(CALLS_AT_ONCE);
    let mut work = JoinSet::new();
    work.spawn(write(writer, outgoing));
    let slots = Arc::new(Semaphore::new(CALLS_AT_ONCE));
    let mut members: HashMap<u64, Arc<Member>> = HashMap::new();
    while let Some(Call { id, request }) = frame::read(&mut reader).await? {
        while work.try_join_next().is_some() {}
        let member = |consumer: &u64| members.get(consumer).cloned();
        match request {
            Request::Join { consumer, group, topics, name } => {
                let joined = backends.log.join(&group, &topics, name.as_deref()).await;
                let outcome = joined.map(|c| {
                    members.insert(
                        consumer,
                        Arc::new(Member { consumer: Mutex::new(c), interrupted: watch::channel(0).0 }),
                    );
                    Reply::Done
                });
                send(&answers, id, outcome).await;
            }
            Request::Leave { consumer } => {
                // Dropping leaves the group. An unfinished poll holds the consumer too, so it is ended.
                if let Some(member) = members.remove(&consumer) {
                    member.interrupted.send_replace(u64::MAX);
                }
                send(&answers, id, Ok(Reply::Done)).await;
            }
            Request::Interrupt { consumer, poll } => {
                if let Some(member) = member(&consumer) {
                    member
                        .interrupted
                        .send_if_modified(|up_to| std::mem::replace(up_to, poll.max(*up_to)) < poll);
                }
            }
            Request::Poll { consumer, wait_ms } => {
                let (member, answers) = (member(&consumer), answers.clone());
                work.spawn(async move { send(&answers, id, poll(member, id, wait_ms).await).await });
            }
            Request::Commit { consumer, .. }
            | Request::Seek { consumer, .. }
            | Request::Pause { consumer, .. } => {
                let (member, answers) = (member(&consumer), answers.clone());
                work.spawn(async move { send(&answers, id, steer(member, request).await).await });
            }
            request => {
                // The semaphore is never closed.
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
                let (backends, answers) = (backends.clone(), answers.clone());
                work.spawn(async move {
                    send(&answers, id, carry_out(&backends, request).await).await;
                    drop(slot);
                });
            }
        }
    }
    Ok(())
}

async fn write(mut writer: OwnedWriteHalf, mut outgoing: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = outgoing.recv().await {
        if let Err(error) = writer.write_all(&bytes).await {
            // The reading side notices the end of the connection by itself.
            tracing::debug!(%error, "a client of the daemon's stores went away before its answer");
            return;
        }
    }
}

async fn send(answers: &mpsc::Sender<Vec<u8>>, id: u64, outcome: Result<Reply>) {
    let bytes = frame::encode(&Answer { id, outcome }).or_else(|why| {
        let error = BackendError::new(
            ErrorKind::Rejected,
            "daemon socket",
            format!("the answer is too large: {why}"),
        );
        frame::encode(&Answer { id, outcome: Err(error.remedy("ask for fewer at once")) })
    });
    match bytes {
        // A failed send means that the connection is gone, and with it the one who asked.
        Ok(bytes) => drop(answers.send(bytes).await),
        Err(error) => tracing::error!(%error, "an answer cannot be encoded, which is a fault of openbell"),
    }
}

fn unknown() -> BackendError {
    BackendError::new(
        ErrorKind::Fenced,
        "daemon socket",
        "this consumer is not a member of its group any more",
    )
}

async fn poll(member: Option<Arc<Member>>, id: u64, wait_ms: u64) -> Result<Reply> {
    let member = member.ok_or_else(unknown)?;
    let mut interrupted = member.interrupted.subscribe();
    let wait = Duration::from_millis(wait_ms).min(LONGEST_POLL);
    let mut consumer = member.consumer.lock().await;
    tokio::select! {
        polled = consumer.poll(wait) => polled.map(Reply::Polled),
        // The sender lives in the member, so this ends by an interruption only. A dropped poll loses nothing.
        _ = interrupted.wait_for(|up_to| *up_to >= id) => Ok(Reply::Polled(Polled::Nothing)),
    }
}

async fn steer(member: Option<Arc<Member>>, request: Request) -> Result<Reply> {
    let member = member.ok_or_else(unknown)?;
    let mut consumer = member.consumer.lock().await;
    match request {
        Request::Commit { offsets, .. } => consumer.commit(&offsets).await?,
        Request::Seek { partition, offset, .. } => consumer.seek(&partition, offset).await?,
        Request::Pause { partition, paused, .. } => consumer.pause(&partition, paused).await?,
        _ => {}
    }
    Ok(Reply::Done)
}

async fn carry_out(backends: &Backends, request: Request) -> Result<Reply> {
    let Backends { log, raw, index, objects } = backends;
    Ok(match request {
        Request::CreateTopic { topic, partitions } => {
            Reply::Created(log.create_topic(&topic, partitions).await?)
        }
        Request::DeleteTopic { topic } => {
            log.delete_topic(&topic).await?;
            Reply::Done
        }
        Request::Topic { topic } => Reply::Topic(log.topic(&topic).await?),
        Request::Topics => Reply::Topics(log.topics().await?),
        Request::Append { topic, records } => Reply::Placed(log.append(&topic, records).await?),
        Request::Read { partition, offset, max } => Reply::Records(log.read(&partition, offset, max).await?),
        Request::Groups => Reply::Groups(log.groups().await?),
        Request::RawInsert { collection, documents } => {
            Reply::Inserted(raw.insert(&collection, documents).await?)
        }
        Request::RawIds { collection, prefix, after, limit } => {
            Reply::Names(raw.ids(&collection, &prefix, after.as_deref(), limit).await?)
        }
        Request::RawGet { collection, id } => Reply::Document(raw.get(&collection, &id).await?),
        Request::RawLatest { collection } => Reply::Instant(raw.latest(&collection).await?),
        Request::PutTemplate { template } => {
            index.put_template(&template).await?;
            Reply::Done
        }
        Request::Bulk { items } => Reply::Items(index.bulk(items).await?),
        Request::Indices { prefix } => Reply::Names(index.indices(&prefix).await?),
        Request::IndexIds { index: name, prefix, after, limit } => {
            Reply::Names(index.ids(&name, &prefix, after.as_deref(), limit).await?)
        }
        Request::IndexGet { index: name, id } => Reply::Bytes(index.get(&name, &id).await?.map(Blob)),
        Request::IndexLatest { prefix, field } => Reply::Text(index.latest(&prefix, &field).await?),
        Request::PutObject { key, body, metadata } => {
            Reply::Put(objects.put_if_absent(&key, body.0, &metadata).await?)
        }
        Request::Head { key } => Reply::Metadata(objects.head(&key).await?),
        Request::GetObject { key } => Reply::Bytes(objects.get(&key).await?.map(Blob)),
        Request::List { prefix, after, limit } => {
            Reply::Names(objects.list(&prefix, after.as_deref(), limit).await?)
        }
        // Carried out by the connection itself.
        Request::Join { .. }
        | Request::Poll { .. }
        | Request::Interrupt { .. }
        | Request::Commit { .. }
        | Request::Seek { .. }
        | Request::Pause { .. }
        | Request::Leave { .. } => Reply::Done,
    })
}

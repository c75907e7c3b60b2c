//! Connections that carry [`wire`](super::wire)'s requests. Blocking, bounded by timeouts.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::settings::{PATIENCE, Settings};
use super::wire::{self, Api, Malformed, Reader};
use crate::log::{Committed, Partition};
use crate::{BackendError, ErrorKind, Result};

/// Waits for a connection, and for an answer; short, since a broken connection costs several of them.
const WAIT: Duration = Duration::from_secs(4);
/// Between tries while a group moves to another broker.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Kafka's own codes.
const UNKNOWN_TOPIC: i16 = 3;
const GROUP_MOVES: std::ops::RangeInclusive<i16> = 14..=16;
const UNKNOWN_MEMBER: i16 = 25;
const SASL_FAILED: i16 = 58;
const NO_GROUP: i16 = 69;

/// A committed offset with what was written beside it.
pub(super) type Noted = (Committed, String);
/// A group and what it committed.
pub(super) type GroupNoted = (String, Vec<Noted>);

/// Connections to the brokers of a cluster, one each, opened when they are needed.
pub(super) struct Links {
    settings: Arc<Settings>,
    open: Mutex<HashMap<String, Link>>,
}

struct Link {
    stream: TcpStream,
    address: String,
    correlation: i32,
    versions: Vec<(i16, i16, i16)>,
}

impl Links {
    /// `None` where the connections are of a kind that only the client library can make.
    pub(super) fn new(settings: &Arc<Settings>) -> Option<Self> {
        let usable =
            !settings.security.encrypts() && (!settings.security.signs_in() || settings.mechanism == "PLAIN");
        usable.then(|| Self { settings: Arc::clone(settings), open: Mutex::default() })
    }

    /// The ids of these topics, or of all, those that exist. An id is empty if the cluster gives none.
    pub(super) fn topic_ids(&self, topics: Option<&[String]>) -> Result<HashMap<String, String>> {
        let (_, found) = self.metadata(topics)?;
        let known = found.into_iter().filter(|t| t.error != UNKNOWN_TOPIC);
        Ok(known.map(|t| (t.name, t.id)).collect())
    }

    fn metadata(&self, topics: Option<&[String]>) -> Result<(Vec<wire::Broker>, Vec<wire::TopicId>)> {
        let mut failed = None;
        for broker in &self.settings.brokers {
            match self.ask(broker, wire::METADATA, &wire::metadata(topics), wire::metadata_answer) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {
                    // An old server, which has no ids.
                    return Ok((Vec::new(), Vec::new()));
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| self.nobody()))
    }

    /// Every group's committed offsets; `None` if this cluster is too old to say it in one go.
    pub(super) fn groups(&self) -> Result<Option<Vec<GroupNoted>>> {
        let (brokers, _) = self.metadata(Some(&[]))?;
        if brokers.is_empty() {
            return Ok(None);
        }
        let mut all = Vec::new();
        for broker in brokers {
            let place = format!("{} broker {}", self.settings.place, broker.address);
            let listed =
                self.ask(&broker.address, wire::LIST_GROUPS, &wire::list_groups(), wire::list_groups_answer)?;
            let Some((error, names)) = listed else { return Ok(None) };
            check(&place, error)?;
            if names.is_empty() {
                continue;
            }
            let asked = wire::offset_fetch(&names);
            let Some(groups) =
                self.ask(&broker.address, wire::OFFSET_FETCH, &asked, wire::offset_fetch_answer)?
            else {
                return Ok(None);
            };
            // A group may have ended between the two questions.
            for (group, error, offsets) in groups.into_iter().filter(|(_, error, _)| *error != NO_GROUP) {
                check(&place, error)?;
                let offsets = offsets.into_iter().filter_map(|o| {
                    let number = u32::try_from(o.partition).ok()?;
                    let next = u64::try_from(o.next).ok()?;
                    Some((Committed { partition: Partition { topic: o.topic, number }, next }, o.note))
                });
                all.push((group, offsets.collect()));
            }
        }
        Ok(Some(all))
    }

    /// Removes the member of this name from a group, so that the others take over at once; one that is not
    /// there is fine.
    pub(super) fn remove_member(&self, group: &str, name: &str) -> Result<()> {
        let place = format!("{} group {group}", self.settings.place);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match self.coordinator(group)? {
                (0, broker) => {
                    let asked = wire::leave_group(group, name);
                    let answer =
                        self.ask(&broker.address, wire::LEAVE_GROUP, &asked, wire::leave_group_answer)?;
                    answer.ok_or_else(|| self.too_old())?
                }
                (error, _) => error,
            };
            if error == UNKNOWN_MEMBER {
                return Ok(());
            }
            if !GROUP_MOVES.contains(&error) || Instant::now() >= deadline {
                return check(&place, error);
            }
            thread::sleep(TRY_AGAIN);
        }
    }

    /// The broker that looks after a group, or an error code.
    fn coordinator(&self, group: &str) -> Result<(i16, wire::Broker)> {
        let mut failed = None;
        for broker in &self.settings.brokers {
            match self.ask(
                broker,
                wire::FIND_COORDINATOR,
                &wire::find_coordinator(group),
                wire::find_coordinator_answer,
            ) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => return Err(self.too_old()),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| self.nobody()))
    }

    fn nobody(&self) -> BackendError {
        BackendError::new(ErrorKind::Rejected, &self.settings.place, "no broker is named")
    }

    fn too_old(&self) -> BackendError {
        BackendError::new(
            ErrorKind::Rejected,
            &self.settings.place,
            "the cluster is too old to be told that a named member leaves",
        )
        .remedy("its place is free once the session has run out; Kafka 2.4 and later free it at once")
    }

    /// Sends a request and reads its answer; `None` if the broker does not know this version of it.
    fn ask<T>(
        &self,
        address: &str,
        api: Api,
        body: &[u8],
        read: impl Fn(Reader<'_>) -> std::result::Result<T, Malformed>,
    ) -> Result<Option<T>> {
        let kept = self.open.lock().remove(address);
        // A kept connection may have been closed by the broker in the meantime: it gets a second chance with
        // a new one.
        if let Some(mut link) = kept
            && let Ok(answer) = link.ask(&self.settings.place, api, body, &read)
        {
            self.keep(link);
            return Ok(answer);
        }
        let mut link = Link::open(&self.settings, address)?;
        let answer = link.ask(&self.settings.place, api, body, &read)?;
        self.keep(link);
        Ok(answer)
    }

    fn keep(&self, link: Link) {
        self.open.lock().insert(link.address.clone(), link);
    }
}

fn check(place: &str, error: i16) -> Result<()> {
    match error {
        0 => Ok(()),
        error if GROUP_MOVES.contains(&error) => Err(BackendError::new(
            ErrorKind::Unavailable,
            place,
            format!("groups are being loaded (error {error})"),
        )),
        29..=31 => Err(BackendError::new(
            ErrorKind::Forbidden,
            place,
            format!("this user may not see groups (error {error})"),
        )
        .remedy("grant the user the right to describe groups")),
        _ => Err(BackendError::new(
            ErrorKind::Unavailable,
            place,
            format!("refuses to tell of groups (error {error})"),
        )),
    }
}

impl Link {
    fn open(settings: &Settings, address: &str) -> Result<Self> {
        let place = &settings.place;
        let fail = |e: &std::io::Error| unreachable(place, address, e);
        let mut failed = None;
        let mut found = None;
        for resolved in address.to_socket_addrs().map_err(|e| fail(&e))? {
            match TcpStream::connect_timeout(&resolved, WAIT) {
                Ok(stream) => {
                    found = Some(stream);
                    break;
                }
                Err(error) => failed = Some(error),
            }
        }
        let stream =
            found.ok_or_else(|| fail(&failed.unwrap_or_else(|| std::io::ErrorKind::NotFound.into())))?;
        stream.set_read_timeout(Some(WAIT)).map_err(|e| fail(&e))?;
        stream.set_write_timeout(Some(WAIT)).map_err(|e| fail(&e))?;
        stream.set_nodelay(true).map_err(|e| fail(&e))?;
        let mut link = Self { stream, address: address.to_owned(), correlation: 0, versions: Vec::new() };
        link.versions = link.call(place, wire::VERSIONS, &[], wire::versions)?;
        if let Some((user, password)) = settings.credentials()? {
            link.sign_in(place, &settings.mechanism, &user, &password)?;
        }
        Ok(link)
    }

    fn sign_in(&mut self, place: &str, mechanism: &str, user: &str, password: &str) -> Result<()> {
        let refuse = |why: String| {
            BackendError::new(ErrorKind::Forbidden, place, why)
                .remedy("check user, password and mechanism of the address")
        };
        let error =
            self.call(place, wire::SASL_HANDSHAKE, &wire::sasl_handshake(mechanism), |mut r| r.i16())?;
        if error != 0 {
            return Err(refuse(format!("the broker does not take mechanism {mechanism} (error {error})")));
        }
        let token = wire::sasl_plain(user, password);
        let (error, why) =
            self.call(place, wire::SASL_AUTHENTICATE, &token, |mut r| Ok((r.i16()?, r.text()?)))?;
        match error {
            0 => Ok(()),
            SASL_FAILED => Err(refuse(why.unwrap_or_else(|| "signing in failed".into()))),
            _ => Err(refuse(format!("signing in failed (error {error})"))),
        }
    }

    fn ask<T>(
        &mut self,
        place: &str,
        api: Api,
        body: &[u8],
        read: impl Fn(Reader<'_>) -> std::result::Result<T, Malformed>,
    ) -> Result<Option<T>> {
        let known =
            |(key, low, high): &(i16, i16, i16)| *key == api.key && (*low..=*high).contains(&api.version);
        if !self.versions.iter().any(known) {
            return Ok(None);
        }
        self.call(place, api, body, read).map(Some)
    }

    fn call<T>(
        &mut self,
        place: &str,
        api: Api,
        body: &[u8],
        read: impl Fn(Reader<'_>) -> std::result::Result<T, Malformed>,
    ) -> Result<T> {
        self.correlation = self.correlation.wrapping_add(1);
        let request = wire::request(api, self.correlation, body);
        let bytes = self.exchange(&request).map_err(|e| unreachable(place, &self.address, &e))?;
        wire::answer(api, self.correlation, &bytes).and_then(read).map_err(|error| {
            BackendError::new(
                ErrorKind::Unavailable,
                format!("{place} broker {}", self.address),
                error.to_string(),
            )
            .remedy(
                "see whether this is the port of a Kafka broker, and whether it wants encryption or a user",
            )
        })
    }

    fn exchange(&mut self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let framed = [&(request.len() as u32).to_be_bytes()[..], request].concat();
        self.stream.write_all(&framed)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > wire::LARGEST {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("an answer of {length} bytes"),
            ));
        }
        // Read as it comes, so that a false length takes no memory.
        let mut bytes = Vec::new();
        (&self.stream).take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() == length { Ok(bytes) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn unreachable(place: &str, address: &str, error: &std::io::Error) -> BackendError {
    let why = match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        std::io::ErrorKind::UnexpectedEof => "the broker closed the connection".to_owned(),
        _ => error.to_string(),
    };
    BackendError::new(ErrorKind::Unavailable, format!("{place} broker {address}"), why)
        .remedy("see whether the brokers run and can be reached from here")
}

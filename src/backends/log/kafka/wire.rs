//! Requests and answers of Kafka's protocol that the client library does not offer: the ids of topics (its
//! own calls leave them out), the committed offsets of all groups at once (its own way is a client per
//! group), and the removal of a named member from its group (its own clients leave such a one behind).
//!
//! Bytes only; [`link`](super::link) sends them. Fixed versions, all of them flexible: a server that lacks
//! one is told apart by its answer to [`versions`].

/// A kind of request, in the version used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Api {
    pub(super) key: i16,
    pub(super) version: i16,
    /// Whether its header has tagged fields.
    flexible: bool,
}

pub(super) const VERSIONS: Api = Api { key: 18, version: 0, flexible: false };
pub(super) const SASL_HANDSHAKE: Api = Api { key: 17, version: 1, flexible: false };
pub(super) const SASL_AUTHENTICATE: Api = Api { key: 36, version: 0, flexible: false };
pub(super) const METADATA: Api = Api { key: 3, version: 10, flexible: true };
pub(super) const LIST_GROUPS: Api = Api { key: 16, version: 3, flexible: true };
pub(super) const OFFSET_FETCH: Api = Api { key: 9, version: 8, flexible: true };
pub(super) const FIND_COORDINATOR: Api = Api { key: 10, version: 3, flexible: true };
pub(super) const LEAVE_GROUP: Api = Api { key: 13, version: 4, flexible: true };

/// What a server may answer at most, in bytes.
pub(super) const LARGEST: usize = 64 << 20;

/// An answer that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not what Kafka's protocol says: {0}")]
pub(super) struct Malformed(&'static str);

type Result<T> = std::result::Result<T, Malformed>;

/// A request with its header, without its length.
pub(super) fn request(api: Api, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + body.len());
    out.extend_from_slice(&api.key.to_be_bytes());
    out.extend_from_slice(&api.version.to_be_bytes());
    out.extend_from_slice(&correlation.to_be_bytes());
    text(&mut out, "openbell");
    if api.flexible {
        out.push(0);
    }
    out.extend_from_slice(body);
    out
}

/// Takes the header off an answer.
pub(super) fn answer(api: Api, correlation: i32, bytes: &[u8]) -> Result<Reader<'_>> {
    let mut reader = Reader(bytes);
    if reader.i32()? != correlation {
        return Err(Malformed("it belongs to another request"));
    }
    // The answer about versions never has tags, so that it can be read before anything is known.
    if api.flexible && api != VERSIONS {
        reader.tags()?;
    }
    Ok(reader)
}

/// Per API key its lowest and highest version.
pub(super) fn versions(mut reader: Reader<'_>) -> Result<Vec<(i16, i16, i16)>> {
    let error = reader.i16()?;
    if error != 0 {
        return Ok(Vec::new());
    }
    let count = reader.i32()?;
    (0..count).map(|_| Ok((reader.i16()?, reader.i16()?, reader.i16()?))).collect()
}

pub(super) fn sasl_handshake(mechanism: &str) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, mechanism);
    out
}

pub(super) fn sasl_plain(user: &str, password: &str) -> Vec<u8> {
    let token = ["", user, password].join("\0");
    let mut out = (token.len() as i32).to_be_bytes().to_vec();
    out.extend_from_slice(token.as_bytes());
    out
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broker {
    /// `host:port`.
    pub(super) address: String,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicId {
    pub(super) error: i16,
    pub(super) name: String,
    /// In hexadecimal; empty if the server gives none.
    pub(super) id: String,
}

/// Asks for some topics, or for all; none is made by asking.
pub(super) fn metadata(topics: Option<&[String]>) -> Vec<u8> {
    let mut out = Vec::new();
    match topics {
        None => out.push(0),
        Some(topics) => {
            unsigned(&mut out, topics.len() as u32 + 1);
            for topic in topics {
                out.extend_from_slice(&[0; 16]);
                compact(&mut out, topic);
                out.push(0);
            }
        }
    }
    out.extend_from_slice(&[0, 0, 0, 0]); // no making, no authorizations (of cluster and topics), no tags
    out
}

pub(super) fn metadata_answer(mut reader: Reader<'_>) -> Result<(Vec<Broker>, Vec<TopicId>)> {
    reader.i32()?;
    let brokers = reader.array(|r| {
        r.i32()?;
        let broker = r.broker()?;
        r.compact()?;
        r.tags()?;
        Ok(broker)
    })?;
    reader.compact()?;
    reader.i32()?;
    let topics = reader.array(|r| {
        let error = r.i16()?;
        let name = r.compact()?.unwrap_or_default();
        let id = r.take(16)?;
        let id = if id.iter().all(|b| *b == 0) { String::new() } else { hex::encode(id) };
        r.take(1)?;
        r.array(|r| {
            r.take(2 + 4 + 4 + 4)?;
            for _ in 0..3 {
                r.array(|r| r.i32())?;
            }
            r.tags()
        })?;
        r.i32()?;
        r.tags()?;
        Ok(TopicId { error, name, id })
    })?;
    Ok((brokers, topics))
}

pub(super) fn list_groups() -> Vec<u8> {
    vec![0]
}

/// Names of the groups that a broker looks after, and an error code.
pub(super) fn list_groups_answer(mut reader: Reader<'_>) -> Result<(i16, Vec<String>)> {
    reader.i32()?;
    let error = reader.i16()?;
    let groups = reader.array(|r| {
        let group = r.compact()?.unwrap_or_default();
        let protocol = r.compact()?.unwrap_or_default();
        r.tags()?;
        // Other kinds of groups (Kafka Connect's own, share groups) have no offsets of partitions.
        Ok((protocol.is_empty() || protocol == "consumer").then_some(group))
    })?;
    Ok((error, groups.into_iter().flatten().collect()))
}

/// A group's committed offset, with what was written beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) next: i64,
    pub(super) note: String,
}

/// A group with an error code and what it committed.
pub(super) type GroupOffsets = (String, i16, Vec<Offset>);

/// Asks for all that some groups committed.
pub(super) fn offset_fetch(groups: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    unsigned(&mut out, groups.len() as u32 + 1);
    for group in groups {
        compact(&mut out, group);
        out.extend_from_slice(&[0, 0]); // all topics, no tags
    }
    out.extend_from_slice(&[0, 0]); // unstable ones too, no tags
    out
}

pub(super) fn offset_fetch_answer(mut reader: Reader<'_>) -> Result<Vec<GroupOffsets>> {
    reader.i32()?;
    reader.array(|r| {
        let group = r.compact()?.unwrap_or_default();
        let mut error = 0;
        let mut offsets = Vec::new();
        r.array(|r| {
            let topic = r.compact()?.unwrap_or_default();
            r.array(|r| {
                let (partition, next) = (r.i32()?, r.i64()?);
                r.i32()?;
                let note = r.compact()?.unwrap_or_default();
                let failed = r.i16()?;
                r.tags()?;
                if failed != 0 {
                    error = failed;
                } else if next >= 0 {
                    offsets.push(Offset { topic: topic.clone(), partition, next, note });
                }
                Ok(())
            })?;
            r.tags()
        })?;
        let whole = r.i16()?;
        r.tags()?;
        Ok((group, if whole == 0 { error } else { whole }, offsets))
    })
}

/// Asks which broker looks after a group.
pub(super) fn find_coordinator(group: &str) -> Vec<u8> {
    let mut out = Vec::new();
    compact(&mut out, group);
    out.extend_from_slice(&[0, 0]); // a group's, no tags
    out
}

/// An error code, and the broker if there is none.
pub(super) fn find_coordinator_answer(mut reader: Reader<'_>) -> Result<(i16, Broker)> {
    reader.i32()?;
    let error = reader.i16()?;
    reader.compact()?;
    reader.i32()?;
    Ok((error, reader.broker()?))
}

/// Removes the member of a name, whatever its id.
pub(super) fn leave_group(group: &str, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    compact(&mut out, group);
    unsigned(&mut out, 2); // one member
    compact(&mut out, ""); // its id is left open
    compact(&mut out, name);
    out.extend_from_slice(&[0, 0]); // no tags, twice
    out
}

/// The first error code, of the request or of a member.
pub(super) fn leave_group_answer(mut reader: Reader<'_>) -> Result<i16> {
    reader.i32()?;
    let error = reader.i16()?;
    let members = reader.array(|r| {
        r.compact()?;
        r.compact()?;
        let error = r.i16()?;
        r.tags()?;
        Ok(error)
    })?;
    Ok([error].into_iter().chain(members).find(|code| *code != 0).unwrap_or(0))
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as i16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn compact(out: &mut Vec<u8>, text: &str) {
    unsigned(out, text.len() as u32 + 1);
    out.extend_from_slice(text.as_bytes());
}

fn unsigned(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads an answer piece by piece.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Malformed("it ends early"))
    }

    pub(super) fn i16(&mut self) -> Result<i16> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32> {
        self.fixed().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64> {
        self.fixed().map(i64::from_be_bytes)
    }

    fn unsigned(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed()?;
            value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a length has too many bytes"))
    }

    /// A text with its length in two bytes; may be missing.
    pub(super) fn text(&mut self) -> Result<Option<String>> {
        let Ok(length) = usize::try_from(self.i16()?) else { return Ok(None) };
        self.utf8(length).map(Some)
    }

    fn compact(&mut self) -> Result<Option<String>> {
        match self.unsigned()?.checked_sub(1) {
            None => Ok(None),
            Some(length) => self.utf8(length as usize).map(Some),
        }
    }

    fn utf8(&mut self, length: usize) -> Result<String> {
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| Malformed("a text is not UTF-8"))
    }

    fn array<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.unsigned()?.saturating_sub(1);
        let mut all = Vec::new();
        for _ in 0..count {
            // Every item takes a byte at least, so that a false count ends with the bytes.
            all.push(item(self)?);
        }
        Ok(all)
    }

    /// A host and its port.
    fn broker(&mut self) -> Result<Broker> {
        let host = self.compact()?.unwrap_or_default();
        let port = self.i32()?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Ok(Broker { address: format!("{host}:{port}") })
    }

    fn tags(&mut self) -> Result<()> {
        for _ in 0..self.unsigned()? {
            self.unsigned()?;
            let length = self.unsigned()? as usize;
            self.take(length)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! Messages of the server: what one is, and the records in it.
//!
//! Messages come as binary ones that hold UTF-8 (text ones are taken too), each an object, or an array of
//! objects in the `_LIST` formats, with full or short names. What a record is worth is judged in
//! [`trade`](super::trade).

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::Channel;
use super::names::full;
use super::number::text;
use crate::Refused;

/// A message.
#[derive(Debug)]
pub(super) enum Message<'a> {
    /// Records, in the order sent; each is readable or not by itself.
    Records(Vec<Result<Record<'a>, Refused>>),
    /// The answer to a sign of life: `{"status":"UP"}`.
    Status(String),
    /// The server refuses what was sent.
    Fault(Fault),
    /// The answer to `LIST_SUBSCRIPTIONS`.
    Subscriptions(Vec<Subscribed>),
}

/// A record of a channel, its fields by their full names.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) channel: Channel,
    pub(super) fields: BTreeMap<String, &'a RawValue>,
}

/// `{"error":{"name":…,"message":…}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) name: String,
    pub(super) message: String,
}

/// One line of the server's list of subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscribed {
    pub(super) channel: String,
    pub(super) codes: Vec<String>,
}

/// What is to be done about a [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing helps but a person.
    Fatal,
    /// A value of the request is not supported, most likely a code: find out which.
    CheckCodes,
    /// The request was not understood, or the server is in trouble: connect anew, and give up after a few
    /// times.
    Reconnect,
}

impl Fault {
    /// What is to be done.
    pub(super) fn remedy(&self) -> Remedy {
        match self.name.as_str() {
            "INVALID_AUTH" => Remedy::Fatal,
            "INVALID_PARAM" | "NO_CODES" => Remedy::CheckCodes,
            // WRONG_FORMAT, NO_TICKET, NO_TYPE, and what was not there when this was written.
            _ => Remedy::Reconnect,
        }
    }
}

/// An object of a message, before it is known what it is.
type Object<'a> = BTreeMap<String, &'a RawValue>;

/// Reads a message.
///
/// # Errors
/// `empty`, `bad_utf8`, `truncated`, `bad_json`, `not_an_object`. Faults of single records are in
/// [`Message::Records`].
pub(super) fn parse(bytes: &[u8]) -> Result<Message<'_>, Refused> {
    let text = std::str::from_utf8(bytes).map_err(|e| Refused {
        cause: "bad_utf8",
        message: format!("byte {} is not UTF-8", e.valid_up_to()),
    })?;
    let objects: Vec<Object<'_>> = match text.trim_start().bytes().next() {
        None => return Err(Refused { cause: "empty", message: "the message is empty".into() }),
        Some(b'{') => vec![serde_json::from_str(text).map_err(|e| unreadable(text, &e))?],
        Some(b'[') => serde_json::from_str(text).map_err(|e| unreadable(text, &e))?,
        Some(_) => {
            let message = "the message is neither an object nor an array of objects".into();
            return Err(Refused { cause: "not_an_object", message });
        }
    };
    if let [object] = &objects[..]
        && let Some(control) = control(object)
    {
        return control;
    }
    if objects.is_empty() {
        return Err(Refused { cause: "empty", message: "the array is empty".into() });
    }
    Ok(Message::Records(objects.into_iter().map(record).collect()))
}

fn unreadable(text: &str, error: &serde_json::Error) -> Refused {
    let place = format!("line {} column {}", error.line(), error.column());
    // A number that ends in its point is one that was cut off, too.
    let at_the_end = error.line() == text.lines().count()
        && text.lines().last().is_some_and(|line| error.column() >= line.len());
    match error.classify() {
        serde_json::error::Category::Syntax if at_the_end => truncated(&place),
        serde_json::error::Category::Eof => truncated(&place),
        serde_json::error::Category::Data => Refused {
            cause: "not_an_object",
            message: format!("at {place} is something else than an object"),
        },
        _ => Refused { cause: "bad_json", message: format!("{place} is not JSON") },
    }
}

fn truncated(place: &str) -> Refused {
    Refused { cause: "truncated", message: format!("the message ends at {place}") }
}

/// Whether an object is not a record but something about the connection.
fn control<'a>(object: &Object<'_>) -> Option<Result<Message<'a>, Refused>> {
    let get = |full: &str, short: &str| object.get(full).or_else(|| object.get(short));
    if let Some(error) = object.get("error") {
        let error: BTreeMap<String, &RawValue> = serde_json::from_str(error.get()).unwrap_or_default();
        let word = |name: &str| error.get(name).map(|value| text(value)).unwrap_or_default();
        return Some(Ok(Message::Fault(Fault { name: word("name"), message: word("message") })));
    }
    if let Some(result) = get("result", "rslt").filter(|_| get("method", "mthd").is_some()) {
        return Some(subscriptions(result).map(Message::Subscriptions));
    }
    match object.get("status") {
        Some(status) if get("type", "ty").is_none() => Some(Ok(Message::Status(text(status)))),
        _ => None,
    }
}

fn subscriptions(result: &RawValue) -> Result<Vec<Subscribed>, Refused> {
    let lines: Vec<Object<'_>> =
        serde_json::from_str(result.get()).map_err(|e| unreadable(result.get(), &e))?;
    let line = |object: Object<'_>| {
        let get = |full: &str, short: &str| object.get(full).or_else(|| object.get(short));
        Some(Subscribed {
            channel: text(get("type", "ty")?),
            codes: serde_json::from_str(get("codes", "cds")?.get()).ok()?,
        })
    };
    lines
        .into_iter()
        .map(|object| {
            line(object).ok_or_else(|| Refused {
                cause: "bad_json",
                message: "a subscription without type or codes".into(),
            })
        })
        .collect()
}

fn record(object: Object<'_>) -> Result<Record<'_>, Refused> {
    let fields: BTreeMap<String, &RawValue> = if object.contains_key("type") {
        object
    } else {
        object.into_iter().map(|(name, value)| (full(&name).to_owned(), value)).collect()
    };
    let Some(kind) = fields.get("type") else {
        return Err(Refused { cause: "unknown_type", message: "an object without a type".into() });
    };
    let kind = text(kind);
    match Channel::of(&kind) {
        Some(channel) => Ok(Record { channel, fields }),
        None => {
            Err(Refused { cause: "unknown_type", message: format!("type \"{}\" is not known", shown(&kind)) })
        }
    }
}

/// Enough of an unexpected text to recognise it.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().take(24).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(24).is_some() {
        shown.push('…');
    }
    shown
}

//! A raw document in BSON, and back.
//!
//! | field | |
//! |---|---|
//! | `_id` | the event id |
//! | `received_at` | date, in milliseconds as BSON has it |
//! | `received_at_nanos` | the nanoseconds within that millisecond, so that nothing of the receipt time is lost |
//! | `body` | the JSON object, fields in their order: whole numbers as 64-bit integers, others as doubles |
//! | `text` | the JSON text itself, where `body` alone would not give back the same bytes (spaces, `1e2`, long numbers) |

use std::fmt;

use jiff::Timestamp;
use mongodb::bson::{self, Bson, DateTime, RawDocumentBuf};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::Document;

/// What MongoDB accepts for one document.
const LARGEST: usize = 16 << 20;

/// The stored form, or why the document cannot be stored.
pub(super) fn encode(document: &Document) -> Result<RawDocumentBuf, String> {
    if document.id.is_empty() {
        return Err("a document has no id".into());
    }
    let refuse = |why: String| format!("document {}: {why}", document.id);
    let nanos = document.received_at.as_nanosecond();
    let millis = i64::try_from(nanos.div_euclid(1_000_000)).map_err(|e| refuse(e.to_string()))?;
    let rest = i32::try_from(nanos.rem_euclid(1_000_000)).map_err(|e| refuse(e.to_string()))?;
    let mut stored = bson::doc! {
        "_id": document.id.as_str(),
        "received_at": DateTime::from_millis(millis),
        "received_at_nanos": rest,
    };
    let body = match serde_json::from_slice(&document.body) {
        Ok(Json(Bson::Document(body))) => Some(Bson::Document(body)),
        Ok(_) => return Err(refuse("the body is not a JSON object".into())),
        // A JSON object that BSON has no form for, if it is one.
        Err(error) => match serde_json::from_slice::<IgnoredAny>(&document.body) {
            Ok(_) if document.body.trim_ascii_start().first() == Some(&b'{') => None,
            _ => return Err(refuse(format!("the body is not a JSON object: {error}"))),
        },
    };
    let exact = body.as_ref().is_some_and(|body| text_of(body) == document.body);
    if let Some(body) = body {
        stored.insert("body", body);
    }
    if !exact {
        let text =
            std::str::from_utf8(&document.body).map_err(|e| refuse(format!("the body is not UTF-8: {e}")))?;
        stored.insert("text", text);
    }
    let raw = RawDocumentBuf::try_from(&stored).map_err(|e| refuse(e.to_string()))?;
    if raw.as_bytes().len() > LARGEST {
        return Err(refuse(format!("it has {} bytes, and MongoDB takes {LARGEST}", raw.as_bytes().len())));
    }
    Ok(raw)
}

/// The document of a stored form, or what is wrong with it.
pub(super) fn decode(mut stored: bson::Document) -> Result<Document, String> {
    let received_at = receipt(&stored)?;
    let Some(Bson::String(id)) = stored.remove("_id") else { return Err("its _id is not a text".into()) };
    let body = match (stored.remove("text"), stored.get("body")) {
        (Some(Bson::String(text)), _) => text.into_bytes(),
        (None, Some(body @ Bson::Document(_))) => text_of(body),
        _ => return Err("it has no body".into()),
    };
    Ok(Document { id, body, received_at })
}

/// The receipt time of a stored form.
pub(super) fn receipt(stored: &bson::Document) -> Result<Timestamp, String> {
    let date = stored.get_datetime("received_at").map_err(|_| "it has no date received_at")?;
    let rest = match stored.get("received_at_nanos") {
        Some(Bson::Int32(rest)) => i128::from(*rest),
        Some(Bson::Int64(rest)) => i128::from(*rest),
        _ => 0,
    };
    let nanos = i128::from(date.timestamp_millis()) * 1_000_000 + rest;
    Timestamp::from_nanosecond(nanos).map_err(|e| format!("received_at: {e}"))
}

/// Compact JSON.
fn text_of(value: &Bson) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write(&mut out, value);
    out
}

fn write(out: &mut Vec<u8>, value: &Bson) {
    match value {
        Bson::Null => out.extend_from_slice(b"null"),
        Bson::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        // Servers may narrow what fits.
        Bson::Int32(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Bson::Int64(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Bson::Double(number) => scalar(out, number),
        Bson::String(text) => scalar(out, text),
        Bson::Array(values) => {
            out.push(b'[');
            for (n, value) in values.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write(out, value);
            }
            out.push(b']');
        }
        Bson::Document(fields) => {
            out.push(b'{');
            for (n, (name, value)) in fields.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                scalar(out, name);
                out.push(b':');
                write(out, value);
            }
            out.push(b'}');
        }
        // Written by another program.
        other => scalar(out, &other.to_string()),
    }
}

fn scalar(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    out.extend(serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec()));
}

/// JSON read as BSON, without the meanings that extended JSON gives to some field names.
struct Json(Bson);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Json)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Bson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Bson, E> {
        Ok(Bson::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Bson, E> {
        Ok(Bson::Boolean(value))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Bson, E> {
        Ok(Bson::Int64(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Bson, E> {
        // Above what an integer holds; the text keeps the number itself.
        Ok(i64::try_from(number).map_or_else(|_| Bson::Double(number as f64), Bson::Int64))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Bson, E> {
        Ok(Bson::Double(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bson, E> {
        Ok(Bson::String(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Bson, E> {
        Ok(Bson::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Bson, A::Error> {
        let mut array = Vec::new();
        while let Some(Json(value)) = values.next_element()? {
            array.push(value);
        }
        Ok(Bson::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Bson, A::Error> {
        let mut document = bson::Document::new();
        while let Some((name, Json(value))) = fields.next_entry::<String, Json>()? {
            if name.contains('\0') {
                return Err(A::Error::custom("a field name holds a zero byte"));
            }
            document.insert(name, value);
        }
        Ok(Bson::Document(document))
    }
}

#[cfg(test)]
mod tests;

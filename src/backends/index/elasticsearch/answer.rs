//! What a server's answers mean.

use elasticsearch::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::index::{ItemResult, Op};
use crate::remote::start_of;
use crate::{BackendError, ErrorKind};

/// A whole answer.
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

impl Answer {
    /// The `type` of the error in the answer, if it is one.
    pub fn error_type(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["error"]["type"].as_str().unwrap_or_default().to_owned()
    }

    /// The error of a call that was refused as a whole.
    pub fn refused(&self, place: &str) -> BackendError {
        let (kind, remedy) = match self.status.as_u16() {
            401 | 403 => (
                ErrorKind::Forbidden,
                "check user and password (or the API key) of the index address, and that they may create, write and read its indices",
            ),
            404 => (ErrorKind::NotFound, "check host and path of the index address"),
            429 => (ErrorKind::Busy, ""),
            507 => (ErrorKind::Full, "give the server more room"),
            400..=499 => (ErrorKind::Rejected, ""),
            _ => (ErrorKind::Unavailable, "look at the cluster's health"),
        };
        BackendError::new(
            kind,
            place,
            format!("status {}: {}", self.status.as_u16(), reason_of_body(&self.body)),
        )
        .remedy(remedy)
    }
}

/// The reason in the body of a refusal.
fn reason_of_body(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(body) if !body["error"].is_null() => reason(&body["error"]),
        _ => start_of(&String::from_utf8_lossy(body), 200),
    }
}

/// An error object as one text: types and reasons down to the first cause.
pub(super) fn reason(error: &Value) -> String {
    let mut text = String::new();
    let mut next = error;
    while next.is_object() {
        let part = match (next["type"].as_str(), next["reason"].as_str()) {
            (Some(kind), Some(reason)) => format!("{kind}: {reason}"),
            (one, other) => one.or(other).unwrap_or_default().to_owned(),
        };
        if !part.is_empty() && !text.contains(&part) {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&part);
        }
        next = &next["caused_by"];
    }
    match error {
        Value::String(plain) => start_of(plain, 1_000),
        _ => start_of(&text, 1_000),
    }
}

#[derive(Deserialize)]
struct Bulk {
    items: Vec<serde_json::Map<String, Value>>,
}

/// What became of the items of a bulk call; their number is not checked.
pub(super) fn items(
    body: &[u8],
    ops: impl Iterator<Item = Op>,
) -> Result<Vec<ItemResult>, serde_json::Error> {
    let bulk: Bulk = serde_json::from_slice(body)?;
    let results = bulk.items.into_iter().zip(ops.map(Some).chain(std::iter::repeat(None)));
    Ok(results.map(|(item, op)| outcome(item.values().next().unwrap_or(&Value::Null), op)).collect())
}

fn outcome(item: &Value, op: Option<Op>) -> ItemResult {
    let status = item["status"].as_u64().and_then(|s| u16::try_from(s).ok()).unwrap_or(0);
    let error = &item["error"];
    match status {
        200 | 201 => ItemResult::Stored,
        409 if op == Some(Op::Create) => ItemResult::Exists,
        // The index went away since it was looked at; the next call makes it again.
        404 if error["type"] == "index_not_found_exception" => {
            ItemResult::Retry { status, reason: reason(error) }
        }
        400 | 404 | 413 => ItemResult::Rejected { status, reason: reason(error) },
        // Also what a person has to lift first, such as a write block or a missing right: the documents are
        // not at fault.
        _ => ItemResult::Retry { status, reason: reason(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_an_item_has_its_meaning() {
        let body = r#"{"took":1,"errors":true,"items":[
            {"create":{"_id":"a","status":201}},
            {"create":{"_id":"b","status":409,"error":{"type":"version_conflict_engine_exception","reason":"exists"}}},
            {"index":{"_id":"c","status":200}},
            {"create":{"_id":"d","status":400,"error":{"type":"document_parsing_exception","reason":"failed to parse field [q] of type [long]","caused_by":{"type":"illegal_argument_exception","reason":"For input string: \"many\""}}}},
            {"create":{"_id":"e","status":429,"error":{"type":"es_rejected_execution_exception","reason":"queue"}}},
            {"create":{"_id":"f","status":503,"error":{"type":"unavailable_shards_exception","reason":"primary"}}},
            {"create":{"_id":"g","status":404,"error":{"type":"index_not_found_exception","reason":"no such index"}}},
            {"create":{"_id":"h","status":403,"error":{"type":"cluster_block_exception","reason":"index write (api)"}}},
            {"index":{"_id":"i","status":409,"error":{"type":"version_conflict_engine_exception","reason":"other"}}},
            {"create":{"_id":"j","status":413,"error":"too large"}}
        ]}"#;
        let ops =
            [Op::Create, Op::Create, Op::Put].into_iter().chain([Op::Create; 5]).chain([Op::Put, Op::Create]);
        let found = items(body.as_bytes(), ops).expect("an answer");
        let reason_of = |n: usize| match &found[n] {
            ItemResult::Rejected { status, reason } | ItemResult::Retry { status, reason } => {
                (*status, reason.as_str())
            }
            other => panic!("{n}: {other:?}"),
        };
        assert_eq!(found[..3], [ItemResult::Stored, ItemResult::Exists, ItemResult::Stored]);
        for n in [3, 9] {
            assert!(matches!(found[n], ItemResult::Rejected { .. }), "{n}: {:?}", found[n]);
        }
        for n in [4, 5, 6, 7, 8] {
            assert!(matches!(found[n], ItemResult::Retry { .. }), "{n}: {:?}", found[n]);
        }
        let (status, reason) = reason_of(3);
        assert!(status == 400 && reason.contains("[q]") && reason.contains("\"many\""), "{reason}");
        assert_eq!(reason_of(9), (413, "too large"));
    }
}

//! What a client sends: one message registers or removes one message type for one instrument. There is no
//! batch form.

use serde_json::json;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Start sending.
    Subscribe,
    /// Stop sending.
    Unsubscribe,
}

/// Text of a request.
pub fn text(approval_key: &str, kind: Type, tr_id: &str, tr_key: &str) -> String {
    let tr_type = match kind {
        Type::Subscribe => "1",
        Type::Unsubscribe => "2",
    };
    json!({
        "header": {"approval_key": approval_key, "custtype": "P", "tr_type": tr_type, "content-type": "utf-8"},
        "body": {"input": {"tr_id": tr_id, "tr_key": tr_key}},
    })
    .to_string()
}

//! Templates and documents as the server gets them.

use serde_json::{Map, Value, json};

use crate::index::Template;

/// A document's id as a field, since servers do not sort by `_id`: it is written first and taken out again on
/// reading.
pub(super) const ID_FIELD: &str = "openbell_id";

/// The server's kind; they differ in the name of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Elasticsearch,
    OpenSearch,
}

/// The fields that every index has.
pub(super) fn own_fields() -> Value {
    json!({ ID_FIELD: { "type": "keyword" } })
}

/// The composable index template.
///
/// Fields that it does not name are kept in the document and not indexed, so that a new field of a feed can
/// neither be refused nor blow up the mapping. Each index has one shard (a day of trades fits), a replica as
/// soon as there is a second node, and syncs its log before it answers.
pub(super) fn template(template: &Template, dialect: Dialect) -> Value {
    let mut properties = Map::new();
    properties.insert(ID_FIELD.into(), json!({ "type": "keyword" }));
    for (field, kind) in &template.fields {
        properties.insert(field.clone(), field_type(kind, dialect));
    }
    json!({
        "index_patterns": [format!("{}*", template.prefix)],
        // Above the ones that come with the server (100), and the longest prefix wins.
        "priority": 200 + template.prefix.len(),
        "template": {
            "settings": {
                "index.number_of_shards": 1,
                "index.auto_expand_replicas": "0-1",
                "index.translog.durability": "request",
            },
            "mappings": { "dynamic": false, "properties": properties },
        },
        "_meta": { "managed_by": "openbell" },
    })
}

fn field_type(kind: &str, dialect: Dialect) -> Value {
    match kind {
        // Texts in RFC 3339 alone: the server's default would take "090000" for milliseconds.
        "date" => json!({ "type": "date", "format": "strict_date_optional_time" }),
        "date_nanos" => json!({ "type": "date_nanos", "format": "strict_date_optional_time_nanos" }),
        // Must be an object; what is in it is kept and not indexed.
        "object" => json!({ "type": "object", "dynamic": false }),
        "flattened" if dialect == Dialect::OpenSearch => json!({ "type": "flat_object" }),
        other => json!({ "type": other }),
    }
}

/// A JSON object with the id field before its own fields, in one line.
pub(super) fn with_id(out: &mut Vec<u8>, id: &str, source: &[u8]) {
    out.extend_from_slice(head(id).as_bytes());
    let rest = source.trim_ascii().strip_prefix(b"{").unwrap_or_default().trim_ascii_start();
    if !rest.starts_with(b"}") {
        out.push(b',');
    }
    // In JSON, a raw line break can only stand between tokens.
    out.extend(rest.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }));
}

/// The object as it was before [`with_id`].
pub(super) fn without_id(id: &str, stored: &str) -> Vec<u8> {
    match stored.strip_prefix(&head(id)) {
        Some(rest) => format!("{{{}", rest.strip_prefix(',').unwrap_or(rest)).into_bytes(),
        None => stored.as_bytes().to_vec(),
    }
}

fn head(id: &str) -> String {
    format!("{{\"{ID_FIELD}\":{}", json!(id))
}

#[cfg(test)]
mod tests;

//! Which documents Elasticsearch would refuse, decided by the template's types.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Map, Value};

use crate::index::Template;
use crate::{BackendError, ErrorKind, Result};

/// Field types that are checked.
const TYPES: &[&str] = &[
    "date",
    "date_nanos",
    "keyword",
    "text",
    "long",
    "integer",
    "short",
    "double",
    "float",
    "boolean",
    "object",
    "flattened",
];
/// Elasticsearch refuses longer terms.
const LONGEST_KEYWORD: usize = 32_766;
/// Elasticsearch refuses longer ids.
const LONGEST_ID: usize = 512;

/// A document's fields.
pub(in crate::index) type Fields = Map<String, Value>;

/// Refuses templates with types that are not known here.
pub(in crate::index) fn check_template(place: &str, template: &Template) -> Result<()> {
    if let Some((field, unknown)) = template.fields.iter().find(|(_, t)| !TYPES.contains(&t.as_str())) {
        let message = format!(
            "template {} gives field {field} the type \"{unknown}\", which is not known",
            template.name
        );
        return Err(BackendError::new(ErrorKind::Rejected, place, message)
            .remedy(format!("use one of {}", TYPES.join(", "))));
    }
    if template.name.is_empty() || template.prefix.is_empty() {
        let message = "a template needs a name and an index prefix";
        return Err(BackendError::new(ErrorKind::Rejected, place, message));
    }
    Ok(())
}

/// Why Elasticsearch would refuse an index name or an id.
pub(in crate::index) fn refuse_names(index: &str, id: &str) -> Option<String> {
    let bad = |c: char| c.is_uppercase() || c.is_control() || "\\/*?\"<>| ,#:".contains(c);
    if index.is_empty() || index.len() > 255 || index.starts_with(['-', '_', '+', '.']) || index.contains(bad)
    {
        return Some(format!(
            "invalid index name [{index}], must be lowercase and free of spaces and of \\ / * ? \" < > | , # :"
        ));
    }
    match id.len() {
        0 => Some("an _id is required".into()),
        1..=LONGEST_ID => None,
        length => {
            Some(format!("id is too long, must be no longer than {LONGEST_ID} bytes but was: {length}"))
        }
    }
}

/// The document, or why it is refused.
pub(in crate::index) fn check(
    template: Option<&Template>,
    id: &str,
    source: &[u8],
) -> Result<Fields, String> {
    let document: Value =
        serde_json::from_slice(source).map_err(|e| format!("document with id '{id}' is not JSON: {e}"))?;
    let Value::Object(document) = document else {
        return Err(format!("document with id '{id}' is not a JSON object"));
    };
    for (field, kind) in template.iter().flat_map(|t| &t.fields) {
        let Some(value) = find(&document, field) else { continue };
        check_value(value, kind).map_err(|why| {
            let mut preview = value.to_string();
            preview.truncate(preview.char_indices().nth(80).map_or(preview.len(), |(at, _)| at));
            format!("failed to parse field [{field}] of type [{kind}] in document with id '{id}': {why}. Preview of field's value: {preview}")
        })?;
    }
    Ok(document)
}

/// A field by its name or dotted path.
fn find<'a>(document: &'a Fields, path: &str) -> Option<&'a Value> {
    document.get(path).or_else(|| {
        path.match_indices('.').find_map(|(at, _)| match document.get(&path[..at]) {
            Some(Value::Object(inner)) => find(inner, &path[at + 1..]),
            _ => None,
        })
    })
}

fn check_value(value: &Value, kind: &str) -> Result<(), &'static str> {
    match (value, kind) {
        (Value::Null, _) => Ok(()),
        // Every field may hold several values.
        (Value::Array(values), _) => values.iter().try_for_each(|v| check_value(v, kind)),
        (Value::Object(_), "object" | "flattened") => Ok(()),
        (_, "object" | "flattened") => Err("it is a plain value, not an object"),
        (Value::Object(_), _) => Err("it is an object"),
        (Value::String(text), "date" | "date_nanos") if instant(text).is_some() => Ok(()),
        (_, "date" | "date_nanos") => Err("it is not an RFC 3339 time or date"),
        (value, "long") => whole(value, i64::MIN, i64::MAX),
        (value, "integer") => whole(value, i32::MIN.into(), i32::MAX.into()),
        (value, "short") => whole(value, i16::MIN.into(), i16::MAX.into()),
        (Value::Number(_), "double" | "float") => Ok(()),
        (Value::String(text), "double" | "float")
            if text.trim() == text && text.parse().is_ok_and(f64::is_finite) =>
        {
            Ok(())
        }
        (_, "double" | "float") => Err("it is not a number"),
        (Value::Bool(_), "boolean") => Ok(()),
        (Value::String(text), "boolean") if text == "true" || text == "false" => Ok(()),
        (_, "boolean") => Err("it is neither true nor false"),
        (Value::String(text), "keyword") if text.len() > LONGEST_KEYWORD => {
            Err("the term is longer than 32766 bytes")
        }
        _ => Ok(()),
    }
}

fn whole(value: &Value, least: i64, most: i64) -> Result<(), &'static str> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    match number {
        Some(number) if (least..=most).contains(&number) => Ok(()),
        Some(_) => Err("it is out of range"),
        None => Err("it is not a whole number"),
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    // As Elasticsearch's strict_date_optional_time: a date alone is midnight UTC.
    let date: Date = if text.len() == 10 { text.parse().ok()? } else { return None };
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// Names of a template's date fields.
pub(in crate::index) fn date_fields(template: &Template) -> impl Iterator<Item = &str> {
    template.fields.iter().filter(|(_, kind)| kind.starts_with("date")).map(|(field, _)| field.as_str())
}

/// A document's value of a date field (the latest of several).
pub(in crate::index) fn date(document: &Fields, field: &str) -> Option<(Timestamp, String)> {
    let of = |value: &Value| value.as_str().and_then(|text| Some((instant(text)?, text.to_owned())));
    match find(document, field)? {
        Value::Array(values) => values.iter().filter_map(of).max_by_key(|(at, _)| *at),
        value => of(value),
    }
}

#[cfg(test)]
mod tests;

//! Byte fields as one run of bytes instead of a list of numbers: `#[serde(with = "bytes")]`. Formats without
//! bytes (JSON) show and read them as a list all the same.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes where no attribute can stand.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Blob(#[serde(with = "crate::bytes")] pub(crate) Vec<u8>);

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    deserializer.deserialize_byte_buf(BytesVisitor)
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_through_compact_and_readable_formats() {
        let blob = Blob(vec![0, 255, 7]);
        let compact = postcard::to_stdvec(&blob).expect("encodes");
        assert_eq!(compact, [3, 0, 255, 7]);
        assert_eq!(postcard::from_bytes::<Blob>(&compact).expect("decodes"), blob);
        let text = serde_json::to_string(&blob).expect("encodes");
        assert_eq!(text, "[0,255,7]");
        assert_eq!(serde_json::from_str::<Blob>(&text).expect("decodes"), blob);
    }
}

//! Which keys an object may have, the same in every store, so that a day can move from one to another.

use crate::{BackendError, ErrorKind, Result};

/// The ending of the files that hold metadata, where a store has files.
pub(super) const METADATA: &str = ".meta.json";

/// Refuses a key that not every store can have.
pub(super) fn check(place: &str, key: &str) -> Result<()> {
    let refuse = |why: &str| {
        Err(BackendError::new(ErrorKind::Rejected, place, format!("\"{key}\" is not a usable key: {why}"))
            .remedy("use parts of 1 to 200 printable characters, separated by single '/', none beginning with '.'"))
    };
    if key.len() > 1024 {
        return refuse("it is longer than 1024 bytes");
    }
    if key.ends_with(METADATA) {
        return refuse("its ending is kept for metadata");
    }
    for part in key.split('/') {
        match part {
            "" => return refuse("it begins or ends with '/', has an empty part, or is empty"),
            _ if part.starts_with('.') => return refuse("a part begins with '.'"),
            _ if part.len() > 200 => return refuse("a part is longer than 200 bytes"),
            _ if part.contains(|c: char| c.is_control() || c == '\\') => {
                return refuse("it holds a control character or '\\'");
            }
            _ => {}
        }
    }
    Ok(())
}

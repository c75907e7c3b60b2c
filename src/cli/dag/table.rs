//! Aligned columns for people.

use std::time::Duration;

pub(super) use crate::table::columns;

/// A duration as DAG files write it: `1h30m`.
pub(super) fn duration(length: Duration) -> String {
    let milliseconds = length.as_millis();
    let mut rest = milliseconds;
    let mut text = String::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_files() {
        for text in ["0s", "250ms", "30s", "1m30s", "1h", "2d3h"] {
            assert_eq!(duration(domain::units::duration(text).expect("a duration")), text);
        }
    }
}

//! What the copies of a step say and return, as one attempt. A step of one copy uses the attempt's own
//! folder.

use std::path::{Path, PathBuf};

use crate::Status;
use crate::folder::{RESULT, read_or_warn, read_status};

/// The folder in which a copy of a step keeps what is its own. 0 is the number of a single one.
pub fn folder(attempt: &Path, replica: u32) -> PathBuf {
    if replica == 0 { attempt.to_owned() } else { attempt.join(format!("replica-{replica}")) }
}

/// Reads what the copies say of themselves.
pub(super) fn read(attempt: &Path, copies: u32) -> Vec<Option<Status>> {
    let numbers = if copies > 1 { 1..=copies } else { 0..=0 };
    numbers.map(|number| read_status(&folder(attempt, number))).collect()
}

/// One status for all: ready when every copy is, with the trouble of the first that has any and the sums of
/// their numbers.
pub(super) fn merge(all: &[Option<Status>], nodes: &[String]) -> Option<Status> {
    let mut said = all.iter().flatten();
    let mut merged = said.next()?.clone();
    for status in said {
        merged.degraded = merged.degraded.or_else(|| status.degraded.clone());
        merged.waits = merged.waits.or_else(|| status.waits.clone());
        merged.notice = merged.notice.into_iter().chain(status.notice.clone()).max_by_key(|n| n.at);
        for (name, value) in &status.facts {
            let sum = merged
                .facts
                .get(name)
                .and_then(serde_json::Value::as_u64)
                .zip(value.as_u64())
                .map(|(a, b)| a + b);
            let latest =
                merged.facts.get(name).zip(value.as_str()).filter(|(old, new)| old.as_str() < Some(*new));
            match (sum, latest.is_some(), merged.facts.contains_key(name)) {
                (Some(sum), _, _) => drop(merged.facts.insert(name.clone(), sum.into())),
                (None, true, _) | (None, _, false) => drop(merged.facts.insert(name.clone(), value.clone())),
                _ => {}
            }
        }
    }
    let ready = all.iter().filter(|s| s.as_ref().is_some_and(|s| s.ready)).count();
    merged.ready = ready == all.len();
    if all.len() > 1 {
        merged.facts.insert("replicas".into(), format!("{ready} of {} ready", all.len()).into());
    }
    if !nodes.is_empty() {
        let mut names = nodes.to_vec();
        names.sort();
        names.dedup();
        merged.facts.insert("node".into(), names.join(", ").into());
    }
    Some(merged)
}

/// What the copies returned: a single one's result, or all of them.
pub(super) fn result(attempt: &Path, copies: u32) -> Option<serde_json::Value> {
    if copies <= 1 {
        return read_or_warn(&attempt.join(RESULT));
    }
    let all: Vec<serde_json::Value> =
        (1..=copies).map(|n| read_or_warn(&folder(attempt, n).join(RESULT)).unwrap_or_default()).collect();
    all.iter().any(|r| !r.is_null()).then(|| serde_json::json!({ "replicas": all }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(ready: bool, written: u64, newest: &str) -> Option<Status> {
        let facts = serde_json::json!({"written": written, "newest": newest});
        Some(Status { ready, facts: facts.as_object().cloned().expect("a table"), ..Status::default() })
    }

    #[test]
    fn copies_speak_with_one_voice() {
        assert_eq!(merge(&[None], &[]), None);
        let one = merge(&[status(true, 5, "a")], &["engine-a".into()]).expect("a status");
        assert_eq!(
            (one.ready, &one.facts["node"], one.facts.get("replicas")),
            (true, &"engine-a".into(), None)
        );
        let both =
            merge(&[status(true, 5, "a"), status(false, 7, "b")], &["b".into(), "a".into(), "b".into()])
                .expect("a status");
        assert!(!both.ready);
        assert_eq!(both.facts["written"], 12);
        assert_eq!(both.facts["newest"], "b");
        assert_eq!(both.facts["replicas"], "1 of 2 ready");
        assert_eq!(both.facts["node"], "a, b");
        assert!(
            merge(&[status(true, 1, ""), None], &[]).is_some_and(|s| !s.ready),
            "one has said nothing yet"
        );
    }

    #[test]
    fn results_of_copies_stand_side_by_side() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(result(dir.path(), 2), None);
        let second = folder(dir.path(), 2);
        std::fs::create_dir_all(&second).expect("made");
        crate::folder::write_result(&second, &serde_json::json!({"written": 3})).expect("written");
        assert_eq!(result(dir.path(), 2), Some(serde_json::json!({"replicas": [null, {"written": 3}]})));
        crate::folder::write_result(dir.path(), &serde_json::json!(1)).expect("written");
        assert_eq!(result(dir.path(), 1), Some(serde_json::json!(1)));
    }
}

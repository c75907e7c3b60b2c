mod day;

use std::sync::Arc;

use super::*;
use crate::testing::fakes::Stores;
use crate::testing::fixtures;

#[test]
fn attempts_share_a_name_and_runs_do_not() {
    let backends = Arc::new(Stores::default()).backends();
    let (context, _) = fixtures::context(
        "sink-index",
        serde_json::json!({}),
        backends,
        fixtures::fast_clock(),
        std::path::Path::new("data"),
    );
    let named = |run: &str, attempt: u32| {
        let mut spec = context.spec.clone();
        spec.id = domain::ids::AttemptId { run: run.parse().expect("a run"), attempt, ..spec.id };
        member(&spec)
    };
    assert_eq!(named("day@2026-11-20", 1), "day.sink-index.2026-11-20");
    assert_eq!(named("day@2026-11-20", 2), named("day@2026-11-20", 1));
    assert_eq!(named("day@2026-11-20+manual.1", 1), "day.sink-index.2026-11-20_manual.1");
}

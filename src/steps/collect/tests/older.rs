//! A spool that version 0.1 wrote (kinds 1 to 4: wire texts, a frame it could not read, a session): it opens,
//! is forwarded and reconciled.

use std::path::Path;

use serde_json::json;

use super::{Bench, Kind, frame};
use crate::StepError;

/// Five records, of which one is damaged; `seq` of each is its place in the list of the module.
fn lay_down(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("collect/tests/spool-of-0.1");
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the fixture").map(|e| e.expect("an entry")) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_of_an_older_version_is_forwarded_and_reconciled() {
    let bench = Bench::new().await;
    lay_down(&bench.spool());
    let collector = bench.start().await;
    bench.has_records(4).await;
    bench.stores.wait_until("the dead letters", |s| s.records("kis.trades.dlq").len() == 2).await;
    // One of the old trades again, and a new one.
    bench.exchange.text(&frame("000660", 1));
    bench.exchange.text(&frame("000660", 2));
    bench.has_records(5).await;
    let result = collector.stop().await;
    assert_eq!((&result["records"], &result["duplicates"]), (&json!(1), &json!(1)), "{result}");
    assert_eq!((&result["gaps"], &result["gap_shares"]), (&json!(1), &json!(10)), "{result}");

    let trades =
        ["000660:1", "000660:2", "005930:20", "005930:5", "005930:7"].map(|t| format!("kis:2026-11-20:{t}"));
    assert_eq!(bench.ids(), trades);
    assert_eq!(bench.stores.raw_ids("kis.trades"), trades);
    let letters = bench.stores.records("kis.trades.dlq");
    let header = |at: usize, name: &str| {
        let value = letters[at].record.header(&format!("__connect.errors.{name}")).expect("a header");
        String::from_utf8_lossy(value).into_owned()
    };
    assert_eq!(
        (header(0, "exception.class.name"), header(0, "class.name")),
        ("wrong_width".into(), "collect/kis".into())
    );
    assert_eq!(letters[0].record.value, b"0|H0STCNT0|001|too^short");
    assert_eq!(
        (header(1, "exception.class.name"), &*letters[1].record.value),
        ("bad_utf8".into(), &b"H0STCNT0|005930^\xff\xfe"[..])
    );
    let kinds: Vec<_> =
        bench.entries().iter().map(|e| e.kind).filter(|k| matches!(k, Kind::Record | Kind::Trade)).collect();
    assert_eq!(kinds.iter().filter(|k| **k == Kind::Trade).count(), 1, "only the new one is of the new kind");

    let (mut context, _) = bench.context();
    context.spec.step.with = json!({}).as_object().expect("a table").clone();
    let error = crate::reconcile::run(context).await.expect_err("nothing was indexed");
    let StepError::Unmet { result, .. } = error else { panic!("{error}") };
    for hop in ["spool", "log", "raw"] {
        let hop = &result["hops"][hop];
        assert_eq!(
            (&hop["unique"], &hop["missing"], &hop["duplicates"]),
            (&json!(5), &json!(0), &json!(0)),
            "{result}"
        );
    }
    assert_eq!((&result["gap_shares"], &result["undecodable"]), (&json!(10), &json!(1)), "{result}");
    assert_eq!(result["vwap"], json!({"checked": 1, "equal": 1, "different": []}), "{result}");
}

use std::fs;

use super::*;
use crate::ErrorKind;

fn message(key: &str, text: &str) -> Message {
    Message {
        key: key.into(),
        from: "openbell@localhost".into(),
        to: vec!["oncall@example.com".into(), "Kim <kim@example.com>".into()],
        subject: "수집이 멈췄습니다:\r\nX-Injected: yes".into(),
        text: text.into(),
        at: "2026-11-20T10:30:00+09:00".parse().expect("valid"),
    }
}

#[tokio::test]
async fn a_repeat_overwrites_and_another_key_does_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let mail = FolderMail::open(&dir.path().join("outbox")).expect("opens");
    mail.send(&message("stalled:kis:1", "first")).await.expect("sends");
    mail.send(&message("stalled:kis:1", "second")).await.expect("sends");
    mail.send(&message("stalled:kis:2", "other")).await.expect("sends");
    let mut files: Vec<_> = fs::read_dir(dir.path().join("outbox"))
        .expect("reads")
        .map(|e| e.expect("an entry").path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(
        files
            .iter()
            .all(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with("20261120T013000Z-"))),
        "{files:?}"
    );
    let texts: Vec<_> = files.iter().map(|f| fs::read_to_string(f).expect("text")).collect();
    assert!(texts.iter().any(|t| t.contains("second")) && !texts.iter().any(|t| t.contains("first")));
    let one = &texts[0];
    assert!(
        one.contains("Date: Fri, 20 Nov 2026 01:30:00 +0000") && one.contains("To: oncall@example.com"),
        "{one}"
    );
    assert!(
        one.contains("Message-ID: <") && one.contains("stalled-kis-") && one.contains("@localhost>"),
        "{one}"
    );
    assert!(one.contains("Content-Type: text/plain; charset=utf-8"), "{one}");
    assert!(!one.lines().any(|l| l.starts_with("X-Injected")), "{one}");
}

#[tokio::test]
async fn a_bad_address_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let mail = FolderMail::open(dir.path()).expect("opens");
    let error = mail
        .send(&Message { to: vec!["not an address".into()], ..message("k", "t") })
        .await
        .expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert!(
        error.to_string().contains("\"not an address\"") && error.to_string().contains("alerts.email"),
        "{error}"
    );
    let error = mail.send(&Message { to: vec![], ..message("k", "t") }).await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Rejected, "{error}");
}

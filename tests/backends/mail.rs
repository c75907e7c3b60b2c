//! Mail through a real server that keeps what it gets as files.

use std::path::{Path, PathBuf};

use openbell::backends::ErrorKind;
use openbell::backends::endpoint::Endpoint;
use openbell::backends::mail::smtp::SmtpMail;
use openbell::backends::mail::{Mail, Message};

use crate::servers::variable;

/// The server's address with other parameters, and its inbox.
fn server(test: &str, parameters: &str) -> Option<(Endpoint, PathBuf)> {
    let address = variable("OPENBELL_SMTP", test)?;
    let inbox = variable("OPENBELL_INBOX", test)?;
    let join = if address.contains('?') { '&' } else { '?' };
    let address = if parameters.is_empty() { address } else { format!("{address}{join}{parameters}") };
    Some((Endpoint::parse(&address).expect("an address"), inbox.into()))
}

fn message(key: &str) -> Message {
    Message {
        key: format!("{key}:{:016x}", fastrand::u64(..)),
        from: "openbell@example.com".into(),
        to: vec!["oncall@example.com".into(), "김 <kim@example.com>".into()],
        subject: "수집이 멈췄습니다".into(),
        text: "kis.trades: 5분째 새 기록이 없습니다\n.\n..끝\n".into(),
        at: "2026-11-20T10:30:00+09:00".parse().expect("valid"),
    }
}

/// Mails whose Message-ID tells this key.
fn found(inbox: &Path, key: &str) -> Vec<String> {
    let safe: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let files = std::fs::read_dir(inbox).expect("an inbox").map(|e| e.expect("an entry").path());
    let files = files.filter(|path| path.extension().is_some_and(|e| e == "eml"));
    files
        .map(|path| std::fs::read_to_string(path).expect("a mail"))
        .filter(|text| text.contains(&safe))
        .collect()
}

#[tokio::test]
async fn a_mail_arrives_whole_and_a_repeat_has_the_same_id() {
    let Some((endpoint, inbox)) = server("a_mail_arrives_whole_and_a_repeat_has_the_same_id", "") else {
        return;
    };
    let mail = SmtpMail::connect(&endpoint).expect("connects");
    let message = message("stalled");
    mail.send(&message).await.expect("sends");
    mail.send(&message).await.expect("sends");
    let mails = found(&inbox, &message.key);
    assert_eq!(mails.len(), 2);
    for to in ["oncall@example.com", "kim@example.com"] {
        assert!(mails[0].contains(&format!("X-Envelope-To: {to}")), "{}", mails[0]);
    }
    let ids: Vec<_> = mails.iter().flat_map(|m| m.lines()).filter(|l| l.starts_with("Message-ID:")).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
    assert!(mails[0].contains("Date: Fri, 20 Nov 2026 01:30:00 +0000"), "{}", mails[0]);
}

#[tokio::test]
async fn a_mail_goes_through_starttls_with_a_private_authority() {
    let test = "a_mail_goes_through_starttls_with_a_private_authority";
    let Some(ca) = variable("OPENBELL_SMTP_CA", test) else { return };
    let Some((endpoint, inbox)) = server(test, &format!("tls=starttls&ca={ca}")) else { return };
    let message = message("encrypted");
    SmtpMail::connect(&endpoint).expect("connects").send(&message).await.expect("sends");
    assert_eq!(found(&inbox, &message.key).len(), 1);
}

#[tokio::test]
async fn an_unknown_authority_gets_no_mail() {
    let Some((endpoint, inbox)) = server("an_unknown_authority_gets_no_mail", "tls=starttls") else { return };
    let message = message("unknown");
    let error =
        SmtpMail::connect(&endpoint).expect("connects").send(&message).await.expect_err("not trusted");
    assert!(error.kind == ErrorKind::Unavailable && error.to_string().contains("?ca=FILE"), "{error}");
    assert!(found(&inbox, &message.key).is_empty());
}

#[tokio::test]
async fn a_wrong_password_is_forbidden() {
    let Some((endpoint, inbox)) = server("a_wrong_password_is_forbidden", "password=wrong") else { return };
    let message = message("forbidden");
    let error = SmtpMail::connect(&endpoint).expect("connects").send(&message).await.expect_err("refused");
    assert!(error.kind == ErrorKind::Forbidden && error.to_string().contains("password"), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
    assert!(found(&inbox, &message.key).is_empty());
}

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

fn connect(address: &str) -> Result<SmtpMail> {
    SmtpMail::connect(&Endpoint::parse(address).expect("an address"))
}

/// A mail server that answers each line by a script; `None` freezes it. The lines it got come out of the
/// channel.
async fn server(
    script: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> (String, UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("an address").to_string();
    let (heard, lines) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut in_data = false;
            let mut line = "CONNECT".to_owned();
            loop {
                let reply = if in_data && line != "." {
                    Some(String::new())
                } else {
                    in_data = line == "DATA";
                    script(&line)
                };
                let _ = heard.send(line.clone());
                match reply {
                    None => std::future::pending().await,
                    Some(reply) if reply.is_empty() => {}
                    Some(reply) => {
                        in_data = in_data && reply.starts_with("354");
                        if stream.write_all(format!("{reply}\r\n").as_bytes()).await.is_err() {
                            break;
                        }
                    }
                }
                line.clear();
                match stream.read_line(&mut line).await {
                    Ok(1..) => line.truncate(line.trim_end().len()),
                    _ => break,
                }
            }
        }
    });
    (address, lines)
}

/// The usual replies.
fn agreeable(line: &str) -> Option<String> {
    let reply = match line.split([' ', ':']).next().unwrap_or_default() {
        "CONNECT" => "220 fake",
        "EHLO" => "250-fake\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME",
        "AUTH" => "235 welcome",
        "DATA" => "354 go on",
        "QUIT" => "221 bye",
        _ => "250 fine",
    };
    Some(reply.into())
}

fn message(to: &[&str]) -> Message {
    Message {
        key: "stalled:kis:1".into(),
        from: "openbell@example.com".into(),
        to: to.iter().map(|t| (*t).to_owned()).collect(),
        subject: "수집이 멈췄습니다".into(),
        text: "kis.trades".into(),
        at: "2026-11-20T10:30:00+09:00".parse().expect("valid"),
    }
}

fn all(lines: &mut UnboundedReceiver<String>) -> Vec<String> {
    std::iter::from_fn(|| lines.try_recv().ok()).collect()
}

#[tokio::test]
async fn a_mail_is_delivered_with_its_key() {
    let (address, mut lines) = server(agreeable).await;
    let mail =
        connect(&format!("smtp://{address}?user=me&password=hunter2&hello=day.example.com")).expect("fine");
    mail.send(&message(&["oncall@example.com", "Kim <kim@example.com>"])).await.expect("sends");
    let lines = all(&mut lines);
    for wanted in
        ["EHLO day.example.com", "MAIL FROM:<openbell@example.com>", "RCPT TO:<kim@example.com>", "DATA", "."]
    {
        assert!(lines.iter().any(|l| l == wanted), "{wanted}: {lines:?}");
    }
    assert!(lines.iter().any(|l| l.starts_with("AUTH PLAIN")), "{lines:?}");
    assert!(lines.iter().any(|l| l.starts_with("Message-ID: <") && l.contains("stalled-kis-1")), "{lines:?}");
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    for (at, reply, kind) in [
        ("CONNECT", "421 4.3.2 too busy", ErrorKind::Busy),
        ("CONNECT", "554 5.7.1 go away", ErrorKind::Rejected),
        ("AUTH", "535 5.7.8 wrong", ErrorKind::Forbidden),
        ("AUTH", "454 4.7.0 later", ErrorKind::Busy),
        ("MAIL", "530 5.7.0 sign in first", ErrorKind::Forbidden),
        ("MAIL", "550 5.7.1 not from you", ErrorKind::Rejected),
        ("RCPT", "450 4.2.1 greylisted", ErrorKind::Busy),
        ("RCPT", "550 5.1.1 nobody", ErrorKind::Rejected),
        ("DATA", "452 4.3.1 no room", ErrorKind::Busy),
        (".", "554 5.6.0 spam", ErrorKind::Rejected),
        (".", "nonsense", ErrorKind::Unavailable),
    ] {
        let script =
            move |line: &str| if line.starts_with(at) { Some(reply.to_owned()) } else { agreeable(line) };
        let (address, _lines) = server(script).await;
        let mail = connect(&format!("smtp://{address}?user=me&password=hunter2")).expect("fine");
        let error = mail.send(&message(&["oncall@example.com"])).await.expect_err("refused");
        assert_eq!(error.kind, kind, "{at} {reply}: {error}");
        assert!(error.to_string().contains(&address) && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn one_bad_recipient_does_not_keep_the_mail_from_the_others() {
    let (address, mut lines) = server(|line| match line {
        "RCPT TO:<gone@example.com>" => Some("550 5.1.1 nobody".into()),
        _ => agreeable(line),
    })
    .await;
    let mail = connect(&format!("smtp://{address}")).expect("fine");
    mail.send(&message(&["gone@example.com", "oncall@example.com"])).await.expect("the other has it");
    assert!(all(&mut lines).iter().any(|l| l == "."), "sent");
    let error = mail.send(&message(&["gone@example.com"])).await.expect_err("nobody has it");
    assert!(
        error.to_string().contains("gone@example.com") && error.to_string().contains("alerts.email"),
        "{error}"
    );
}

#[tokio::test]
async fn who_has_the_mail_does_not_get_it_again() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let (address, mut lines) = server(move |line| match line {
        "RCPT TO:<slow@example.com>" if asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => {
            Some("450 4.2.1 greylisted".into())
        }
        _ => agreeable(line),
    })
    .await;
    let mail = connect(&format!("smtp://{address}")).expect("fine");
    let both = message(&["slow@example.com", "oncall@example.com"]);
    let error = mail.send(&both).await.expect_err("one is missing");
    assert!(error.kind == ErrorKind::Busy && error.to_string().contains("slow@example.com"), "{error}");
    mail.send(&both).await.expect("the rest");
    let sent: Vec<_> = all(&mut lines).into_iter().filter(|l| l.starts_with("RCPT")).collect();
    assert_eq!(sent.iter().filter(|l| l.contains("oncall")).count(), 1, "{sent:?}");
    mail.send(&both).await.expect("the same key again is a mail again");
    assert!(all(&mut lines).iter().any(|l| l.contains("oncall")));
}

#[tokio::test]
async fn a_mail_that_was_taken_is_sent_even_if_the_good_bye_fails() {
    let (address, _lines) = server(|line| if line == "QUIT" { None } else { agreeable(line) }).await;
    let mail = connect(&format!("smtp://{address}")).expect("fine");
    mail.send(&message(&["oncall@example.com"])).await.expect("sent");
}

#[tokio::test]
async fn a_frozen_server_is_told_in_time() {
    for at in ["CONNECT", "EHLO", "DATA", "."] {
        let (address, _lines) =
            server(move |line| if line.starts_with(at) { None } else { agreeable(line) }).await;
        let mail = SmtpMail { limits: Limits::SHORT, ..connect(&format!("smtp://{address}")).expect("fine") };
        let error = mail.send(&message(&["oncall@example.com"])).await.expect_err("no answer");
        assert_eq!(error.kind, ErrorKind::Unavailable, "{at}: {error}");
    }
}

#[tokio::test]
async fn no_mail_and_no_password_travel_in_clear_by_accident() {
    let error =
        connect("smtp://mail.example.com?tls=none&user=me&password=hunter2").map(drop).expect_err("in clear");
    assert!(error.kind == ErrorKind::Rejected && error.to_string().contains("in clear"), "{error}");
    for (address, tls, port) in [
        ("smtp://mail.example.com", Tls::Starttls, 587),
        ("smtp://mail.example.com?tls=none", Tls::None, 25),
        ("smtps://mail.example.com", Tls::Implicit, 465),
        ("smtp://mail.example.com:2525?tls=implicit", Tls::Implicit, 2525),
        ("smtp://localhost", Tls::None, 25),
        ("smtp://[::1]:2525", Tls::None, 2525),
    ] {
        let mail = connect(address).expect(address);
        assert_eq!((mail.tls, mail.port), (tls, port), "{address}");
    }
    // A server that does not offer STARTTLS gets nothing.
    let (address, mut lines) = server(agreeable).await;
    let mail = connect(&format!("smtp://{address}?tls=starttls&user=me&password=hunter2")).expect("fine");
    let error = mail.send(&message(&["oncall@example.com"])).await.expect_err("no STARTTLS");
    assert!(error.to_string().contains("STARTTLS"), "{error}");
    assert!(!all(&mut lines).iter().any(|l| l.starts_with("AUTH") || l.starts_with("MAIL")));
    for bad in [
        "smtp://a,b",
        "smtp://a/b",
        "smtp://a?tls=perhaps",
        "smtps://a?tls=none",
        "smtp://a?user=x",
        "smtp://a:port",
    ] {
        assert_eq!(connect(bad).map(drop).expect_err(bad).kind, ErrorKind::Rejected);
    }
}

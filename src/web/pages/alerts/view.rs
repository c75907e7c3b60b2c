//! All alerts that are kept, what became of their mails, and the mails that wait.

use askama::Template;

use crate::http::lookup::{KINDS, Wanted};
use crate::locale::{Reader, Text, ToText, filters, say, words};
use crate::view::Fragment;
use crate::view::format::Zone;
use crate::view::states::alert_class;
use daemon::Snapshot;

#[derive(Debug, Template)]
#[template(path = "pages/alerts/alert_log.html")]
struct Log {
    rows: Vec<Row>,
    kinds: Vec<(&'static str, Text, bool)>,
    dags: Vec<(String, bool)>,
    all: usize,
    zone: String,
}

#[derive(Debug)]
struct Row {
    at: String,
    kind: Text,
    class: &'static str,
    rule: String,
    run: String,
    step: String,
    summary: Text,
    mail: Text,
    mail_class: &'static str,
}

#[derive(Debug, Template)]
#[template(path = "pages/alerts/outbox.html")]
struct Outbox {
    rows: Vec<Mail>,
    zone: String,
}

#[derive(Debug)]
struct Mail {
    written: String,
    to: String,
    subject: String,
    tries: u32,
    next: Text,
    error: String,
}

#[derive(Debug, Template)]
#[template(path = "pages/alerts/test_mail.html")]
struct Test {
    to: String,
    csrf: String,
}

fn log(snapshot: &Snapshot, wanted: &Wanted, zone: &Zone) -> Log {
    let rows = snapshot.alerts.iter().filter(|a| wanted.takes(a)).map(|a| Row {
        at: zone.full(a.at),
        kind: words::alert_kind(a.kind),
        class: alert_class(a.kind),
        rule: if a.rule == a.kind.as_str() { String::new() } else { a.rule.clone() },
        run: a.run.to_string(),
        step: a.step.as_ref().map(ToString::to_string).unwrap_or_default(),
        summary: a.finding.to_text(),
        mail: words::mail(a.mail),
        mail_class: if a.mail == "queued" { "warn" } else { "quiet" },
    });
    let mut names: Vec<&str> = snapshot
        .alerts
        .iter()
        .map(|a| a.run.dag())
        .chain(snapshot.dags.iter().map(|d| d.name.as_str()))
        .collect();
    names.sort_unstable();
    names.dedup();
    Log {
        rows: rows.collect(),
        kinds: KINDS.map(|k| (k.as_str(), words::alert_kind(k), wanted.kind == Some(k))).to_vec(),
        dags: names.into_iter().map(|name| (name.to_owned(), wanted.dag == name)).collect(),
        all: snapshot.alerts.len(),
        zone: zone.label(snapshot.now),
    }
}

fn outbox(snapshot: &Snapshot, zone: &Zone) -> Outbox {
    let row = |m: &daemon::snapshot::QueuedMail| Mail {
        written: zone.full(m.created_at),
        to: m.to.join(", "),
        subject: m.subject.clone(),
        tries: m.tries,
        next: if m.tries == 0 { say!("at once") } else { Text::plain(zone.full(m.next_at)) },
        error: m.last_error.clone().unwrap_or_default(),
    };
    Outbox { rows: snapshot.outbox.iter().map(row).collect(), zone: zone.label(snapshot.now) }
}

/// The page.
pub fn page(snapshot: &Snapshot, wanted: &Wanted, csrf: &str, reader: &Reader) -> Vec<Fragment> {
    let zone = Zone::new(&snapshot.timezone);
    let mut to: Vec<&str> = snapshot
        .dags
        .iter()
        .filter_map(|d| d.dag.as_ref())
        .flat_map(|d| &d.alerts.email)
        .map(String::as_str)
        .collect();
    to.sort_unstable();
    to.dedup();
    vec![
        Fragment::new("outbox", &outbox(snapshot, &zone), reader),
        Fragment::new("test-mail", &Test { to: to.join(", "), csrf: csrf.to_owned() }, reader),
        Fragment::new("alert-log", &log(snapshot, wanted, &zone), reader),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::snapshot::QueuedMail;
    use daemon::testing;

    #[test]
    fn alerts_are_filtered_and_waiting_mails_say_why_they_wait() {
        let mut snapshot = testing::snapshot();
        let all = |snapshot: &Snapshot, wanted: &Wanted| -> String {
            page(snapshot, wanted, "token", &Reader::default())
                .iter()
                .map(|f| f.html.as_str().to_owned())
                .collect()
        };
        let wanted = Wanted::of("stalled", "kis-trading-day").expect("a kind");
        let html = all(&snapshot, &wanted);
        assert!(html.contains("nothing for 5m 12s") && !html.contains("9 dead letters on"), "{html}");
        assert!(html.contains("2026-11-20 13:10:00 KST"), "times have their date and zone");
        assert!(all(&snapshot, &Wanted::of("", "other").expect("all")).contains("No alert"));
        assert!(Wanted::of("nonsense", "").expect_err("unknown").contains("run_missed"));
        assert!(html.contains("No mail waits"));
        snapshot.outbox.push(QueuedMail {
            key: "k".into(),
            created_at: testing::at("13:10:00"),
            tries: 3,
            next_at: testing::at("13:12:00"),
            last_error: Some("connection refused".into()),
            to: vec!["oncall@example.com".into()],
            subject: "[openbell] stalled".into(),
        });
        let html = all(&snapshot, &Wanted::default());
        for text in ["connection refused", "2026-11-20 13:12:00 KST", "oncall@example.com"] {
            assert!(html.contains(text), "{text} in {html}");
        }
    }
}

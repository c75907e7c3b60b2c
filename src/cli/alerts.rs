//! `openbell alerts …`: looks at alerts and their mails, and shows that mail arrives.

use domain::format::Zone;
use serde_json::{Value, json};

use super::client::block_on;
use super::exit::{Exit, Failure};
use super::table::{columns, print, print_json};
use super::target::Target;
use domain::alert::AlertKind;

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List alerts with the state of their mails, newest first, and the mails that wait
    #[command(after_help = "Example:\n  openbell alerts list --kind stalled")]
    List {
        /// Only those of this kind
        #[arg(long, value_name = "KIND", value_parser = clap::builder::PossibleValuesParser::new(AlertKind::WORDS))]
        kind: Option<String>,
        /// Only those of this DAG
        #[arg(long, value_name = "DAG")]
        dag: Option<String>,
        /// Most alerts wanted
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
        #[command(flatten)]
        at: Target,
    },
    /// Show the kinds of alert there are, for `alerts: { on: […] }` of a DAG file
    Kinds {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Mail everybody whom DAGs name for alerts, to see that mail arrives
    Test {
        /// Only those whom this DAG names
        #[arg(long, value_name = "DAG")]
        dag: Option<String>,
        #[command(flatten)]
        at: Target,
    },
}

/// Carries out the command.
pub fn main(command: Command) -> super::exit::Result {
    block_on(async {
        match command {
            Command::Kinds { json } => kinds(json).map(|()| Exit::Fine),
            Command::List { kind, dag, limit, at } => list(kind, dag, limit, &at).await,
            Command::Test { dag, at } => {
                let answer = at.client()?.post_json("/api/v1/alerts/test", &json!({ "dag": dag })).await?;
                if at.json {
                    print_json(&answer)?;
                } else {
                    print(format!("{}\n", word(&answer, "message")))?;
                }
                Ok(Exit::Fine)
            }
        }
    })
}

fn kinds(json: bool) -> Result<(), Failure> {
    if json {
        let kind = |kind: &AlertKind| {
            let spec = kind.spec();
            json!({ "kind": spec.word, "title": spec.title, "help": spec.help, "severity": spec.severity.as_str(), "unasked": spec.unasked })
        };
        return print_json(&AlertKind::ALL.iter().map(kind).collect());
    }
    let mut rows = vec![["KIND", "SEVERITY", "MAILED", "IT MEANS"].map(String::from)];
    rows.extend(AlertKind::ALL.iter().map(|kind| {
        let spec = kind.spec();
        let mailed = if spec.unasked { "yes" } else { "if asked for" };
        [spec.word, spec.severity.as_str(), mailed, spec.title].map(String::from)
    }));
    print(columns(&rows))
}

async fn list(kind: Option<String>, dag: Option<String>, limit: u32, at: &Target) -> super::exit::Result {
    let client = at.client()?;
    let part = |name: &str, value: Option<String>| {
        value.map(|v| format!("&{name}={}", encoded(&v))).unwrap_or_default()
    };
    let path = format!("/api/v1/alerts?limit={limit}{}{}", part("kind", kind), part("dag", dag));
    let alerts = client.get_json(&path).await?;
    let outbox = client.get_json("/api/v1/outbox").await?;
    if at.json {
        print_json(
            &json!({ "alerts": alerts["alerts"], "total": alerts["total"], "outbox": outbox["mails"] }),
        )?;
        return Ok(Exit::Fine);
    }
    print(text(&alerts, &outbox))?;
    Ok(Exit::Fine)
}

/// A query's value with everything but plain letters, digits and marks covered.
fn encoded(text: &str) -> String {
    let covered = |b: u8| {
        if b.is_ascii_alphanumeric() || b"-_.".contains(&b) {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    text.bytes().map(covered).collect()
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn text(alerts: &Value, outbox: &Value) -> String {
    let zone = Zone::new(word(alerts, "timezone"));
    let time = |value: &Value, key: &str| {
        word(value, key).parse().map_or_else(|_| word(value, key).to_owned(), |at| zone.full(at))
    };
    let none = Vec::new();
    let rows = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).unwrap_or(&none).clone();
    let found = rows(alerts, "alerts");
    let mut text = if found.is_empty() {
        "no alerts\n".to_owned()
    } else {
        let mut table = vec![["AT", "KIND", "RUN", "STEP", "MAIL", "SUMMARY"].map(str::to_owned)];
        table.extend(found.iter().map(|a| {
            [
                time(a, "at"),
                word(a, "kind").into(),
                word(a, "run").into(),
                word(a, "step").into(),
                word(a, "mail").into(),
                word(a, "summary").into(),
            ]
        }));
        columns(&table)
    };
    let mails = rows(outbox, "mails");
    if !mails.is_empty() {
        let mut table = vec![["WRITTEN", "TRIES", "NEXT TRY", "SUBJECT", "LAST ERROR"].map(str::to_owned)];
        table.extend(mails.iter().map(|m| {
            [
                time(m, "created_at"),
                m["tries"].to_string(),
                time(m, "next_at"),
                word(m, "subject").into(),
                word(m, "last_error").into(),
            ]
        }));
        text.push_str(&format!("\n{} mails wait\n{}", mails.len(), columns(&table)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_and_waiting_mails_are_told_with_their_zone() {
        let alerts = json!({ "timezone": "Asia/Seoul", "alerts": [{
            "at": "2026-11-20T04:11:02Z", "kind": "stalled", "run": "day@2026-11-20", "step": "freshness", "mail": "queued", "summary": "feed: nothing" }] });
        let outbox = json!({ "mails": [{
            "created_at": "2026-11-20T04:11:02Z", "tries": 2, "next_at": "2026-11-20T04:12:00Z", "subject": "[openbell] stalled", "last_error": "refused" }] });
        let told = text(&alerts, &outbox);
        for part in ["2026-11-20 13:11:02 KST", "feed: nothing", "1 mails wait", "refused"] {
            assert!(told.contains(part), "{part} in\n{told}");
        }
        assert_eq!(text(&json!({}), &json!({})), "no alerts\n");
        assert_eq!(encoded("a b&c"), "a%20b%26c");
    }
}

//! Dead letters of a daemon elsewhere (`--url`), through its API.

use std::io::Write;

use domain::format::{Zone, part};
use serde_json::{Value, json};

use super::{Command, Selection, tell_groups, tell_letters, tell_replayed};
use crate::client::Client;
use crate::exit::Failure;
use backends::log::{Partition, Record, Stored};
use steps::dead_letters::{DeadLetter, Summary, topic_of};
use steps::replay::Replayed;

/// Letters of one answer.
const PART: usize = 500;

/// Carries out the command.
pub(super) async fn carry_out(
    command: &Command,
    client: &Client,
    out: &mut impl Write,
) -> crate::exit::Result {
    match command {
        Command::List(which) => {
            let (lines, zone) = lines(which, client, usize::MAX).await?;
            tell_groups(which, &lines, &zone, out)
        }
        Command::Show(show) => {
            let (lines, zone) = lines(&show.which, client, show.count).await?;
            let mut letters = Vec::new();
            for line in &lines {
                letters.push(letter(&show.which.topic, line, client).await?);
            }
            tell_letters(&show.which, &letters, &zone, out)
        }
        Command::Replay(which) => {
            let body = match &which.cause {
                Some(cause) => json!({ "topic": which.topic, "cause": cause }),
                None => json!({ "topic": which.topic, "all": true }),
            };
            let answer = client.post_json("/api/v1/dead-letters/replay", &body).await?;
            let done: Replayed = serde_json::from_value(answer).map_err(unreadable)?;
            tell_replayed(which, &done, out)
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::unusable(format!("the daemon's answer cannot be read: {error}; is it of the same version?"))
}

/// A word of a query.
fn word(text: &str) -> String {
    part(text).replace('+', "%2B")
}

/// At most so many of the letters, newest first, and the zone of the daemon's pages.
async fn lines(which: &Selection, client: &Client, most: usize) -> Result<(Vec<Summary>, Zone), Failure> {
    let cause = which.cause.as_deref().map(|cause| format!("&cause={}", word(cause))).unwrap_or_default();
    let (mut lines, mut after) = (Vec::new(), String::new());
    loop {
        let limit = PART.min(most - lines.len()).max(1);
        let path = format!("/api/v1/dead-letters/{}?limit={limit}{cause}{after}", part(&which.topic));
        let mut answer = client.get_json(&path).await?;
        if let Some(trouble) = answer["trouble"]["text"].as_str() {
            eprintln!("{trouble}; the letters were read before");
        }
        let more: Vec<Summary> = serde_json::from_value(answer["letters"].take()).map_err(unreadable)?;
        lines.extend(more);
        match answer["next"].as_str() {
            Some(next) if lines.len() < most => after = format!("&after={}", word(next)),
            _ => {
                lines.truncate(most);
                return Ok((lines, Zone::new(answer["timezone"].as_str().unwrap_or("UTC"))));
            }
        }
    }
}

/// A letter with its bytes, as far as the daemon shows them.
async fn letter(topic: &str, line: &Summary, client: &Client) -> Result<DeadLetter, Failure> {
    let path = format!("/api/v1/dead-letters/{}/{}/{}", part(topic), line.partition, line.offset);
    let answer = client.get_json(&path).await?;
    let record = &answer["record"];
    let value = bytes(&record["value"]).ok_or_else(|| unreadable("a letter without a value"))?;
    if record["value"]["cut"] == true {
        let (shown, all) = (value.len(), &record["value"]["size_bytes"]);
        eprintln!("{}/{}: the first {shown} of {all} bytes", line.partition, line.offset);
    }
    let headers = record["headers"].as_array().into_iter().flatten();
    let headers = headers.filter_map(|pair| Some((pair[0].as_str()?.to_owned(), bytes(&pair[1])?))).collect();
    let stored = Stored {
        partition: Partition { topic: topic_of(topic), number: line.partition },
        offset: line.offset,
        record: Record { key: bytes(&record["key"]), value, headers, timestamp: line.time },
    };
    Ok(DeadLetter { record: stored, replayed: line.replayed })
}

/// Bytes as the API shows them: text, or two hex digits a byte.
fn bytes(shown: &Value) -> Option<Vec<u8>> {
    let text = shown["text"].as_str()?;
    if shown["format"] != "hex" {
        return Some(text.as_bytes().to_vec());
    }
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes().chunks(2).map(|two| Some(digit(*two.first()?)? << 4 | digit(*two.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were() {
        let shown = |format: &str, text: &str| bytes(&json!({ "format": format, "text": text }));
        assert_eq!(shown("text", "plain"), Some(b"plain".to_vec()));
        assert_eq!(shown("json", "{\"a\":1}"), Some(b"{\"a\":1}".to_vec()));
        assert_eq!(shown("hex", "00ff1b5b"), Some(vec![0x00, 0xff, 0x1b, 0x5b]));
        assert_eq!((shown("hex", ""), shown("hex", "0"), shown("hex", "0g")), (Some(vec![]), None, None));
        assert_eq!(bytes(&Value::Null), None);
    }
}

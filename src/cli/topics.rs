//! `openbell topics …`: looks at topics, their groups and their records, through the daemon's API.

use domain::format::{Zone, part, rate};
use domain::message::thousands;
use jiff::Timestamp;
use serde_json::Value;

use super::client::{Client, block_on};
use super::exit::{Exit, Failure};
use super::table::{columns, print, print_json};
use super::target::Target;

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List topics with records, rate, newest record, dead letters and lag
    #[command(after_help = "Example:\n  openbell topics list --json | jq '.topics[].name'")]
    List {
        #[command(flatten)]
        at: Target,
    },
    /// Show a topic's partitions, and each group's position and lag
    Show {
        /// The topic
        name: String,
        #[command(flatten)]
        at: Target,
    },
    /// Print records of a partition: the newest, or those from an offset on
    Peek {
        /// The topic
        name: String,
        /// Number of the partition
        #[arg(long, default_value_t = 0, value_name = "N")]
        partition: u32,
        /// First offset [default: the newest records]
        #[arg(long, value_name = "OFFSET")]
        from: Option<u64>,
        /// How many, at most 100
        #[arg(long, default_value_t = 10, value_name = "N")]
        limit: usize,
        #[command(flatten)]
        at: Target,
    },
}

/// Carries out the command.
pub fn main(command: Command) -> super::exit::Result {
    block_on(carry_out(command))
}

async fn carry_out(command: Command) -> super::exit::Result {
    match command {
        Command::List { at } => {
            let client = at.client()?;
            if at.json {
                return print_json(&all(&client).await?).map(|()| Exit::Fine);
            }
            print(list(&all(&client).await?))?;
        }
        Command::Show { name, at } => {
            let answer = at.client()?.get_json(&format!("/api/v1/topics/{}", part(&name))).await?;
            if at.json { print_json(&answer)? } else { print(show(&answer))? }
        }
        Command::Peek { name, partition, from, limit, at } => {
            let from = from.map(|f| format!("&from={f}")).unwrap_or_default();
            let path =
                format!("/api/v1/topics/{}/records?partition={partition}&limit={limit}{from}", part(&name));
            let answer = at.client()?.get_json(&path).await?;
            if at.json { print_json(&answer)? } else { print(peek(&answer))? }
        }
    }
    Ok(Exit::Fine)
}

/// All topics, however many parts the answer comes in; with the zone of times under `timezone`.
async fn all(client: &Client) -> Result<Value, Failure> {
    let mut answer = client.get_json("/api/v1/topics?limit=500").await?;
    while let Some(next) = answer["next"].as_str() {
        let mut more = client.get_json(&format!("/api/v1/topics?limit=500&after={}", part(next))).await?;
        let mut topics = list_of(&answer, "topics").to_vec();
        topics.extend_from_slice(list_of(&more, "topics"));
        more["topics"] = topics.into();
        answer = more;
    }
    Ok(answer)
}

fn list_of<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Bytes of strangers go to a terminal: control characters are made visible.
fn text(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), thousands)
}

fn time(value: &Value, zone: &Zone) -> String {
    value
        .as_str()
        .and_then(|t| t.parse::<Timestamp>().ok())
        .map_or_else(|| "-".to_owned(), |at| zone.full(at))
}

fn zone(answer: &Value) -> Zone {
    Zone::new(answer["timezone"].as_str().unwrap_or("UTC"))
}

/// What a store that does not answer said.
fn trouble(answer: &Value) -> String {
    match answer["trouble"].as_object() {
        Some(trouble) => {
            let part = |key: &str| trouble.get(key).map(text).unwrap_or_default();
            format!("since {}: {}; the figures were read before\n", part("since"), part("text"))
        }
        None => String::new(),
    }
}

fn list(answer: &Value) -> String {
    let (topics, zone) = (list_of(answer, "topics"), zone(answer));
    if topics.is_empty() {
        return format!("{}there are no topics yet; the topics step of a DAG makes them\n", trouble(answer));
    }
    let head = ["TOPIC", "PARTITIONS", "RECORDS", "RATE", "NEWEST RECORD", "DEAD LETTERS", "LAG"];
    let mut rows = vec![head.map(str::to_owned)];
    for topic in topics {
        let lags =
            list_of(topic, "groups").iter().map(|g| format!("{} {}", text(&g["group"]), number(&g["lag"])));
        rows.push([
            text(&topic["name"]),
            number(&topic["partitions"]),
            number(&topic["records"]),
            topic["rate_per_second"].as_f64().map_or_else(|| "-".to_owned(), rate),
            time(&topic["newest"], &zone),
            number(&topic["dead_letters"]),
            lags.collect::<Vec<_>>().join(", "),
        ]);
    }
    format!("{}{}", trouble(answer), columns(&rows))
}

fn show(answer: &Value) -> String {
    let zone = zone(answer);
    let mut out = trouble(answer);
    out.push_str(&format!(
        "{}: {} records, {} dead letters\n\n",
        text(&answer["name"]),
        number(&answer["records"]),
        number(&answer["dead_letters"])
    ));
    let mut rows = vec![["PARTITION", "FIRST OFFSET", "NEXT OFFSET", "NEWEST RECORD"].map(str::to_owned)];
    for p in list_of(answer, "partitions") {
        rows.push([
            number(&p["partition"]),
            number(&p["start"]),
            number(&p["end"]),
            time(&p["newest"], &zone),
        ]);
    }
    out.push_str(&columns(&rows));
    let groups = list_of(answer, "groups");
    if groups.is_empty() {
        out.push_str("\nno group has committed an offset here\n");
        return out;
    }
    let mut rows = vec![["GROUP", "PARTITION", "POSITION", "LAG"].map(str::to_owned)];
    for group in groups {
        rows.push([text(&group["group"]), "all".to_owned(), String::new(), number(&group["lag"])]);
        for p in list_of(group, "partitions") {
            rows.push([String::new(), number(&p["partition"]), number(&p["next"]), number(&p["lag"])]);
        }
    }
    out.push('\n');
    out.push_str(&columns(&rows));
    out
}

fn bytes(shown: &Value) -> String {
    let hex = if shown["format"] == "hex" { "hex " } else { "" };
    let cut = if shown["cut"] == true {
        format!("… (of {} bytes)", number(&shown["size_bytes"]))
    } else {
        String::new()
    };
    format!("{hex}{}{cut}", text(&shown["text"]))
}

fn peek(answer: &Value) -> String {
    let zone = zone(answer);
    let mut out = trouble(answer);
    let records = list_of(answer, "records");
    if records.is_empty() {
        out.push_str(&format!(
            "nothing to show: partition {} holds the offsets {} up to {}\n",
            number(&answer["partition"]),
            number(&answer["start"]),
            number(&answer["end"])
        ));
    }
    for record in records {
        let key = if record["key"].is_null() {
            "no key".to_owned()
        } else {
            format!("key {}", bytes(&record["key"]))
        };
        out.push_str(&format!("offset {}  {}  {key}\n", record["offset"], time(&record["time"], &zone)));
        for header in list_of(record, "headers") {
            out.push_str(&format!("  {}: {}\n", text(&header[0]), bytes(&header[1])));
        }
        out.push_str(&format!("  {}\n", bytes(&record["value"])));
    }
    if answer["next"].is_u64() {
        out.push_str(&format!("more from --from {}\n", answer["next"].as_u64().unwrap_or(0) + 1));
    }
    out
}

#[cfg(test)]
mod tests;

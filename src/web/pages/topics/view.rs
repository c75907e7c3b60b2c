//! Topics: what the log holds, who reads it and how far, and the records themselves.

use askama::Template;

use super::data::{TopicFacts, Topics};
use super::records::{Look, Peek, Seen, Shown};
use crate::cache::Reading;
use crate::locale::{Reader, Text, ToText, filters, say};
use crate::view::format::{Zone, count, part, rate};
use crate::view::reading::head;
use crate::view::{Fragment, Pair};
use daemon::Snapshot;
use steps::dead_letters::topic_of;

/// All topics.
#[derive(Debug, Template)]
#[template(path = "pages/topics/topics.html")]
struct List {
    rows: Vec<Row>,
    zone: String,
    read: bool,
}

#[derive(Debug)]
struct Row {
    name: String,
    address: String,
    partitions: usize,
    records: String,
    rate: String,
    newest: Text,
    dead_letters: Option<Pair>,
    groups: Vec<Lag>,
}

/// A group and how far it is behind.
#[derive(Debug)]
struct Lag {
    group: String,
    lag: String,
    behind: bool,
}

fn lag(facts: &TopicFacts, group: &str, positions: &[Option<u64>]) -> Lag {
    let behind = facts.total_lag(positions);
    Lag { group: group.to_owned(), lag: count(behind), behind: behind > 0 }
}

/// Dead letters of a topic, and where they are.
fn dead_letters(topics: &Topics, name: &str) -> Option<Pair> {
    topics.dead_letters(name).map(|n| Pair::new(count(n), format!("/dead-letters/{}", part(name))))
}

/// The page of all topics.
pub(crate) fn list(snapshot: &Snapshot, reading: &Reading<Topics>, reader: &Reader) -> Vec<Fragment> {
    let zone = Zone::new(&snapshot.timezone);
    let empty = Topics::default();
    let topics = reading.value.as_ref().map_or(&empty, |(_, topics)| topics.as_ref());
    let row = |facts: &TopicFacts| Row {
        name: facts.topic.name.clone(),
        address: part(&facts.topic.name),
        partitions: facts.topic.partitions.len(),
        records: count(facts.records()),
        rate: snapshot.gauges.rates.get(&facts.topic.name).map_or_else(|| "–".to_owned(), |r| rate(*r)),
        newest: facts.newest().map_or_else(|| say!("no record"), |at| Text::plain(zone.full(at))),
        dead_letters: dead_letters(topics, &facts.topic.name),
        groups: facts.groups.iter().map(|(group, positions)| lag(facts, group, positions)).collect(),
    };
    let list = List {
        rows: topics.topics.iter().map(row).collect(),
        zone: zone.label(snapshot.now),
        read: reading.value.is_some(),
    };
    vec![
        head(&say!("Topics"), Vec::new(), "/topics".to_owned(), reading, &zone, reader),
        Fragment::new("topics", &list, reader),
    ]
}

/// One topic.
#[derive(Debug, Template)]
#[template(path = "pages/topics/topic.html")]
struct One {
    facts: Vec<Pair>,
    dead_letters: Option<Pair>,
    name: String,
    address: String,
    partitions: Vec<PartitionRow>,
    groups: Vec<GroupTable>,
}

#[derive(Debug)]
struct PartitionRow {
    number: usize,
    start: String,
    end: String,
    records: String,
    newest: Text,
}

#[derive(Debug)]
struct GroupTable {
    total: Lag,
    rows: Vec<Position>,
}

#[derive(Debug)]
struct Position {
    partition: usize,
    next: Text,
    lag: String,
    behind: bool,
}

/// Records of a partition.
#[derive(Debug, Template)]
#[template(path = "pages/topics/records.html")]
struct Records {
    address: String,
    partition: u32,
    choices: Vec<Choice>,
    from: String,
    limit: usize,
    holds: Text,
    rows: Vec<RecordRow>,
    earlier: Option<String>,
    later: Option<String>,
    trouble: Option<Text>,
}

/// A partition that can be chosen.
#[derive(Debug)]
struct Choice {
    number: usize,
    chosen: bool,
}

/// A record, as a list shows it.
#[derive(Debug)]
pub(crate) struct RecordRow {
    pub(crate) offset: u64,
    pub(crate) time: String,
    pub(crate) key: Text,
    pub(crate) value: String,
    pub(crate) short: String,
    pub(crate) format: Text,
    pub(crate) size: String,
    pub(crate) cut: bool,
    pub(crate) headers: Vec<Pair>,
    pub(crate) more_headers: usize,
}

/// Words for a format.
fn format(shown: &Shown) -> Text {
    match shown.format {
        crate::pages::topics::records::Format::Json => Text::plain("JSON"),
        crate::pages::topics::records::Format::Text => say!("text"),
        crate::pages::topics::records::Format::Hex => say!("hex"),
    }
}

/// Bytes in one line: hex is said to be so, and what is cut ends in dots.
pub(crate) fn one_line(shown: &Shown) -> String {
    let dots = if shown.cut { "…" } else { "" };
    let hex = if shown.format == crate::pages::topics::records::Format::Hex { "hex " } else { "" };
    format!("{hex}{}{dots}", shown.text)
}

/// A record for a page.
pub(crate) fn record(seen: &Seen, zone: &Zone) -> RecordRow {
    const SHORT: usize = 120;
    let line = one_line(&seen.value);
    let short: String = line.chars().take(SHORT).collect();
    RecordRow {
        offset: seen.offset,
        time: zone.full(seen.time),
        key: seen.key.as_ref().map_or_else(|| say!("no key"), |key| Text::plain(one_line(key))),
        short: if short.len() < line.len() { format!("{short}…") } else { short },
        value: seen.value.pretty(),
        format: format(&seen.value),
        size: count(seen.value.size_bytes as u64),
        cut: seen.value.cut,
        headers: seen.headers.iter().map(|(name, value)| Pair::new(name.clone(), one_line(value))).collect(),
        more_headers: seen.header_count.saturating_sub(seen.headers.len()),
    }
}

fn records(look: &Look, partitions: usize, reading: &Reading<Peek>, zone: &Zone) -> Records {
    let address = format!("/topics/{}", part(&look.topic));
    let at = |from: u64| {
        format!("{address}?partition={}&from={from}&limit={}#live-records", look.partition, look.limit)
    };
    let trouble =
        reading.trouble.as_ref().map(|t| crate::view::reading::in_words(t, reading.value.is_some(), zone));
    let mut shown = Records {
        partition: look.partition,
        choices: (0..partitions)
            .map(|number| Choice { number, chosen: number == look.partition as usize })
            .collect(),
        from: look.from.map_or_else(String::new, |f| f.to_string()),
        limit: look.limit,
        holds: Text::plain("–"),
        rows: Vec::new(),
        earlier: None,
        later: None,
        trouble,
        address: String::new(),
    };
    if let Some((_, peek)) = &reading.value {
        let first = peek.records.first().map_or(peek.range.end, |r| r.offset);
        shown.holds = match peek.range.end.saturating_sub(peek.range.start) {
            0 => say!("no records"),
            n => say!(
                "{} records, offsets {} to {}",
                count(n),
                peek.range.start,
                peek.range.end.saturating_sub(1)
            ),
        };
        shown.rows = peek.records.iter().rev().map(|r| record(r, zone)).collect();
        shown.earlier = (first > peek.range.start)
            .then(|| at(first.saturating_sub(look.limit as u64).max(peek.range.start)));
        shown.later = peek.next().map(at);
    }
    shown.address = address;
    shown
}

/// The page of a topic that is in `reading`.
pub(crate) fn one(
    snapshot: &Snapshot,
    reading: &Reading<Topics>,
    topics: &Topics,
    facts: &TopicFacts,
    look: &Look,
    peek: &Reading<Peek>,
    reader: &Reader,
) -> Vec<Fragment> {
    let zone = Zone::new(&snapshot.timezone);
    let name = &facts.topic.name;
    let ranges = facts.topic.partitions.iter().zip(&facts.newest).enumerate();
    let partitions = ranges.map(|(number, (range, newest))| PartitionRow {
        number,
        start: count(range.start),
        end: count(range.end),
        records: count(range.end.saturating_sub(range.start)),
        newest: newest.map_or_else(|| say!("no record"), |at| Text::plain(zone.full(at))),
    });
    let groups = facts.groups.iter().map(|(group, positions)| GroupTable {
        total: lag(facts, group, positions),
        rows: positions
            .iter()
            .enumerate()
            .map(|(partition, next)| {
                let behind = facts.lag(partition, *next);
                let next = next.map_or_else(|| say!("nothing committed"), |n| Text::plain(count(n)));
                Position { partition, next, lag: count(behind), behind: behind > 0 }
            })
            .collect(),
    });
    let rate = snapshot.gauges.rates.get(name).map_or_else(|| "–".to_owned(), |r| rate(*r));
    let page = One {
        facts: vec![
            Pair::new(say!("records"), count(facts.records())),
            Pair::new(say!("partitions"), facts.topic.partitions.len().to_string()),
            Pair::new(say!("rate over a minute"), rate),
            Pair::new(
                say!("newest record"),
                facts.newest().map_or_else(|| say!("none"), |at| Text::plain(zone.full(at))),
            ),
        ],
        dead_letters: dead_letters(topics, name).filter(|_| topics.find(&topic_of(name)).is_some()),
        name: name.clone(),
        address: part(name),
        partitions: partitions.collect(),
        groups: groups.collect(),
    };
    let back = vec![Pair::new(say!("Topics"), "/topics")];
    let address = match look.from {
        Some(from) => {
            format!("/topics/{}?partition={}&from={from}&limit={}", part(name), look.partition, look.limit)
        }
        None => format!("/topics/{}?partition={}&limit={}", part(name), look.partition, look.limit),
    };
    vec![
        head(&name.to_text(), back, address, reading, &zone, reader),
        Fragment::new("topic", &page, reader),
        Fragment::new("records", &records(look, facts.topic.partitions.len(), peek, &zone), reader),
    ]
}

//! Dead letters: what could not be processed, by cause, one by one, and sent again.

use askama::Template;

use super::data::{EDIT_BYTES, LetterFacts, Letters};
use crate::cache::Reading;
use crate::locale::{Reader, Text, filters, say};
use crate::pages::topics::data::Topics;
use crate::pages::topics::records::VALUE_BYTES;
use crate::pages::topics::view::{RecordRow, one_line, record};
use crate::view::format::{Zone, count, part};
use crate::view::reading::{head, in_words};
use crate::view::{Fragment, Pair};
use daemon::Snapshot;
use steps::dead_letters::{CauseGroup, PREFIX, Summary, by_cause};
use steps::replay::Replayed;

/// A name in a query, where `+` would be a space.
fn in_query(text: &str) -> String {
    part(text).replace('+', "%2B")
}

/// Dead letters by cause, for each topic.
#[derive(Debug, Template)]
#[template(path = "pages/dead_letters/letter_groups.html")]
struct Groups {
    topics: Vec<TopicGroups>,
    csrf: String,
    read: bool,
}

#[derive(Debug)]
struct TopicGroups {
    topic: String,
    address: String,
    total: String,
    open: usize,
    older: u64,
    rows: Vec<GroupRow>,
    trouble: Option<Text>,
}

#[derive(Debug)]
struct GroupRow {
    cause: String,
    address: String,
    connector: String,
    stage: Text,
    count: String,
    replayed: String,
    first: String,
    last: String,
    message: String,
}

fn group(topic: &str, group: CauseGroup, zone: &Zone) -> GroupRow {
    GroupRow {
        address: format!("/dead-letters/{}?cause={}", part(topic), in_query(&group.cause)),
        cause: group.cause,
        connector: group.connector,
        stage: stage(&group.stage),
        count: count(group.count),
        replayed: count(group.replayed),
        first: zone.full(group.first),
        last: zone.full(group.last),
        message: group.message,
    }
}

/// Where it failed, in words.
fn stage(word: &str) -> Text {
    match word {
        "collect" => say!("frame received"),
        "VALUE_CONVERTER" => say!("record read"),
        "TASK_PUT" => say!("record stored"),
        other => Text::plain(other.to_owned()),
    }
}

/// The page of all dead letters. `letters` are by topic.
pub(crate) fn list(
    snapshot: &Snapshot,
    topics: &Reading<Topics>,
    letters: &[(String, Reading<Letters>)],
    csrf: &str,
    reader: &Reader,
) -> Vec<Fragment> {
    let zone = Zone::new(&snapshot.timezone);
    let of_topic = |(topic, reading): &(String, Reading<Letters>)| {
        let (lines, older) = reading.value.as_ref().map_or((&[][..], 0), |(_, l)| (&l.lines[..], l.older));
        TopicGroups {
            topic: topic.clone(),
            address: part(topic),
            total: count(lines.len() as u64 + older),
            open: lines.iter().filter(|l| !l.replayed).count(),
            older,
            rows: by_cause(lines).into_iter().map(|g| group(topic, g, &zone)).collect(),
            trouble: reading.trouble.as_ref().map(|t| in_words(t, reading.value.is_some(), &zone)),
        }
    };
    let page = Groups {
        topics: letters.iter().map(of_topic).collect(),
        csrf: csrf.to_owned(),
        read: topics.value.is_some(),
    };
    vec![
        head(&say!("Dead letters"), Vec::new(), "/dead-letters".to_owned(), topics, &zone, reader),
        Fragment::new("letters", &page, reader),
    ]
}

/// Messages of a topic, or of a cause.
#[derive(Debug, Template)]
#[template(path = "pages/dead_letters/letters.html")]
struct Messages {
    topic: String,
    cause: Option<String>,
    total: String,
    rows: Vec<LetterRow>,
    next: Option<String>,
    csrf: String,
    known: bool,
}

#[derive(Debug)]
struct LetterRow {
    place: String,
    address: String,
    time: String,
    cause: String,
    connector: String,
    stage: Text,
    size: String,
    message: String,
    replayed: bool,
}

fn line(topic: &str, line: &Summary, zone: &Zone) -> LetterRow {
    LetterRow {
        place: format!("{}/{}", line.partition, line.offset),
        address: format!("/dead-letters/{}/{}/{}", part(topic), line.partition, line.offset),
        time: zone.full(line.time),
        cause: line.cause.clone(),
        connector: line.connector.clone(),
        stage: stage(&line.stage),
        size: count(line.size_bytes as u64),
        message: line.message.clone(),
        replayed: line.replayed,
    }
}

/// Which messages a page shows.
pub(crate) struct Part<'a> {
    pub(crate) topic: &'a str,
    pub(crate) cause: Option<&'a str>,
    /// How many there are in all.
    pub(crate) total: usize,
    pub(crate) lines: &'a [Summary],
    /// After what the next part begins.
    pub(crate) next: Option<String>,
}

/// The page of a topic's dead letters, or of those of a cause.
pub(crate) fn messages(
    snapshot: &Snapshot,
    reading: &Reading<Letters>,
    shown: &Part<'_>,
    csrf: &str,
    reader: &Reader,
) -> Vec<Fragment> {
    let zone = Zone::new(&snapshot.timezone);
    let address = format!("/dead-letters/{}", part(shown.topic));
    let with_cause = match shown.cause {
        Some(cause) => format!("{address}?cause={}", in_query(cause)),
        None => format!("{address}?"),
    };
    let page = Messages {
        topic: shown.topic.to_owned(),
        cause: shown.cause.map(str::to_owned),
        total: count(shown.total as u64),
        rows: shown.lines.iter().map(|l| line(shown.topic, l, &zone)).collect(),
        next: shown.next.as_ref().map(|next| format!("{with_cause}&after={}", in_query(next))),
        csrf: csrf.to_owned(),
        known: reading.value.is_some(),
    };
    let title = shown
        .cause
        .map_or_else(|| say!("Dead letters of {}", shown.topic), |c| say!("{} on {}", c, shown.topic));
    let back = vec![Pair::new(say!("Dead letters"), "/dead-letters")];
    vec![head(&title, back, with_cause, reading, &zone, reader), Fragment::new("letters", &page, reader)]
}

/// One message.
#[derive(Debug, Template)]
#[template(path = "pages/dead_letters/letter.html")]
struct Message {
    topic: String,
    partition: u32,
    offset: u64,
    words: Text,
    replayed: bool,
    facts: Vec<Pair>,
    errors: Vec<Pair>,
    record: RecordRow,
    dump: String,
    dump_cut: bool,
    editable: Option<String>,
    lossy: bool,
    edit_limit: String,
    value_limit: String,
    csrf: String,
}

/// The page of a message. Whether it was sent again says the list.
pub(crate) fn message(
    snapshot: &Snapshot,
    topic: &str,
    reading: &Reading<LetterFacts>,
    replayed: bool,
    csrf: &str,
    reader: &Reader,
) -> Vec<Fragment> {
    let zone = Zone::new(&snapshot.timezone);
    let back = vec![
        Pair::new(say!("Dead letters"), "/dead-letters"),
        Pair::new(topic, format!("/dead-letters/{}", part(topic))),
    ];
    let Some((_, facts)) = &reading.value else {
        return vec![head(&say!("Dead letter"), back, "/dead-letters".to_owned(), reading, &zone, reader)];
    };
    let at = &facts.line;
    let address = format!("/dead-letters/{}/{}/{}", part(topic), at.partition, at.offset);
    let (errors, own): (Vec<_>, Vec<_>) =
        facts.seen.headers.iter().cloned().partition(|(name, _)| name.starts_with(PREFIX));
    let mut seen = facts.seen.clone();
    seen.headers = own;
    seen.header_count -= errors.len();
    let page = Message {
        topic: topic.to_owned(),
        partition: at.partition,
        offset: at.offset,
        words: if at.message.is_empty() {
            say!("Nobody said what is wrong with it.")
        } else {
            Text::plain(at.message.clone())
        },
        replayed,
        facts: vec![
            Pair::new(say!("cause"), at.cause.clone()),
            Pair::new(say!("refused by"), at.connector.clone()),
            Pair::new(say!("stage##letter"), stage(&at.stage)),
            Pair::new(say!("refused at"), zone.full(at.time)),
        ],
        errors: errors
            .iter()
            .map(|(name, value)| Pair::new(name.strip_prefix(PREFIX).unwrap_or(name), one_line(value)))
            .collect(),
        record: record(&seen, &zone),
        dump: facts.dump.clone(),
        dump_cut: facts.dump_cut,
        editable: facts.editable.clone(),
        lossy: facts.lossy,
        edit_limit: count(EDIT_BYTES as u64),
        value_limit: count(VALUE_BYTES as u64),
        csrf: csrf.to_owned(),
    };
    let title = say!("Dead letter {}/{}", at.partition, at.offset);
    vec![head(&title, back, address, reading, &zone, reader), Fragment::new("letter", &page, reader)]
}

/// What a replay did.
#[derive(Debug, Template)]
#[template(path = "pages/dead_letters/replayed.html")]
struct Done {
    class: &'static str,
    title: Text,
    lines: Vec<Text>,
    refused: Vec<Pair>,
    topic: String,
    address: String,
}

/// The page that says what a replay did.
pub(crate) fn replayed(topic: &str, done: &Replayed, reader: &Reader) -> Vec<Fragment> {
    let refused: u64 = done.refused.values().sum();
    let title = match (done.sent, refused) {
        (0, 0) => say!("Nothing was to be sent"),
        (0, _) => say!("Nothing could be sent"),
        (1, _) => say!("1 dead letter was sent again"),
        (sent, _) => say!("{} dead letters were sent again", count(sent)),
    };
    let mut lines = vec![match done.letters {
        1 => say!("1 letter was looked at."),
        n => say!("{} letters were looked at.", count(n)),
    }];
    match (done.sent, done.records) {
        (0, _) => {}
        (_, 1) => lines.push(say!("1 record went to {}; what arrived before folds into itself.", topic)),
        (_, n) => {
            lines.push(say!("{} records went to {}; what arrived before folds into itself.", count(n), topic))
        }
    }
    match done.before {
        0 => {}
        1 => lines.push(say!("1 was sent before and passed over.")),
        n => lines.push(say!("{} were sent before and passed over.", count(n))),
    }
    match refused {
        0 => {}
        1 => lines.push(say!("1 letter still cannot be read; edit a copy, or wait for a version that can.")),
        n => lines.push(say!(
            "{} letters still cannot be read; edit a copy, or wait for a version that can.",
            count(n)
        )),
    }
    lines.extend(done.message.iter().map(|m| say!("The last one said: {}", m)));
    let page = Done {
        class: if refused > 0 { "warn" } else { "good" },
        title,
        lines,
        refused: done.refused.iter().map(|(cause, n)| Pair::new(cause.clone(), count(*n))).collect(),
        topic: topic.to_owned(),
        address: part(topic),
    };
    vec![Fragment::new("replayed", &page, reader)]
}

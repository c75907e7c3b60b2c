//! `vwap`: folds the trades of a topic into windows and sessions, stores them as index documents, and tells
//! anomalies.
//!
//! It is a lane on the sink core with a memory of its own: a checkpoint per partition holds the sums together
//! with the offset they reach, replaced atomically, and a restart goes on from there, whatever its group
//! committed (the group is for the lag display). Documents are put under `symbol|window`, so what is written
//! twice is written the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::envelope::REFILL;
use super::programs::{GROUP, REMEMBER, TOPIC};
use super::sink::core::{self, Sink};
use super::sink::index::daily;
use super::sink::lane::{Due, Flushed, Lane, Left, Pushed, Target};
use super::{Context, StepError, log_search};
use backends::index::{Index, Item, ItemResult, Op, Template};
use backends::log::{Log, Partition, Record, Stored};
use backends::{BackendError, ErrorKind, Result};
use clock::Clock;
use domain::dag::StepKind;
use domain::exact::Exact;
use domain::parameters::Parameters;
use domain::program::{Parameter, Program, Role, Shape};
use domain::trade::{Trade, rfc3339};
use domain::vwap::{Averages, Changed, Folded, Key, Sums, Symbol, Window};

/// Documents of one bulk call.
const DOCUMENTS: usize = 2_000;

/// Its row in the table of programs.
pub const PROGRAM: Program = Program {
    name: "vwap",
    kinds: &[StepKind::Service],
    role: Role::Transform,
    about: "volume-weighted average prices per symbol, by window and session",
    parameters: &[
        TOPIC,
        GROUP,
        Parameter::new("window", Shape::Duration, "length of a window, whole seconds").or("30s"),
        Parameter::new("index", Shape::Text, "index name before the date").or_made(
            "topic",
            "FEED-vwap",
            |topic| crate::default_name(topic, "vwap"),
        ),
        Parameter::new(
            "anomalies",
            Shape::Text,
            "topic for anomalies; without one they are only in the index",
        ),
        Parameter::new("anomaly_index", Shape::Text, "index name of anomalies before the date").or_made(
            "topic",
            "FEED-anomalies",
            |topic| crate::default_name(topic, "anomalies"),
        ),
        Parameter::new("lateness", Shape::Duration, "how long a late trade still corrects its window")
            .or("1h"),
        Parameter::new("emit", Shape::Duration, "how often changed windows are written").or("5s"),
        Parameter::new("checkpoint", Shape::Duration, "how often the state is saved").or("1m"),
        REMEMBER,
    ],
    secrets: &[],
    replicas: true,
};

/// Runs the step until it is stopped.
///
/// # Errors
/// See [`core::run`].
pub async fn run(context: Context) -> std::result::Result<serde_json::Value, StepError> {
    let p = Parameters::of(&PROGRAM, &context.spec.step.with);
    let window = p.duration("window")?;
    if window.subsec_nanos() != 0 {
        return Err(p.wrong("window", "it must be whole seconds").into());
    }
    let target = VwapTarget {
        index: Arc::clone(&context.backends.index),
        log: Arc::clone(&context.backends.log),
        clock: context.clock.clone(),
        zone: super::zone(&context.spec),
        session_date: context.spec.session_date,
        folder: context
            .data
            .join("steps")
            .join(context.spec.id.run.dag())
            .join(context.spec.id.step.as_str()),
        prefix: p.text("index")?,
        anomalies: p.optional_text("anomalies")?,
        anomaly_prefix: p.text("anomaly_index")?,
        window,
        lateness: p.duration("lateness")?,
        emit: p.duration("emit")?,
        checkpoint: p.duration("checkpoint")?,
        remember: p.size("remember")?,
    };
    let sink = Sink::of(&PROGRAM, &p, &context, target)?;
    core::run(context, sink).await
}

struct VwapTarget {
    index: Arc<dyn Index>,
    log: Arc<dyn Log>,
    clock: Clock,
    zone: TimeZone,
    session_date: Date,
    folder: PathBuf,
    prefix: String,
    anomalies: Option<String>,
    anomaly_prefix: String,
    window: Duration,
    lateness: Duration,
    emit: Duration,
    checkpoint: Duration,
    remember: usize,
}

/// What a lane's sums reach, and the sums.
#[derive(Serialize, Deserialize)]
struct Checkpoint<S> {
    version: u32,
    topic: String,
    incarnation: String,
    partition: u32,
    window_seconds: u64,
    /// Everything before this offset is in the sums.
    next: u64,
    symbols: Vec<S>,
}

/// 1 held sums in 1/100 KRW.
const VERSION: u32 = 2;

#[async_trait]
impl Target for VwapTarget {
    async fn prepare(&self) -> Result<()> {
        self.index.put_template(&template(&self.prefix)).await?;
        self.index.put_template(&template(&self.anomaly_prefix)).await
    }

    async fn lane(&self, partition: &Partition, _next: u64) -> Result<(Box<dyn Lane>, u64)> {
        let missing = || {
            BackendError::new(
                ErrorKind::Unavailable,
                format!("log topic {}", partition.topic),
                "the topic is gone",
            )
        };
        let topic = self.log.topic(&partition.topic).await?.ok_or_else(missing)?;
        let range = *topic.partitions.get(partition.number as usize).ok_or_else(missing)?;
        let window = (self.remember / topic.partitions.len().max(1)).max(1);
        let mut book = Averages::new(self.window, self.lateness, window);
        let path = self.folder.join(format!("checkpoint-{}.json", partition.number));
        let saved = load(&path).await?.filter(|c| {
            c.version == VERSION
                && c.topic == partition.topic
                && c.incarnation == topic.incarnation
                && c.window_seconds == self.window.as_secs()
                && c.next <= range.end
        });
        let next = match saved {
            Some(saved) if saved.next >= range.start => {
                book.restore(saved.symbols);
                book.forget_before(self.session_date);
                log_search::ids_before(self.log.as_ref(), partition, range.start, saved.next, window, |id| {
                    book.remember(id)
                })
                .await?;
                saved.next
            }
            // Without sums to go on with, the day is folded again from its first record; its documents come
            // out the same.
            _ => {
                let midnight = self
                    .session_date
                    .to_zoned(self.zone.clone())
                    .map_or(Timestamp::UNIX_EPOCH, |z| z.timestamp());
                log_search::first_after(self.log.as_ref(), partition, range.start..range.end, midnight)
                    .await?
            }
        };
        let lane = VwapLane {
            index: Arc::clone(&self.index),
            log: Arc::clone(&self.log),
            clock: self.clock.clone(),
            zone: self.zone.clone(),
            prefix: self.prefix.clone(),
            anomalies: self.anomalies.clone(),
            anomaly_prefix: self.anomaly_prefix.clone(),
            emit: self.emit,
            every: self.checkpoint,
            path,
            head: (partition.topic.clone(), topic.incarnation, partition.number, self.window.as_secs()),
            book,
            next,
            due: None,
            checkpoint_at: self.clock.now(),
            finishing: false,
            counted: 0,
        };
        Ok((Box::new(lane), next))
    }
}

struct VwapLane {
    index: Arc<dyn Index>,
    log: Arc<dyn Log>,
    clock: Clock,
    zone: TimeZone,
    prefix: String,
    anomalies: Option<String>,
    anomaly_prefix: String,
    emit: Duration,
    every: Duration,
    path: PathBuf,
    head: (String, String, u32, u64),
    book: Averages,
    next: u64,
    due: Option<Timestamp>,
    checkpoint_at: Timestamp,
    finishing: bool,
    counted: u64,
}

#[async_trait]
impl Lane for VwapLane {
    fn push(&mut self, record: Stored) -> Pushed {
        self.next = record.offset + 1;
        let now = self.clock.now();
        self.due.get_or_insert_with(|| now.checked_add(self.emit).unwrap_or(Timestamp::MAX));
        self.book.retell(record.record.header(REFILL).is_some());
        match serde_json::from_slice::<Trade>(&record.record.value).map_err(|e| e.to_string()) {
            Ok(trade) => match self.book.fold(&trade) {
                Ok(Folded::Duplicate) => return Pushed::Duplicate,
                Ok(Folded::Counted | Folded::TooLate) => self.counted += 1,
                Err(refused) => {
                    tracing::warn!(partition = %record.partition, offset = record.offset, reason = %refused, "a trade has no price to average")
                }
            },
            // The sinks of the topic keep it as a dead letter; another copy from here would only be noise.
            Err(reason) => {
                tracing::warn!(partition = %record.partition, offset = record.offset, %reason, "a record is not a trade")
            }
        }
        Pushed::Taken
    }

    fn due(&self) -> Due {
        self.due.map_or(Due::Idle, Due::At)
    }

    fn finish(&mut self) {
        self.finishing = true;
    }

    async fn flush(&mut self) -> Result<Flushed> {
        self.put(self.documents()).await?;
        let found = self.book.anomalies(self.finishing);
        if !found.is_empty() {
            self.tell(&found).await?;
        }
        self.book.settled();
        self.book.judged(self.finishing);
        let due = self.clock.now().duration_since(self.checkpoint_at).unsigned_abs() >= self.every;
        if self.finishing || due {
            self.save().await?;
            self.checkpoint_at = self.clock.now();
        }
        self.due = None;
        Ok(Flushed { written: std::mem::take(&mut self.counted), left: Left::Nothing, ..Flushed::default() })
    }
}

impl VwapLane {
    fn documents(&self) -> Vec<Item> {
        let item = |changed: &Changed| match changed {
            Changed::Session(key) => self.book.symbol(key).map(|s| self.session_document(key, s)),
            Changed::Window(key, start) => {
                self.book.window(key, *start).map(|w| self.window_document(key, w))
            }
        };
        self.book.changed().filter_map(item).collect()
    }

    fn window_document(&self, key: &Key, window: &Window) -> Item {
        let (start, end) = self.bounds(window);
        let mut source = sums(&window.sums);
        source.insert("kind".into(), "window".into());
        source.insert("window_start".into(), start.clone().into());
        source.insert("window_end".into(), end.into());
        self.document(key, &format!("{}|{start}", prefixed(key)), source)
    }

    fn session_document(&self, key: &Key, symbol: &Symbol) -> Item {
        let mut source = sums(&symbol.session);
        source.insert("kind".into(), "session".into());
        source.insert("last_id".into(), symbol.last.id.clone().into());
        if let Some((volume, value)) = symbol.exchange {
            let equal = symbol.session.value == value.into() && symbol.session.volume == volume.into();
            source.insert("exchange_volume".into(), volume.into());
            source.insert("exchange_value".into(), value.into());
            source.insert("exchange_equal".into(), equal.into());
        }
        source.insert("too_late".into(), symbol.too_late.into());
        if let Ok(newest) = Timestamp::from_second(symbol.newest) {
            source.insert("trade_time".into(), rfc3339(newest, &self.zone).into());
        }
        self.document(key, &format!("{}|session", prefixed(key)), source)
    }

    fn document(&self, key: &Key, id: &str, mut source: serde_json::Map<String, serde_json::Value>) -> Item {
        let (date, feed, symbol) = key;
        source.insert("id".into(), id.into());
        source.insert("session_date".into(), date.to_string().into());
        source.insert("feed".into(), feed.clone().into());
        source.insert("symbol".into(), symbol.clone().into());
        Item {
            index: daily(&self.prefix, *date),
            id: id.to_owned(),
            op: Op::Put,
            source: serde_json::Value::Object(source).to_string().into_bytes(),
        }
    }

    fn bounds(&self, window: &Window) -> (String, String) {
        let start = window.start_at();
        let end = start.checked_add(self.book.length()).unwrap_or(start);
        (rfc3339(start, &self.zone), rfc3339(end, &self.zone))
    }

    async fn put(&self, mut items: Vec<Item>) -> Result<()> {
        while !items.is_empty() {
            let rest = items.split_off(items.len().min(DOCUMENTS));
            for result in self.index.bulk(items).await? {
                match result {
                    ItemResult::Stored | ItemResult::Exists => {}
                    // Nothing is lost by writing all again: each document replaces its earlier self.
                    ItemResult::Retry { status, reason } => {
                        return Err(BackendError::new(
                            ErrorKind::Busy,
                            "index",
                            format!("answered {status}: {reason}"),
                        ));
                    }
                    ItemResult::Rejected { status, reason } => {
                        return Err(BackendError::new(ErrorKind::Rejected, "index", format!("answered {status}: {reason}"))
                            .remedy("the index has other field types than the template; delete or reindex it and start the step again"));
                    }
                }
            }
            items = rest;
        }
        Ok(())
    }

    /// Tells anomalies: to their index, then to their topic. A restart may tell one again, under the same id.
    async fn tell(&self, found: &[(Key, Window)]) -> Result<()> {
        let mut items = Vec::new();
        let mut records = Vec::new();
        for (key, window) in found {
            let (start, end) = self.bounds(window);
            let id = format!("range|{}|{start}", prefixed(key));
            let mut source = sums(&window.sums);
            for (name, value) in [
                ("id", json!(id)),
                ("kind", json!("anomaly")),
                ("rule", json!("range")),
                ("session_date", json!(key.0)),
                ("feed", json!(key.1)),
                ("symbol", json!(key.2)),
                ("window_start", json!(start)),
                ("window_end", json!(end)),
                ("event_ids", json!(window.ids)),
            ] {
                source.insert(name.into(), value);
            }
            let value = serde_json::Value::Object(source).to_string().into_bytes();
            items.push(Item {
                index: daily(&self.anomaly_prefix, key.0),
                id: id.clone(),
                op: Op::Put,
                source: value.clone(),
            });
            records.push(Record {
                key: Some(key.2.clone().into_bytes()),
                value,
                headers: vec![("openbell.id".to_owned(), id.into_bytes())],
                timestamp: self.clock.now(),
            });
        }
        self.put(items).await?;
        if let Some(topic) = &self.anomalies {
            match self.log.append(topic, records.clone()).await {
                Ok(_) => {}
                Err(error) if error.kind == ErrorKind::NotFound => {
                    self.log.create_topic(topic, 1).await?;
                    self.log.append(topic, records).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn save(&self) -> Result<()> {
        let (topic, incarnation, partition, window_seconds) = self.head.clone();
        let checkpoint = Checkpoint {
            version: VERSION,
            topic,
            incarnation,
            partition,
            window_seconds,
            next: self.next,
            symbols: self.book.symbols().collect(),
        };
        let place = || format!("checkpoint {}", self.path.display());
        let bytes = serde_json::to_vec(&checkpoint)
            .map_err(|e| BackendError::new(ErrorKind::Corrupt, place(), e.to_string()))?;
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || files::replace_in_new_folder(&path, &bytes)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(BackendError::io(place(), &error)),
            Err(error) => Err(BackendError::new(ErrorKind::Unavailable, place(), error.to_string())),
        }
    }
}

/// A checkpoint, if there is a whole one. A damaged one is worth a line and no more: the day is folded again.
async fn load(path: &std::path::Path) -> Result<Option<Checkpoint<Symbol>>> {
    let bytes = match tokio::fs::read(path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BackendError::io(format!("checkpoint {}", path.display()), &error)),
    };
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let read = serde_json::from_slice::<Head>(&bytes).and_then(|head| {
        let known = head.version == VERSION;
        if known { serde_json::from_slice(&bytes).map(Some) } else { Ok(None) }
    });
    match read {
        Ok(Some(checkpoint)) => Ok(Some(checkpoint)),
        Ok(None) => {
            tracing::info!(path = %path.display(), "a checkpoint is another version's; the day is folded again from the log");
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a checkpoint is damaged; the day is folded again from the log");
            Ok(None)
        }
    }
}

/// `005930`, or `{feed}:{symbol}`: symbols of the first feed stand alone, as they did when there was no
/// other.
fn prefixed(key: &Key) -> String {
    if key.1 == feed::FEEDS[0].name() { key.2.clone() } else { format!("{}:{}", key.1, key.2) }
}

/// An amount as a JSON number: whole when it is whole.
fn amount(exact: Exact) -> serde_json::Value {
    exact.whole().map_or_else(|| exact.to_f64().into(), Into::into)
}

/// A quantity in JSON: a whole one is a number, any other a text, since no reader is to round it.
fn shares(exact: Exact) -> serde_json::Value {
    exact.whole().map_or_else(|| exact.to_string().into(), Into::into)
}

fn sums(sums: &Sums) -> serde_json::Map<String, serde_json::Value> {
    let mut map = serde_json::Map::new();
    let vwap = sums.vwap().and_then(|v| v.to_string().parse::<f64>().ok());
    for (name, value) in [
        ("vwap", json!(vwap)),
        ("volume", shares(sums.volume)),
        ("value", amount(sums.value)),
        ("trades", json!(sums.trades)),
        ("min_price", amount(sums.low)),
        ("max_price", amount(sums.high)),
        ("avg_price", json!(sums.average())),
    ] {
        map.insert(name.to_owned(), value);
    }
    map
}

/// Explicit types of window, session and anomaly documents.
fn template(prefix: &str) -> Template {
    let fields = [
        ("id", "keyword"),
        ("kind", "keyword"),
        ("rule", "keyword"),
        ("session_date", "date"),
        ("feed", "keyword"),
        ("symbol", "keyword"),
        ("window_start", "date"),
        ("window_end", "date"),
        ("trade_time", "date"),
        ("vwap", "double"),
        ("value", "double"),
        ("volume", "double"),
        ("trades", "long"),
        ("min_price", "double"),
        ("max_price", "double"),
        ("avg_price", "double"),
        ("exchange_volume", "long"),
        ("exchange_value", "long"),
        ("exchange_equal", "boolean"),
        ("last_id", "keyword"),
        ("too_late", "long"),
        ("event_ids", "keyword"),
    ];
    Template {
        name: prefix.to_owned(),
        prefix: format!("{prefix}-"),
        fields: fields.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect(),
    }
}

#[cfg(test)]
mod tests;

//! From a tree of the right shape to a DAG: the file's head, its schedule and its alerts. Steps are in
//! [`super::steps`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::date;
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;
use serde::de::value::{Error as WordError, StrDeserializer};

use super::diagnostics::Diagnostics;
use super::tree::{Entry, Node, Value};
use super::{FileReference, Known, Parsed, Severity, shape, steps, suggest, tables};
use domain::dag::{AlertKind, AlertPolicy, Dag, ExecutorKind};
use domain::schedule::{Anchor, Catchup, CronError, Edge, LateStart, Schedule};
use domain::units;

/// A file being read.
pub(super) struct Reader<'a> {
    pub text: &'a str,
    pub known: &'a Known<'a>,
    pub diagnostics: Diagnostics<'a>,
    pub files: Vec<FileReference>,
}

/// The word of an enumeration that a text is; the tables have made sure that it is one.
pub(super) fn word<T: DeserializeOwned>(node: Option<&Node>) -> Option<T> {
    word_of(node?.text()?)
}

/// The word of an enumeration that a text is.
pub(super) fn word_of<T: DeserializeOwned>(text: &str) -> Option<T> {
    T::deserialize(StrDeserializer::<WordError>::new(text)).ok()
}

/// A duration; the tables have made sure that it is one.
pub(super) fn duration(node: Option<&Node>) -> Option<Duration> {
    units::duration(node?.text()?).ok()
}

pub(super) fn read(text: &str, root: &Node, known: &Known<'_>) -> Parsed {
    let mut reader = Reader { text, known, diagnostics: Diagnostics::new(text, root), files: Vec::new() };
    let dag = if matches!(root.value, Value::Map(_)) {
        shape::table(root, tables::FILE, shape::FILE, root.span, &mut reader.diagnostics);
        reader.file(root)
    } else {
        let message = format!("the file is {}, not a DAG", root.kind());
        reader.diagnostics.error(root.span, message, "start with name: and steps:");
        None
    };
    let dag = dag.filter(|_| !reader.diagnostics.has_errors());
    let if_taken = root.get("name").map(|node| {
        let help = "give one of them another name".to_owned();
        reader.diagnostics.at(
            Severity::Error,
            node.span,
            "another file has a DAG of this name".to_owned(),
            help,
        )
    });
    Parsed {
        if_taken,
        name: root.get("name").and_then(Node::text).map(str::to_owned),
        dag,
        enabled: root.get("enabled").and_then(Node::bool).unwrap_or(true),
        files: reader.files,
        diagnostics: reader.diagnostics.into_sorted(),
    }
}

impl Reader<'_> {
    fn file(&mut self, root: &Node) -> Option<Dag> {
        let schedule_entry = root.entry("schedule");
        let schedule = schedule_entry.and_then(|entry| self.schedule(entry));
        let alerts = root.entry("alerts").map(|entry| self.alerts(entry)).unwrap_or_default();
        let params = self.scalars(root.get("params"));
        let defaults = root.get("defaults");
        let file = steps::File {
            defaults,
            container: self.container_table(defaults.and_then(|d| d.get("container")), "\"defaults\""),
            env: self.scalars(root.get("env")),
            executor: word::<ExecutorKind>(root.get("executor")),
            params: &params,
            unbounded: schedule_entry.is_some_and(|entry| entry.value.get("close").is_none()),
        };
        let steps = root.entry("steps").and_then(|entry| self.steps(entry, &file));
        if self.diagnostics.has_errors() {
            return None;
        }
        let text = |key| root.get(key).and_then(Node::text).unwrap_or_default().to_owned();
        match Dag::new(
            text("name").parse().ok()?,
            text("description"),
            text("owner"),
            schedule,
            alerts,
            steps?,
        ) {
            Ok(mut dag) => {
                dag.params = params;
                self.way(root, &dag);
                Some(dag)
            }
            // Whatever the checks before should have found with a better place.
            Err(error) => {
                self.diagnostics.error(root.span, error.to_string(), "");
                None
            }
        }
    }

    /// A table of free keys and single values, as written.
    pub fn scalars(&self, node: Option<&Node>) -> BTreeMap<String, String> {
        let entries = node.map(Node::entries).unwrap_or_default();
        entries.iter().filter_map(|e| Some((e.key.clone(), e.value.scalar(self.text)?.to_owned()))).collect()
    }

    fn schedule(&mut self, entry: &Entry) -> Option<Schedule> {
        let node = &entry.value;
        let calendars = self.known.calendars;
        let calendar =
            node.get("calendar").and_then(|n| Some((n, n.text()?))).filter(|(_, name)| *name != NO_CALENDAR);
        if let Some((at, name)) = calendar
            && !calendars.contains_key(name)
        {
            let known = suggest::help(name, calendars.keys().map(String::as_str), "calendars");
            let help = format!("{known} (or add calendars/{name}.csv to the DAG folder)");
            self.diagnostics.error(at.span, format!("there is no calendar \"{name}\""), help);
        }
        let calendar = calendar.map(|(_, name)| name.to_owned());
        let known_calendar = calendar.as_ref().and_then(|name| calendars.get(name));
        let timezone = match node.get("timezone") {
            Some(zone) => self.zone(zone),
            None if calendar.is_some() => known_calendar.map(|c| c.timezone.clone()),
            None if matches!(node.value, Value::Map(_)) => {
                let help = "add timezone: with an IANA name, for example timezone: Asia/Seoul";
                self.diagnostics.error(entry.key_span, "the schedule has no time zone", help);
                None
            }
            None => None,
        };
        let open = node.get("open").and_then(|n| self.edge(n));
        let close_node = node.get("close");
        let close = close_node.and_then(|n| self.edge(n));
        if close_node.is_some() && close.is_none() {
            return None;
        }
        let schedule = Schedule {
            timezone: timezone?,
            calendar,
            open: open?,
            close,
            late_start: word::<LateStart>(node.get("late_start")).unwrap_or_default(),
            catchup: word::<Catchup>(node.get("catchup")).unwrap_or_default(),
        };
        self.check_windows(entry, &schedule);
        Some(schedule)
    }

    /// What only the edges together show.
    fn check_windows(&mut self, entry: &Entry, schedule: &Schedule) {
        let node = &entry.value;
        let place = |key| node.get(key).map_or(entry.key_span, |n| n.span);
        if node.get("calendar").is_none()
            && let Some(key) = ["open", "close"]
                .into_iter()
                .find(|key| node.get(key).and_then(Node::text).is_some_and(|t| t.starts_with("session.")))
        {
            let message = "without a calendar, every day has a session from 00:00 to 24:00";
            self.diagnostics.warning(
                place(key),
                message,
                "add calendar: with the name of an exchange calendar, a file of calendars/, or calendar: none if that is meant",
            );
        }
        let calendar = match &schedule.calendar {
            Some(name) => match self.known.calendars.get(name) {
                Some(calendar) => Some(calendar),
                None => return,
            },
            None => None,
        };
        let from = calendar.and_then(|c| c.covered()).map_or(date(2024, 1, 1), |(first, _)| first);
        let Some(from) = schedule.zone().ok().and_then(|zone| from.to_zoned(zone).ok()) else { return };
        match schedule.next_windows(from.timestamp(), calendar, 1).first() {
            None if schedule.close.is_some() => {
                let message = "no window ever opens: on no date is there an open and, after it, a close";
                self.diagnostics.error(
                    place("open"),
                    message,
                    "both edges have to lie on the same date, the close after the open, on a day the calendar knows as open",
                );
            }
            None => self.diagnostics.error(
                place("open"),
                "this schedule never fires on a day the calendar knows as open",
                "",
            ),
            Some(first) => {
                if let (Edge::Cron(cron), Some(_)) = (&schedule.open, &schedule.close)
                    && cron.times_on(first.date).nth(1).is_some()
                {
                    let message =
                        format!("the open \"{cron}\" fires several times a day, and a window opens once");
                    self.diagnostics.error(
                        place("open"),
                        message,
                        "name one minute and one hour, or remove close: to start a run each time",
                    );
                }
            }
        }
    }

    fn zone(&mut self, node: &Node) -> Option<String> {
        let name = node.text()?;
        if TimeZone::get(name).is_ok() {
            return Some(name.to_owned());
        }
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        // People know the city and guess the continent.
        let city = name.rsplit('/').next().unwrap_or(name);
        let same_city =
            names.iter().find(|n| n.rsplit('/').next().is_some_and(|c| c.eq_ignore_ascii_case(city)));
        let help = match same_city
            .map(String::as_str)
            .or_else(|| suggest::nearest(name, names.iter().map(String::as_str)))
        {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "write an IANA name, for example Asia/Seoul or UTC".to_owned(),
        };
        self.diagnostics.error(node.span, format!("there is no time zone \"{name}\""), help);
        None
    }

    fn edge(&mut self, node: &Node) -> Option<Edge> {
        let text = node.text()?;
        let result = if text.trim_start().starts_with("session") {
            session_edge(text).ok_or_else(|| {
                let message = format!("\"{text}\" is not an end of a session");
                (
                    message,
                    "write session.open or session.close, and how far from it: session.open - 10m".to_owned(),
                )
            })
        } else {
            text.parse()
                .map(Edge::Cron)
                .map_err(|error: CronError| (error.to_string(), CronError::HELP.to_owned()))
        };
        result.map_err(|(message, help)| self.diagnostics.error(node.span, message, help)).ok()
    }

    fn alerts(&mut self, entry: &Entry) -> AlertPolicy {
        let node = &entry.value;
        let email: Vec<String> = node
            .get("email")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(|n| n.text().map(str::to_owned))
            .collect();
        let on: BTreeSet<AlertKind> = match node.get("on") {
            Some(list) => list.items().iter().filter_map(|item| word(Some(item))).collect(),
            None => AlertKind::ALL.iter().copied().filter(|kind| kind.spec().unasked).collect(),
        };
        if email.is_empty() && matches!(node.value, Value::Map(_)) {
            let help = "add email: [name@example.com]; the alerts are on the page all the same";
            self.diagnostics.warning(entry.key_span, "nobody gets these alerts by mail", help);
        }
        let over = node.get("dead_letters").and_then(|n| n.get("over")).and_then(Node::count);
        AlertPolicy { email, on, dead_letters_over: over.unwrap_or(DEAD_LETTERS_OVER) }
    }
}

/// Says that a market never closes: every day has a session from 00:00 to 24:00.
const NO_CALENDAR: &str = "none";

/// Dead letters that nobody is told about, unless the file says otherwise.
const DEAD_LETTERS_OVER: u64 = 10;

/// `session.open`, `session.close + 30m`, `session.open - 1h30m`.
fn session_edge(text: &str) -> Option<Edge> {
    let text = text.trim().strip_prefix("session.")?;
    let at = text.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(text.len());
    let (anchor, offset) = text.split_at(at);
    let anchor = match anchor {
        "open" => Anchor::Open,
        "close" => Anchor::Close,
        _ => return None,
    };
    let offset = offset.trim();
    let offset_seconds = if offset.is_empty() {
        0
    } else {
        let (sign, length) =
            offset.strip_prefix('-').map(|l| (-1, l)).or(offset.strip_prefix('+').map(|l| (1, l)))?;
        let length =
            units::duration(length.trim()).ok().filter(|l| l.subsec_nanos() == 0 && l.as_secs() <= 86_400)?;
        sign * i64::try_from(length.as_secs()).ok()?
    };
    Some(Edge::Session { anchor, offset_seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_edges() {
        let edge = |text| session_edge(text).map(|e| e.to_string());
        assert_eq!(edge("session.open - 10m").as_deref(), Some("session.open - 10m"));
        assert_eq!(edge(" session.close+1h30m").as_deref(), Some("session.close + 90m"));
        assert_eq!(edge("session.open").as_deref(), Some("session.open"));
        for bad in [
            "session",
            "session.start",
            "session.open 10m",
            "session.open - 10",
            "session.open - 500ms",
            "session.close + 2d",
            "session.open -",
        ] {
            assert_eq!(edge(bad), None, "{bad}");
        }
    }
}

//! Cron expressions, read in plain local time.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::civil::{Date, DateTime, date};
use serde::{Deserialize, Serialize};

/// A checked five-field cron expression that fires at some time.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    /// Shared, because runs carry copies of their schedule.
    pattern: Arc<croner::Cron>,
}

impl Cron {
    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// First local time at or after `from` at which the expression fires. Local times are plain: what a clock
    /// change does to them is decided where they become instants.
    pub fn next_local(&self, from: DateTime) -> Option<DateTime> {
        self.pattern.find_next_occurrence(&from, true).ok()
    }

    /// The local times at which the expression fires on one date.
    pub fn times_on(&self, date: Date) -> impl Iterator<Item = DateTime> + '_ {
        let mut from = Some(date.at(0, 0, 0, 0));
        std::iter::from_fn(move || {
            let time = self.next_local(from?).filter(|t| t.date() == date)?;
            from = time.checked_add(jiff::SignedDuration::from_secs(60)).ok();
            Some(time)
        })
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.text)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl From<Cron> for String {
    fn from(cron: Cron) -> String {
        cron.text
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;
    fn try_from(text: String) -> Result<Self, CronError> {
        text.parse()
    }
}

/// Why a text is not a cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a usable cron expression: {why}")]
pub struct CronError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl CronError {
    /// How to write one.
    pub const HELP: &'static str =
        "write five fields: minute hour day-of-month month day-of-week, for example \"50 8 * * MON-FRI\"";
}

impl FromStr for Cron {
    type Err = CronError;
    fn from_str(text: &str) -> Result<Self, CronError> {
        let refuse = |why: String| CronError { text: text.to_owned(), why };
        let fields = text.split_whitespace().count();
        if fields != 5 {
            return Err(refuse(format!(
                "it has {fields} field{}, not five",
                if fields == 1 { "" } else { "s" }
            )));
        }
        let pattern = croner::Cron::from_str(text)
            .map_err(|e| refuse(bad_field(text).unwrap_or_else(|| in_words(&e))))?;
        // Any start will do: what does not fire within the following centuries never fires.
        if pattern.find_next_occurrence(&date(2024, 1, 1).at(0, 0, 0, 0), true).is_err() {
            return Err(refuse("it never fires, because no such date exists".into()));
        }
        Ok(Self { text: text.split_whitespace().collect::<Vec<_>>().join(" "), pattern: Arc::new(pattern) })
    }
}

/// Which of the five fields is wrong: the first one that is refused among asterisks.
fn bad_field(text: &str) -> Option<String> {
    const NAMES: [&str; 5] = [
        "minute (0-59)",
        "hour (0-23)",
        "day of month (1-31)",
        "month (1-12)",
        "day of week (SUN-SAT or 0-7)",
    ];
    text.split_whitespace().zip(NAMES).enumerate().find_map(|(at, (field, name))| {
        let mut alone = ["*"; 5];
        alone[at] = field;
        let error = croner::Cron::from_str(&alone.join(" ")).err()?;
        Some(format!("\"{field}\" is not a {name}: {}", in_words(&error)))
    })
}

fn in_words(error: &croner::errors::CronError) -> String {
    use croner::errors::CronError as Fault;
    let text = match error {
        Fault::InvalidPattern(why) | Fault::IllegalCharacters(why) | Fault::ComponentError(why) => {
            why.clone()
        }
        other => other.to_string(),
    };
    let mut letters = text.trim_end_matches('.').chars();
    letters.next().map(|first| first.to_lowercase().collect::<String>() + letters.as_str()).unwrap_or(text)
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_cron_and_what_never_fires() {
        for (text, part) in [
            ("", "0 fields"),
            ("5 * * *", "4 fields"),
            ("0 0 * * * *", "6 fields"),
            ("60 * * * *", "60"),
            ("0 0 30 2 *", "never fires"),
            ("0 0 31 4,6 *", "never fires"),
            ("0 0 * * FOO", ""),
            ("@daily", "1 field,"),
        ] {
            let error = text.parse::<Cron>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!("0 0 29 2 *".parse::<Cron>().is_ok(), "leap days come");
    }

    #[test]
    fn fires_at_its_local_times() {
        let cron: Cron = "0,30 9-10 * * FRI".parse().expect("a cron expression");
        let friday = date(2026, 11, 20);
        let times: Vec<String> = cron.times_on(friday).map(|t| t.strftime("%H:%M").to_string()).collect();
        assert_eq!(times, ["09:00", "09:30", "10:00", "10:30"]);
        assert_eq!(cron.times_on(date(2026, 11, 21)).count(), 0);
        assert_eq!(
            cron.next_local(date(2026, 11, 21).at(0, 0, 0, 0)),
            Some(date(2026, 11, 27).at(9, 0, 0, 0))
        );
        let json = serde_json::to_string(&cron).expect("JSON");
        assert_eq!(serde_json::from_str::<Cron>(&json).expect("a cron expression"), cron);
    }
}

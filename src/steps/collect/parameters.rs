//! What the step file says.

use std::path::Path;
use std::time::Duration;

use feed::kis::session::Settings;
use feed::kis::{Content, LAYOUTS, Layout};
use crate::parameters::Parameters;
use crate::{Context, Secret, StepError};

/// The program's name.
pub(super) const PROGRAM: &str = "collect/kis";

/// Checked parameters.
#[derive(Debug)]
pub(super) struct Plan {
    /// Topic of the trades.
    pub(super) topic: String,
    /// Collection of the raw documents.
    pub(super) collection: String,
    /// The session's settings.
    pub(super) session: Settings,
    pub(super) app_key: Secret,
    pub(super) app_secret: Secret,
}

impl Plan {
    /// Reads and checks everything the step needs before anything is opened.
    pub(super) fn read(context: &Context) -> Result<Self, StepError> {
        let with = Parameters::new(PROGRAM, &context.spec.step.with);
        let tr_ids = match context.spec.step.with.get("tr_ids") {
            None => vec!["H0STCNT0".to_owned()],
            Some(_) => with.names("tr_ids")?,
        };
        for tr_id in &tr_ids {
            if !Layout::of(tr_id).is_some_and(is_trade) {
                let known: Vec<_> = LAYOUTS.iter().filter(|l| is_trade(l)).map(|l| l.tr_id).collect();
                return Err(with.wrong("tr_ids", format!("\"{tr_id}\" does not carry trades; write one of {}", known.join(", "))));
            }
        }
        let symbols = symbols(&with, context.spec.step.with.get("symbols"), &context.dags)?;
        let mut session = Settings::new(unique(tr_ids), symbols);
        session.limit = usize::try_from(with.count("limit", session.limit as u64, 1)?).unwrap_or(usize::MAX);
        session.pace = with.duration("pace", session.pace)?;
        session.stale_after = with.duration("stale_after", session.stale_after)?;
        session.patience(context.clock.speed());
        Ok(Self {
            topic: with.text_or("topic", "kis.trades")?,
            collection: with.text_or("collection", "kis.trades")?,
            session,
            app_key: secret(context, "app_key", "KIS_APP_KEY")?,
            app_secret: secret(context, "app_secret", "KIS_APP_SECRET")?,
        })
    }
}

fn is_trade(layout: &Layout) -> bool {
    matches!(layout.content, Content::Trade { .. })
}

trait Patience {
    /// The session waits in the clock's time, but servers answer in real time: on a fast clock the limits on answers keep this
    /// much real time.
    fn patience(&mut self, speed: f64);
}

impl Patience for Settings {
    fn patience(&mut self, speed: f64) {
        let least = Duration::from_millis(300).mul_f64(speed.clamp(1.0, 1e6));
        self.ack_within = self.ack_within.max(least);
        self.stale_after = self.stale_after.max(least);
    }
}

fn secret(context: &Context, name: &str, variable: &str) -> Result<Secret, StepError> {
    let fail = |why: String| {
        let reference = context.spec.step.secrets.get(name).map_or_else(|| "not given".to_owned(), ToString::to_string);
        Err(StepError::Secret { step: context.spec.step.name.to_string(), name: name.to_owned(), reference, why })
    };
    match context.secrets.get(name) {
        Some(secret) if secret.reveal().trim().is_empty() => fail("it is empty; put the value KIS gave you there".into()),
        Some(secret) if secret.reveal().chars().any(char::is_control) => {
            fail("it holds a line break or another control character; keep the value alone there".into())
        }
        Some(secret) => Ok(secret.clone()),
        None => fail(format!("{PROGRAM} needs it; write secrets: {{ {name}: env:{variable} }}")),
    }
}

pub(super) fn symbols(with: &Parameters<'_>, value: Option<&serde_json::Value>, dags: &Path) -> Result<Vec<String>, StepError> {
    const EXAMPLE: &str = "write symbols: [\"005930\", \"000660\"] or symbols: \"file:symbols/krx41.txt\"";
    let listed = match value.and_then(serde_json::Value::as_str).and_then(|text| text.strip_prefix("file:")) {
        None if value.is_none() => return Err(with.wrong("symbols", format!("it is missing; {EXAMPLE}"))),
        None => with.names("symbols")?,
        Some(file) => {
            let path = dags.join(file);
            let text = std::fs::read_to_string(&path).map_err(|e| {
                with.wrong("symbols", format!("{} cannot be read: {e}; the path is relative to the DAG folder", path.display()))
            })?;
            // One code a line; what follows the code on the line, and everything after '#', is for people.
            let code = |line: &str| line.split('#').next()?.split([' ', '\t', ',']).next().map(str::trim).map(str::to_owned);
            text.lines().filter_map(code).filter(|code| !code.is_empty()).collect()
        }
    };
    if listed.is_empty() {
        return Err(with.wrong("symbols", format!("there is none; {EXAMPLE}")));
    }
    if let Some(bad) = listed.iter().find(|s| !(6..=9).contains(&s.len()) || !s.bytes().all(|b| b.is_ascii_alphanumeric())) {
        let why =
            format!("\"{bad}\" is not a code of 6 to 9 letters and digits; {EXAMPLE} (codes in quotes, or YAML reads a number)");
        return Err(with.wrong("symbols", why));
    }
    Ok(unique(listed))
}

/// The first of each, in order.
fn unique(names: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    names.into_iter().filter(|n| seen.insert(n.clone())).collect()
}

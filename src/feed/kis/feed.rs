//! KIS as a feed: its names, parameters and secrets, and its rule of completeness.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::layout::{Content, LAYOUTS, Layout};
use super::live::Live;
use super::session::Settings;
use super::trade::KOREA;
use super::{Message, parse, trade, trade_of};
use crate::{
    Address, Completeness, Feed, Parameter, Parameters, Received, Refused, SecretName, Session, Setup,
    SetupError, Shape,
};
use domain::gaps::{Fill, Gap, VolumeGaps};
use domain::trade::Trade;

/// Trades of the Korea Exchange and Nextrade, from Korea Investment & Securities.
#[derive(Debug, Clone, Copy)]
pub struct Kis;

const APP_KEY: SecretName =
    SecretName { name: "app_key", variable: "KIS_APP_KEY", help: "the app key KIS gave you" };
const APP_SECRET: SecretName =
    SecretName { name: "app_secret", variable: "KIS_APP_SECRET", help: "the secret of the app key" };

const PARAMETERS: &[Parameter] = &[
    Parameter::required("symbols", Shape::NAMES, "a list of codes, or file:PATH with one a line"),
    Parameter::new("tr_ids", Shape::NAMES, "what to subscribe to").or("[H0STCNT0]"),
    Parameter::new("limit", Shape::Count(1), "most subscriptions of one session").or("41"),
    Parameter::new("pace", Shape::Duration, "wait between two subscriptions").or("100ms"),
    Parameter::new("stale_after", Shape::Duration, "silence after which the session connects anew").or("90s"),
];

impl Feed for Kis {
    fn name(&self) -> &'static str {
        "kis"
    }

    fn title(&self) -> &'static str {
        "Korea Investment & Securities"
    }

    fn about(&self) -> &'static str {
        "collects trades from the KIS WebSocket feed into the log and the raw store"
    }

    fn addresses(&self) -> &'static [Address] {
        &[
            Address {
                key: "rest",
                default: "https://openapi.koreainvestment.com:9443",
                help: "REST base, for the approval key",
            },
            Address {
                key: "websocket",
                default: "ws://ops.koreainvestment.com:21000/tryitout",
                help: "WebSocket address, path included",
            },
        ]
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn secrets(&self) -> &'static [SecretName] {
        &[APP_KEY, APP_SECRET]
    }

    fn default_topic(&self) -> &'static str {
        "kis.trades"
    }

    fn zone(&self) -> TimeZone {
        TimeZone::fixed(KOREA)
    }

    /// KRX: 15:20–15:30 on a plain day. Nextrade stops for it too.
    fn auction(&self) -> SignedDuration {
        SignedDuration::from_mins(10)
    }

    fn symbols(&self, with: &Parameters<'_>) -> Result<Vec<String>, SetupError> {
        const EXAMPLE: &str =
            "write symbols: [\"005930\", \"000660\"] or symbols: \"file:symbols/krx41.txt\"";
        let codes = with.codes("symbols", EXAMPLE)?;
        let bad = codes
            .iter()
            .find(|s| !(6..=9).contains(&s.len()) || !s.bytes().all(|b| b.is_ascii_alphanumeric()));
        match bad {
            None => Ok(codes),
            Some(bad) => Err(with.wrong(
                "symbols",
                format!(
                    "\"{bad}\" is not a code of 6 to 9 letters and digits; {EXAMPLE} (codes in quotes, or YAML reads a number)"
                ),
            )),
        }
    }

    fn session(&self, setup: &Setup<'_>) -> Result<Box<dyn Session>, SetupError> {
        let settings = settings(self, setup)?;
        let (app_key, app_secret) = (setup.secret(&APP_KEY)?, setup.secret(&APP_SECRET)?);
        Ok(Box::new(Live::new(settings, setup, app_key, app_secret)))
    }

    fn trades(&self, message: &[u8], received_at: Timestamp) -> Result<Vec<Trade>, Refused> {
        let refused = |cause, message: &str| Err(Refused { cause, message: message.to_owned() });
        match parse(message)? {
            Message::Data(frame) => frame.records().map(|record| trade_of(&record, received_at)).collect(),
            Message::Sealed(_) => refused("sealed", "the frame is encrypted, and its key is gone"),
            Message::Control(_) => refused("control", "the frame is a control message, which holds no trade"),
        }
    }

    fn decode(&self, wire: &[u8], received_at: Timestamp) -> Option<Result<Trade, Refused>> {
        Some(match std::str::from_utf8(wire) {
            Ok(wire) => trade(wire, received_at),
            Err(e) => Err(Refused {
                cause: "bad_utf8",
                message: format!("byte {} of the spool entry is not UTF-8", e.valid_up_to()),
            }),
        })
    }

    fn completeness(&self) -> Box<dyn Completeness> {
        Box::new(Volumes::default())
    }

    fn open(&self, trade: &Trade) -> Option<Decimal> {
        let open: Decimal = trade.fields.get("STCK_OPRC")?.trim().parse().ok()?;
        (open > Decimal::ZERO).then_some(open)
    }
}

/// Reads and checks the parameters.
pub(super) fn settings(feed: &Kis, setup: &Setup<'_>) -> Result<Settings, SetupError> {
    let with = setup.with;
    let tr_ids = with.names("tr_ids")?;
    let is_trade = |layout: &Layout| matches!(layout.content, Content::Trade { .. });
    if let Some(other) = tr_ids.iter().find(|tr_id| !Layout::of(tr_id).is_some_and(is_trade)) {
        let known: Vec<_> = LAYOUTS.iter().filter(|l| is_trade(l)).map(|l| l.tr_id).collect();
        return Err(with.wrong(
            "tr_ids",
            format!("\"{other}\" does not carry trades; write one of {}", known.join(", ")),
        ));
    }
    let mut settings = Settings::new(tr_ids, feed.symbols(&with)?);
    settings.limit = with.size("limit")?;
    settings.pace = with.duration("pace")?;
    settings.stale_after = with.duration("stale_after")?;
    // The session waits in the clock's time, but servers answer in real time: on a fast clock the limits on
    // answers keep some of it.
    let least = std::time::Duration::from_millis(300).mul_f64(setup.speed.clamp(1.0, 1e6));
    settings.ack_within = settings.ack_within.max(least);
    settings.stale_after = settings.stale_after.max(least);
    Ok(settings)
}

/// The chain of accumulated volumes: shares below the highest one that no received trade covers are missing.
#[derive(Debug, Default)]
struct Volumes(VolumeGaps);

fn fill<'a>(received: &Received<'a>) -> Option<Fill<'a>> {
    let Received::Trade(trade) = received else { return None };
    Some(Fill {
        symbol: &trade.symbol,
        traded_at: &trade.trade_time,
        quantity: trade.quantity.to_i64()?,
        accumulated: trade.accumulated_volume?,
    })
}

impl Completeness for Volumes {
    fn see(&mut self, received: Received<'_>) {
        if let Some(fill) = fill(&received) {
            self.0.see(fill);
        }
    }

    fn start_after(&mut self, received: Received<'_>) {
        if let Some(fill) = fill(&received) {
            self.0.start_after(fill);
        }
    }

    fn gaps(&self) -> Vec<Gap> {
        self.0.gaps()
    }

    fn missing(&self) -> Decimal {
        self.0.missing_shares().into()
    }

    fn count(&self) -> usize {
        self.0.count()
    }
}

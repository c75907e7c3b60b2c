//! Schemas that cannot be derived where a type stands: of the crates below, which know no web, and of words
//! that tables list.
//!
//! Nothing here is ever built. A test holds what is answered to it, field by field.

#![expect(dead_code, reason = "only the schemas of these types are used")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Text of some form.
fn text(pattern: &str, said: &str) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).description(Some(said)).into()
}

/// The words as which values are sent.
fn words<T: Serialize>(all: impl IntoIterator<Item = T>, said: &str) -> RefOr<Schema> {
    let all: Vec<_> = all.into_iter().map(|word| json!(word)).collect();
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(all)).description(Some(said)).into()
}

macro_rules! schemas {
    ($($(#[doc = $doc:literal])+ $name:ident = |$said:ident| $schema:expr;)*) => {$(
        $(#[doc = $doc])+
        pub(crate) enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let $said = concat!($($doc),+).trim();
                $schema
            }
        }

        impl ToSchema for $name {}
    )*};
}

schemas! {
    /// Name of a DAG or a step.
    Name = |said| text("^[a-z0-9][a-z0-9._-]{0,62}$", said);
    /// Id of a run: `DAG@KEY`.
    RunName = |said| text("^[a-z0-9][a-z0-9._-]{0,62}@[A-Za-z0-9+.-]{1,64}$", said);
    /// Where a run stands.
    RunState = |said| words(domain::run::RunState::ALL, said);
    /// Where a step stands.
    StepState = |said| words(domain::run::StepState::ALL, said);
    /// Why a run exists.
    RunCause = |said| words(domain::run::Cause::ALL, said);
    /// A kind of alert.
    AlertKind = |said| words(domain::alert::AlertKind::ALL, said);
    /// A kind of alert; without a word, all of them.
    WantedKind = |said| words([""].into_iter().chain(domain::alert::AlertKind::ALL.iter().map(|kind| kind.as_str())), said);
    /// What somebody may do.
    Role = |said| words(accounts::Role::ALL, said);
    /// What came of it.
    Outcome = |said| words(state::Outcome::ALL, said);
    /// How a day differs from a plain weekday.
    SpecialDay = |said| words(daemon::upcoming::Special::ALL, said);
    /// `created` by this call; `running` or `ended`: it has a run; `window`: its window is open; `ahead`: it
    /// has not opened; `due`: it still has no run.
    SessionState = |said| words(daemon::handle::BackfillState::ALL, said);
    /// How bad a fault is.
    Severity = |said| words(["error", "warning"], said);
    /// What was found: its code and what goes with it.
    Finding = |said| ObjectBuilder::new()
        .property("code", ObjectBuilder::new().schema_type(Type::String))
        .required("code")
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .description(Some(said))
        .into();
    /// How an alert's mail stands.
    MailState = |said| words(["sent", "queued", "not asked for"], said);
    /// `1`: yes; `0`: no.
    Switch = |said| words(["0", "1"], said);
    /// `true`.
    True = |said| words(["true"], said);
    /// A number of bytes, or `all`.
    Tail = |said| text("^([0-9]{1,18}|all)$", said);
    /// A date; empty: the newest.
    WantedDate = |said| AnyOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Date))))
        .item(ObjectBuilder::new().schema_type(Type::String).max_length(Some(0)))
        .description(Some(said))
        .into();
    /// Shares or units: a number when it is whole, else a decimal as text.
    Quantity = |said| OneOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(Type::Integer))
        .item(ObjectBuilder::new().schema_type(Type::String))
        .description(Some(said))
        .into();
    /// Which dead letters are sent again: all of a topic, those of a cause, or one.
    Replay = |said| which_letters(said);
}

/// Each way to say it excludes the others, which one list of fields cannot tell.
fn which_letters(said: &str) -> RefOr<Schema> {
    let read = |schema| serde_json::from_value::<Schema>(schema).expect("the schema is one");
    let topic = json!({ "type": "string" });
    let none = json!({ "type": "null" });
    let of = |required: &[&str], properties| {
        read(
            json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties }),
        )
    };
    let u32 = json!({ "type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX });
    let u64 = json!({ "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX });
    let all = json!({ "type": "boolean", "enum": [true], "description": "All of the topic." });
    let not_all = json!({ "type": "boolean", "enum": [false] });
    let cause = json!({ "type": "string", "description": "Those of this cause." });
    let value =
        json!({ "type": ["string", "null"], "description": "What to send instead of the original’s value." });
    OneOfBuilder::new()
        .item(of(
            &["topic", "all"],
            json!({ "topic": topic, "all": all, "cause": none, "partition": none, "offset": none, "value": none }),
        ))
        .item(of(
            &["topic", "cause"],
            json!({ "topic": topic, "all": not_all, "cause": cause, "partition": none, "offset": none, "value": none }),
        ))
        .item(of(
            &["topic", "partition", "offset"],
            json!({ "topic": topic, "all": not_all, "cause": none, "partition": u32, "offset": u64, "value": value }),
        ))
        .description(Some(said))
        .into()
}

/// Everything the daemon shows, at one moment.
#[derive(ToSchema)]
pub(crate) struct Snapshot {
    now: Timestamp,
    /// How much faster than real time the daemon's clock runs.
    speed: f64,
    /// IANA zone to show times in.
    timezone: String,
    /// When the daemon came up.
    up_since: Timestamp,
    /// Process id of the daemon.
    pid: u32,
    dags: Vec<Dag>,
    problems: Vec<FileProblem>,
    /// Runs that have not ended, then ended ones, newest first.
    runs: Vec<LiveRun>,
    /// Newest first.
    alerts: Vec<Alert>,
    gauges: Gauges,
    /// Mails that were not delivered yet, oldest first.
    outbox: Vec<Mail>,
    /// Trouble of the daemon itself, one line each.
    notices: Vec<String>,
}

/// A DAG.
#[derive(ToSchema)]
pub(crate) struct Dag {
    #[schema(value_type = Name)]
    name: String,
    description: String,
    /// Who to ask.
    owner: String,
    /// The file it comes from.
    file: String,
    /// Its schedule in words.
    #[schema(required)]
    schedule: Option<String>,
    /// It is not started by its schedule.
    paused: bool,
    /// Next windows, soonest first.
    next: Vec<Window>,
}

/// A DAG file that does not work.
#[derive(ToSchema)]
pub(crate) struct FileProblem {
    file: String,
    /// `file:line:column: error: …`, with what to write instead.
    text: String,
    /// What `text` says, fault by fault.
    faults: Vec<Fault>,
    /// An earlier version of the file still runs.
    previous_kept: bool,
}

/// A fault of a file.
#[derive(ToSchema)]
pub(crate) struct Fault {
    /// Line and column, from 1.
    #[schema(required)]
    at: Option<Vec<usize>>,
    #[schema(value_type = Severity)]
    severity: (),
    message: String,
    /// The lines that it is about.
    #[schema(required)]
    excerpt: Option<String>,
    /// What to write instead.
    #[schema(required)]
    help: Option<String>,
}

/// From open to close.
#[derive(ToSchema)]
pub(crate) struct Window {
    open_at: Timestamp,
    /// Null: the run ends with its tasks.
    #[schema(required)]
    close_at: Option<Timestamp>,
}

/// A run with what its living steps say.
#[derive(ToSchema)]
pub(crate) struct LiveRun {
    run: Run,
    /// By step.
    statuses: BTreeMap<String, Status>,
}

/// A run.
#[derive(ToSchema)]
pub(crate) struct Run {
    #[schema(value_type = RunName)]
    id: String,
    /// The DAG as it was when the run was created.
    #[schema(value_type = Object)]
    dag: (),
    #[schema(value_type = RunCause)]
    cause: (),
    /// The local date it is about.
    session_date: Date,
    window: Window,
    params: BTreeMap<String, String>,
    created_at: Timestamp,
    #[schema(value_type = RunState)]
    state: (),
    /// By name: state, attempts and their ends, results.
    #[schema(value_type = BTreeMap<String, Object>)]
    steps: (),
    /// Who asked for its end before its close.
    #[schema(required)]
    cancelled_by: Option<String>,
    #[schema(required)]
    finished_at: Option<Timestamp>,
}

/// What a living step says of itself.
#[derive(ToSchema)]
pub(crate) struct Status {
    /// It can serve those that need it.
    ready: bool,
    /// Trouble, in one line.
    #[schema(required)]
    degraded: Option<String>,
    /// Numbers and times for the page.
    #[schema(value_type = Object)]
    facts: (),
    /// It cannot be ready before a time.
    #[schema(value_type = Object, required = false)]
    waits: (),
    /// The newest thing that it noticed.
    #[schema(value_type = Object, required = false)]
    notice: (),
}

/// A run with the states of its steps.
#[derive(ToSchema)]
pub(crate) struct RunBrief {
    #[schema(value_type = RunName)]
    id: String,
    #[schema(value_type = RunCause)]
    cause: (),
    #[schema(value_type = RunState)]
    state: (),
    /// The local date it is about.
    session_date: Date,
    window: Window,
    created_at: Timestamp,
    #[schema(required)]
    finished_at: Option<Timestamp>,
    /// By name.
    steps: Vec<StepBrief>,
}

/// Where a step of a run stands.
#[derive(ToSchema)]
pub(crate) struct StepBrief {
    #[schema(value_type = Name)]
    name: String,
    #[schema(value_type = StepState)]
    state: (),
    /// Number of the current or last attempt; 0 before the first.
    attempt: u32,
}

/// An alert that was raised.
#[derive(ToSchema)]
pub(crate) struct Alert {
    at: Timestamp,
    #[schema(value_type = AlertKind)]
    kind: (),
    /// Which rule raised it.
    rule: String,
    #[schema(value_type = RunName)]
    run: String,
    #[schema(required)]
    step: Option<String>,
    /// One line.
    summary: String,
    /// What was found, as a value. Missing where there are only words.
    #[schema(value_type = Finding, required = false)]
    finding: (),
    #[schema(value_type = MailState)]
    mail: (),
}

/// A mail that was not delivered yet.
#[derive(ToSchema)]
pub(crate) struct Mail {
    key: String,
    created_at: Timestamp,
    /// Deliveries tried so far.
    tries: u32,
    /// When it is tried again at the latest.
    next_at: Timestamp,
    #[schema(required)]
    last_error: Option<String>,
    to: Vec<String>,
    subject: String,
}

/// The stores' own figures.
#[derive(ToSchema)]
pub(crate) struct Gauges {
    /// Records held, by topic.
    topics: BTreeMap<String, u64>,
    /// Records behind the log's end, by consumer group.
    group_lag: BTreeMap<String, u64>,
    /// Dead letters held, by dead-letter topic.
    dead_letters: BTreeMap<String, u64>,
    /// What stores said that did not answer.
    unreachable: BTreeMap<String, String>,
    /// Records a second, by topic, over the last minute.
    rates: BTreeMap<String, f64>,
}

/// Somebody did something.
#[derive(ToSchema)]
pub(crate) struct AuditEntry {
    at: Timestamp,
    /// A user, a token, or the door they came through.
    who: String,
    /// What, in one word or two.
    what: String,
    /// To which DAG, run or step.
    subject: String,
    #[schema(value_type = Outcome)]
    outcome: (),
    /// More, for people.
    detail: String,
}

/// A day of a schedule.
#[derive(ToSchema)]
pub(crate) struct Day {
    date: Date,
    #[schema(value_type = SpecialDay)]
    special: (),
    /// Why it differs from a plain weekday; empty if it does not.
    why: String,
    /// Windows that open on it, the first few.
    windows: Vec<Window>,
    /// How many windows are not listed.
    more: usize,
}

/// A session of a backfill.
#[derive(ToSchema)]
pub(crate) struct Session {
    /// Id of its run, whether that exists or not.
    #[schema(value_type = RunName)]
    run: String,
    date: Date,
    #[schema(value_type = SessionState)]
    state: (),
}

/// A dead letter without its bytes.
#[derive(ToSchema)]
pub(crate) struct DeadLetter {
    /// Partition of the dead-letter topic.
    partition: u32,
    /// Offset there.
    offset: u64,
    /// When it was refused.
    time: Timestamp,
    /// The stable word.
    cause: String,
    /// Who refused it: `DAG/STEP`.
    connector: String,
    /// Where it failed.
    stage: String,
    /// The cause in words.
    message: String,
    /// Size of the original's value.
    size_bytes: usize,
    /// It was sent again.
    replayed: bool,
}

/// Dead letters of one cause, refuser and stage.
#[derive(ToSchema)]
pub(crate) struct DeadLetterGroup {
    /// The stable word.
    cause: String,
    /// Who refused them: `DAG/STEP`.
    connector: String,
    /// Where they failed.
    stage: String,
    count: u64,
    /// How many of them were sent again.
    replayed: u64,
    /// Time of the first.
    first: Timestamp,
    /// Time of the last.
    last: Timestamp,
    /// The newest one's message.
    message: String,
}

/// What a replay did.
#[derive(ToSchema)]
pub(crate) struct Replayed {
    /// Looked at.
    letters: u64,
    /// Sent before.
    before: u64,
    /// Sent now.
    sent: u64,
    /// Records they became.
    records: u64,
    /// Those that still cannot be read, by cause.
    refused: BTreeMap<String, u64>,
    /// Why the last of these cannot be read.
    #[schema(value_type = String, required = false)]
    message: String,
}

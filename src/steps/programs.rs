//! The table of the built-in programs: one line each. A row is written beside its program; everything that
//! has to know what there is and what it takes goes over this table.

use std::pin::Pin;
use std::sync::LazyLock;

use serde_json::Value;

use super::{Context, StepError, collect, freshness, reconcile, sink, topics, vwap};
use domain::program::{Parameter, Program, Shape};
use feed::FEEDS;

/// Everything there is, in the order in which it is listed.
static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let collectors = FEEDS
        .iter()
        .map(|&feed| Row::new(collect::program(feed), move |context| collect::run(feed, context)));
    let mut rows = vec![Row::new(topics::PROGRAM, topics::run)];
    rows.extend(collectors);
    rows.extend([
        Row::new(sink::raw::PROGRAM, sink::raw::run),
        Row::new(sink::index::PROGRAM, sink::index::run),
        Row::new(sink::objects::PROGRAM, sink::objects::run),
        Row::new(vwap::PROGRAM, vwap::run),
        Row::new(freshness::PROGRAM, freshness::run),
        Row::new(reconcile::PROGRAM, reconcile::run),
    ]);
    Table::new(rows)
});

/// The built-in programs.
pub fn programs() -> &'static [Program] {
    &TABLE.programs
}

/// Runs the built-in program called `name` to its end and gives back what it returns.
///
/// # Errors
/// What the program fails with; an unknown program's error lists those there are.
pub async fn run(name: &str, context: Context) -> Result<Value, StepError> {
    TABLE.run(name, context).await
}

type Running = Pin<Box<dyn Future<Output = Result<Value, StepError>> + Send>>;

/// A program and what runs it.
pub(crate) struct Row {
    program: Program,
    run: Box<dyn Fn(Context) -> Running + Send + Sync>,
}

impl Row {
    pub(crate) fn new<F>(program: Program, run: impl Fn(Context) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Value, StepError>> + Send + 'static,
    {
        Self { program, run: Box::new(move |context| Box::pin(run(context))) }
    }
}

/// Programs, and what runs each of them.
pub(crate) struct Table {
    programs: Vec<Program>,
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        Self { programs: rows.iter().map(|row| row.program).collect(), rows }
    }

    pub(crate) async fn run(&self, name: &str, context: Context) -> Result<Value, StepError> {
        match self.rows.iter().find(|row| row.program.name == name) {
            Some(row) => (row.run)(context).await,
            None => {
                let names: Vec<_> = self.programs.iter().map(|p| p.name).collect();
                Err(StepError::Failed(format!(
                    "there is no built-in program \"{name}\"; there are {}",
                    names.join(", ")
                )))
            }
        }
    }
}

/// The topic that a program reads or writes.
pub(crate) const TOPIC: Parameter =
    Parameter::new("topic", Shape::Text, "the topic it works on").or_found(crate::default_topic);
/// The consumer group of a program that reads the log.
pub(crate) const GROUP: Parameter =
    Parameter::new("group", Shape::Text, "its consumer group").or_else("DAG and step");
/// Ids that a program keeps in mind.
pub(crate) const REMEMBER: Parameter =
    Parameter::new("remember", Shape::Count(1), "ids remembered to fold duplicates")
        .or("200000")
        .counting("ids");

/// What programs take, as Markdown: `docs/programs.md` is the built-in ones' (`openbell dag programs
/// --markdown`).
pub fn reference(programs: &[Program]) -> String {
    let mut text = String::from(
        "# Built-in programs\n\n\
         What a step may run with `uses:`, and what it takes under `with:`. Made from the table of programs: `openbell dag programs --markdown`.\n",
    );
    for program in programs {
        let kinds: Vec<_> = program.kinds.iter().map(|k| k.as_str()).collect();
        text.push_str(&format!(
            "\n## `{}`\n\n{}. Kind: {}.",
            program.name,
            sentence(program.about),
            kinds.join(" or ")
        ));
        if program.replicas {
            text.push_str(" Several copies share their work (`replicas`, executor `swarm`).");
        }
        text.push_str("\n\n");
        if !program.parameters.is_empty() {
            text.push_str("| parameter | value | default | it is |\n|---|---|---|---|\n");
            for (name, parameter) in program.all_parameters() {
                let help = match parameter.deprecated {
                    Some(instead) => format!("{}; not needed any more: {instead}", parameter.help),
                    None => parameter.help.to_owned(),
                };
                text.push_str(&format!(
                    "| `{name}` | {} | {} | {help} |\n",
                    value(&parameter.shape),
                    default(parameter)
                ));
            }
        }
        if !program.secrets.is_empty() {
            text.push_str("\n| secret | usually | it is |\n|---|---|---|\n");
        }
        for secret in program.secrets {
            text.push_str(&format!("| `{}` | `env:{}` | {} |\n", secret.name, secret.variable, secret.help));
        }
    }
    text
}

fn sentence(words: &str) -> String {
    let (first, rest) = words.split_at(words.chars().next().map_or(0, char::len_utf8));
    format!("{}{rest}", first.to_uppercase())
}

/// What holds where the file does not give it.
fn default(parameter: &Parameter) -> String {
    match parameter.fallback.value() {
        _ if parameter.is_required() => "required".into(),
        Some(value) => format!("`{value}` {}", parameter.unit).trim_end().to_owned(),
        None => parameter.fallback.words().unwrap_or_default(),
    }
}

/// What a value is, in a word or two.
pub fn value(shape: &Shape) -> String {
    match shape {
        Shape::Text | Shape::Scalar | Shape::Any => "text".into(),
        Shape::Name => "name".into(),
        Shape::Bool => "true or false".into(),
        Shape::Count(0) => "whole number".into(),
        Shape::Count(least) => format!("whole number from {least}"),
        Shape::Number { least, most } => format!("number from {least} to {most}"),
        Shape::Duration => "duration".into(),
        Shape::Size => "size".into(),
        Shape::Secret => "reference to a secret".into(),
        Shape::Email => "e-mail address".into(),
        Shape::OneOf(words) => words.join(", "),
        Shape::List(items) => format!("list of {}", value(items)),
        Shape::Table(_) | Shape::Dict { .. } => "table".into(),
        Shape::Either([Shape::List(_), one]) => format!("{} or a list of them", value(one)),
        Shape::Either(shapes) => shapes.iter().map(value).collect::<Vec<_>>().join(" or "),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::testing::fakes::Stores;
    use crate::testing::fixtures;
    use dagfile::{Known, Parsed};
    use domain::parameters::Parameters;
    use domain::program::Fallback;

    /// A program as one adds it: a file with its row and its function, and one line in the table.
    mod greet {
        use serde_json::{Value, json};

        use crate::{Context, StepError};
        use domain::dag::StepKind;
        use domain::parameters::Parameters;
        use domain::program::{Parameter, Program, Role, Shape};

        pub(super) const PROGRAM: Program = Program {
            name: "greet",
            kinds: &[StepKind::Task],
            role: Role::Task,
            about: "says hello",
            parameters: &[
                Parameter::required("whom", Shape::Text, "who is greeted"),
                Parameter::new("times", Shape::Count(1), "how often").or("2").counting("greetings"),
            ],
            secrets: &[],
            replicas: false,
        };

        pub(super) async fn run(context: Context) -> Result<Value, StepError> {
            let p = Parameters::of(&PROGRAM, &context.spec.step.with);
            Ok(json!(vec![format!("hello {}", p.text("whom")?); p.size("times")?]))
        }
    }

    fn lint(programs: &[Program], step: &str) -> Parsed {
        let text = format!("name: x\nsteps:\n  a: {step}\n");
        dagfile::parse(&text, &Known { programs, calendars: &BTreeMap::new() })
    }

    #[tokio::test]
    async fn adding_a_program_is_one_file_and_one_row() {
        let table =
            Table::new(vec![Row::new(topics::PROGRAM, topics::run), Row::new(greet::PROGRAM, greet::run)]);
        let said = |step: &str| {
            let found = lint(&table.programs, step).diagnostics;
            found
                .into_iter()
                .map(|d| format!("{} [{}]", d.message, d.help.unwrap_or_default()))
                .collect::<Vec<_>>()
                .join("; ")
        };
        assert_eq!(said("{ uses: greet, with: { whom: you } }"), "");
        for (step, part) in [
            (
                "{ uses: greet }",
                "lacks the parameter \"whom\" of greet [add with: { whom: … }: who is greeted]",
            ),
            ("{ uses: greet, with: { whom: you, time: 3 } }", "did you mean \"times\"?"),
            ("{ uses: greet, with: { whom: you, times: 0 } }", "at least 1"),
            ("{ uses: greet, kind: service, with: { whom: you } }", "does not work as a service"),
            ("{ uses: great, with: { whom: you } }", "did you mean \"greet\"?"),
        ] {
            assert!(said(step).contains(part), "{step}: {}", said(step));
        }
        let schema = dagfile::schema::schema(&table.programs).to_string();
        assert!(
            schema.contains("\"greet\"") && schema.contains("how often (default 2 greetings)"),
            "{schema}"
        );
        let reference = reference(&table.programs);
        assert!(
            reference.contains("## `greet`")
                && reference.contains("| `times` | whole number from 1 | `2` greetings | how often |")
        );
        let folder = tempfile::tempdir().expect("a folder");
        let context = |with| {
            let stores = Arc::new(Stores::default()).backends();
            fixtures::context("a", with, stores, fixtures::fast_clock(), folder.path()).0
        };
        assert_eq!(
            table.run("greet", context(json!({"whom": "you"}))).await.expect("greeted"),
            json!(["hello you", "hello you"])
        );
        let missing = table.run("greet", context(json!({}))).await.expect_err("nobody to greet").to_string();
        assert_eq!(missing, "parameter \"whom\" of greet: it is missing; write whom: … (who is greeted)");
        let unknown = table.run("great", context(json!({}))).await.expect_err("unknown").to_string();
        assert!(unknown.ends_with("there are topics, greet"), "{unknown}");
    }

    #[test]
    fn rows_are_whole_and_their_defaults_are_values() {
        let mut names = BTreeSet::new();
        for program in programs() {
            assert!(
                names.insert(program.name) && !program.kinds.is_empty() && !program.about.is_empty(),
                "{}",
                program.name
            );
            let none = serde_json::Map::new();
            let p = Parameters::of(program, &none);
            for parameter in program.parameters {
                let (name, place) = (parameter.name, format!("{} {}", program.name, parameter.name));
                match (parameter.shape, parameter.fallback) {
                    (_, Fallback::Parameter(other) | Fallback::Made { of: other, .. }) => {
                        assert!(
                            program.parameter(other).is_some_and(|o| o.fallback.value().is_some()),
                            "{place}"
                        );
                    }
                    (Shape::Table(keys), _) => {
                        let table = p.table(name, "").unwrap_or_else(|e| panic!("{place}: {e}"));
                        keys.iter().for_each(|key| holds(&table, key, &place));
                    }
                    _ => holds(&p, parameter, &place),
                }
            }
        }
    }

    fn holds(p: &Parameters<'_>, parameter: &Parameter, place: &str) {
        if parameter.fallback.value().is_none() {
            return;
        }
        let name = parameter.name;
        let read = match parameter.shape {
            Shape::Count(_) => p.count(name).map(drop),
            Shape::Duration => p.duration(name).map(drop),
            Shape::Size => p.bytes(name).map(drop),
            Shape::Either(_) => p.names(name).map(drop),
            _ => p.text(name).map(drop),
        };
        read.unwrap_or_else(|e| panic!("{place}: {e}"));
    }

    #[test]
    fn the_reference_is_the_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/programs.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == reference(programs()),
            "docs/programs.md is not what the table says: openbell dag programs --markdown > docs/programs.md"
        );
    }
}

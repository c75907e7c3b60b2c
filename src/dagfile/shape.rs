//! The check of a tree against tables that say what may stand where. The JSON Schema comes from the same
//! tables.

use super::diagnostics::Diagnostics;
use super::suggest;
use super::tree::{Entry, Node, Span, Value};
use domain::program::{Parameter, Shape};
use domain::units;

/// Keys that people bring along from other schedulers, and what they are called here.
const ELSEWHERE: [(&str, &str); 33] = [
    ("cron", "open"),
    ("schedule_interval", "schedule"),
    ("start", "open"),
    ("end", "close"),
    ("tz", "timezone"),
    ("depends_on", "needs"),
    ("depends", "needs"),
    ("after", "needs"),
    ("upstream", "needs"),
    ("interval", "every"),
    ("run", "command"),
    ("cmd", "command"),
    ("args", "with"),
    ("params", "with"),
    ("tasks", "steps"),
    ("type", "kind"),
    ("mem_limit", "memory"),
    ("pids_limit", "pids"),
    ("network_mode", "network"),
    ("networks", "network"),
    ("pull_policy", "pull"),
    ("force_pull", "pull"),
    ("volumes", "mounts"),
    ("healthcheck", "health"),
    ("test", "command"),
    ("constraints", "placement"),
    ("docker", "container"),
    ("resources", "container"),
    ("memory", "container"),
    ("cpus", "container"),
    ("network", "container"),
    ("volumes", "container"),
    ("mounts", "container"),
];

/// What the shape is, for "is not …".
fn what(shape: &Shape) -> String {
    match shape {
        Shape::Text | Shape::Name => "a text".into(),
        Shape::Bool => "true or false".into(),
        Shape::Count(_) => "a whole number".into(),
        Shape::Number { .. } => "a number".into(),
        Shape::Duration => "a duration".into(),
        Shape::Size => "a size".into(),
        Shape::Scalar => "a single value".into(),
        Shape::Secret => "a reference to a secret".into(),
        Shape::Email => "an e-mail address".into(),
        Shape::OneOf(words) => format!("one of {}", words.join(", ")),
        Shape::List(_) => "a list".into(),
        Shape::Table(_) | Shape::Dict { .. } => "a table".into(),
        Shape::Either(shapes) => shapes.iter().map(what).collect::<Vec<_>>().join(" or "),
        Shape::Any => "a value".into(),
    }
}

/// What to write instead of `node`.
fn example(shape: &Shape, node: &Node, text: &str) -> String {
    // As written: 005930 is a number to YAML and a stock to people.
    let number = node.scalar(text).filter(|_| matches!(node.value, Value::Number(_)));
    match (shape, number) {
        (Shape::Duration, Some(n)) => format!("give it a unit: {n}s, {n}m or {n}h"),
        (Shape::Duration, None) => "write a number and a unit, for example 500ms, 30s, 5m or 1h30m".into(),
        (Shape::Size, Some(n)) => format!("give it a unit: {n}MiB or {n}GiB"),
        (Shape::Size, None) => "write a number and a unit, for example 512KiB, 64MiB or 1GiB".into(),
        (Shape::Count(least), _) => format!("write a whole number of at least {least}"),
        (Shape::Number { least, most }, _) => {
            format!("write a number from {least} to {most}, for example 0.5")
        }
        (Shape::Bool, _) => "write true or false".into(),
        (Shape::Text | Shape::Name | Shape::Email, Some(n)) => format!("put it in quotes: \"{n}\""),
        (Shape::Secret, _) => {
            "write env:NAME or file:/path; the value itself does not belong into a file".into()
        }
        (Shape::List(_), _) => "write [first, second]".into(),
        (Shape::Table(fields), _) => match fields.first() {
            Some(field) => format!("write {{ {}: … }}", field.name),
            None => "write {}".into(),
        },
        (Shape::Dict { .. }, _) => "write { key: value }".into(),
        (Shape::Either(shapes), _) => {
            shapes.iter().map(|s| example(s, node, text)).collect::<Vec<_>>().join(", or ")
        }
        (Shape::OneOf(words), _) => format!("write {}", words.join(", ")),
        _ => format!("write {}", what(shape)),
    }
}

/// Whether a node has the type of the shape, whatever it holds.
fn fits(shape: &Shape, node: &Node) -> bool {
    match shape {
        Shape::Text
        | Shape::Name
        | Shape::Duration
        | Shape::Size
        | Shape::Secret
        | Shape::Email
        | Shape::OneOf(_) => {
            matches!(node.value, Value::Text(_))
        }
        Shape::Bool => matches!(node.value, Value::Bool(_)),
        Shape::Count(_) | Shape::Number { .. } => matches!(node.value, Value::Number(_)),
        Shape::Scalar => matches!(node.value, Value::Text(_) | Value::Bool(_) | Value::Number(_)),
        Shape::List(_) => matches!(node.value, Value::List(_)),
        Shape::Table(_) | Shape::Dict { .. } => matches!(node.value, Value::Map(_)),
        Shape::Either(shapes) => shapes.iter().any(|s| fits(s, node)),
        Shape::Any => true,
    }
}

/// What messages call the file itself.
pub(super) const FILE: &str = "the file";

/// Checks a node, and all below it. `name` is what messages call it (`"timeout" of step "a"`).
pub(super) fn check(node: &Node, shape: &Shape, name: &str, diagnostics: &mut Diagnostics<'_>) {
    if !fits(shape, node) {
        return wrong_type(node, shape, name, diagnostics);
    }
    match shape {
        Shape::Either(shapes) => {
            if let Some(shape) = shapes.iter().find(|s| fits(s, node)) {
                check(node, shape, name, diagnostics);
            }
        }
        Shape::List(items) => node
            .items()
            .iter()
            .for_each(|item| check(item, items, &format!("an item of {name}"), diagnostics)),
        Shape::Table(fields) => table(node, fields, name, node.span, diagnostics),
        Shape::Dict { named, values } => dict(node, *named, values, name, diagnostics),
        Shape::Count(least) if node.count().is_none_or(|n| n < *least || n > u64::from(u32::MAX)) => {
            let written = node.to_json();
            diagnostics.error(
                node.span,
                format!("{name} is {written}, not a whole number of at least {least}"),
                example(shape, node, diagnostics.text),
            );
        }
        Shape::Number { least, most } if node.number().is_none_or(|n| !(*least..=*most).contains(&n)) => {
            let message = format!("{name} is {}, not a number from {least} to {most}", node.to_json());
            diagnostics.error(node.span, message, example(shape, node, diagnostics.text));
        }
        _ => {
            if let Some(text) = node.text() {
                word(node.span, text, shape, name, diagnostics);
            }
        }
    }
}

fn wrong_type(node: &Node, shape: &Shape, name: &str, diagnostics: &mut Diagnostics<'_>) {
    if node.value == Value::Null {
        return diagnostics.error(
            node.span,
            format!("{name} has no value"),
            "give it one, or remove the key",
        );
    }
    let written = match (&node.value, shape) {
        (Value::Number(_), shape) if !matches!(shape, Shape::Secret) => {
            node.scalar(diagnostics.text).map(|number| format!(" ({number})")).unwrap_or_default()
        }
        (Value::Bool(value), _) => format!(" ({value})"),
        _ => String::new(),
    };
    diagnostics.error(
        node.span,
        format!("{name} is {}{written}, not {}", node.kind(), what(shape)),
        example(shape, node, diagnostics.text),
    );
}

/// Checks what a text says.
fn word(span: Span, text: &str, shape: &Shape, name: &str, diagnostics: &mut Diagnostics<'_>) {
    let refused = match shape {
        Shape::Name => text.parse::<domain::ids::StepName>().err().map(|e| {
            let (why, help) =
                (e.why, "use 1 to 63 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit");
            (format!("\"{text}\" is not a usable name: {why}"), help.to_owned())
        }),
        Shape::Duration => units::duration(text).err().map(|e| {
            (format!("{name} is \"{text}\", which is not a duration"), format!("write {}", e.example))
        }),
        Shape::Size => units::bytes(text)
            .err()
            .map(|e| (format!("{name} is \"{text}\", which is not a size"), format!("write {}", e.example))),
        Shape::OneOf(words) if !words.contains(&text) => Some((
            format!("{name} cannot be \"{text}\""),
            suggest::help(text, words.iter().copied(), "write one of"),
        )),
        Shape::Email if !is_email(text) => {
            Some((format!("\"{text}\" is not an e-mail address"), "write name@example.com".to_owned()))
        }
        // The value is not repeated: it may be the secret.
        Shape::Secret
            if text.strip_prefix("env:").or(text.strip_prefix("file:")).is_none_or(str::is_empty) =>
        {
            Some((
                format!("{name} is not a reference to a secret"),
                "write env:NAME or file:/path; a secret itself does not belong into a DAG file".to_owned(),
            ))
        }
        _ => None,
    };
    if let Some((message, help)) = refused {
        diagnostics.error(span, message, help);
    }
}

/// A plain address: no spaces, one `@` with something on either side, no comma lists.
fn is_email(text: &str) -> bool {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && !",;<>\"()".contains(c);
    match text.split_once('@') {
        Some((local, domain)) => {
            !local.is_empty()
                && text.chars().all(allowed)
                && !domain.contains('@')
                && domain
                    .split('.')
                    .all(|part| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '-'))
        }
        None => false,
    }
}

/// Checks the entries of a table; `owner` is where a missing key is reported.
pub(super) fn table(
    node: &Node,
    fields: &[Parameter],
    name: &str,
    owner: Span,
    diagnostics: &mut Diagnostics<'_>,
) {
    repeated(node, name, diagnostics);
    for entry in node.entries() {
        match fields.iter().find(|f| f.name == entry.key) {
            Some(field) => {
                if let Some(instead) = field.deprecated {
                    diagnostics.warning(
                        entry.key_span,
                        format!("\"{}\" of {name} is not needed any more", entry.key),
                        instead,
                    );
                }
                check_entry(entry, &field.shape, name, diagnostics);
            }
            None => unknown_key(entry, fields, name, diagnostics),
        }
    }
    for field in fields.iter().filter(|f| f.is_required() && node.entry(f.name).is_none()) {
        let help = format!("add {}: {}", field.name, field.help);
        diagnostics.error(owner, format!("{name} has no \"{}\"", field.name), help);
    }
}

fn check_entry(entry: &Entry, shape: &Shape, name: &str, diagnostics: &mut Diagnostics<'_>) {
    let name =
        if name == FILE { format!("\"{}\"", entry.key) } else { format!("\"{}\" of {name}", entry.key) };
    match (&entry.value.value, shape) {
        // A key without a value has no place of its own.
        (Value::Null, _) => diagnostics.error(
            entry.key_span,
            format!("{name} has no value"),
            "give it one, or remove the key",
        ),
        // Keys missing from a table are reported at the key that holds it.
        (Value::Map(_), Shape::Table(fields)) => {
            table(&entry.value, fields, &name, entry.key_span, diagnostics)
        }
        _ => check(&entry.value, shape, &name, diagnostics),
    }
}

fn unknown_key(entry: &Entry, fields: &[Parameter], name: &str, diagnostics: &mut Diagnostics<'_>) {
    let names = || fields.iter().map(|f| f.name);
    let elsewhere = ELSEWHERE.iter().find(|(other, here)| *other == entry.key && names().any(|n| n == *here));
    let help = match elsewhere.map(|(_, here)| *here).or_else(|| suggest::nearest(&entry.key, names())) {
        Some(word) => format!("did you mean \"{word}\"?"),
        None if fields.is_empty() => format!("{name} takes no keys; remove it"),
        None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
    };
    diagnostics.error(entry.key_span, format!("unknown key \"{}\" in {name}", entry.key), help);
}

fn dict(node: &Node, named: bool, values: &Shape, name: &str, diagnostics: &mut Diagnostics<'_>) {
    repeated(node, name, diagnostics);
    for entry in node.entries() {
        if named {
            word(entry.key_span, &entry.key, &Shape::Name, name, diagnostics);
            let name = format!("step \"{}\"", entry.key);
            match (&entry.value.value, values) {
                (Value::Map(_), Shape::Table(fields)) => {
                    table(&entry.value, fields, &name, entry.key_span, diagnostics)
                }
                (Value::Null, _) => diagnostics.error(
                    entry.key_span,
                    format!("{name} is empty"),
                    "say what it runs: uses: … or command: …",
                ),
                _ => check(&entry.value, values, &name, diagnostics),
            }
        } else {
            check_entry(entry, values, name, diagnostics);
        }
    }
}

fn repeated(node: &Node, name: &str, diagnostics: &mut Diagnostics<'_>) {
    let entries = node.entries();
    for (at, entry) in entries.iter().enumerate() {
        if let Some(first) = entries[..at].iter().find(|e| e.key == entry.key) {
            let message = format!("\"{}\" stands twice in {name}", entry.key);
            diagnostics.error(
                entry.key_span,
                message,
                format!("it is already on line {}; keep one of them", first.key_span.line),
            );
        }
    }
}

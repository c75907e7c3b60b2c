//! The JSON Schema of a DAG file, for editors: from the same tables that the check uses.

use serde_json::{Map, Value, json};

use super::tables;
use domain::program::{Parameter, Program, Shape};

const DURATION: &str = r"^\s*([0-9]+\s*(ms|s|m|h|d))+\s*$";
const SIZE: &str = r"^\s*[0-9]+\s*(B|KiB|MiB|GiB|kB|MB|GB)?\s*$";
const NAME: &str = r"^[a-z0-9][a-z0-9._-]{0,62}$";

/// The schema (draft 2020-12). `uses` is one of `programs`, and `with` follows it.
pub fn schema(programs: &[Program]) -> Value {
    let mut schema = table(tables::FILE);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("openbell DAG");
    let mut step = table(tables::STEP);
    step["properties"]["uses"] = json!({
        "description": "the built-in program it runs",
        "oneOf": programs.iter().map(|p| json!({"const": p.name, "description": p.about})).collect::<Vec<_>>(),
    });
    step["oneOf"] = json!([{"required": ["uses"]}, {"required": ["command"]}]);
    step["allOf"] = programs.iter().map(of_program).collect();
    schema["properties"]["steps"] = json!({
        "description": "the steps, by name",
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": NAME},
        "additionalProperties": step,
    });
    schema
}

fn of_program(program: &Program) -> Value {
    let kinds: Vec<&str> = program.kinds.iter().map(|k| k.as_str()).collect();
    let mut required = Vec::new();
    if program.parameters.iter().any(Parameter::is_required) {
        required.push("with");
    }
    if !program.secrets.is_empty() {
        required.push("secrets");
    }
    // A step without a kind is a task.
    if !kinds.contains(&"task") {
        required.push("kind");
    }
    json!({
        "if": {"properties": {"uses": {"const": program.name}}, "required": ["uses"]},
        "then": {
            "properties": {
                "kind": {"enum": kinds},
                "with": table(program.parameters),
                "secrets": {"required": program.secrets.iter().map(|s| s.name).collect::<Vec<_>>()},
            },
            "required": required,
        },
    })
}

fn table(fields: &[Parameter]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| {
            let mut value = shape(&field.shape);
            value["description"] = json!(field.about());
            if let Some(text) = field.fallback.value() {
                value["default"] = match field.shape {
                    Shape::Count(_) => text.parse::<u64>().map_or(json!(text), |n| json!(n)),
                    _ => json!(text),
                };
            }
            if field.deprecated.is_some() {
                value["deprecated"] = json!(true);
            }
            (field.name.to_owned(), value)
        })
        .collect();
    let required: Vec<&str> = fields.iter().filter(|f| f.is_required()).map(|f| f.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn shape(shape_: &Shape) -> Value {
    match shape_ {
        Shape::Text => json!({"type": "string"}),
        Shape::Name => json!({"type": "string", "pattern": NAME}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Count(least) => json!({"type": "integer", "minimum": least, "maximum": u32::MAX}),
        Shape::Number { least, most } => json!({"type": "number", "minimum": least, "maximum": most}),
        Shape::Duration => json!({"type": "string", "pattern": DURATION, "examples": ["30s", "5m", "1h30m"]}),
        Shape::Size => json!({"type": "string", "pattern": SIZE, "examples": ["64MiB"]}),
        Shape::Scalar => json!({"type": ["string", "number", "boolean"]}),
        Shape::Secret => json!({"type": "string", "pattern": "^(env|file):."}),
        Shape::Email => json!({"type": "string", "format": "email"}),
        Shape::OneOf(words) => json!({"enum": words}),
        Shape::List(items) => json!({"type": "array", "items": shape(items)}),
        Shape::Table(fields) => table(fields),
        Shape::Dict { named: true, values } => {
            json!({"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": shape(values)})
        }
        Shape::Dict { named: false, values } => {
            json!({"type": "object", "additionalProperties": shape(values)})
        }
        Shape::Either(shapes) => json!({"anyOf": shapes.iter().map(shape).collect::<Vec<_>>()}),
        Shape::Any => json!({}),
    }
}

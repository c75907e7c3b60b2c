//! The OpenAPI document: which operations there are, what it says of each, and that what is answered is what
//! it says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::http::problem::{Kind, NAMESPACE};
use crate::routes::{OPENAPI, operations};
use crate::tests::Site;
use crate::tests::stores::{filled, market};
use daemon::testing;

/// Every operation of the API: programs ask for these.
const OPERATIONS: [&str; 34] = [
    "GET /alerts",
    "POST /alerts/test",
    "GET /audit",
    "GET /dags",
    "GET /dags/{name}",
    "POST /dags/{name}/backfill",
    "GET /dags/{name}/calendar",
    "POST /dags/{name}/pause",
    "POST /dags/{name}/resume",
    "GET /dags/{name}/runs",
    "GET /dead-letters",
    "POST /dead-letters/replay",
    "GET /dead-letters/{topic}",
    "GET /dead-letters/{topic}/{partition}/{offset}",
    "POST /down",
    "GET /events",
    "POST /export",
    "GET /market",
    "GET /market/{symbol}",
    "GET /openapi.json",
    "GET /outbox",
    "GET /runs",
    "POST /runs",
    "GET /runs/{id}",
    "POST /runs/{id}/cancel",
    "POST /runs/{id}/clear",
    "POST /runs/{id}/mark",
    "GET /runs/{id}/steps/{step}/lines",
    "GET /runs/{id}/steps/{step}/output",
    "GET /snapshot",
    "GET /topics",
    "GET /topics/{name}",
    "GET /topics/{name}/records",
    "GET /whoami",
];

fn document() -> Value {
    serde_json::from_str(&OPENAPI).expect("JSON")
}

#[test]
fn every_operation_is_there_under_a_name_of_its_own() {
    let mut found: Vec<_> =
        operations().into_iter().map(|(method, path)| (path, method.to_uppercase())).collect();
    found.sort();
    let found: Vec<_> = found.into_iter().map(|(path, method)| format!("{method} {path}")).collect();
    assert_eq!(found, OPERATIONS);
    let document = document();
    let all = document["paths"]
        .as_object()
        .expect("paths")
        .values()
        .flat_map(|methods| methods.as_object().expect("methods"));
    let names: Vec<_> =
        all.map(|(_, operation)| operation["operationId"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), OPERATIONS.len(), "{names:?}");
}

#[test]
fn every_component_that_is_referred_to_is_there_and_every_one_is_used() {
    let document = document();
    let mut used = BTreeSet::new();
    references(&document, &mut used);
    for name in &used {
        let pointer = name.strip_prefix('#').expect("a place in the document");
        assert!(document.pointer(pointer).is_some(), "{name} is not there");
    }
    for (kind, of_kind) in document["components"].as_object().expect("components") {
        for name in of_kind.as_object().expect("components").keys().filter(|_| kind != "securitySchemes") {
            assert!(used.contains(&format!("#/components/{kind}/{name}")), "nothing refers to {kind} {name}");
        }
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn the_openapi_document_says_of_every_route_what_strangers_and_viewers_are_told() {
    let document = document();
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let answers = operation["responses"].as_object().expect("answers");
            // Without a host name, of another host, of a stranger, of one who tried too often.
            let mut wanted = vec!["400", "401", "421", "429"];
            if method != "get" {
                wanted.extend(["403", "408", "413"]);
            }
            if operation.get("requestBody").is_some() {
                wanted.push("415");
            }
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            if parameters.iter().any(|p| p["$ref"] == "#/components/parameters/Key") {
                wanted.push("422");
            }
            if path.contains('{') {
                wanted.push("404");
            }
            let missing: Vec<_> =
                wanted.into_iter().filter(|status| !answers.contains_key(*status)).collect();
            assert!(
                missing.is_empty(),
                "{method} {path} lacks {missing:?}; every request passes web::auth::door and web::guard"
            );
            for (status, answer) in answers.iter().filter(|(status, _)| *status != "200") {
                let name = answer["$ref"]
                    .as_str()
                    .and_then(|r| r.strip_prefix("#/components/responses/"))
                    .expect("a shared answer");
                let kind = &document["components"]["responses"][name]["content"]["application/problem+json"]
                    ["schema"]["$ref"];
                assert_eq!(kind, "#/components/schemas/Problem", "{status} of {method} {path}");
            }
        }
    }
}

#[test]
fn the_openapi_document_and_the_guide_list_every_kind_of_problem() {
    let document = document();
    let written = &document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
    let kinds: Vec<_> = Kind::ALL.iter().map(|kind| format!("{NAMESPACE}{}", kind.name())).collect();
    assert_eq!(written, &json!(kinds));
    let guide = include_str!("../../../docs/api.md");
    for kind in Kind::ALL {
        let row = format!("| `{}` | {} |", kind.name(), kind.status().as_u16());
        assert!(guide.contains(&row), "docs/api.md lacks {row}");
    }
}

/// What a value breaks of a schema. Fields that the schema does not name are faults too: the document would
/// say too little.
struct Reading<'a> {
    document: &'a Value,
    faults: Vec<String>,
}

impl<'a> Reading<'a> {
    fn followed(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(place) => {
                self.followed(self.document.pointer(place.trim_start_matches('#')).expect("a component"))
            }
            None => schema,
        }
    }

    /// Faults of a value in one of several schemas.
    fn faults_in(&self, schema: &'a Value, value: &Value, at: &str) -> Vec<String> {
        let mut reading = Reading { document: self.document, faults: Vec::new() };
        reading.read(schema, value, at);
        reading.faults
    }

    /// Fields of an object, with those of what it is made of.
    fn fields(
        &self,
        schema: &'a Value,
        known: &mut BTreeMap<&'a str, &'a Value>,
        needed: &mut BTreeSet<&'a str>,
    ) {
        let schema = self.followed(schema);
        known.extend(
            schema["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.as_str(), schema)),
        );
        needed.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.fields(part, known, needed);
        }
    }

    fn read(&mut self, schema: &'a Value, value: &Value, at: &str) {
        let schema = self.followed(schema);
        let choices = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
        if let Some(choices) = choices {
            let tried: Vec<_> = choices.iter().map(|choice| self.faults_in(choice, value, at)).collect();
            if !tried.iter().any(Vec::is_empty) {
                self.faults.extend(tried.into_iter().flatten());
            }
            return;
        }
        self.read_kind(schema, value, at);
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.read_kind(self.followed(part), value, at);
        }
        if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
            self.faults.push(format!("{at} is none of {words:?}: {value}"));
        }
        match value {
            Value::Object(fields) => self.read_object(schema, fields, at),
            Value::Array(items) => {
                let each = schema["prefixItems"].as_array();
                for (n, item) in items.iter().enumerate() {
                    let of = each
                        .and_then(|each| each.get(n))
                        .or_else(|| schema.get("items"))
                        .unwrap_or(&Value::Null);
                    self.read(of, item, &format!("{at}[{n}]"));
                }
            }
            _ => {}
        }
    }

    fn read_kind(&mut self, schema: &'a Value, value: &Value, at: &str) {
        let fits = |kind: &str| match kind {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            _ => value.is_object(),
        };
        let kinds: Vec<_> = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect(),
        };
        if !kinds.is_empty() && !kinds.iter().any(|kind| fits(kind)) {
            self.faults.push(format!("{at} is no {}: {value}", kinds.join(" or ")));
        }
    }

    fn read_object(&mut self, schema: &'a Value, fields: &Map<String, Value>, at: &str) {
        let (mut known, mut needed) = (BTreeMap::new(), BTreeSet::new());
        self.fields(schema, &mut known, &mut needed);
        self.faults.extend(
            needed
                .iter()
                .filter(|name| !fields.contains_key(**name))
                .map(|name| format!("{at} lacks {name}")),
        );
        let more = schema.get("additionalProperties").filter(|more| more.is_object());
        for (name, value) in fields {
            match known.get(name.as_str()).copied().or(more) {
                Some(schema) => self.read(schema, value, &format!("{at}.{name}")),
                None if known.is_empty() || schema["additionalProperties"] == true => {}
                None => self.faults.push(format!("{at}.{name} is not in the document")),
            }
        }
    }
}

#[tokio::test]
async fn what_is_answered_is_what_the_document_says() {
    let (log, figures) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let document = document();
    let mut seen = BTreeSet::from([
        "/events".to_owned(),
        "/runs/{id}/steps/{step}/output".to_owned(),
        "/openapi.json".to_owned(),
    ]);
    for (snapshot, stores, symbols) in [
        (testing::snapshot(), filled(log.path()).await, false),
        (testing::ended(), market(figures.path()).await, true),
    ] {
        let site = Site::over(snapshot, stores).await;
        let folder = site.daemon.runs.path().join("kis-trading-day@2026-11-20/collector/2");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("output.log"), "one\ntwo\n").expect("written");
        for (_, path) in operations().into_iter().filter(|(method, _)| *method == "get") {
            let stored = path.starts_with("/topics") || path.starts_with("/dead-letters");
            if (path.starts_with("/market") && !symbols)
                || (stored && symbols)
                || path == "/events"
                || path.ends_with("/output")
            {
                continue;
            }
            let name = if path.starts_with("/topics") { "kis.trades" } else { "kis-trading-day" };
            let asked = path
                .replace("{name}", name)
                .replace("{id}", "kis-trading-day@2026-11-20")
                .replace("{step}", "collector");
            let asked = asked
                .replace("{topic}", "kis.trades")
                .replace("{partition}/{offset}", "0/0")
                .replace("{symbol}", "005930");
            let answer = site.json(&format!("/api/v1{asked}")).await;
            let said =
                &document["paths"][&path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
            assert!(said.is_object(), "{path} says nothing of its answer");
            let mut reading = Reading { document: &document, faults: Vec::new() };
            reading.read(said, &answer, &path);
            assert!(reading.faults.is_empty(), "{:#?}", reading.faults);
            seen.insert(path);
        }
        site.down().await;
    }
    let all: BTreeSet<_> =
        operations().into_iter().filter(|(method, _)| *method == "get").map(|(_, path)| path).collect();
    assert_eq!(seen, all, "every question was asked");
}

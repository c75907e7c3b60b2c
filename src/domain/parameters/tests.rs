use super::*;
use serde_json::json;

const NAMES: Shape = Shape::NAMES;
const KNOWN: &[Parameter] = &[
    Parameter::required("create", NAMES, "topics"),
    Parameter::new("channels", NAMES, "what to subscribe to").or("[trades, totals]"),
    Parameter::new("partitions", Shape::Count(1), "partitions of a new topic").or("3"),
    Parameter::new("stale_after", Shape::Duration, "age").or("5m"),
    Parameter::new("topic", Shape::Text, "a topic").or("kis.trades"),
    Parameter::new("collection", Shape::Text, "a collection").or_as("topic"),
    Parameter::new("index", Shape::Text, "an index")
        .or_made("topic", "TOPIC-trades", |topic| format!("{topic}-trades")),
    Parameter::new("group", Shape::Text, "a group").or_else("DAG and step"),
    Parameter::new("rotate", Shape::Table(ROTATE), "when an object is closed"),
];
const ROTATE: &[Parameter] = &[
    Parameter::new("size", Shape::Size, "largest object").or("64MiB"),
    Parameter::new("every", Shape::Duration, "longest time").or("1m"),
];

fn with(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

#[test]
fn reads_what_is_there_and_the_row_has_the_rest() {
    let with =
        with(json!({"create": ["a", "b"], "rotate": {"size": "1MiB"}, "topic": "x", "stale_after": null}));
    let p = Parameters::new("sink/objects", KNOWN, &with);
    assert_eq!(
        (p.names("create"), p.names("channels")),
        (Ok(vec!["a".into(), "b".into()]), Ok(vec!["trades".into(), "totals".into()]))
    );
    assert_eq!((p.count("partitions"), p.duration("stale_after")), (Ok(3), Ok(Duration::from_secs(300))));
    assert_eq!(
        (p.text("topic").as_deref(), p.text("collection").as_deref(), p.text("index").as_deref()),
        (Ok("x"), Ok("x"), Ok("x-trades"))
    );
    assert_eq!((p.optional_text("group"), p.is_given("topic"), p.is_given("group")), (Ok(None), true, false));
    let rotate = p.table("rotate", "rotate.").expect("a table");
    assert_eq!((rotate.bytes("size"), rotate.duration("every")), (Ok(1 << 20), Ok(Duration::from_secs(60))));
    let none = Map::new();
    let rotate = Parameters::new("sink/objects", KNOWN, &none).table("rotate", "rotate.").expect("a table");
    assert_eq!(rotate.bytes("size"), Ok(64 << 20));
}

#[test]
fn refusals_name_the_parameter_and_the_remedy() {
    let with = with(
        json!({"create": [], "stale_after": 5, "rotate": {"size": "64mb"}, "partitions": 0, "topic": 3}),
    );
    let (p, none) = (Parameters::new("topics", KNOWN, &with), Map::new());
    for (error, part) in [
        (p.names("create").expect_err("empty"), "write create: [first, second]"),
        (
            Parameters::new("topics", KNOWN, &none).names("create").expect_err("missing"),
            "it is missing; write create: … (topics)",
        ),
        (p.duration("stale_after").expect_err("no unit"), "5s"),
        (p.count("partitions").expect_err("zero"), "at least 1"),
        (p.text("collection").expect_err("no text"), "\"collection\" of topics: it is 3, not a text"),
        (p.text("group").expect_err("nobody says"), "it is missing"),
        (p.table("rotate", "rotate.").expect("a table").bytes("size").expect_err("unit"), "\"rotate.size\""),
        (p.text("nothing").expect_err("unknown"), "no such parameter"),
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

use super::*;
use serde_json::json;

const PROGRAM: Program = testing::PROGRAMS[4];

#[test]
fn a_text_is_what_is_given_or_what_holds_without() {
    let text = |with: serde_json::Value, name: &str| {
        let with = with.as_object().cloned().unwrap_or_default();
        PROGRAM.text(&with, name).map(Cow::into_owned)
    };
    assert_eq!(text(json!({}), "topic").as_deref(), Some("kis.trades"));
    assert_eq!(text(json!({"topic": "a"}), "prefix").as_deref(), Some("a"));
    assert_eq!(text(json!({"topic": "a", "prefix": "b"}), "prefix").as_deref(), Some("b"));
    assert_eq!(text(json!({}), "group"), None);
    assert_eq!(text(json!({"topic": 3}), "topic"), None);
    assert_eq!(text(json!({}), "nothing"), None);
    let index = Parameter::new("index", Shape::Text, "a name")
        .or_made("topic", "TOPIC-trades", |topic| format!("{topic}-trades"));
    let (parameters, with) = ([testing::PROGRAMS[4].parameters[0], index], json!({"topic": "a"}));
    let made = Program { parameters: Box::leak(Box::new(parameters)), ..PROGRAM };
    assert_eq!(made.text(with.as_object().expect("a table"), "index").as_deref(), Some("a-trades"));
}

#[test]
fn keys_of_tables_are_found_with_a_dot() {
    assert!(matches!(PROGRAM.parameter("rotate.size").map(|p| p.fallback), Some(Fallback::Value("64MiB"))));
    assert!(PROGRAM.parameter("rotate.never").is_none());
    assert!(PROGRAM.parameter("topic.size").is_none());
}

use super::*;

#[test]
fn the_id_goes_in_and_comes_out_again() {
    for (source, back) in [
        (r#"{"n":1}"#, r#"{"n":1}"#),
        ("{}", "{}"),
        (" {\n \"n\": \"a\\nb\"\n} ", r#"{"n": "a\nb" }"#),
        (r#"{"가":{"x":[1]}}"#, r#"{"가":{"x":[1]}}"#),
    ] {
        let mut line = Vec::new();
        with_id(&mut line, "kis:\"1\"", source.as_bytes());
        assert!(!line.contains(&b'\n'), "{source}");
        let parsed: Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!(parsed[ID_FIELD], "kis:\"1\"");
        let text = String::from_utf8(line).expect("text");
        assert_eq!(String::from_utf8(without_id("kis:\"1\"", &text)).expect("text"), back);
    }
    assert_eq!(without_id("a", r#"{"n":1}"#), br#"{"n":1}"#);
}

#[test]
fn templates_have_explicit_types() {
    let fields =
        [("at", "date"), ("ns", "date_nanos"), ("wire", "object"), ("flat", "flattened"), ("q", "long")];
    let from = Template {
        name: "kis-trades".into(),
        prefix: "kis-trades-".into(),
        fields: fields.iter().map(|(f, t)| ((*f).to_owned(), (*t).to_owned())).collect(),
    };
    let made = template(&from, Dialect::OpenSearch);
    assert_eq!(made["index_patterns"], json!(["kis-trades-*"]));
    let mappings = &made["template"]["mappings"];
    assert_eq!(mappings["dynamic"], false);
    assert_eq!(mappings["properties"]["at"]["format"], "strict_date_optional_time");
    assert_eq!(mappings["properties"]["ns"]["type"], "date_nanos");
    assert_eq!(mappings["properties"]["wire"], json!({ "type": "object", "dynamic": false }));
    assert_eq!(mappings["properties"]["flat"]["type"], "flat_object");
    assert_eq!(mappings["properties"]["q"], json!({ "type": "long" }));
    assert_eq!(mappings["properties"][ID_FIELD]["type"], "keyword");
    assert_eq!(
        template(&from, Dialect::Elasticsearch)["template"]["mappings"]["properties"]["flat"]["type"],
        "flattened"
    );
}

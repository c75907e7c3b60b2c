use super::*;

fn refused(kind: &str, value: &str) -> bool {
    let template =
        Template { name: "t".into(), prefix: "t-".into(), fields: vec![("f".into(), kind.into())] };
    check(Some(&template), "id", format!("{{\"f\":{value}}}").as_bytes()).is_err()
}

#[test]
fn types_accept_and_refuse_as_elasticsearch_does() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "date",
            &["\"2026-11-20T09:00:00.5+09:00\"", "\"2026-11-20\"", "null"],
            &["\"090000\"", "\"2026-11-20T09:00:00\"", "5", "true", "{}"],
        ),
        (
            "long",
            &["5", "\"-5\"", "[1,\"2\"]", "9223372036854775807"],
            &["5.5", "\"5.5\"", "\"abc\"", "\"\"", "9223372036854775808", "true"],
        ),
        ("integer", &["2147483647"], &["2147483648"]),
        ("keyword", &["\"x\"", "5", "true", "[\"a\"]"], &["{\"a\":1}"]),
        ("double", &["5", "5.5", "\"71900\""], &["\"abc\"", "\"NaN\"", "\" 5\"", "\"\""]),
        ("boolean", &["true", "\"false\""], &["\"yes\"", "1"]),
        ("object", &["{\"a\":1}", "null"], &["\"x\"", "5"]),
    ];
    for (kind, good, bad) in cases {
        for value in *good {
            assert!(!refused(kind, value), "{kind} {value}");
        }
        for value in *bad {
            assert!(refused(kind, value), "{kind} {value}");
        }
    }
    let long = format!("\"{}\"", "x".repeat(32_767));
    assert!(refused("keyword", &long) && !refused("text", &long));
}

#[test]
fn a_refusal_names_field_type_id_and_value() {
    let template = Template {
        name: "t".into(),
        prefix: "t-".into(),
        fields: vec![("fields.price".into(), "long".into())],
    };
    for source in [r#"{"fields":{"price":"많음"}}"#, r#"{"fields.price":"많음"}"#] {
        let reason = check(Some(&template), "kis:1", source.as_bytes()).expect_err("refused");
        for part in ["[fields.price]", "[long]", "'kis:1'", "많음"] {
            assert!(reason.contains(part), "{reason}");
        }
    }
    assert!(check(None, "id", b"[1]").is_err());
    assert!(check(None, "id", b"{\"a\":").is_err());
}

#[test]
fn names_are_checked() {
    assert_eq!(refuse_names("kis-trades-2026.11.20", "kis:2026-11-20:005930:1"), None);
    for (index, id) in
        [("", "x"), ("Upper", "x"), ("a b", "x"), ("_x", "x"), ("ok", ""), ("ok", &"x".repeat(513))]
    {
        assert!(refuse_names(index, id).is_some(), "{index} {id}");
    }
}

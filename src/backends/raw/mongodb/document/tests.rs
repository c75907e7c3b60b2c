use super::*;

fn document(body: &str) -> Document {
    let received_at = Timestamp::new(1_795_000_000, 123_456_789).expect("in range");
    Document { id: "kis:2026-11-20:005930:1".into(), body: body.as_bytes().to_vec(), received_at }
}

fn stored(body: &str) -> bson::Document {
    bson::Document::try_from(encode(&document(body)).expect("encodes")).expect("BSON")
}

#[test]
fn every_object_comes_back_byte_for_byte() {
    for (body, kept_as_text) in [
        (r#"{}"#, false),
        (r#"{"z":1,"a":-9223372036854775808,"m":{"x":[1,2.5,null,true,"삼성"]},"price":"71900.10"}"#, false),
        (r#"{"$oid":"not one","_id":"x","received_at":"y","a.b":1}"#, false),
        (r#"{"f":1.0,"g":-0.25}"#, false),
        ("{ \"spaces\": 1 }\n", true),
        (r#"{"n":18446744073709551615}"#, true),
        (r#"{"n":1e2}"#, true),
        (r#"{"n":71900.100000000000000001}"#, true),
        (r#"{"twice":1,"twice":2}"#, true),
        (r#"{"escaped":"\u0041"}"#, true),
        ("{\"zero\\u0000byte\":1}", true),
    ] {
        let bson = stored(body);
        assert_eq!(bson.contains_key("text"), kept_as_text, "{body}");
        assert_eq!(decode(bson), Ok(document(body)), "{body}");
    }
}

#[test]
fn types_are_those_of_the_values() {
    let bson = stored(r#"{"i":5,"d":2.5,"s":"5","o":{"n":null}}"#);
    let body = bson.get_document("body").expect("a body");
    assert_eq!(body.get("i"), Some(&Bson::Int64(5)));
    assert_eq!((body.get("d"), body.get("s")), (Some(&Bson::Double(2.5)), Some(&Bson::String("5".into()))));
    assert_eq!(bson.get("received_at"), Some(&Bson::DateTime(DateTime::from_millis(1_795_000_000_123))));
    assert_eq!(bson.get("received_at_nanos"), Some(&Bson::Int32(456_789)));
}

#[test]
fn times_before_the_epoch_and_narrowed_numbers_come_back() {
    let early = Document { received_at: Timestamp::new(-1, -1).expect("in range"), ..document("{\"n\":7}") };
    let mut bson = bson::Document::try_from(encode(&early).expect("encodes")).expect("BSON");
    assert_eq!(decode(bson.clone()), Ok(early.clone()));
    bson.insert("body", bson::doc! { "n": 7_i32 });
    bson.insert("received_at_nanos", i64::from(bson.get_i32("received_at_nanos").expect("there")));
    assert_eq!(decode(bson), Ok(early));
}

#[test]
fn what_is_no_object_is_refused_by_its_id() {
    for bad in ["[1]", "5", "", "{\"a\":", "{\"a\":1}x"] {
        let error = encode(&document(bad)).expect_err(bad);
        assert!(error.contains("kis:2026-11-20:005930:1"), "{error}");
    }
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(LARGEST));
    assert!(encode(&document(&large)).expect_err("too large").contains("MongoDB takes"));
}

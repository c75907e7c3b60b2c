use serde_json::json;

use super::*;

#[test]
fn tables_name_zones_and_hide_control_characters() {
    let answer = json!({ "timezone": "Asia/Seoul", "topics": [
        { "name": "kis.trades", "partitions": 3, "records": 21_408, "rate_per_second": 1.25, "newest": "2026-11-20T04:11:02Z",
          "dead_letters": 9, "groups": [{ "group": "day.sink\u{1b}[2J", "lag": 1_024 }] },
    ]});
    let table = list(&answer);
    assert!(
        table.contains("21,408") && table.contains("2026-11-20 13:11:02 KST") && table.contains("1,024"),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "{table:?}");
    assert!(list(&json!({ "topics": [] })).contains("topics step"));
    let late = json!({ "topics": [], "trouble": { "since": "2026-11-20T04:11:02Z", "text": "the log did not answer" } });
    assert!(list(&late).starts_with("since 2026-11-20T04:11:02Z: the log did not answer"));
}

#[test]
fn a_topic_and_its_records_are_printed() {
    let topic = json!({ "name": "t", "timezone": "UTC", "records": 2, "dead_letters": null,
            "partitions": [{ "partition": 0, "start": 0, "end": 2, "newest": null }],
            "groups": [{ "group": "g", "lag": 1, "partitions": [{ "partition": 0, "next": 1, "lag": 1 }] }] });
    let text = show(&topic);
    assert!(
        text.contains("t: 2 records")
            && text.contains("POSITION")
            && text.lines().last().is_some_and(|l| l.contains('1')),
        "{text}"
    );
    let value = json!({ "format": "hex", "text": "ff00", "size_bytes": 2, "cut": false });
    let records = json!({ "timezone": "Asia/Seoul", "next": 1, "records": [
        { "offset": 1, "time": "2026-11-20T04:11:02Z", "key": null, "headers": [["a", value]], "value": value },
    ]});
    let text = peek(&records);
    assert_eq!(
        text,
        "offset 1  2026-11-20 13:11:02 KST  no key\n  a: hex ff00\n  hex ff00\nmore from --from 2\n"
    );
    assert!(
        peek(&json!({ "records": [], "partition": 1, "start": 3, "end": 3 })).contains("partition 1 holds")
    );
}

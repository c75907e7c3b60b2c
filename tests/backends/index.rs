//! What every index must do.

use openbell::backends::ErrorKind;
use openbell::backends::index::{Item, ItemResult, Op, Template};
use serde_json::json;

use crate::places::Place;

crate::contract!(
    create_keeps_and_put_replaces,
    items_are_carried_out_in_order_and_bad_ones_alone_are_refused,
    wrong_types_are_refused_with_a_reason,
    indices_and_ids_are_listed,
    latest_follows_the_documents,
    everything_survives_reopening,
    many_ids_are_listed_at_once,
);

crate::contract_on!(elasticsearch:
    create_keeps_and_put_replaces,
    items_are_carried_out_in_order_and_bad_ones_alone_are_refused,
    wrong_types_are_refused_with_a_reason,
    indices_and_ids_are_listed,
    latest_follows_the_documents,
    everything_survives_reopening,
    many_ids_are_listed_at_once,
);

crate::contract_on!(opensearch:
    create_keeps_and_put_replaces,
    items_are_carried_out_in_order_and_bad_ones_alone_are_refused,
    wrong_types_are_refused_with_a_reason,
    indices_and_ids_are_listed,
    latest_follows_the_documents,
    everything_survives_reopening,
    many_ids_are_listed_at_once,
);

fn item(op: Op, index: &str, id: &str, source: serde_json::Value) -> Item {
    Item { index: index.into(), id: id.into(), op, source: source.to_string().into_bytes() }
}

fn template() -> Template {
    let fields = [
        ("received_at", "date"),
        ("symbol", "keyword"),
        ("quantity", "long"),
        ("price", "double"),
        ("fields", "object"),
    ];
    Template {
        name: "kis-trades".into(),
        prefix: "kis-trades-".into(),
        fields: fields.iter().map(|(f, t)| ((*f).to_owned(), (*t).to_owned())).collect(),
    }
}

fn trade(second: u32) -> serde_json::Value {
    json!({ "received_at": format!("2026-11-20T09:00:{second:02}.5+09:00"), "symbol": "005930", "quantity": 3, "price": "71900", "fields": { "A": "x" } })
}

async fn create_keeps_and_put_replaces(place: &dyn Place) {
    let index = place.index().await;
    let bulk = |op, n| index.bulk(vec![item(op, "i", "a", json!({ "n": n }))]);
    assert_eq!(bulk(Op::Create, 1).await.expect("bulk"), [ItemResult::Stored]);
    assert_eq!(bulk(Op::Create, 2).await.expect("bulk"), [ItemResult::Exists]);
    assert_eq!(index.get("i", "a").await.expect("reads"), Some(br#"{"n":1}"#.to_vec()));
    assert_eq!(bulk(Op::Put, 3).await.expect("bulk"), [ItemResult::Stored]);
    assert_eq!(index.get("i", "a").await.expect("reads"), Some(br#"{"n":3}"#.to_vec()));
    assert_eq!(index.get("i", "b").await.expect("reads"), None);
    assert_eq!(index.get("j", "a").await.expect("reads"), None);
    assert_eq!(index.bulk(vec![]).await.expect("bulk"), []);
}

async fn items_are_carried_out_in_order_and_bad_ones_alone_are_refused(place: &dyn Place) {
    let index = place.index().await;
    let results = index
        .bulk(vec![
            item(Op::Create, "i", "a", json!({ "n": 1 })),
            item(Op::Create, "i", "a", json!({ "n": 2 })),
            item(Op::Put, "i", "a", json!({ "n": 3 })),
            Item { source: b"{\"n\":".to_vec(), ..item(Op::Create, "i", "bad", json!({})) },
            item(Op::Create, "Bad Name", "x", json!({})),
            item(Op::Create, "i", "", json!({})),
            item(Op::Create, "j", "b", json!({ "n": 4 })),
        ])
        .await
        .expect("bulk");
    assert_eq!(results[..3], [ItemResult::Stored, ItemResult::Exists, ItemResult::Stored]);
    for result in &results[3..6] {
        assert!(matches!(result, ItemResult::Rejected { status: 400, .. }), "{result:?}");
    }
    assert_eq!(results[6], ItemResult::Stored);
    assert_eq!(index.get("i", "a").await.expect("reads"), Some(br#"{"n":3}"#.to_vec()));
    assert_eq!(index.ids("i", "", None, 10).await.expect("lists"), ["a"]);
}

async fn wrong_types_are_refused_with_a_reason(place: &dyn Place) {
    let index = place.index().await;
    index.put_template(&template()).await.expect("puts");
    for (field, value) in [
        ("received_at", json!("090000")),
        ("quantity", json!("many")),
        ("quantity", json!(1.5)),
        ("symbol", json!({ "a": 1 })),
        ("price", json!("cheap")),
        ("fields", json!("text")),
    ] {
        let mut source = trade(1);
        source[field] = value.clone();
        let results =
            index.bulk(vec![item(Op::Create, "kis-trades-2026.11.20", "x", source)]).await.expect("bulk");
        let [ItemResult::Rejected { status: 400, reason }] = &results[..] else {
            panic!("{field} {value}: {results:?}")
        };
        assert!(reason.contains(&format!("[{field}]")), "{reason}");
    }
    let mut text = trade(1);
    text["quantity"] = json!("12");
    let good = vec![
        item(Op::Create, "kis-trades-2026.11.20", "x", text),
        item(Op::Create, "other", "x", json!({ "quantity": "many" })),
    ];
    assert_eq!(index.bulk(good).await.expect("bulk"), [ItemResult::Stored, ItemResult::Stored]);
    let unknown = Template { fields: vec![("f".into(), "datum".into())], ..template() };
    assert_eq!(index.put_template(&unknown).await.expect_err("unknown type").kind, ErrorKind::Rejected);
}

async fn indices_and_ids_are_listed(place: &dyn Place) {
    let index = place.index().await;
    let names = ["kis-trades-2026.11.20", "kis-trades-2026.11.21", "kis-vwap-2026.11.20"];
    for name in names {
        let items = (0..12).map(|n| item(Op::Create, name, &format!("kis:{n:02}"), json!({}))).collect();
        index.bulk(items).await.expect("bulk");
    }
    assert_eq!(index.indices("").await.expect("lists"), names);
    assert_eq!(index.indices("kis-trades-").await.expect("lists"), names[..2]);
    let page = index.ids(names[0], "kis:0", Some("kis:03"), 4).await.expect("lists");
    assert_eq!(page, ["kis:04", "kis:05", "kis:06", "kis:07"]);
    assert_eq!(index.ids("missing", "", None, 4).await.expect("lists"), Vec::<String>::new());
}

async fn latest_follows_the_documents(place: &dyn Place) {
    let index = place.index().await;
    index.put_template(&template()).await.expect("puts");
    let latest = || async { index.latest("kis-trades-", "received_at").await.expect("reads") };
    assert_eq!(latest().await, None);
    let put = |op, day: &str, id: &str, second| {
        index.bulk(vec![item(op, &format!("kis-trades-2026.11.{day}"), id, trade(second))])
    };
    put(Op::Create, "20", "a", 5).await.expect("bulk");
    put(Op::Create, "20", "b", 3).await.expect("bulk");
    put(Op::Create, "21", "c", 4).await.expect("bulk");
    assert_eq!(latest().await.as_deref(), Some("2026-11-20T09:00:05.5+09:00"));
    // A refused or existing item is not news; a replaced one that was the latest is not the latest any more.
    put(Op::Create, "20", "a", 59).await.expect("bulk");
    assert_eq!(latest().await.as_deref(), Some("2026-11-20T09:00:05.5+09:00"));
    put(Op::Put, "20", "a", 1).await.expect("bulk");
    assert_eq!(latest().await.as_deref(), Some("2026-11-20T09:00:04.5+09:00"));
    put(Op::Put, "20", "b", 30).await.expect("bulk");
    assert_eq!(latest().await.as_deref(), Some("2026-11-20T09:00:30.5+09:00"));
    // Compared as instants, not as texts.
    let utc =
        item(Op::Create, "kis-trades-2026.11.20", "u", json!({ "received_at": "2026-11-20T00:00:40Z" }));
    index.bulk(vec![utc]).await.expect("bulk");
    assert_eq!(latest().await.as_deref(), Some("2026-11-20T00:00:40Z"));
    // A field that no template declares.
    index
        .bulk(vec![item(Op::Create, "plain", "a", json!({ "at": "2026-11-20T09:00:00+09:00" }))])
        .await
        .expect("bulk");
    assert_eq!(
        index.latest("plain", "at").await.expect("reads").as_deref(),
        Some("2026-11-20T09:00:00+09:00")
    );
    assert_eq!(index.latest("plain", "nope").await.expect("reads"), None);
}

async fn everything_survives_reopening(place: &dyn Place) {
    let index = place.index().await;
    index.put_template(&template()).await.expect("puts");
    index.bulk(vec![item(Op::Create, "kis-trades-2026.11.20", "a", trade(5))]).await.expect("bulk");
    drop(index);
    let index = place.index().await;
    assert!(index.get("kis-trades-2026.11.20", "a").await.expect("reads").is_some());
    assert_eq!(
        index.latest("kis-trades-", "received_at").await.expect("reads").as_deref(),
        Some("2026-11-20T09:00:05.5+09:00")
    );
    let bad = index
        .bulk(vec![item(Op::Create, "kis-trades-2026.11.20", "b", json!({ "quantity": "many" }))])
        .await
        .expect("bulk");
    assert!(matches!(bad[..], [ItemResult::Rejected { .. }]), "{bad:?}");
}

async fn many_ids_are_listed_at_once(place: &dyn Place) {
    let index = place.index().await;
    index.put_template(&template()).await.expect("puts");
    let ids: Vec<_> = (0..10_050).map(|n| format!("kis:{n:05}")).collect();
    for some in ids.chunks(2_000) {
        let items = some.iter().map(|id| item(Op::Create, "kis-trades-2026.11.20", id, trade(1))).collect();
        let results = index.bulk(items).await.expect("bulk");
        assert!(results.iter().all(|r| *r == ItemResult::Stored), "{results:?}");
    }
    assert_eq!(index.ids("kis-trades-2026.11.20", "kis:", None, 20_000).await.expect("lists"), ids);
}

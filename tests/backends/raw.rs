//! What every raw store must do.

use jiff::Timestamp;
use openbell::backends::ErrorKind;
use openbell::backends::raw::{Document, Inserted};

use crate::places::Place;

crate::contract!(
    the_first_insert_of_an_id_wins,
    ids_are_listed_in_order_and_in_pages,
    latest_is_the_newest_receipt,
    documents_survive_reopening,
    a_missing_collection_is_empty,
    inserts_at_once_store_each_id_once,
    every_object_comes_back_as_it_was,
    many_documents_are_inserted_at_once,
);

crate::contract_on!(mongo:
    the_first_insert_of_an_id_wins,
    ids_are_listed_in_order_and_in_pages,
    latest_is_the_newest_receipt,
    documents_survive_reopening,
    a_missing_collection_is_empty,
    inserts_at_once_store_each_id_once,
    every_object_comes_back_as_it_was,
    many_documents_are_inserted_at_once,
);

fn document(id: &str, body: &str, second: i64) -> Document {
    let received_at = Timestamp::new(1_795_000_000 + second, 123_456_789).expect("in range");
    Document { id: id.into(), body: body.as_bytes().to_vec(), received_at }
}

async fn the_first_insert_of_an_id_wins(place: &dyn Place) {
    let raw = place.raw().await;
    let first = raw
        .insert(
            "c",
            vec![document("a", "{\"n\":1}", 1), document("b", "{}", 2), document("a", "{\"n\":2}", 3)],
        )
        .await;
    assert_eq!(first.expect("inserts"), Inserted { new: 2, existing: 1 });
    let second = raw.insert("c", vec![document("c", "{}", 4), document("a", "{\"n\":3}", 5)]).await;
    assert_eq!(second.expect("inserts"), Inserted { new: 1, existing: 1 });
    assert_eq!(raw.get("c", "a").await.expect("reads"), Some(document("a", "{\"n\":1}", 1)));
    assert_eq!(raw.get("c", "nope").await.expect("reads"), None);
    assert_eq!(raw.insert("c", vec![]).await.expect("inserts nothing"), Inserted::default());
    assert_eq!(
        raw.insert("c", vec![document("", "{}", 1)]).await.expect_err("no id").kind,
        ErrorKind::Rejected
    );
    assert_eq!(
        raw.insert("", vec![document("a", "{}", 1)]).await.expect_err("no name").kind,
        ErrorKind::Rejected
    );
}

async fn ids_are_listed_in_order_and_in_pages(place: &dyn Place) {
    let raw = place.raw().await;
    let mut ids: Vec<_> = (0..25).map(|n| format!("kis:2026-11-20:{n}")).collect();
    ids.extend(["kis-un:2026-11-20:1".into(), "kis:2026-11-21:1".into(), "가:1".into()]);
    raw.insert("c", ids.iter().map(|id| document(id, "{}", 1)).collect()).await.expect("inserts");
    raw.insert("other", vec![document("kis:2026-11-20:99", "{}", 1)]).await.expect("inserts");
    ids.sort();
    assert_eq!(raw.ids("c", "", None, 100).await.expect("lists"), ids);
    let wanted: Vec<_> = ids.iter().filter(|id| id.starts_with("kis:2026-11-20:")).cloned().collect();
    let mut paged: Vec<String> = Vec::new();
    loop {
        let page = raw.ids("c", "kis:2026-11-20:", paged.last().map(String::as_str), 7).await.expect("lists");
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 7);
        paged.extend(page);
    }
    assert_eq!(paged, wanted);
    assert_eq!(raw.ids("c", "kis:", Some("a"), 1).await.expect("lists"), ["kis:2026-11-20:0"]);
    assert_eq!(raw.ids("c", "kis:", Some("z"), 1).await.expect("lists"), Vec::<String>::new());
    assert_eq!(raw.ids("c", "", None, 0).await.expect("lists"), Vec::<String>::new());
}

async fn latest_is_the_newest_receipt(place: &dyn Place) {
    let raw = place.raw().await;
    assert_eq!(raw.latest("c").await.expect("reads"), None);
    raw.insert("c", vec![document("a", "{}", 5), document("b", "{}", 9)]).await.expect("inserts");
    raw.insert("c", vec![document("c", "{}", 7)]).await.expect("inserts");
    assert_eq!(raw.latest("c").await.expect("reads"), Some(document("", "", 9).received_at));
    // A repeat is not news.
    raw.insert("c", vec![document("a", "{}", 50)]).await.expect("inserts");
    assert_eq!(raw.latest("c").await.expect("reads"), Some(document("", "", 9).received_at));
    assert_eq!(raw.latest("other").await.expect("reads"), None);
}

async fn documents_survive_reopening(place: &dyn Place) {
    let raw = place.raw().await;
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(2 << 20));
    raw.insert("c", vec![document("a", &large, 1), document("b", "{}", 2)]).await.expect("inserts");
    drop(raw);
    let raw = place.raw().await;
    assert_eq!(raw.get("c", "a").await.expect("reads"), Some(document("a", &large, 1)));
    assert_eq!(raw.latest("c").await.expect("reads"), Some(document("", "", 2).received_at));
    assert_eq!(
        raw.insert("c", vec![document("b", "{}", 3)]).await.expect("inserts"),
        Inserted { new: 0, existing: 1 }
    );
}

async fn a_missing_collection_is_empty(place: &dyn Place) {
    let raw = place.raw().await;
    assert_eq!(raw.ids("c", "", None, 10).await.expect("lists"), Vec::<String>::new());
    assert_eq!(raw.get("c", "a").await.expect("reads"), None);
}

async fn inserts_at_once_store_each_id_once(place: &dyn Place) {
    let raw = place.raw().await;
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let raw = raw.clone();
            tokio::spawn(async move {
                let documents = (0..50)
                    .map(|n| document(&format!("id{n}"), &format!("{{\"by\":{writer}}}"), 1))
                    .collect();
                raw.insert("c", documents).await.expect("inserts")
            })
        })
        .collect();
    let mut sum = Inserted::default();
    for writer in writers {
        let inserted = writer.await.expect("no panic");
        sum = Inserted { new: sum.new + inserted.new, existing: sum.existing + inserted.existing };
    }
    assert_eq!(sum, Inserted { new: 50, existing: 250 });
}

async fn every_object_comes_back_as_it_was(place: &dyn Place) {
    let raw = place.raw().await;
    let bodies = [
        r#"{"z":1,"a":-9223372036854775808,"m":{"x":[1,2.5,null,true,"삼성"]},"price":"71900.10","received_at":"x"}"#,
        r#"{"big":18446744073709551615,"long":71900.100000000000000001}"#,
        "{ \"spaces\": 1 }",
        r#"{"f":1.0,"g":-0.25}"#,
    ];
    let documents: Vec<_> =
        bodies.iter().enumerate().map(|(n, body)| document(&n.to_string(), body, 1)).collect();
    raw.insert("c", documents.clone()).await.expect("inserts");
    for document in documents {
        assert_eq!(raw.get("c", &document.id).await.expect("reads"), Some(document));
    }
}

async fn many_documents_are_inserted_at_once(place: &dyn Place) {
    let raw = place.raw().await;
    let documents =
        |from: usize| (from..12_000).map(|n| document(&format!("id{n:05}"), "{\"n\":1}", 1)).collect();
    raw.insert("c", vec![document("id00007", "{}", 1), document("id11999", "{}", 1)]).await.expect("inserts");
    assert_eq!(raw.insert("c", documents(0)).await.expect("inserts"), Inserted { new: 11_998, existing: 2 });
    assert_eq!(
        raw.insert("c", documents(6_000)).await.expect("inserts"),
        Inserted { new: 0, existing: 6_000 }
    );
    assert_eq!(raw.ids("c", "id", Some("id11997"), 10).await.expect("lists"), ["id11998", "id11999"]);
}

//! What every object store must do.

use openbell::backends::ErrorKind;
use openbell::backends::objects::{Metadata, Put};

use crate::places::Place;

crate::contract!(
    the_first_put_of_a_key_wins,
    puts_at_once_have_one_winner_with_its_own_metadata,
    keys_are_listed_in_order_and_in_pages,
    bad_keys_are_refused,
    objects_survive_reopening,
    an_object_is_no_folder_of_others,
);

crate::contract_on!(s3:
    the_first_put_of_a_key_wins,
    puts_at_once_have_one_winner_with_its_own_metadata,
    keys_are_listed_in_order_and_in_pages,
    bad_keys_are_refused,
    objects_survive_reopening,
);

fn metadata(by: &str) -> Metadata {
    Metadata::from([("end_offset".into(), by.into()), ("name".into(), "값".into())])
}

async fn the_first_put_of_a_key_wins(place: &dyn Place) {
    let objects = place.objects().await;
    let key = "kis.trades/year=2026/month=11/day=20/hour=09/t+i+0+00000000000000000000.jsonl.gz";
    assert_eq!(objects.get(key).await.expect("reads"), None);
    assert_eq!(objects.head(key).await.expect("reads"), None);
    assert_eq!(
        objects.put_if_absent(key, b"one".to_vec(), &metadata("1")).await.expect("puts"),
        Put::Created
    );
    assert_eq!(objects.put_if_absent(key, b"two".to_vec(), &metadata("2")).await.expect("puts"), Put::Exists);
    assert_eq!(objects.get(key).await.expect("reads"), Some(b"one".to_vec()));
    assert_eq!(objects.head(key).await.expect("reads"), Some(metadata("1")));
    assert_eq!(objects.put_if_absent("empty", vec![], &Metadata::new()).await.expect("puts"), Put::Created);
    assert_eq!(objects.get("empty").await.expect("reads"), Some(vec![]));
}

async fn puts_at_once_have_one_winner_with_its_own_metadata(place: &dyn Place) {
    let objects = place.objects().await;
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let objects = objects.clone();
            tokio::spawn(async move {
                (
                    n,
                    objects
                        .put_if_absent("a/b", vec![n; 10_000], &metadata(&n.to_string()))
                        .await
                        .expect("puts"),
                )
            })
        })
        .collect();
    let mut winners = Vec::new();
    for writer in writers {
        let (n, put) = writer.await.expect("no panic");
        winners.extend((put == Put::Created).then_some(n));
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(objects.get("a/b").await.expect("reads"), Some(vec![winners[0]; 10_000]));
    assert_eq!(objects.head("a/b").await.expect("reads"), Some(metadata(&winners[0].to_string())));
}

async fn keys_are_listed_in_order_and_in_pages(place: &dyn Place) {
    let objects = place.objects().await;
    let mut keys: Vec<String> = (0..20).map(|n| format!("t/day=20/hour={:02}/{n:03}.gz", n % 5)).collect();
    // In the order of whole keys, '.' comes before '/'.
    keys.extend(["t/day=2", "t/day=21/x", "t.x", "t/day=20.txt", "u"].map(String::from));
    for key in &keys {
        objects.put_if_absent(key, b"x".to_vec(), &Metadata::new()).await.expect("puts");
    }
    keys.sort();
    assert_eq!(objects.list("", None, 100).await.expect("lists"), keys);
    for prefix in
        ["t", "t/", "t/day=2", "t/day=20/", "t/day=20/hour=03/0", "nothing/here", "u/", ".unfinished", "../"]
    {
        let wanted: Vec<_> = keys.iter().filter(|k| k.starts_with(prefix)).cloned().collect();
        let mut paged: Vec<String> = Vec::new();
        loop {
            let page = objects.list(prefix, paged.last().map(String::as_str), 6).await.expect("lists");
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, wanted, "{prefix}");
    }
}

async fn bad_keys_are_refused(place: &dyn Place) {
    let objects = place.objects().await;
    let long = "x".repeat(201);
    for bad in [
        "",
        "/etc/passwd",
        "..",
        "a/../../b",
        "a//b",
        "a/",
        ".hidden",
        "a/.b",
        "a\\b",
        "a\nb",
        "a\0b",
        "x.meta.json",
        &long,
    ] {
        for error in [
            objects.put_if_absent(bad, vec![], &Metadata::new()).await.map(drop),
            objects.get(bad).await.map(drop),
            objects.head(bad).await.map(drop),
        ] {
            assert_eq!(error.expect_err(bad).kind, ErrorKind::Rejected, "{bad:?}");
        }
    }
}

/// Of folders alone: a server has keys, and no folders.
async fn an_object_is_no_folder_of_others(place: &dyn Place) {
    let objects = place.objects().await;
    objects.put_if_absent("a", vec![], &Metadata::new()).await.expect("puts");
    assert_eq!(
        objects.put_if_absent("a/b", vec![], &Metadata::new()).await.expect_err("a is no folder").kind,
        ErrorKind::Rejected
    );
}

async fn objects_survive_reopening(place: &dyn Place) {
    let objects = place.objects().await;
    let body: Vec<u8> = (0..3 << 20).map(|n| (n % 251) as u8).collect();
    objects.put_if_absent("a/b.gz", body.clone(), &metadata("9")).await.expect("puts");
    drop(objects);
    let objects = place.objects().await;
    assert_eq!(objects.get("a/b.gz").await.expect("reads"), Some(body));
    assert_eq!(objects.head("a/b.gz").await.expect("reads"), Some(metadata("9")));
    assert_eq!(objects.list("", None, 10).await.expect("lists"), ["a/b.gz"]);
}

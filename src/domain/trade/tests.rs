use proptest::prelude::*;

use super::*;

fn decimal() -> impl Strategy<Value = Decimal> {
    (any::<i64>(), 0..15u32).prop_map(|(units, scale)| Decimal::new(units, scale))
}

fn trade(price: Decimal, quantity: Decimal) -> Trade {
    let date = Date::constant(2026, 11, 20);
    Trade {
        id: EventId::new("kis", date, "005930", 7),
        feed: "kis".into(),
        channel: "H0STCNT0".into(),
        symbol: "005930".into(),
        session_date: date,
        trade_time: "2026-11-20T09:00:00+09:00".into(),
        received_at: "2026-11-20T09:00:00.5+09:00".into(),
        price,
        quantity,
        side: None,
        accumulated_volume: None,
        accumulated_value: None,
        fields: BTreeMap::from([("A".into(), "b".into())]),
    }
}

proptest! {
    #[test]
    fn json_keeps_every_digit(
        price in decimal(),
        quantity in decimal(),
        side in prop::option::of(prop::sample::select(vec![Side::Buy, Side::Sell])),
        accumulated in prop::option::of((any::<i64>(), any::<i64>())),
    ) {
        let (accumulated_volume, accumulated_value) = accumulated.unzip();
        let trade = Trade { side, accumulated_volume, accumulated_value, ..trade(price, quantity) };
        let text = serde_json::to_string(&trade).expect("JSON");
        let read: Trade = serde_json::from_str(&text).expect("read");
        prop_assert_eq!(&read, &trade);
        prop_assert_eq!((read.price.scale(), read.quantity.scale()), (price.scale(), quantity.scale()));
        prop_assert_eq!(text.contains("side"), side.is_some());
        prop_assert_eq!(serde_json::to_string(&read).expect("JSON"), text);
    }
}

#[test]
fn shares_are_numbers_and_units_are_texts() {
    let quantity = |text: &str| {
        let trade = trade(Decimal::ONE, text.parse().expect("a decimal"));
        serde_json::to_value(trade).expect("JSON")["quantity"].clone()
    };
    assert_eq!(quantity("75"), serde_json::json!(75));
    assert_eq!(quantity("75.00000000"), serde_json::json!("75.00000000"));
    assert_eq!(quantity("0.00009372"), serde_json::json!("0.00009372"));
    assert_eq!(quantity("12345678901234567890"), serde_json::json!("12345678901234567890"));
}

#[test]
fn what_older_versions_wrote_is_read() {
    let old = r#"{"id":"kis:2026-11-20:005930:7","feed":"kis","tr_id":"H0STCNT0","symbol":"005930","session_date":"2026-11-20",
            "trade_time":"2026-11-20T09:00:00+09:00","received_at":"2026-11-20T09:00:00.5+09:00","price":"71900","quantity":5,
            "accumulated_volume":7,"accumulated_value":503300,"fields":{"A":"b"}}"#;
    let read: Trade = serde_json::from_str(old).expect("read");
    let expected = Trade {
        accumulated_volume: Some(7),
        accumulated_value: Some(503_300),
        ..trade(71_900.into(), 5.into())
    };
    assert_eq!(read, expected);
    let rounded = old.replace("\"quantity\":5", "\"quantity\":0.5");
    assert!(
        serde_json::from_str::<Trade>(&rounded).expect_err("a binary number").to_string().contains("as text")
    );
}

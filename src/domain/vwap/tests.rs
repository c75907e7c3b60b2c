//! Sums, windows and anomalies, in any order and with repeats.

use proptest::prelude::*;

use super::*;
use crate::trade::EventId;

fn trade(symbol: &str, at_second: i64, price: &str, quantity: i64, accumulated: i64) -> Trade {
    let date: Date = "2026-11-20".parse().expect("a date");
    let at = "2026-11-20T09:00:00+09:00".parse::<Timestamp>().expect("a time")
        + SignedDuration::from_secs(at_second);
    Trade {
        id: EventId::new("kis", date, symbol, accumulated),
        feed: "kis".into(),
        channel: "H0STCNT0".into(),
        symbol: symbol.into(),
        session_date: date,
        trade_time: at.to_string(),
        received_at: at.to_string(),
        price: price.parse().expect("a price"),
        quantity: quantity.into(),
        side: None,
        accumulated_volume: Some(accumulated),
        accumulated_value: Some(accumulated * 100),
        fields: BTreeMap::new(),
    }
}

fn sum(trades: &[(&str, &str)]) -> Sums {
    let decimal = |text: &str| text.parse::<Decimal>().expect("a decimal");
    trades.iter().fold(Sums::default(), |sums, (price, quantity)| {
        sums.with(decimal(price), decimal(quantity)).expect("fits")
    })
}

#[test]
fn the_last_trade_is_told_by_volume_or_else_by_time_and_number() {
    let mut kis = book();
    for (second, accumulated) in [(5, 10), (4, 30), (6, 20)] {
        kis.fold(&trade("A", second, "100", 1, accumulated)).expect("counted");
    }
    assert!(kis.symbols().all(|s| s.last.id == "kis:2026-11-20:A:30"), "the exchange counts, not the clock");
    let mut coin = book();
    for (second, number) in [(5, 9_999), (5, 10_001), (5, 10_000), (4, 99_999)] {
        let plain = trade("A", second, "100", 1, number);
        coin.fold(&Trade { accumulated_volume: None, accumulated_value: None, ..plain }).expect("counted");
    }
    assert!(coin.symbols().all(|s| s.last.id == "kis:2026-11-20:A:10001" && s.exchange.is_none()));
}

fn book() -> Averages {
    Averages::new(Duration::from_secs(30), Duration::from_secs(86_400), 100_000)
}

#[test]
fn prices_quantities_and_sums_that_cannot_be_are_refused() {
    let mut book = book();
    for bad in ["0", "-5"] {
        assert!(matches!(book.fold(&trade("A", 0, bad, 1, 1)), Err(Refused::Price { .. })), "{bad}");
    }
    assert!(matches!(book.fold(&trade("A", 0, "5", -1, 1)), Err(Refused::Quantity { .. })));
    let huge = Trade { price: Decimal::MAX, quantity: Decimal::MAX, ..trade("A", 0, "5", 1, 1) };
    assert!(matches!(book.fold(&huge), Err(Refused::Size { .. })));
    assert_eq!(
        book.fold(&trade("A", 0, "5", 1, 1)),
        Ok(Folded::Counted),
        "a refusal must not mark the id as seen"
    );
}

#[test]
fn windows_tumble_on_trade_time_and_late_trades_correct_them() {
    let mut book = book();
    for (second, price, quantity, acc) in
        [(0, "100", 1, 1), (29, "200", 3, 4), (30, "300", 1, 5), (10, "400", 4, 9)]
    {
        assert_eq!(book.fold(&trade("A", second, price, quantity, acc)), Ok(Folded::Counted));
    }
    let symbol = book.symbols().next().expect("a symbol");
    let sums: Vec<_> = symbol
        .windows
        .iter()
        .map(|w| (w.sums.vwap().expect("volume").normalize().to_string(), w.sums.trades))
        .collect();
    assert_eq!(sums, [("287.5".to_owned(), 3), ("300".to_owned(), 1)]);
    assert_eq!(symbol.session.volume, 9.into());
    assert_eq!((symbol.exchange, symbol.last.id.as_str()), (Some((9, 900)), "kis:2026-11-20:A:9"));
}

#[test]
fn vwap_rounds_half_up() {
    let sums = sum(&[("100", "1"), ("100.01", "2")]);
    assert_eq!(sums.vwap().expect("volume").to_string(), "100.0067");
    assert_eq!(Sums::default().vwap(), None);
    // Two places more than the prices have: 0.00000100, 0.00000101 and 0.00000102 at 1, 2 and 1.
    let coin = sum(&[("0.00000100", "0.5"), ("0.00000101", "1"), ("0.00000102", "0.50000001")]);
    assert_eq!(coin.vwap().expect("volume").to_string(), "0.0000010100");
    assert_eq!(
        (coin.volume.to_string(), coin.value.to_string()),
        ("2.00000001".into(), "0.0000020200000102".into())
    );
}

#[test]
fn trades_beyond_the_lateness_count_in_the_session_only() {
    let mut book = Averages::new(Duration::from_secs(30), Duration::from_secs(60), 100);
    book.fold(&trade("A", 0, "100", 1, 1)).expect("counted");
    book.fold(&trade("A", 200, "100", 1, 2)).expect("counted");
    book.settled();
    book.judged(false);
    assert_eq!(book.fold(&trade("A", 1, "100", 1, 3)), Ok(Folded::TooLate));
    let symbol = book.symbols().next().expect("a symbol");
    assert_eq!((symbol.session.trades, symbol.too_late, symbol.windows.len()), (3, 1, 1));
}

#[test]
fn trades_told_again_behind_newer_ones_give_the_same_windows() {
    let lateness = Duration::from_secs(60);
    let trades: Vec<_> = (1..=400).map(|n| trade("A", n, &format!("{}", 100 + n % 7), n, n)).collect();
    // The newest came first: they were appended before anybody noticed that the topic was a new one.
    let (old, new) = trades.split_at(390);
    let mut book = Averages::new(Duration::from_secs(30), lateness, 1_000);
    let mut stored = BTreeMap::new();
    for (n, (trade, again)) in new.iter().map(|t| (t, false)).chain(old.iter().map(|t| (t, true))).enumerate()
    {
        book.retell(again);
        assert_eq!(book.fold(trade), Ok(Folded::Counted));
        if n % 7 == 0 || n == 399 {
            let windows = book.changed().filter_map(|c| match c {
                Changed::Window(key, start) => Some((*start, book.window(key, *start)?.sums)),
                Changed::Session(_) => None,
            });
            stored.extend(windows);
            book.settled();
            book.judged(false);
        }
    }
    let mut plain = Averages::new(Duration::from_secs(30), Duration::from_secs(86_400), 1_000);
    trades.iter().for_each(|t| assert_eq!(plain.fold(t), Ok(Folded::Counted)));
    let symbol = plain.symbols().next().expect("a symbol");
    assert_eq!(stored, symbol.windows.iter().map(|w| (w.start, w.sums)).collect());
    book.retell(false);
    book.judged(false);
    assert!(book.symbols().next().expect("a symbol").windows.len() < 5, "then the old ones are let go");
}

#[test]
fn an_anomaly_is_told_once_after_the_window_passed() {
    let mut book = book();
    for (second, price, acc) in [(0, "100", 1), (1, "100", 2), (2, "100", 3), (3, "106", 4)] {
        book.fold(&trade("A", second, price, 1, acc)).expect("counted");
    }
    assert!(book.anomalies(false).is_empty(), "the window is still open");
    book.fold(&trade("B", 40, "100", 1, 1)).expect("counted");
    let found = book.anomalies(false);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1.ids.len(), 4);
    book.judged(false);
    book.fold(&trade("A", 4, "107", 1, 5)).expect("counted");
    assert!(book.anomalies(true).is_empty());
    // 4.9 % is no anomaly.
    assert!(!sum(&[("100", "1"), ("100", "1"), ("104.90", "1")]).is_anomalous());
    assert!(sum(&[("0.000100", "1"), ("0.000100", "1"), ("0.000105", "0.1")]).is_anomalous());
}

#[test]
fn a_restored_book_goes_on_where_it_was() {
    let trades: Vec<_> = (1..200).map(|n| trade("A", n, &format!("{}", 100 + n % 7), n, n)).collect();
    let mut whole = book();
    trades.iter().for_each(|t| assert_eq!(whole.fold(t), Ok(Folded::Counted)));
    let mut first = book();
    trades[..100].iter().for_each(|t| assert_eq!(first.fold(t), Ok(Folded::Counted)));
    let saved = serde_json::to_vec(&first.symbols().collect::<Vec<_>>()).expect("saved");
    let mut second = book();
    second.restore(serde_json::from_slice(&saved).expect("read"));
    trades[..100].iter().for_each(|t| second.remember(t.id.as_str()));
    trades.iter().for_each(|t| assert!(second.fold(t).is_ok()));
    assert_eq!(whole.symbols().collect::<Vec<_>>(), second.symbols().collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn any_order_and_repetition_gives_the_same_sums(
        steps in prop::collection::vec((0..3usize, 0..600i64, 1..50i64, 1..1_000_000i64, (0..9u32, 0..9u32)), 1..80),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
    ) {
        let mut accumulated = [0i64; 3];
        let trades: Vec<_> = steps.iter().map(|(s, at, quantity, price, (fine, finer))| {
            accumulated[*s] += quantity;
            let plain = trade(["A", "B", "C"][*s], *at, "1", *quantity, accumulated[*s]);
            Trade { price: Decimal::new(*price, *fine), quantity: Decimal::new(*quantity, *finer), ..plain }
        }).collect();
        let mut plain = book();
        for t in &trades { prop_assert_eq!(plain.fold(t), Ok(Folded::Counted)); }
        let mut shuffled = book();
        for index in &order { shuffled.fold(index.get(&trades)).expect("a good trade"); }
        for t in trades.iter().rev() { shuffled.fold(t).expect("a good trade"); }
        let sums = |b: &Averages| b.symbols().map(|s| (s.symbol.clone(), s.session, s.exchange,
            s.windows.iter().map(|w| (w.start, w.sums)).collect::<Vec<_>>())).collect::<Vec<_>>();
        prop_assert_eq!(sums(&plain), sums(&shuffled));
        let at = |exact: Exact, scale| exact.at(scale).expect("no finer");
        let value: i128 = trades.iter().map(|t| at(t.price.into(), 8) * at(t.quantity.into(), 8)).sum();
        prop_assert_eq!(value, plain.symbols().map(|s| at(s.session.value, 16)).sum::<i128>());
        let low = plain.symbols().map(|s| s.session.low).min();
        prop_assert_eq!(low, trades.iter().map(|t| Exact::from(t.price)).min());
    }
}

//! The ledger against the facts: shape of the day, and the arithmetic of every record, computed here a second
//! time.

use std::collections::BTreeMap;

use jiff::civil::date;
use rust_decimal::{Decimal, RoundingStrategy};

use super::*;
use crate::kis::ledger::wire_time;
use crate::kis::symbols::KRX41;

fn day() -> TradingSession {
    regular_session(date(2026, 11, 20))
}

fn symbols() -> Vec<String> {
    KRX41.iter().map(ToString::to_string).collect()
}

fn ledger(seed: u64) -> Vec<LedgerTrade> {
    Market::generate(seed, &day(), &symbols(), TARGET_TRADES)
}

fn per_symbol(ledger: &[LedgerTrade]) -> BTreeMap<&str, Vec<&LedgerTrade>> {
    let mut by_symbol: BTreeMap<&str, Vec<&LedgerTrade>> = BTreeMap::new();
    for trade in ledger {
        by_symbol.entry(&trade.symbol).or_default().push(trade);
    }
    by_symbol
}

fn between(ledger: &[LedgerTrade], from: (i8, i8), to: (i8, i8)) -> usize {
    let at = |(h, m)| instant(day().date, time(h, m, 0, 0));
    ledger.iter().filter(|t| t.at >= at(from) && t.at < at(to)).count()
}

#[test]
fn a_seed_makes_one_day_and_another_seed_another() {
    assert_eq!(ledger(7), ledger(7));
    assert_ne!(ledger(7), ledger(8));
    let other_day = Market::generate(7, &regular_session(date(2026, 11, 23)), &symbols(), TARGET_TRADES);
    assert_ne!(ledger(7)[0].price, other_day[0].price);
}

#[test]
fn the_day_has_its_shape() {
    for seed in [1, 2, 3] {
        let ledger = ledger(seed);
        assert!(ledger.len() >= 20_000 && ledger.len() < 26_000, "{}", ledger.len());
        assert!(ledger.is_sorted_by_key(|t| t.at));
        assert_eq!(per_symbol(&ledger).len(), 41);

        let (burst, lull, rise) = (
            between(&ledger, (9, 0), (9, 15)),
            between(&ledger, (12, 0), (12, 15)),
            between(&ledger, (15, 5), (15, 20)),
        );
        assert!(burst > 4 * lull && rise > 2 * lull && burst > rise, "{burst} {lull} {rise}");
        assert_eq!(between(&ledger, (0, 0), (9, 0)), 0);
        assert_eq!(between(&ledger, (15, 20), (15, 30)), 0, "the closing auction is silent");
        assert_eq!(between(&ledger, (15, 30), (15, 31)), 41, "one closing print a symbol");
        assert_eq!(between(&ledger, (15, 31), (15, 40)), 0);
        assert!(between(&ledger, (15, 40), (15, 50)) > 41);
        assert_eq!(between(&ledger, (15, 58), (23, 59)), 0);
        // Nothing that watches for five silent minutes may find them while the exchange trades.
        for pair in ledger.windows(2) {
            let silent_by_rule = pair[0].at >= instant(day().date, time(15, 19, 0, 0))
                && pair[1].at <= instant(day().date, time(15, 45, 0, 0));
            assert!(
                silent_by_rule || pair[1].at.duration_since(pair[0].at) < SignedDuration::from_mins(2),
                "{:?}",
                pair[0].at
            );
        }
    }
}

#[test]
fn every_symbol_opens_closes_and_ends_with_a_print_at_the_closing_price() {
    let ledger = ledger(11);
    for (symbol, trades) in per_symbol(&ledger) {
        assert_eq!((trades[0].phase, trades[0].side), (Phase::Opening, Side::Auction), "{symbol}");
        assert!(trades[0].at < day().open + SignedDuration::from_secs(30));
        let closing: Vec<_> = trades.iter().filter(|t| t.phase == Phase::Closing).collect();
        assert_eq!(closing.len(), 1);
        for after in trades.iter().filter(|t| t.at > closing[0].at) {
            assert_eq!((after.phase, after.price), (Phase::PostClose, closing[0].price));
            assert_eq!((&*after.fields(47)[34], &*after.fields(47)[46]), ("31", "5"));
        }
        let last = trades[trades.len() - 1].at.duration_since(day().close);
        assert!(
            last >= SignedDuration::from_mins(20) && last < SignedDuration::from_mins(28),
            "{symbol}: {last:?}"
        );
    }
}

#[test]
fn the_after_market_is_added_to_the_same_day() {
    let (day_only, whole) =
        (ledger(3), Market::generate_with_after_market(3, &day(), &symbols(), TARGET_TRADES));
    let (day_part, evening) = whole.split_at(day_only.len());
    assert!(day_part == day_only);
    assert!(evening.len() > 1_000 && between(evening, (16, 0), (20, 0)) == evening.len());
    assert!(evening.iter().all(|t| t.fields(47)[46] == "3" && t.phase == Phase::AfterMarket));
}

#[test]
fn one_symbol_is_halted_for_two_minutes_after_ten_per_cent() {
    for seed in 0..5 {
        let ledger = ledger(seed);
        let prints: Vec<_> = ledger.iter().filter(|t| t.phase == Phase::Interruption).collect();
        assert_eq!(prints.len(), 1);
        let trades = &per_symbol(&ledger)[&*prints[0].symbol];
        let place =
            trades.iter().position(|t| t.phase == Phase::Interruption).expect("its own symbol has it");
        let (before, print) = (trades[place - 1], trades[place]);
        let halted = print.at.duration_since(before.at);
        assert!(
            halted >= SignedDuration::from_secs(120) && halted < SignedDuration::from_secs(155),
            "{halted:?}"
        );
        assert!(
            before.price * 100 >= before.so_far.reference * 110,
            "{} {}",
            before.price,
            before.so_far.reference
        );
        assert_eq!(print.so_far.reference, print.price);
    }
}

#[test]
fn frames_hold_up_to_six_trades_of_one_symbol_and_more_at_the_open() {
    let ledger = ledger(5);
    let frames: Vec<_> = ledger.chunk_by(|a, b| a.frame == b.frame).collect();
    assert!(frames.iter().enumerate().all(|(i, f)| f[0].frame as usize == i), "numbered without holes");
    assert!(
        frames.iter().all(|f| f.len() <= 6 && f.iter().all(|t| t.symbol == f[0].symbol && t.at == f[0].at))
    );
    assert!((1..=6).all(|n| frames.iter().any(|f| f.len() == n)));
    let mean = |part: &[&[LedgerTrade]]| part.iter().map(|f| f.len()).sum::<usize>() * 100 / part.len();
    let (open, rest): (Vec<_>, Vec<_>) =
        frames.iter().partition(|f| f[0].at < day().open + SignedDuration::from_mins(5));
    assert!(mean(&open) > mean(&rest) * 3 / 2);
}

fn number(text: &str) -> Decimal {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

fn rounded(value: Decimal) -> Decimal {
    value.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero)
}

fn quotient(a: Decimal, b: Decimal) -> Decimal {
    if b.is_zero() { Decimal::ZERO } else { rounded(a / b) }
}

/// Fact sheet §1.8, all of it.
fn check_record(f: &[String], previous: Option<&[String]>) {
    let n = |i: usize| number(&f[i]);
    let hundred = Decimal::ONE_HUNDRED;
    let close = n(2) - n(4);
    assert_eq!(n(5), rounded(n(4) / close * hundred));
    let sign = |i: usize, change: Decimal| match &*f[i] {
        "2" => change > Decimal::ZERO,
        "3" => change.is_zero(),
        "5" => change < Decimal::ZERO,
        _ => false,
    };
    let (high, low) = grid::limits(close.try_into().expect("whole"));
    match &*f[3] {
        "1" => assert_eq!(n(2), high.into()),
        "4" => assert_eq!(n(2), low.into()),
        _ => assert!(sign(3, n(4)), "{f:?}"),
    }
    assert!(n(2) <= high.into() && n(2) >= low.into());
    assert!((n(6) - n(14) / n(13)).abs() < Decimal::ONE);
    assert_eq!(n(17), n(16) - n(15));
    assert_eq!(n(18), quotient(n(20) * hundred, n(19)));
    assert_eq!(n(22), quotient(n(20), n(13)));
    assert_eq!(n(42), quotient(n(13) * hundred, n(41)));
    for (against, sign_at, at) in [(7, 25, 26), (8, 28, 29), (9, 31, 32)] {
        assert_eq!(n(at), n(2) - n(against));
        assert!(sign(sign_at, n(at)), "{f:?}");
    }
    assert!(n(29) <= Decimal::ZERO && n(32) >= Decimal::ZERO);
    assert!(n(10) > n(11));
    assert_eq!((&*f[35], &*f[43], &*f[44]), ("N", "0", ""));
    assert!(f[24] <= f[1] && f[27] <= f[1] && f[30] <= f[1]);

    let before = |i: usize| previous.map_or(Decimal::ZERO, |p| number(&p[i]));
    assert_eq!(n(13), before(13) + n(12), "volumes chain");
    assert_eq!(n(14), before(14) + n(2) * n(12), "values chain");
    assert_eq!(
        n(15) + n(16),
        before(15) + before(16) + if f[21] == "3" { Decimal::ZERO } else { Decimal::ONE }
    );
    assert!(n(41) >= before(41));
    let auction = |p: &[String]| number(&p[13]) - number(&p[19]) - number(&p[20]);
    if f[21] != "3" {
        let previous = previous.expect("the first record is the opening print");
        assert_eq!(auction(f), auction(previous), "constant during continuous trading");
        assert!(
            f[2] == f[10] || f[2] == f[11] || n(2) * Decimal::TWO == n(10) + n(11),
            "at the ask, the bid or between"
        );
        assert_eq!(n(7), number(&previous[7]));
        assert_eq!((&*f[34], &f[33]), ("20", &previous[33]));
    }
}

#[test]
fn every_record_obeys_the_arithmetic_of_the_feed() {
    for (seed, width) in [(1, 47), (2, 46)] {
        let ledger = Market::generate_with_after_market(seed, &day(), &symbols(), TARGET_TRADES);
        for (symbol, trades) in per_symbol(&ledger) {
            let mut previous: Option<Vec<String>> = None;
            for trade in trades {
                let fields = trade.fields(width);
                assert_eq!(fields.len(), width);
                assert_eq!((&*fields[0], &*fields[33]), (symbol, "20261120"));
                assert_eq!(fields[1], wire_time(trade.at));
                assert_eq!(fields[13], trade.accumulated_volume.to_string());
                check_record(&fields, previous.as_deref());
                previous = Some(fields);
            }
        }
        let mids = ledger.iter().filter(|t| t.price % grid::tick(t.price) != 0).count();
        assert!(mids > 100, "{mids} trades between the ticks");
    }
}

#[test]
fn ids_are_unique() {
    let ledger = ledger(9);
    let ids: BTreeSet<_> = ledger.iter().map(LedgerTrade::id).collect();
    assert_eq!(ids.len(), ledger.len());
}

#[test]
fn book_totals_are_the_sums_of_their_levels() {
    for trade in ledger(4).iter().step_by(37) {
        let f = trade.book_fields();
        assert_eq!(f.len(), 63);
        let sum = |r: std::ops::Range<usize>| f[r].iter().map(|t| number(t)).sum::<Decimal>();
        assert_eq!((sum(23..33), sum(33..43)), (number(&f[43]), number(&f[44])));
        assert_eq!((&f[3], &f[13]), (&trade.fields(47)[10], &trade.fields(47)[11]));
    }
}

#[test]
fn small_and_odd_markets_are_fine() {
    assert!(Market::generate(1, &day(), &[], 100).is_empty());
    let twice = Market::generate(1, &day(), &["005930".into(), "005930".into()], 0);
    assert_eq!(per_symbol(&twice).len(), 1);
    let date = date(2026, 11, 20);
    let short = TradingSession {
        date,
        open: instant(date, time(10, 0, 0, 0)),
        close: instant(date, time(10, 12, 0, 0)),
    };
    assert!(Market::generate(1, &short, &symbols(), 500).iter().all(|t| t.phase != Phase::Interruption));
}

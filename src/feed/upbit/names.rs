//! Names of fields: the full ones, and the short ones of the SIMPLE format.

/// What both channels have.
const COMMON: [(&str, &str); 16] = [
    ("ty", "type"),
    ("cd", "code"),
    ("tp", "trade_price"),
    ("tv", "trade_volume"),
    ("ab", "ask_bid"),
    ("pcp", "prev_closing_price"),
    ("c", "change"),
    ("cp", "change_price"),
    ("ttm", "trade_time"),
    ("ttms", "trade_timestamp"),
    ("tms", "timestamp"),
    ("st", "stream_type"),
    ("mthd", "method"),
    ("rslt", "result"),
    ("tckt", "ticket"),
    ("cds", "codes"),
];

const TRADE: [(&str, &str); 6] = [
    ("td", "trade_date"),
    ("sid", "sequential_id"),
    ("bap", "best_ask_price"),
    ("bas", "best_ask_size"),
    ("bbp", "best_bid_price"),
    ("bbs", "best_bid_size"),
];

const TICKER: [(&str, &str); 21] = [
    ("op", "opening_price"),
    ("hp", "high_price"),
    ("lp", "low_price"),
    ("scp", "signed_change_price"),
    ("cr", "change_rate"),
    ("scr", "signed_change_rate"),
    ("atv", "acc_trade_volume"),
    ("atv24h", "acc_trade_volume_24h"),
    ("atp", "acc_trade_price"),
    ("atp24h", "acc_trade_price_24h"),
    ("tdt", "trade_date"),
    ("aav", "acc_ask_volume"),
    ("abv", "acc_bid_volume"),
    ("h52wp", "highest_52_week_price"),
    ("h52wdt", "highest_52_week_date"),
    ("l52wp", "lowest_52_week_price"),
    ("l52wdt", "lowest_52_week_date"),
    ("ms", "market_state"),
    ("its", "is_trading_suspended"),
    ("dd", "delisting_date"),
    ("mw", "market_warning"),
];

/// The full name of a field; one that is not known is its own.
pub(super) fn full(name: &str) -> &str {
    [&COMMON[..], &TRADE[..], &TICKER[..]]
        .into_iter()
        .flatten()
        .find(|(short, _)| *short == name)
        .map_or(name, |(_, full)| *full)
}

/// The short name of a field; one that has none is its own.
#[cfg(test)]
pub(super) fn short<'a>(name: &'a str, ticker: bool) -> &'a str {
    let own = if ticker { &TICKER[..] } else { &TRADE[..] };
    [&COMMON[..], own].into_iter().flatten().find(|(_, full)| *full == name).map_or(name, |(short, _)| *short)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_short_name_means_one_thing() {
        let all: Vec<_> = [&COMMON[..], &TRADE[..], &TICKER[..]].into_iter().flatten().collect();
        assert_eq!(all.iter().map(|(short, _)| *short).collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(
            (full("sid"), full("tdt"), full("td"), full("trade_price"), full("new")),
            ("sequential_id", "trade_date", "trade_date", "trade_price", "new")
        );
        assert_eq!(
            (short("trade_date", true), short("trade_date", false), short("new", false)),
            ("tdt", "td", "new")
        );
    }
}

//! The markets of an exchange that nobody described further.

/// Twenty markets in won, the busiest first, with a price of about then.
pub const KRW20: [(&str, f64); 20] = [
    ("KRW-BTC", 106_691_000.0),
    ("KRW-XRP", 3_180.0),
    ("KRW-ETH", 4_120_000.0),
    ("KRW-SOL", 214_500.0),
    ("KRW-DOGE", 241.0),
    ("KRW-USDT", 1_432.0),
    ("KRW-ADA", 812.0),
    ("KRW-SUI", 3_410.0),
    ("KRW-LINK", 22_150.0),
    ("KRW-TRX", 431.0),
    ("KRW-AVAX", 24_680.0),
    ("KRW-XLM", 402.0),
    ("KRW-HBAR", 251.0),
    ("KRW-BCH", 762_500.0),
    ("KRW-DOT", 4_385.0),
    ("KRW-SHIB", 0.0142),
    ("KRW-ETC", 22_900.0),
    ("KRW-APT", 4_020.0),
    ("KRW-NEAR", 3_055.0),
    ("KRW-PEPE", 0.0081),
];

/// The codes of [`KRW20`].
pub fn codes() -> Vec<String> {
    KRW20.iter().map(|(code, _)| (*code).to_owned()).collect()
}

/// Decimals of a price in a ledger.
pub const PRICE_DECIMALS: u32 = 4;

/// The step between two prices, in units of 10^-4 won, by price band.
pub fn tick(price: i64) -> i64 {
    match price / 10_000 {
        2_000_000.. => 10_000_000,
        1_000_000.. => 5_000_000,
        500_000.. => 1_000_000,
        100_000.. => 500_000,
        10_000.. => 100_000,
        1_000.. => 10_000,
        100.. => 1_000,
        10.. => 100,
        1.. => 10,
        _ => 1,
    }
}

//! KRX's price grid since 2023-01-25: tick sizes by price band, and the daily limits.

/// Tick size at a price, KRW.
pub fn tick(price: i64) -> i64 {
    match price {
        ..2_000 => 1,
        2_000..5_000 => 5,
        5_000..20_000 => 10,
        20_000..50_000 => 50,
        50_000..200_000 => 100,
        200_000..500_000 => 500,
        _ => 1_000,
    }
}

/// The next price above one on the grid.
pub fn up(price: i64) -> i64 {
    price + tick(price)
}

/// The next price below one on the grid; never below 1.
pub fn down(price: i64) -> i64 {
    (price - tick(price - 1)).max(1)
}

/// The price on the grid at or below `price`.
pub fn floor(price: i64) -> i64 {
    price - price % tick(price)
}

/// The price on the grid at or above `price`.
pub fn ceil(price: i64) -> i64 {
    let below = floor(price);
    if below == price { price } else { up(below) }
}

/// Highest and lowest price of a day: 30 % around the previous close, cut inwards to the grid.
pub fn limits(previous_close: i64) -> (i64, i64) {
    (floor(previous_close * 13 / 10), ceil((previous_close * 7 + 9) / 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_stay_on_the_grid_across_every_band() {
        let mut price = 1_500;
        while price < 900_000 {
            assert_eq!(price % tick(price), 0, "{price}");
            assert_eq!(down(up(price)), price);
            price = up(price);
        }
        assert_eq!((up(1_999), down(2_000), up(49_950), down(50_000)), (2_000, 1_999, 50_000, 49_950));
    }

    #[test]
    fn limits_lie_inside_thirty_per_cent() {
        for close in [1_501, 4_995, 71_900, 199_900, 274_000, 660_000].map(floor) {
            let (high, low) = limits(close);
            assert!(high * 10 <= close * 13 && up(high) * 10 > close * 13, "{close}: {high}");
            assert!(low * 10 >= close * 7 && down(low) * 10 < close * 7, "{close}: {low}");
        }
    }
}

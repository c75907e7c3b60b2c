//! Exact sums of decimals: integers at a scale that belongs to the sum, wide enough for a day of any market,
//! and checked.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An exact decimal, `units / 10^scale`; its scale grows with what is added to it. Equal numbers are equal at
/// any scale.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exact {
    units: i128,
    scale: u32,
}

impl Exact {
    /// Zero.
    pub const ZERO: Self = Self { units: 0, scale: 0 };

    /// A product; `None` beyond what 128 bits hold.
    pub fn product(one: Decimal, other: Decimal) -> Option<Self> {
        let (one, other) = (Self::from(one), Self::from(other));
        Some(Self { units: one.units.checked_mul(other.units)?, scale: one.scale + other.scale })
    }

    /// A sum; `None` beyond what 128 bits hold.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        Some(Self { units: self.at(scale)?.checked_add(other.at(scale)?)?, scale })
    }

    /// Decimal places it has.
    pub fn scale(self) -> u32 {
        self.scale
    }

    /// `self / other` rounded half up (away from zero) to so many places; `None` for a division by zero, and
    /// beyond what 128 bits hold.
    pub fn divide(self, other: Self, places: u32) -> Option<Decimal> {
        let (up, down) = (places + other.scale, self.scale);
        let (mut numerator, mut denominator) = (self.units, other.units);
        if up >= down {
            numerator = numerator.checked_mul(ten_to(up - down)?)?;
        } else {
            denominator = denominator.checked_mul(ten_to(down - up)?)?;
        }
        let (quotient, rest) = (numerator.checked_div(denominator)?, numerator.checked_rem(denominator)?);
        let half = rest.unsigned_abs() >= denominator.unsigned_abs().div_ceil(2);
        let away = if half { numerator.signum() * denominator.signum() } else { 0 };
        Decimal::try_from_i128_with_scale(quotient.checked_add(away)?, places).ok()
    }

    /// The number of units of `10^-scale`, if it is whole and fits.
    pub fn at(self, scale: u32) -> Option<i128> {
        if scale >= self.scale {
            return self.units.checked_mul(ten_to(scale - self.scale)?);
        }
        let unit = ten_to(self.scale - scale)?;
        (self.units % unit == 0).then(|| self.units / unit)
    }

    /// The number, if it is whole and fits.
    pub fn whole(self) -> Option<i64> {
        i64::try_from(self.at(0)?).ok()
    }

    /// The nearest binary number, to be shown.
    pub fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::NAN)
    }
}

fn ten_to(power: u32) -> Option<i128> {
    10_i128.checked_pow(power)
}

impl From<Decimal> for Exact {
    fn from(decimal: Decimal) -> Self {
        let decimal = decimal.normalize();
        Self { units: decimal.mantissa(), scale: decimal.scale() }
    }
}

impl From<i64> for Exact {
    fn from(whole: i64) -> Self {
        Self { units: whole.into(), scale: 0 }
    }
}

impl PartialEq for Exact {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Exact {}

impl PartialOrd for Exact {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Exact {
    fn cmp(&self, other: &Self) -> Ordering {
        let scale = self.scale.max(other.scale);
        match (self.at(scale), other.at(scale)) {
            (Some(one), Some(two)) => one.cmp(&two),
            // What does not fit at the finer scale is further from zero than all that does; both cannot be at
            // the coarser one.
            (None, _) => self.units.cmp(&0),
            (_, None) => 0.cmp(&other.units),
        }
    }
}

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:0width$}", self.units.unsigned_abs(), width = self.scale as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - self.scale as usize);
        let fraction = fraction.trim_end_matches('0');
        let (sign, point) =
            (if self.units < 0 { "-" } else { "" }, if fraction.is_empty() { "" } else { "." });
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

/// A text is no decimal number that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a decimal number of at most 128 bits")]
pub struct NotExact;

impl FromStr for Exact {
    type Err = NotExact;

    fn from_str(text: &str) -> Result<Self, NotExact> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = format!("{whole}{fraction}");
        if !digits.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit()) || fraction.len() > 38 {
            return Err(NotExact);
        }
        Ok(Self { units: digits.parse().map_err(|_| NotExact)?, scale: fraction.len() as u32 })
    }
}

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|e| de::Error::custom(format!("\"{text}\" {e}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal() -> impl Strategy<Value = Decimal> {
        (-1_000_000_000_i64..1_000_000_000, 0..9u32).prop_map(|(units, scale)| Decimal::new(units, scale))
    }

    proptest! {
        #[test]
        fn sums_are_exact_in_any_order_and_survive_their_text(
            numbers in prop::collection::vec((decimal(), decimal()), 1..40),
        ) {
            let sum = |numbers: &mut dyn Iterator<Item = &(Decimal, Decimal)>| {
                numbers.fold(Exact::ZERO, |sum, (a, b)| sum.checked_add(Exact::product(*a, *b).expect("fits")).expect("fits"))
            };
            let (forward, backward) = (sum(&mut numbers.iter()), sum(&mut numbers.iter().rev()));
            prop_assert_eq!(forward, backward);
            // The same at a fixed scale: eight and eight places.
            let fixed: i128 = numbers.iter().map(|(a, b)| {
                let at = |d: &Decimal| Exact::from(*d).at(8).expect("at most eight places");
                at(a) * at(b)
            }).sum();
            prop_assert_eq!(forward.at(16), Some(fixed));
            prop_assert_eq!(forward.to_string().parse::<Exact>(), Ok(forward));
            let text = serde_json::to_string(&forward).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Exact>(&text).expect("read"), forward);
        }

        #[test]
        fn order_is_that_of_the_numbers(one in decimal(), other in decimal()) {
            prop_assert_eq!(Exact::from(one).cmp(&other.into()), one.cmp(&other));
        }

        #[test]
        fn quotients_are_rounded_half_away_from_zero(one in decimal(), other in 1..100_000_i64, scale in 0..4u32) {
            let other = Decimal::new(other, scale);
            let expected = (one / other).round_dp_with_strategy(4, rust_decimal::RoundingStrategy::MidpointAwayFromZero);
            // Decimal's own quotient is rounded at 28 digits before; only a tie could differ, and then by
            // that.
            let difference = Exact::from(one).divide(other.into(), 4).expect("fits") - expected;
            prop_assert!(difference.is_zero(), "{difference}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let huge = Exact::from(Decimal::MAX);
        assert_eq!(Exact::product(Decimal::MAX, Decimal::MAX), None);
        assert_eq!(Exact { units: i128::MAX, scale: 0 }.checked_add(1.into()), None);
        assert_eq!(huge.divide(Exact::ZERO, 4), None);
        assert!(Exact { units: i128::MAX, scale: 0 } > Exact { units: i128::MAX, scale: 20 });
        assert!(Exact { units: i128::MIN, scale: 0 } < Exact { units: 1, scale: 20 });
        for bad in ["", "-", "x", "1.2.3", "1e5", "1.-5", "--1"] {
            assert!(bad.parse::<Exact>().is_err(), "{bad}");
        }
        assert_eq!("-0.50".parse::<Exact>().expect("fine").to_string(), "-0.5");
    }
}

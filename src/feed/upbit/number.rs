//! Numbers of JSON as exact decimals: what an exchange wrote is what is stored, so no number passes through a
//! binary fraction.

use rust_decimal::Decimal;
use serde_json::value::RawValue;

/// Most digits that a [`Decimal`] holds whatever they are.
const DIGITS: usize = 28;

/// Reads a decimal number: `106691000.00000000`, `1.5243E8`, `-0.5`.
///
/// `None` for anything that is no number of JSON, and for one of more than 28 digits.
pub(super) fn decimal(text: &str) -> Option<Decimal> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let all = [whole, fraction].concat();
    let all = all.trim_start_matches('0');
    // How many of the digits stand behind the point.
    let mut scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    if all.is_empty() {
        return Some(Decimal::ZERO);
    }
    let mut number: i128 = if all.len() <= DIGITS { all.parse().ok()? } else { return None };
    if scale < 0 {
        let zeros = u32::try_from(-scale).ok().filter(|zeros| all.len() + *zeros as usize <= DIGITS)?;
        number *= 10_i128.pow(zeros);
        scale = 0;
    }
    let number = if negative { -number } else { number };
    Decimal::try_from_i128_with_scale(number, u32::try_from(scale).ok()?).ok().map(|d| d.normalize())
}

/// Reads a whole number that fits 64 bits without a sign; no fraction, no exponent.
pub(super) fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// A value as text: a text's content, a number exactly as sent, anything else as the JSON it is.
pub(super) fn text(value: &RawValue) -> String {
    let raw = value.get();
    if raw.starts_with('"') {
        // RawValue holds valid JSON only.
        serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned())
    } else {
        raw.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for (text, expected) in [
            ("106691000.00000000", "106691000"),
            ("1.5243E8", "152430000"),
            ("1.5243e+8", "152430000"),
            ("9.372E-5", "0.00009372"),
            ("0.00009372", "0.00009372"),
            ("-0.5", "-0.5"),
            ("0", "0"),
            ("-0.000", "0"),
            ("0E5", "0"),
            ("78039261076.51241", "78039261076.51241"),
            ("17883351803770004", "17883351803770004"),
            ("1.00000000000000000000000000000000000", "1"),
        ] {
            let read = decimal(text).unwrap_or_else(|| panic!("{text} is a number"));
            assert_eq!(read.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_too_long_is_refused() {
        for text in [
            "",
            "-",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x10",
            "1,5",
            "NaN",
            "Infinity",
            " 1",
            "1 ",
            "--1",
            "1.2.3",
            "1E999999999999",
            "1E40",
        ] {
            assert_eq!(decimal(text), None, "{text}");
        }
        assert_eq!(decimal(&"9".repeat(29)), None);
        assert_eq!(decimal("0.00000000000000000000000000001"), None, "29 decimals");
    }

    #[test]
    fn whole_numbers_keep_all_their_digits() {
        assert_eq!(whole("17883351803770004"), Some(17_883_351_803_770_004));
        assert_eq!(whole("18446744073709551615"), Some(u64::MAX));
        for text in ["", "-1", "1.0", "1e5", "18446744073709551616", "x"] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_decimal_comes_back(mantissa in -9_999_999_999_999_999_999i128..9_999_999_999_999_999_999, scale in 0u32..12) {
            let number = Decimal::from_i128_with_scale(mantissa, scale);
            prop_assert_eq!(decimal(&number.to_string()), Some(number));
            let scientific = format!("{mantissa}E-{scale}");
            prop_assert_eq!(decimal(&scientific), Some(number));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.eE]{0,40}") {
            decimal(&text);
            whole(&text);
        }
    }
}

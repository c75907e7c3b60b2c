//! Dates in words, by the rules of each language.

use jiff::civil::Date;

use crate::locale::Text;

/// Days of the week from Monday on, in Korean.
const WEEKDAYS: [&str; 7] = ["월", "화", "수", "목", "금", "토", "일"];

fn weekday(date: Date) -> &'static str {
    let at = usize::try_from(date.weekday().to_monday_zero_offset()).unwrap_or(0);
    WEEKDAYS.get(at).copied().unwrap_or_default()
}

fn english(date: Date, pattern: &str) -> String {
    date.strftime(pattern).to_string()
}

/// `Friday 20 November 2026`
pub(crate) fn long(date: Date) -> Text {
    let korean = format!("{}년 {}월 {}일 {}요일", date.year(), date.month(), date.day(), weekday(date));
    Text::each(english(date, "%A %-d %B %Y"), korean)
}

/// `Fri 20 Nov`
pub(crate) fn day(date: Date) -> Text {
    Text::each(english(date, "%a %-d %b"), format!("{}월 {}일({})", date.month(), date.day(), weekday(date)))
}

/// `Fri 20`
pub(crate) fn day_of_month(date: Date) -> Text {
    Text::each(english(date, "%a %-d"), format!("{}일({})", date.day(), weekday(date)))
}

/// `November 2026`
pub(crate) fn month(date: Date) -> Text {
    Text::each(english(date, "%B %Y"), format!("{}년 {}월", date.year(), date.month()))
}

/// `Nov`
pub(crate) fn short_month(date: Date) -> Text {
    Text::each(english(date, "%b"), format!("{}월", date.month()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locale::{Language, Reader};

    #[test]
    fn each_language_has_its_order() {
        let date = jiff::civil::date(2026, 11, 20);
        let korean = Reader { language: Language::Korean, ..Reader::default() };
        assert_eq!(long(date), "Friday 20 November 2026");
        assert_eq!(korean.read(&long(date)), "2026년 11월 20일 금요일");
        assert_eq!(
            (day(date).to_string(), korean.read(&day(date))),
            ("Fri 20 Nov".to_owned(), "11월 20일(금)".to_owned())
        );
        assert_eq!(korean.read(&month(date)), "2026년 11월");
        assert_eq!(korean.read(&day_of_month(jiff::civil::date(2026, 11, 22))), "22일(일)");
        assert_eq!(korean.read(&short_month(date)), "11월");
    }
}

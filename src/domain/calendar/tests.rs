use super::*;
use jiff::civil::date;

const KRX: &str = include_str!("../../../dags/calendars/krx.csv");

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

#[test]
fn the_shipped_calendar_has_the_trading_days_of_each_year() {
    let krx = Calendar::parse("krx", KRX).expect("a calendar");
    for (year, days) in [(2024, 244), (2025, 242), (2026, 244), (2027, 245)] {
        let sessions = date(year, 1, 1).series(jiff::Span::new().days(1)).take_while(|d| d.year() == year);
        assert_eq!(sessions.filter(|d| krx.session(*d).is_some()).count(), days, "{year}");
    }
}

#[test]
fn sessions_follow_the_rows() {
    let krx = Calendar::parse("krx", KRX).expect("a calendar");
    let hours = |d: Date| krx.session(d).map(|s| (s.open, s.close));
    assert_eq!(hours(date(2026, 11, 20)), Some((at("2026-11-20T09:00+09"), at("2026-11-20T15:30+09"))));
    assert_eq!(
        hours(date(2026, 11, 19)),
        Some((at("2026-11-19T10:00+09"), at("2026-11-19T16:30+09"))),
        "CSAT"
    );
    assert_eq!(
        hours(date(2026, 1, 2)),
        Some((at("2026-01-02T10:00+09"), at("2026-01-02T15:30+09"))),
        "first of the year"
    );
    assert_eq!(hours(date(2026, 7, 17)), None, "holiday");
    assert_eq!(hours(date(2026, 11, 21)), None, "Saturday");
    assert_eq!(krx.day(date(2026, 12, 31)).map(Day::name), Some("KRX year-end closure"));
}

#[test]
fn knows_where_it_ends() {
    let krx = Calendar::parse("krx", KRX).expect("a calendar");
    assert_eq!(krx.covered(), Some((date(2024, 1, 1), date(2027, 12, 31))));
    assert!(
        krx.covers(date(2027, 12, 31)) && !krx.covers(date(2028, 1, 1)) && !krx.covers(date(2023, 12, 31))
    );
}

#[test]
fn names_every_fault_with_its_line() {
    let text = "date,name,kind,open,close\nzone,Asia/Soul,,,\n2026-02-30,x,closed,,\n2026-01-01,x,shut,,\n2026-01-02,x,hours,10:00,09:00\n\
                    2026-01-05,x,closed,,\n2026-01-05,y,closed,,\n2026-01-06,a,b,closed,,\n2026-01-07,x,hours,25:00,\n2026-01-08,x,closed,09:00,\n";
    let faults = Calendar::parse("x", text).expect_err("faults");
    let lines: Vec<usize> = faults.iter().map(|f| f.line).collect();
    assert_eq!(lines, [2, 3, 4, 5, 7, 8, 9, 9, 10, 10], "{faults:#?}");
    assert!(faults[0].to_string().contains("Asia/Soul"), "{}", faults[0]);
    assert!(Calendar::parse("x", "").is_err());
}

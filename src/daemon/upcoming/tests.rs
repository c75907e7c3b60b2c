use super::*;
use domain::schedule::{Catchup, Edge, LateStart};
use jiff::civil::date;

#[test]
fn holidays_late_opens_and_the_end_of_the_file_are_told() {
    let krx = Calendar::parse("krx", include_str!("../../../dags/calendars/krx.csv")).expect("a calendar");
    let cron = |text: &str| Edge::Cron(text.parse().expect("a cron expression"));
    let mut schedule = Schedule {
        timezone: "Asia/Seoul".into(),
        calendar: Some("krx".into()),
        open: cron("50 8 * * MON-FRI"),
        close: Some(cron("0 16 * * MON-FRI")),
        late_start: LateStart::Join,
        catchup: Catchup::None,
    };
    let of = |d| days(&schedule, Some(&krx), d, d).remove(0);
    let late = of(date(2026, 11, 19));
    assert_eq!((late.special, late.windows.len()), (Special::LateOpen, 1));
    assert!(late.why.contains("10:00–16:30"), "{}", late.why);
    let holiday = of(date(2026, 12, 25));
    assert_eq!((holiday.special, holiday.windows.len()), (Special::Closed, 0));
    assert!(!holiday.why.is_empty());
    assert_eq!(of(date(2026, 11, 21)).windows, [], "Saturday");
    assert_eq!(of(date(2028, 1, 3)).special, Special::Unknown);
    (schedule.calendar, schedule.close, schedule.open) = (None, None, cron("*/30 * * * *"));
    let often = days(&schedule, None, date(2026, 11, 19), date(2026, 11, 20));
    assert_eq!((often.len(), often[0].windows.len(), often[0].more), (2, LISTED, 44));
}

//! Lists of what happened, in parts: `limit` says how long a part is, `after` is the `next` of the part before. A cursor names the
//! last entry that was given, so that entries that come meanwhile neither repeat nor hide others. What has no name (an alert, an entry
//! of the audit) is named by its instant and its place among those of the same instant, the oldest first: newer ones do not move it.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use jiff::Timestamp;

use crate::http::reply::Refusal;
use domain::message::Message;
use domain::said;

pub(crate) type Asked<T> = Result<Query<T>, QueryRejection>;

pub(crate) const ASK: Message = said!("GET /api/v1/openapi.json says what can be asked for");

/// Entries of a part unless more or fewer are asked for.
const PART: usize = 50;
/// Most entries of a part.
const LONGEST_PART: usize = 500;

pub(crate) fn part(limit: Option<usize>) -> Result<usize, Refusal> {
    match limit {
        None => Ok(PART),
        Some(n @ 1..=LONGEST_PART) => Ok(n),
        Some(n) => Err(Refusal::bad(
            said!("limit={} is not possible", n.to_string()),
            said!("ask for 1 to {}", LONGEST_PART.to_string()),
        )),
    }
}

/// A part of a list of what happened, newest first, and the cursor after which the next begins.
pub(crate) fn happened<'a, T>(
    all: &'a [T],
    at: impl Fn(&T) -> Timestamp,
    limit: Option<usize>,
    after: Option<&str>,
) -> Result<(&'a [T], Option<String>), Refusal> {
    let limit = part(limit)?;
    let from = match after.filter(|after| !after.is_empty()) {
        None => 0,
        Some(after) => {
            let read = |text: &str| {
                let (instant, place) = text.rsplit_once('~')?;
                Some((instant.parse::<Timestamp>().ok()?, place.parse::<usize>().ok()?))
            };
            let (instant, place) = read(after).ok_or_else(|| {
                Refusal::missing(
                    said!("after=\"{}\" is none of these", after),
                    said!("give the \"next\" of the part before, or begin anew"),
                )
            })?;
            // Those of the instant end here; the entry itself may be gone, what is older still follows.
            let end = all.partition_point(|entry| at(entry) >= instant);
            let begin = all.partition_point(|entry| at(entry) > instant);
            end.saturating_sub(place).max(begin)
        }
    };
    let shown = &all[from..all.len().min(from.saturating_add(limit))];
    let to = from + shown.len();
    let next = (to < all.len()).then(|| shown.last().map(&at)).flatten().map(|instant| {
        let end = all.partition_point(|entry| at(entry) >= instant);
        format!("{instant}~{}", end - to)
    });
    Ok((shown, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    /// Reads a list part by part, while `grow` may change it in between.
    fn read(mut list: Vec<(i64, char)>, limit: usize, mut grow: impl FnMut(&mut Vec<(i64, char)>)) -> String {
        let (mut seen, mut after) = (String::new(), None::<String>);
        loop {
            let (shown, next) = happened(&list, |(second, _)| at(*second), Some(limit), after.as_deref()).expect("a part");
            seen.extend(shown.iter().map(|(_, name)| *name));
            let Some(next) = next else { return seen };
            after = Some(next);
            grow(&mut list);
        }
    }

    #[test]
    fn what_happened_is_read_once_each_however_long_the_parts_are_and_whatever_comes_meanwhile() {
        let list = vec![(9, 'a'), (7, 'b'), (7, 'c'), (7, 'd'), (7, 'e'), (3, 'f')];
        for limit in 1..=7 {
            assert_eq!(read(list.clone(), limit, |_| {}), "abcdef", "{limit}");
            assert_eq!(read(list.clone(), limit, |list| list.insert(0, (10, 'x'))), "abcdef", "{limit}");
        }
        // Another one of the same instant, and an end that is cut off because it grew old.
        assert_eq!(read(vec![(7, 'b'), (7, 'c'), (3, 'f')], 1, |list| list.insert(0, (7, 'x'))), "bcf");
        let mut cut = false;
        let shrink = |list: &mut Vec<(i64, char)>| {
            if !std::mem::replace(&mut cut, true) {
                list.truncate(4);
            }
        };
        assert_eq!(read(vec![(9, 'a'), (8, 'b'), (7, 'c'), (6, 'd'), (5, 'e')], 2, shrink), "abcd");
        assert_eq!(read(Vec::new(), 5, |_| {}), "");
    }

    #[test]
    fn cursors_and_limits_that_are_none_are_refused() {
        let list = [(9, 'a'), (7, 'b')];
        let ask = |limit, after: &str| {
            happened(&list, |(s, _)| at(*s), limit, Some(after)).map_err(|r| r.status.as_u16()).map(|(shown, _)| shown.len())
        };
        for bad in ["x", "~", "1970-01-01T00:00:07Z", "1970-01-01T00:00:07Z~", "1970-01-01T00:00:07Z~-1", "~1", "../~1"] {
            assert_eq!(ask(None, bad), Err(404), "{bad}");
        }
        assert_eq!(ask(None, ""), Ok(2));
        assert_eq!(ask(None, "1970-01-01T00:00:08Z~0"), Ok(1), "what is gone still has a place");
        assert_eq!(ask(None, "1970-01-01T00:00:09Z~99999999999"), Ok(2));
        for limit in [0, 501, usize::MAX] {
            assert_eq!(ask(Some(limit), "1970-01-01T00:00:08Z~0"), Err(400), "{limit}");
        }
    }
}

//! Lists that are given in parts: `limit` says how long a part is, `after` is the `next` of the part before.
//!
//! A cursor names the last entry that was given, so that entries that come meanwhile neither repeat nor hide
//! others. What has no name (an alert, an entry of the audit) is named by its instant and its place among
//! those of the same instant, the oldest first: newer ones do not move it.

use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::reply::Refusal;
use domain::said;

/// Things of a part, without a wish and at most.
const LISTED: usize = 100;
const MOST_LISTED: usize = 500;

/// Which part of a list is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// How many at most.
    #[param(minimum = 1, maximum = 500, default = 100)]
    pub(crate) limit: Option<usize>,
    /// Go on after this: the `next` of the part before.
    pub(crate) after: Option<String>,
}

impl Asked {
    fn limit(&self) -> Result<usize, Refusal> {
        let limit = self.limit.unwrap_or(LISTED);
        if (1..=MOST_LISTED).contains(&limit) {
            return Ok(limit);
        }
        Err(Refusal::bad(
            said!("limit is {}", limit.to_string()),
            said!("ask for 1 to {}", MOST_LISTED.to_string()),
        ))
    }

    fn after(&self) -> Option<&str> {
        self.after.as_deref().filter(|after| !after.is_empty())
    }
}

fn unknown(after: &str) -> Refusal {
    let error = said!("after names nothing of the list: \"{}\"", after);
    Refusal::missing(error, said!("give what next of the part before said, or begin anew"))
}

/// A part of a list, and after what the next begins.
pub(crate) fn part_of<'a, T>(
    all: &'a [T],
    asked: &Asked,
    name: impl Fn(&T) -> String,
) -> Result<(&'a [T], Option<String>), Refusal> {
    let limit = asked.limit()?;
    let start = match asked.after() {
        None => 0,
        Some(after) => all.iter().position(|item| name(item) == after).ok_or_else(|| unknown(after))? + 1,
    };
    let end = all.len().min(start + limit);
    let next = (end < all.len()).then(|| all[start..end].last().map(&name)).flatten();
    Ok((&all[start..end], next))
}

/// A part of a list of what happened, newest first, and the cursor after which the next begins.
pub(crate) fn happened<'a, T>(
    all: &'a [T],
    asked: &Asked,
    at: impl Fn(&T) -> Timestamp,
) -> Result<(&'a [T], Option<String>), Refusal> {
    let limit = asked.limit()?;
    let from = match asked.after() {
        None => 0,
        Some(after) => {
            let read = |text: &str| {
                let (instant, place) = text.rsplit_once('~')?;
                Some((instant.parse::<Timestamp>().ok()?, place.parse::<usize>().ok()?))
            };
            let (instant, place) = read(after).ok_or_else(|| unknown(after))?;
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

    #[test]
    fn lists_are_given_in_parts() {
        let all = ["a", "b", "c"];
        let part = |limit, after: Option<&str>| {
            part_of(&all, &Asked { limit, after: after.map(str::to_owned) }, |t| (*t).to_owned())
                .map_err(|r| r.error)
        };
        assert_eq!(part(None, None), Ok((&all[..], None)));
        assert_eq!(part(Some(2), None), Ok((&all[..2], Some("b".to_owned()))));
        assert_eq!(part(Some(2), Some("b")), Ok((&all[2..], None)));
        assert!(part(Some(0), None).is_err() && part(Some(501), None).is_err());
        assert!(part(None, Some("x")).expect_err("not there").to_string().contains("names nothing"));
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn asked(limit: usize, after: Option<&str>) -> Asked {
        Asked { limit: Some(limit), after: after.map(str::to_owned) }
    }

    /// Reads a list part by part, while `grow` may change it in between.
    fn read(mut list: Vec<(i64, char)>, limit: usize, mut grow: impl FnMut(&mut Vec<(i64, char)>)) -> String {
        let (mut seen, mut after) = (String::new(), None::<String>);
        loop {
            let (shown, next) =
                happened(&list, &asked(limit, after.as_deref()), |(second, _)| at(*second)).expect("a part");
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
            happened(&list, &Asked { limit, after: Some(after.to_owned()) }, |(s, _)| at(*s))
                .map_err(|r| r.status.as_u16())
                .map(|(shown, _)| shown.len())
        };
        for bad in [
            "x",
            "~",
            "1970-01-01T00:00:07Z",
            "1970-01-01T00:00:07Z~",
            "1970-01-01T00:00:07Z~-1",
            "~1",
            "../~1",
        ] {
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

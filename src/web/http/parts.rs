//! Lists that are given in parts: `limit` says how long a part is, `after` is the `next` of the part before.

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

/// A part of a list, and after what the next begins.
pub(crate) fn part_of<'a, T>(
    all: &'a [T],
    asked: &Asked,
    name: impl Fn(&T) -> String,
) -> Result<(&'a [T], Option<String>), Refusal> {
    let limit = asked.limit.unwrap_or(LISTED);
    if !(1..=MOST_LISTED).contains(&limit) {
        return Err(Refusal::bad(said!("limit is {}", limit.to_string()), said!("ask for 1 to {}", MOST_LISTED.to_string())));
    }
    let start = match asked.after.as_ref().filter(|after| !after.is_empty()) {
        None => 0,
        Some(after) => {
            let found = all.iter().position(|item| name(item) == *after);
            let missing = || {
                let error = said!("after names nothing of the list: \"{}\"", after);
                Refusal::missing(error, said!("give what next of the part before said, or begin anew"))
            };
            found.ok_or_else(missing)? + 1
        }
    };
    let end = all.len().min(start + limit);
    let next = (end < all.len()).then(|| all[start..end].last().map(&name)).flatten();
    Ok((&all[start..end], next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_given_in_parts() {
        let all = ["a", "b", "c"];
        let part = |limit, after: Option<&str>| {
            part_of(&all, &Asked { limit, after: after.map(str::to_owned) }, |t| (*t).to_owned()).map_err(|r| r.error)
        };
        assert_eq!(part(None, None), Ok((&all[..], None)));
        assert_eq!(part(Some(2), None), Ok((&all[..2], Some("b".to_owned()))));
        assert_eq!(part(Some(2), Some("b")), Ok((&all[2..], None)));
        assert!(part(Some(0), None).is_err() && part(Some(501), None).is_err());
        assert!(part(None, Some("x")).expect_err("not there").to_string().contains("names nothing"));
    }
}

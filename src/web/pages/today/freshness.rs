//! What the `freshness` check said, in the reader's language. A check returns words (`domain::freshness`), which are stored and mailed as they
//! are; the forms that are known here are told again as texts of the page, others stay as they were said.

use crate::locale::{Text, say};
use crate::view::findings::Freshness;

/// `6m12s`, `18s`, `1h02m`.
fn duration(said: &str) -> Option<Text> {
    let mut korean = Vec::new();
    let mut rest = said;
    while let Some(at) = rest.find(|c: char| !c.is_ascii_digit()) {
        let n: u32 = rest[..at].parse().ok()?;
        let unit = match rest[at..].chars().next()? {
            'h' => "시간",
            'm' => "분",
            's' => "초",
            _ => return None,
        };
        korean.push(format!("{n}{unit}"));
        rest = &rest[at + 1..];
    }
    (rest.is_empty() && !korean.is_empty()).then(|| Text::each(said.to_owned(), korean.join(" ")))
}

/// What was found at a hop.
pub(crate) fn finding(said: &str) -> Text {
    let between = |before: &str, after: &str| duration(said.strip_prefix(before)?.strip_suffix(after)?);
    match said {
        "has everything" => return say!("has everything"),
        "no session today" => return say!("no session today"),
        "the session has not begun" => return say!("the session has not begun"),
        "collection has just begun" => return say!("collection has just begun"),
        "the session has ended" => return say!("the session has ended"),
        "closing auction: no trades are expected" => return say!("closing auction: no trades are expected"),
        _ => {}
    }
    if let Some(why) = said.strip_prefix("unreachable: ") {
        return say!("unreachable: {}", why);
    }
    if let Some(ago) = between("last trade ", " ago") {
        return say!("last trade {} ago", ago);
    }
    if let Some(ago) = between("no trade since the session began ", " ago") {
        return say!("no trade since the session began {} ago", ago);
    }
    if let Some(ago) = between("no trade since collection began ", " ago") {
        return say!("no trade since collection began {} ago", ago);
    }
    if let Some(long) = between("no trade for ", "") {
        return say!("no trade for {}", long);
    }
    if let Some(long) = between("a record has been waiting for ", "") {
        return say!("a record has been waiting for {}", long);
    }
    match between("", " behind") {
        Some(lag) => say!("{} behind", lag),
        None => Text::plain(said.to_owned()),
    }
}

/// What stalls, in a line: the hop, what was found there, and for the feed more.
pub(crate) fn summary(fresh: &Freshness) -> Text {
    let said = fresh.summary.as_str();
    let culprit = fresh.hops.iter().find_map(|h| {
        let detail = h.detail.as_deref()?;
        Some((h, detail, said.strip_prefix(&*h.hop)?.strip_prefix(": ")?.strip_prefix(detail)?))
    });
    let Some((hop, detail, rest)) = culprit else { return Text::plain(said.to_owned()) };
    let (rest, down) = match rest.split_once("; the feed's session has been down for ") {
        Some((rest, long)) => (rest, duration(long)),
        None => (rest, None),
    };
    let last = rest.strip_prefix(" (last at ").and_then(|rest| rest.strip_suffix(')'));
    if !rest.is_empty() && last.is_none() {
        return Text::plain(said.to_owned());
    }
    let mut line = vec![say!("{}: {}", hop.hop, finding(detail))];
    line.extend(last.map(|at| say!("(last at {})", at)));
    let mut lines = vec![Text::joined(" ", line)];
    lines.extend(down.map(|long| say!("the feed's session has been down for {}", long)));
    Text::joined("; ", lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locale::{Language, Reader};
    use crate::view::findings::FreshHop;

    fn korean(text: &Text) -> String {
        Reader { language: Language::Korean, ..Reader::default() }.read(text)
    }

    #[test]
    fn known_words_are_told_in_korean_and_others_as_they_were_said() {
        for (said, own) in [
            ("has everything", "모두 있음"),
            ("18s behind", "18초 지연"),
            ("last trade 6m02s ago", "마지막 체결 6분 2초 전"),
            ("no trade for 1h02m", "1시간 2분 동안 체결 없음"),
            ("closing auction: no trades are expected", "동시호가: 체결이 예상되지 않음"),
            ("unreachable: nobody answers", "연결할 수 없음: nobody answers"),
            ("something a check of one's own says", "something a check of one's own says"),
            ("5 apples behind", "5 apples behind"),
        ] {
            let text = finding(said);
            assert_eq!((text.to_string().as_str(), korean(&text).as_str()), (said, own));
        }
    }

    #[test]
    fn a_summary_is_taken_apart_only_where_all_of_it_is_known() {
        let hop = FreshHop { hop: "feed".into(), detail: Some("no trade for 6m12s".into()), ..FreshHop::default() };
        let with = |summary: &str| Freshness { hops: vec![hop.clone()], summary: summary.into(), ..Freshness::default() };
        for (said, own) in [
            ("feed: no trade for 6m12s", "feed: 6분 12초 동안 체결 없음"),
            ("feed: no trade for 6m12s (last at 13:04:48)", "feed: 6분 12초 동안 체결 없음 (마지막 13:04:48)"),
            (
                "feed: no trade for 6m12s (last at 13:04:48); the feed's session has been down for 30s",
                "feed: 6분 12초 동안 체결 없음 (마지막 13:04:48); 피드 세션이 끊긴 지 30초",
            ),
            ("feed: no trade for 6m12s, says somebody", "feed: no trade for 6m12s, says somebody"),
            ("nothing of the kind", "nothing of the kind"),
        ] {
            let text = summary(&with(said));
            assert_eq!((text.to_string().as_str(), korean(&text).as_str()), (said, own));
        }
    }
}

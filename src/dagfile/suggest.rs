//! "Did you mean": the nearest of the words that would have been right.

/// The word nearest to `wrong`, if it is near enough to be a slip.
pub fn nearest<'a>(wrong: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let allowed = (wrong.chars().count() / 3).max(1);
    words
        .into_iter()
        .map(|word| (distance(&wrong, &word.to_lowercase()), word))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// The nearest word as help, or all of them.
pub(super) fn help<'a>(wrong: &str, words: impl IntoIterator<Item = &'a str> + Clone, what: &str) -> String {
    if let Some(word) = nearest(wrong, words.clone()) {
        return format!("did you mean \"{word}\"?");
    }
    let words: Vec<&str> = words.into_iter().collect();
    if words.is_empty() { format!("there are no {what}") } else { format!("{what}: {}", words.join(", ")) }
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other (optimal
/// string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        let words = ["timeout", "timezone", "every", "needs"];
        assert_eq!(nearest("tiemout", words), Some("timeout"));
        assert_eq!(nearest("Timezon", words), Some("timezone"));
        assert_eq!(nearest("need", words), Some("needs"));
        assert_eq!(nearest("frequency", words), None);
        assert_eq!(help("x", words, "there are"), "there are: timeout, timezone, every, needs");
    }

    #[test]
    fn counts_edits() {
        for (a, b, edits) in
            [("", "", 0), ("abc", "", 3), ("abc", "acb", 1), ("kitten", "sitting", 3), ("한국", "한글", 1)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits), "{a} {b}");
        }
    }
}

//! A page as it stands, and what is new in it since a version. Pure.

use std::sync::Arc;

use axum::body::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, json};

use crate::view::{Fragment, Html};

/// A part of the page, with the version in which it last changed.
#[derive(Debug, Clone)]
struct Part {
    id: &'static str,
    html: Html,
    since: u64,
}

/// A page as it stands.
#[derive(Debug)]
pub(crate) struct State {
    /// Names this life of the page's channel: versions of another one mean nothing here.
    epoch: Arc<str>,
    /// Counts up from 1; 0 is the version of whoever has seen nothing.
    version: u64,
    parts: Vec<Part>,
    /// Events made so far, each with the version in which the oldest of its parts changed.
    made: Mutex<Vec<(u64, Bytes)>>,
}

impl State {
    /// A page as it is drawn first.
    pub(crate) fn first(epoch: Arc<str>, fragments: Vec<Fragment>) -> Self {
        let parts = fragments.into_iter().map(|Fragment { id, html }| Part { id, html, since: 1 }).collect();
        Self { epoch, version: 1, parts, made: Mutex::default() }
    }

    /// The page as it is drawn now; `None` when nothing differs.
    pub(crate) fn next(&self, fragments: Vec<Fragment>) -> Option<Self> {
        let version = self.version + 1;
        let parts: Vec<_> = fragments
            .into_iter()
            .map(|Fragment { id, html }| {
                let before = self.parts.iter().find(|p| p.id == id && p.html == html);
                Part { id, html, since: before.map_or(version, |p| p.since) }
            })
            .collect();
        let differs = parts.iter().any(|p| p.since == version);
        differs.then(|| Self { epoch: self.epoch.clone(), version, parts, made: Mutex::default() })
    }

    /// The version.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The version that the id of an event names, if it is one of this channel's; else 0.
    pub(crate) fn place(&self, id: &str) -> u64 {
        let of_this_life = id.rsplit_once('-').filter(|(epoch, _)| **epoch == *self.epoch);
        // A version that is still to come was never sent.
        of_this_life.and_then(|(_, version)| version.parse().ok()).filter(|v| *v <= self.version).unwrap_or(0)
    }

    /// The event with every part that changed after `version`; `None` when none did.
    pub(crate) fn since(&self, version: u64) -> Option<Bytes> {
        let oldest = self.parts.iter().map(|p| p.since).filter(|since| *since > version).min()?;
        let mut made = self.made.lock();
        if let Some((_, event)) = made.iter().find(|(of, _)| *of == oldest) {
            return Some(event.clone());
        }
        let event = self.event(oldest);
        made.push((oldest, event.clone()));
        Some(event)
    }

    fn event(&self, oldest: u64) -> Bytes {
        let new = self.parts.iter().filter(|p| p.since >= oldest);
        let fragments: Map<_, _> = new.map(|p| (p.id.to_owned(), p.html.as_str().into())).collect();
        // A JSON text holds no raw line end, which is what an event's data must not hold.
        let data = json!({ "fragments": fragments });
        Bytes::from(format!("id: {}-{}\nevent: fragments\ndata: {data}\n\n", self.epoch, self.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(parts: &[(&'static str, &str)]) -> Vec<Fragment> {
        #[derive(askama::Template)]
        #[template(source = "{{ text }}", ext = "html")]
        struct Text<'a> {
            text: &'a str,
        }
        parts
            .iter()
            .map(|(id, text)| Fragment::new(id, &Text { text }, &crate::locale::Reader::default()))
            .collect()
    }

    fn text(event: Option<Bytes>) -> String {
        event.map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    #[test]
    fn whoever_stands_at_a_version_gets_what_changed_after_it() {
        let one = State::first("e".into(), page(&[("a", "1"), ("b", "1"), ("c", "1")]));
        assert_eq!(
            text(one.since(0)),
            "id: e-1\nevent: fragments\ndata: {\"fragments\":{\"a\":\"1\",\"b\":\"1\",\"c\":\"1\"}}\n\n"
        );
        assert!(one.since(1).is_none());
        assert!(
            one.next(page(&[("a", "1"), ("b", "1"), ("c", "1")])).is_none(),
            "the same is no new version"
        );
        let two = one.next(page(&[("a", "1"), ("b", "2"), ("c", "1")])).expect("b changed");
        let three = two.next(page(&[("a", "1"), ("b", "2"), ("c", "3")])).expect("c changed");
        assert!(text(three.since(0)).contains("{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\"}"), "all");
        assert!(text(three.since(1)).contains("{\"b\":\"2\",\"c\":\"3\"}"), "both that were missed");
        assert!(text(three.since(2)).contains("{\"c\":\"3\"}"), "the last only");
        // Back to what it was is a change, too.
        let four = three.next(page(&[("a", "1"), ("b", "1"), ("c", "3")])).expect("b changed back");
        assert!(text(four.since(1)).contains("{\"b\":\"1\",\"c\":\"3\"}"));
    }

    #[test]
    fn an_event_is_made_once_for_all() {
        let one = State::first("e".into(), page(&[("a", "1"), ("b", "1")]));
        let two = one.next(page(&[("a", "1"), ("b", "2")])).expect("b changed");
        let three = two.next(page(&[("a", "3"), ("b", "2")])).expect("a changed");
        let (first, again) = (three.since(2).expect("new"), three.since(2).expect("new"));
        assert_eq!(first.as_ptr(), again.as_ptr(), "the same bytes, not equal ones");
        assert_eq!(three.since(0), three.since(1), "nothing is older than the second version");
    }

    #[test]
    fn ids_of_other_lives_and_of_the_future_mean_all() {
        let one = State::first("life.1".into(), page(&[("a", "1")]));
        assert_eq!(one.place("life.1-1"), 1);
        for id in ["life.2-1", "life.1-2", "life.1-", "life.1", "", "-", "1", "life.1--1", "é"] {
            assert_eq!(one.place(id), 0, "{id}");
        }
    }
}

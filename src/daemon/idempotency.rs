//! Answers that were given to requests with a key: whoever sends one again, because the answer got lost, is
//! told the same.
//!
//! An answer is journaled in one piece with what it tells, so that it also holds after a crash. Their number
//! and age are bounded.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use state::{Answered, Put};

/// Most answers that are kept; the oldest go first.
pub const ANSWERS: usize = 1_000;
/// Most bytes of them all.
const BYTES: usize = 4 << 20;
/// How long one is kept, by the daemon's clock.
pub const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// A request that may be sent again, because its answer may get lost: it is carried out once, and answered
/// alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Who asks, and the key they chose.
    pub key: String,
    /// The request, in brief: the same one has the same text.
    pub request: String,
}

/// What came before with a request's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// The same request came before: its answer.
    Same(String),
    /// Another request came with this key.
    Other,
}

/// What an answer that is kept means for a request.
pub fn earlier(answered: &Answered, idempotency: &Idempotency, now: Timestamp) -> Option<Earlier> {
    if now.duration_since(answered.at) >= KEPT {
        return None;
    }
    Some(if answered.request == idempotency.request {
        Earlier::Same(answered.answer.clone())
    } else {
        Earlier::Other
    })
}

/// The answers that are kept.
#[derive(Debug, Default)]
pub struct Answers {
    kept: BTreeMap<String, Answered>,
    /// What the next write of the journal takes along.
    unwritten: Vec<Put>,
}

impl Answers {
    /// Those a journal holds.
    pub fn of(kept: Vec<Answered>) -> Self {
        Self {
            kept: kept.into_iter().map(|answered| (answered.key.clone(), answered)).collect(),
            unwritten: Vec::new(),
        }
    }

    /// What came before with this key.
    pub fn earlier(&self, idempotency: &Idempotency, now: Timestamp) -> Option<Earlier> {
        earlier(self.kept.get(&idempotency.key)?, idempotency, now)
    }

    /// Keeps an answer; the first one to a request counts.
    pub fn keep(&mut self, idempotency: &Idempotency, answer: &str, at: Timestamp) {
        if self.earlier(idempotency, at).is_some() {
            return;
        }
        let old: Vec<String> = self
            .kept
            .values()
            .filter(|kept| at.duration_since(kept.at) >= KEPT)
            .map(|kept| kept.key.clone())
            .collect();
        old.into_iter().for_each(|key| self.forget(key));
        let bytes =
            |kept: &BTreeMap<String, Answered>| kept.values().map(|kept| kept.answer.len()).sum::<usize>();
        while self.kept.len() >= ANSWERS
            || (!self.kept.is_empty() && bytes(&self.kept) + answer.len() > BYTES)
        {
            let Some(oldest) = self.kept.values().min_by_key(|kept| kept.at).map(|kept| kept.key.clone())
            else {
                break;
            };
            self.forget(oldest);
        }
        let answered = Answered {
            key: idempotency.key.clone(),
            request: idempotency.request.clone(),
            answer: answer.to_owned(),
            at,
        };
        self.unwritten.push(Put::Answered(answered.clone()));
        self.kept.insert(idempotency.key.clone(), answered);
    }

    fn forget(&mut self, key: String) {
        self.kept.remove(&key);
        self.unwritten.push(Put::AnswerGone(key));
    }

    /// What has to be written; it counts as written from now on.
    pub fn take(&mut self) -> Vec<Put> {
        std::mem::take(&mut self.unwritten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn request(key: &str, request: &str) -> Idempotency {
        Idempotency { key: key.into(), request: request.into() }
    }

    #[test]
    fn the_first_answer_to_a_request_is_the_answer() {
        let mut answers = Answers::default();
        assert_eq!(answers.earlier(&request("k", "a"), at(0)), None);
        answers.keep(&request("k", "a"), "first", at(0));
        answers.keep(&request("k", "a"), "second", at(1));
        assert_eq!(answers.earlier(&request("k", "a"), at(1)), Some(Earlier::Same("first".into())));
        assert_eq!(answers.earlier(&request("k", "b"), at(1)), Some(Earlier::Other));
        let written = answers.take();
        assert!(matches!(&written[..], [Put::Answered(a)] if a.answer == "first"), "{written:?}");
        assert!(answers.take().is_empty());
    }

    #[test]
    fn long_answers_make_room_for_themselves() {
        let mut answers = Answers::default();
        let long = "x".repeat(BYTES / 3);
        for n in 0..5 {
            answers.keep(&request(&format!("{n}"), "a"), &long, at(n));
        }
        assert_eq!(answers.kept.keys().collect::<Vec<_>>(), ["2", "3", "4"]);
        answers.keep(&request("all", "a"), &"x".repeat(BYTES * 2), at(9));
        assert_eq!(answers.kept.len(), 1, "one that is too long by itself is kept alone");
    }

    #[test]
    fn answers_grow_old_and_take_bounded_room() {
        let mut answers = Answers::default();
        answers.keep(&request("old", "a"), "x", at(0));
        assert_eq!(answers.earlier(&request("old", "a"), at(86_399)), Some(Earlier::Same("x".into())));
        assert_eq!(answers.earlier(&request("old", "a"), at(86_400)), None);
        for n in 0..ANSWERS + 5 {
            answers.keep(&request(&format!("{n}"), "a"), "x", at(86_400 + n as i64));
        }
        assert_eq!(answers.kept.len(), ANSWERS);
        assert!(
            !answers.kept.contains_key("old")
                && !answers.kept.contains_key("4")
                && answers.kept.contains_key("5")
        );
        let gone = answers.take().iter().filter(|put| matches!(put, Put::AnswerGone(_))).count();
        assert_eq!(gone, 6, "what is forgotten leaves the journal too");
        answers.keep(&request("5", "b"), "anew", at(86_400 * 3));
        assert_eq!(
            answers.earlier(&request("5", "b"), at(86_400 * 3)),
            Some(Earlier::Same("anew".into())),
            "an old key may be used again"
        );
    }
}

//! A bounded memory of ids: what was seen lately, oldest forgotten first.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// The last ids seen, at most a fixed number.
#[derive(Debug, Clone)]
pub struct RecentIds {
    limit: usize,
    order: VecDeque<Arc<str>>,
    known: HashSet<Arc<str>>,
}

impl RecentIds {
    /// Remembers at most `limit` ids.
    pub fn new(limit: usize) -> Self {
        Self { limit, order: VecDeque::new(), known: HashSet::new() }
    }

    /// Whether the id is remembered.
    pub fn contains(&self, id: &str) -> bool {
        self.known.contains(id)
    }

    /// Remembers an id; returns whether it was new.
    pub fn insert(&mut self, id: &str) -> bool {
        if self.limit == 0 {
            return true;
        }
        if self.known.contains(id) {
            return false;
        }
        if self.order.len() == self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        let id: Arc<str> = id.into();
        self.order.push_back(Arc::clone(&id));
        self.known.insert(id);
        true
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest_only() {
        let mut recent = RecentIds::new(2);
        assert!(recent.insert("a") && recent.insert("b"));
        assert!(!recent.insert("a"));
        assert!(recent.insert("c"));
        assert!(!recent.contains("a") && recent.contains("b") && recent.contains("c"));
        assert_eq!(recent.len(), 2);
    }
}

//! Reconciliation arithmetic: which ids are in which hop, how often, and which are missing.

use std::collections::{BTreeMap, HashMap};

/// A hop whose ids are compared with the spool's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hop {
    /// The collector's write-ahead log.
    Spool,
    /// The topic.
    Log,
    /// Raw documents.
    Raw,
    /// Index documents.
    Index,
    /// Lines of objects.
    Objects,
}

impl Hop {
    /// All hops, the spool first.
    pub const ALL: [Self; 5] = [Self::Spool, Self::Log, Self::Raw, Self::Index, Self::Objects];

    /// The word used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spool => "spool",
            Self::Log => "log",
            Self::Raw => "raw",
            Self::Index => "index",
            Self::Objects => "objects",
        }
    }
}

/// What a hop holds, against the spool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Different ids.
    pub unique: u64,
    /// Records beyond the first of their id.
    pub duplicates: u64,
    /// Ids of the spool that are neither here nor in a dead letter of this hop.
    pub missing: u64,
    /// The same, by symbol: at most as many ids as asked for, over all symbols.
    pub missing_ids: BTreeMap<String, Vec<String>>,
    /// Ids that are here and not in the spool (another collector's).
    pub extra: u64,
}

/// Ids seen, per hop.
#[derive(Debug, Default)]
pub struct Ledger {
    seen: HashMap<Box<str>, Seen>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    counts: [u16; 5],
    /// Bit per hop that refused it for good.
    buried: u8,
}

impl Ledger {
    /// Counts an id in a hop; returns whether it is its first there.
    pub fn see(&mut self, hop: Hop, id: &str) -> bool {
        let count = &mut self.entry(id).counts[hop as usize];
        *count = count.saturating_add(1);
        *count == 1
    }

    /// Whether an id was seen in a hop.
    pub fn has(&self, hop: Hop, id: &str) -> bool {
        self.seen.get(id).is_some_and(|s| s.counts[hop as usize] > 0)
    }

    /// A dead letter says that a hop refused this id for good.
    pub fn bury(&mut self, hop: Hop, id: &str) {
        self.entry(id).buried |= 1 << hop as u8;
    }

    fn entry(&mut self, id: &str) -> &mut Seen {
        // Most ids are there already: no copy for those.
        if !self.seen.contains_key(id) {
            self.seen.insert(id.into(), Seen::default());
        }
        self.seen.get_mut(id).expect("inserted above when it was missing")
    }

    /// What a hop holds; lists at most `list` missing ids, the first in order.
    pub fn account(&self, hop: Hop, list: usize) -> Account {
        let mut account = Account::default();
        let mut missing = Vec::new();
        for (id, seen) in &self.seen {
            let count = u64::from(seen.counts[hop as usize]);
            let in_spool = seen.counts[Hop::Spool as usize] > 0;
            if count > 0 {
                account.unique += 1;
                account.duplicates += count - 1;
                account.extra += u64::from(!in_spool);
            } else if in_spool && seen.buried & (1 << hop as u8) == 0 {
                missing.push(id.as_ref());
            }
        }
        account.missing = missing.len() as u64;
        missing.sort_unstable();
        for id in missing.into_iter().take(list) {
            account.missing_ids.entry(symbol_of(id).to_owned()).or_default().push(id.to_owned());
        }
        account
    }
}

/// The symbol in an event id (`kis:2026-11-20:005930:123`); the whole id when it has another shape.
pub fn symbol_of(id: &str) -> &str {
    id.split(':').nth(2).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_missing_the_doubled_and_the_foreign() {
        let mut ledger = Ledger::default();
        let id = |n: u32| format!("kis:2026-11-20:00593{}:{n}", n % 2);
        for n in 0..10 {
            assert!(ledger.see(Hop::Spool, &id(n)));
            if n != 3 && n != 4 {
                ledger.see(Hop::Index, &id(n));
            }
        }
        ledger.see(Hop::Spool, &id(7));
        assert!(!ledger.see(Hop::Index, &id(7)));
        ledger.see(Hop::Index, "kis:2026-11-20:000660:1");
        ledger.bury(Hop::Index, &id(4));
        let account = ledger.account(Hop::Index, 100);
        assert_eq!((account.unique, account.duplicates, account.missing, account.extra), (9, 1, 1, 1));
        assert_eq!(account.missing_ids, BTreeMap::from([("005931".to_owned(), vec![id(3)])]));
        let spool = ledger.account(Hop::Spool, 100);
        assert_eq!((spool.unique, spool.duplicates, spool.missing), (10, 1, 0));
        assert_eq!(
            ledger.account(Hop::Raw, 2).missing_ids.values().flatten().count(),
            2,
            "the list is bounded, the count is not"
        );
        assert_eq!(ledger.account(Hop::Raw, 2).missing, 10);
    }
}

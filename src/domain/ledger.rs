//! Reconciliation arithmetic: which ids are in which hop, how often, and which are missing.

use std::collections::{BTreeMap, HashMap};

/// What a hop holds, against the spools that feed it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Different ids.
    pub unique: u64,
    /// Records beyond the first of their id.
    pub duplicates: u64,
    /// Ids of the spools that are neither here nor in a dead letter of this hop.
    pub missing: u64,
    /// The same, by symbol: at most as many ids as asked for, over all symbols.
    pub missing_ids: BTreeMap<String, Vec<String>>,
    /// Ids that are here and not in the spools (another collector's).
    pub extra: u64,
}

/// Ids seen in each of some hops, which go by their position.
#[derive(Debug)]
pub struct Ledger {
    hops: usize,
    /// The row of each id.
    rows: HashMap<Box<str>, usize>,
    /// One cell for each hop, row after row: how often the id was seen there, and whether the hop refused it for good.
    cells: Vec<u16>,
}

/// Marks, in a cell, that the hop refused the id for good.
const REFUSED: u16 = 1 << 15;

impl Ledger {
    /// An empty ledger over this many hops.
    pub fn new(hops: usize) -> Self {
        Self { hops, rows: HashMap::new(), cells: Vec::new() }
    }

    /// Counts an id in a hop; returns whether it is its first there.
    pub fn see(&mut self, hop: usize, id: &str) -> bool {
        let cell = self.cell(hop, id);
        let count = *cell & !REFUSED;
        if count < !REFUSED {
            *cell += 1;
        }
        count == 0
    }

    /// Whether an id was seen in a hop.
    pub fn has(&self, hop: usize, id: &str) -> bool {
        self.rows.get(id).is_some_and(|row| self.count(*row, hop) > 0)
    }

    /// A dead letter says that a hop refused this id for good.
    pub fn mark_refused(&mut self, hop: usize, id: &str) {
        *self.cell(hop, id) |= REFUSED;
    }

    fn cell(&mut self, hop: usize, id: &str) -> &mut u16 {
        debug_assert!(hop < self.hops, "hop {hop} of {}", self.hops);
        // Most ids are there already: no copy for those.
        let row = match self.rows.get(id) {
            Some(row) => *row,
            None => {
                let row = self.rows.len();
                self.rows.insert(id.into(), row);
                self.cells.resize(self.cells.len() + self.hops, 0);
                row
            }
        };
        &mut self.cells[row * self.hops + hop]
    }

    fn count(&self, row: usize, hop: usize) -> u64 {
        u64::from(self.cells[row * self.hops + hop] & !REFUSED)
    }

    /// What a hop holds against `spools`, the hops whose ids it should have; lists at most `list` missing ids, the first in order.
    pub fn account(&self, hop: usize, spools: &[usize], list: usize) -> Account {
        let mut account = Account::default();
        let mut missing = Vec::new();
        for (id, row) in &self.rows {
            let count = self.count(*row, hop);
            let wanted = spools.iter().any(|spool| self.count(*row, *spool) > 0);
            if count > 0 {
                account.unique += 1;
                account.duplicates += count - 1;
                account.extra += u64::from(!wanted);
            } else if wanted && self.cells[row * self.hops + hop] & REFUSED == 0 {
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
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const SPOOL: usize = 0;
    const RAW: usize = 1;
    const INDEX: usize = 2;

    #[test]
    fn finds_the_missing_the_doubled_and_the_foreign() {
        let mut ledger = Ledger::new(3);
        let id = |n: u32| format!("kis:2026-11-20:00593{}:{n}", n % 2);
        for n in 0..10 {
            assert!(ledger.see(SPOOL, &id(n)));
            if n != 3 && n != 4 {
                ledger.see(INDEX, &id(n));
            }
        }
        ledger.see(SPOOL, &id(7));
        assert!(!ledger.see(INDEX, &id(7)));
        ledger.see(INDEX, "kis:2026-11-20:000660:1");
        ledger.mark_refused(INDEX, &id(4));
        let account = ledger.account(INDEX, &[SPOOL], 100);
        assert_eq!((account.unique, account.duplicates, account.missing, account.extra), (9, 1, 1, 1));
        assert_eq!(account.missing_ids, BTreeMap::from([("005931".to_owned(), vec![id(3)])]));
        let spool = ledger.account(SPOOL, &[SPOOL], 100);
        assert_eq!((spool.unique, spool.duplicates, spool.missing), (10, 1, 0));
        let raw = ledger.account(RAW, &[SPOOL], 2);
        assert_eq!(raw.missing_ids.values().flatten().count(), 2, "the list is bounded, the count is not");
        assert_eq!(raw.missing, 10);
    }

    proptest! {
        /// Whatever is seen in whichever of any number of hops: the accounts are those of plain sets.
        #[test]
        fn accounts_are_those_of_sets(
            hops in 1usize..9,
            seen in prop::collection::vec((0usize..9, 0u8..12), 0..200),
            refused in prop::collection::vec((0usize..9, 0u8..12), 0..20),
            spools in prop::collection::btree_set(0usize..9, 0..4),
        ) {
            let spools: Vec<usize> = spools.into_iter().filter(|s| *s < hops).collect();
            let mut ledger = Ledger::new(hops);
            let mut counts: BTreeMap<(usize, u8), u64> = BTreeMap::new();
            for (hop, id) in seen.into_iter().filter(|(hop, _)| *hop < hops) {
                let count = counts.entry((hop, id)).or_default();
                prop_assert_eq!(ledger.see(hop, &id.to_string()), *count == 0);
                *count += 1;
            }
            let refused: BTreeSet<(usize, u8)> = refused.into_iter().filter(|(hop, _)| *hop < hops).collect();
            refused.iter().for_each(|(hop, id)| ledger.mark_refused(*hop, &id.to_string()));
            for hop in 0..hops {
                let here: BTreeSet<u8> = counts.keys().filter(|(h, _)| *h == hop).map(|(_, id)| *id).collect();
                let wanted: BTreeSet<u8> = counts.keys().filter(|(h, _)| spools.contains(h)).map(|(_, id)| *id).collect();
                let total: u64 = counts.iter().filter(|((h, _), _)| *h == hop).map(|(_, n)| n).sum();
                let missing = wanted.difference(&here).filter(|id| !refused.contains(&(hop, **id))).count();
                let account = ledger.account(hop, &spools, usize::MAX);
                prop_assert_eq!(account.unique, here.len() as u64);
                prop_assert_eq!(account.duplicates, total - here.len() as u64);
                prop_assert_eq!(account.extra, here.difference(&wanted).count() as u64);
                prop_assert_eq!(account.missing, missing as u64);
                prop_assert_eq!(account.missing_ids.values().flatten().count(), missing);
                here.iter().for_each(|id| assert!(ledger.has(hop, &id.to_string())));
            }
        }
    }
}

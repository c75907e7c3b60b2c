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
pub struct IdCounts {
    hops: usize,
    /// The row of each id.
    rows: HashMap<Box<str>, usize>,
    /// One cell for each hop, row after row: how often the id was seen there, and whether the hop refused it
    /// for good.
    cells: Vec<u16>,
}

/// Marks, in a cell, that the hop refused the id for good.
const REFUSED: u16 = 1 << 15;

impl IdCounts {
    /// None yet, over this many hops.
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

    /// What a hop holds against `spools`, the hops whose ids it should have; lists at most `list` missing
    /// ids, the first in order.
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

/// The symbol in an event id (`{feed}:{date}:{symbol}:{number}`); the whole id when it has another shape.
pub fn symbol_of(id: &str) -> &str {
    id.split(':').nth(2).unwrap_or(id)
}

#[cfg(test)]
mod tests;

//! Which trades were received before: a bounded window of ids per instrument.

use std::collections::HashMap;

use jiff::civil::Date;

use domain::recent::RecentIds;
use domain::trade::Trade;

/// Ids remembered per instrument, feed and date.
const WINDOW: usize = 1024;

/// Feeds and dates remembered per instrument; replayed recordings hold several.
const DAYS: usize = 8;

/// The ids received lately. An id older than the window counts as new: a duplicate costs a fold in a sink, a
/// trade dropped by mistake is lost.
#[derive(Debug, Default)]
pub(super) struct Dedup {
    symbols: HashMap<String, Vec<Day>>,
}

#[derive(Debug)]
struct Day {
    feed: String,
    date: Date,
    known: RecentIds,
}

impl Dedup {
    /// Remembers a trade; false if it was received before.
    pub(super) fn is_new(&mut self, trade: &Trade) -> bool {
        if !self.symbols.contains_key(&trade.symbol) {
            self.symbols.insert(trade.symbol.clone(), Vec::new());
        }
        let days = self.symbols.get_mut(&trade.symbol).expect("just inserted");
        let at = days
            .iter()
            .position(|d| d.feed == trade.feed && d.date == trade.session_date)
            .unwrap_or_else(|| {
                if days.len() == DAYS
                    && let Some(oldest) = (0..days.len()).min_by_key(|at| days[*at].date)
                {
                    days.swap_remove(oldest);
                }
                days.push(Day {
                    feed: trade.feed.clone(),
                    date: trade.session_date,
                    known: RecentIds::new(WINDOW),
                });
                days.len() - 1
            });
        days[at].known.insert(trade.id.as_str())
    }
}

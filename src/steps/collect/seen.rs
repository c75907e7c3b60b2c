//! Which trades were received before: a bounded window of ids per instrument.

use std::collections::{HashMap, HashSet, VecDeque};

use jiff::civil::Date;

use feed::kis::Essence;

/// Ids remembered per instrument, feed and date.
const WINDOW: usize = 1024;

/// Feeds and dates remembered per instrument; replayed recordings hold several.
const DAYS: usize = 8;

/// The ids received lately. An id older than the window counts as new: a duplicate costs a fold in a sink, a trade dropped by
/// mistake is lost.
#[derive(Debug, Default)]
pub(super) struct Seen {
    symbols: HashMap<String, Vec<Day>>,
}

#[derive(Debug)]
struct Day {
    feed: &'static str,
    date: Date,
    known: HashSet<i64>,
    order: VecDeque<i64>,
}

impl Seen {
    /// Remembers a trade; false if it was received before.
    pub(super) fn is_new(&mut self, trade: &Essence<'_>) -> bool {
        if !self.symbols.contains_key(trade.symbol) {
            self.symbols.insert(trade.symbol.to_owned(), Vec::new());
        }
        let days = self.symbols.get_mut(trade.symbol).expect("just inserted");
        let at = days.iter().position(|d| d.feed == trade.feed && d.date == trade.date).unwrap_or_else(|| {
            if days.len() == DAYS
                && let Some(oldest) = (0..days.len()).min_by_key(|at| days[*at].date)
            {
                days.swap_remove(oldest);
            }
            days.push(Day { feed: trade.feed, date: trade.date, known: HashSet::new(), order: VecDeque::new() });
            days.len() - 1
        });
        let day = &mut days[at];
        if !day.known.insert(trade.accumulated_volume) {
            return false;
        }
        day.order.push_back(trade.accumulated_volume);
        if day.order.len() > WINDOW
            && let Some(oldest) = day.order.pop_front()
        {
            day.known.remove(&oldest);
        }
        true
    }
}

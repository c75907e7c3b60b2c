//! Room for connections that stay open, for all and for each.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
/// Most live pages and followed outputs at a time. Each holds a connection; what they show is drawn once for
/// all who see the same.
pub(crate) const PLACES: usize = 1024;
/// Most of them of one user or token, so that nobody takes the room of all others.
pub(crate) const PLACES_EACH: usize = 256;

/// Why there is no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Full {
    /// This many are open.
    All(usize),
    /// This many are open of whoever asks.
    Each(usize),
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_name: HashMap<String, usize>,
}

/// Room for connections that stay open.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    taken: Arc<Mutex<Taken>>,
    most: usize,
    most_each: usize,
}

impl Default for Places {
    fn default() -> Self {
        Self::of(PLACES, PLACES_EACH)
    }
}

fn locked(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock()
}

impl Places {
    pub(crate) fn of(most: usize, most_each: usize) -> Self {
        Self { taken: Arc::default(), most, most_each }
    }

    /// A place for whoever asks; those without a name share the room of all.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn take(&self, name: Option<&str>) -> Result<Place, Full> {
        let mut taken = locked(&self.taken);
        if taken.all >= self.most {
            return Err(Full::All(self.most));
        }
        if let Some(name) = name {
            let own = taken.by_name.entry(name.to_owned()).or_default();
            if *own >= self.most_each {
                return Err(Full::Each(self.most_each));
            }
            *own += 1;
        }
        taken.all += 1;
        Ok(Place { taken: self.taken.clone(), name: name.map(str::to_owned) })
    }
}

/// A place that was taken; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<Mutex<Taken>>,
    name: Option<String>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = locked(&self.taken);
        taken.all -= 1;
        if let Some(name) = self.name.take()
            && let Some(own) = taken.by_name.get_mut(&name)
        {
            *own -= 1;
            if *own == 0 {
                taken.by_name.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_room_of_all() {
        let places = Places::of(3, 2);
        let ann = [places.take(Some("ann")).expect("room"), places.take(Some("ann")).expect("room")];
        assert_eq!(places.take(Some("ann")).expect_err("hers are taken"), Full::Each(2));
        let nobody = places.take(None).expect("room");
        assert_eq!(places.take(Some("bob")).expect_err("all are taken"), Full::All(3));
        drop(ann);
        let _bob = places.take(Some("bob")).expect("room again");
        drop(nobody);
        assert_eq!(locked(&places.taken).by_name.len(), 1, "who has none is forgotten");
    }
}

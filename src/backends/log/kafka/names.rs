//! Who of this process has which name in a group.
//!
//! Kafka removes a named member by its name alone. A member whose client took long to end must therefore not
//! remove the one that has joined under the same name since: the last to take a name is the only one to give
//! it back.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::Result;

/// How often a name was taken. Locked while its member is being removed, so that nobody takes it in the
/// middle.
type Taken = Arc<Mutex<u64>>;

/// See the module.
#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<(String, String), Taken>>);

/// A name that was taken.
pub(super) struct Name {
    text: String,
    taken: Taken,
    number: u64,
}

impl Names {
    /// Takes a name in a group, whoever has it; waits while an earlier holder is giving it back.
    pub(super) fn take(&self, group: &str, name: &str) -> Name {
        let key = (group.to_owned(), name.to_owned());
        let taken = Arc::clone(self.0.lock().entry(key).or_default());
        let number = {
            let mut count = taken.lock();
            *count += 1;
            *count
        };
        Name { text: name.to_owned(), taken, number }
    }
}

impl Name {
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether nobody else of this process has taken it since.
    pub(super) fn is_held(&self) -> bool {
        *self.taken.lock() == self.number
    }

    /// Removes the member of this name, unless somebody else has taken it since.
    pub(super) fn give_back(&self, remove: impl FnOnce() -> Result<()>) -> Result<()> {
        let count = self.taken.lock();
        if *count == self.number { remove() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_to_take_a_name_gives_it_back() {
        let names = Names::default();
        let removed = |name: &Name| {
            let mut removed = false;
            name.give_back(|| {
                removed = true;
                Ok(())
            })
            .expect("removes");
            removed
        };
        let first = names.take("g", "n");
        assert!(
            removed(&first) && removed(&first),
            "for example once when it begins anew, once when it leaves"
        );
        let second = names.take("g", "n");
        assert!(!removed(&first) && removed(&second));
        assert!(!first.is_held() && second.is_held());
        let (elsewhere, other) = (names.take("h", "n"), names.take("g", "m"));
        assert!(removed(&second) && removed(&elsewhere) && removed(&other));
    }
}

//! Follows the status of an attempt that runs elsewhere.

use std::convert::Infallible;
use std::time::Duration;

use super::Status;

/// Real time between reads of the status of a program that is not ready yet: others wait for it.
const UNREADY: Duration = Duration::from_millis(20);
/// The same once it is ready.
pub(super) const READY: Duration = Duration::from_millis(100);

/// Tells the changes of a status.
#[derive(Default)]
pub(super) struct Follower {
    last: Status,
}

impl Follower {
    /// Tells every change of what `read` gives; never ends.
    pub(super) async fn follow(
        &mut self,
        read: impl Fn() -> Option<Status>,
        tell: impl Fn(Status),
    ) -> Infallible {
        loop {
            self.check(read(), &tell);
            tokio::time::sleep(if self.last.ready { READY } else { UNREADY }).await;
        }
    }

    /// Tells the status, if it has changed.
    pub(super) fn check(&mut self, status: Option<Status>, tell: impl Fn(Status)) {
        if let Some(status) = status.filter(|status| *status != self.last) {
            self.last = status.clone();
            tell(status);
        }
    }
}

//! Follows the status file of an attempt that runs elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use super::Status;
use super::folder;

/// Real time between looks at the status of a program that is not ready yet: others wait for it.
const LOOK: Duration = Duration::from_millis(20);
/// The same once it is ready.
pub(super) const READY_LOOK: Duration = Duration::from_millis(100);

/// Reports changes.
pub(super) struct Follower {
    folder: PathBuf,
    last: Status,
}

impl Follower {
    /// Of the attempt in `folder`.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, last: Status::default() }
    }

    /// Reports every change; never ends.
    pub(super) async fn follow(&mut self, report: impl Fn(Status)) {
        loop {
            self.look(&report);
            tokio::time::sleep(if self.last.ready { READY_LOOK } else { LOOK }).await;
        }
    }

    /// Reports a change since the last look, if there was one.
    pub(super) fn look(&mut self, report: impl Fn(Status)) {
        // Half a file of a program that does not rename is whole at the next look.
        if let Ok(Some(status)) = folder::read::<Status>(&self.folder.join(folder::STATUS))
            && status != self.last
        {
            self.last = status.clone();
            report(status);
        }
    }
}

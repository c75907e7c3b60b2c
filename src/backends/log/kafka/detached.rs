//! Clients of the library, which may take long to end.

use std::ops::Deref;

/// Ends what it holds in a thread of its own: a client says good-bye to brokers that may not answer, and its
/// end has been seen to hang. Neither the runtime nor a caller waits for that.
pub(super) struct Detached<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Detached<T> {
    pub(super) fn new(held: T) -> Self {
        Self(Some(held))
    }
}

impl<T: Send + 'static> Deref for Detached<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(held) => held,
            None => unreachable!("only dropping takes it"),
        }
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        let held = self.0.take();
        // Without a thread to be had it ends here, which is slow but right.
        if let Err(error) = std::thread::Builder::new().name("kafka-end".into()).spawn(move || drop(held)) {
            tracing::warn!(%error, "no thread for the end of a kafka client");
        }
    }
}

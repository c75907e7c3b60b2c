//! Sends queued mails. A mail is queued in the same write as the event that caused it and removed after it
//! was delivered, so a dead mail server delays an alert and never loses it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::snapshot::QueuedMail;
use backends::mail::Mail;
use clock::Clock;
use domain::retry::{Backoff, hash};
use state::{OutboxMail, Put, Store};

/// Longest wait before the next try after this many failures in a row.
fn pause(failures: u32) -> Duration {
    let backoff = Backoff { initial: Duration::from_secs(5), max: Duration::from_secs(300), jitter: true };
    backoff.delay(failures, hash("outbox") ^ u64::from(failures))
}

/// The outbox task's parts.
pub struct Outbox {
    /// Where mails are queued.
    pub store: Arc<dyn Store>,
    /// Where they go.
    pub mail: Arc<dyn Mail>,
    /// Time between tries.
    pub clock: Clock,
    /// Rung after mails were queued.
    pub wake: Arc<Notify>,
    /// What still waits, for the page.
    pub queued: watch::Sender<Vec<QueuedMail>>,
}

impl Outbox {
    /// Sends until stopped; what is queued stays queued.
    pub async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let all_sent = self.send_all(&mut failures).await;
            let retry = async {
                if all_sent {
                    std::future::pending::<()>().await;
                }
                self.clock.sleep(pause(failures)).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = retry => {}
            }
        }
    }

    async fn send_all(&self, failures: &mut u32) -> bool {
        let mails = match self.store.outbox().await {
            Ok(mails) => mails,
            Err(error) => {
                tracing::error!(%error, "the mail queue cannot be read");
                *failures += 1;
                return false;
            }
        };
        let mut left = mails.clone();
        self.tell(&left);
        // Those that were tried least go first, so that one that nobody takes does not hold up the others.
        let mut mails = mails;
        mails.sort_by_key(|m| (m.attempts, m.created_at));
        let mut all_sent = true;
        for queued in mails {
            match self.deliver(&queued).await {
                Ok(()) => {
                    *failures = 0;
                    let done = Put::MailDone { key: queued.key.clone(), created_at: queued.created_at };
                    match self.store.put(vec![done]).await {
                        Ok(()) => {
                            left.retain(|m| m.key != queued.key || m.created_at != queued.created_at);
                        }
                        Err(error) => {
                            tracing::error!(%error, mail.key = queued.key, "a sent mail stays in the queue and will be sent again")
                        }
                    }
                }
                Err(error) => {
                    *failures += 1;
                    all_sent = false;
                    tracing::warn!(%error, mail.key = queued.key, "mail not sent; it stays queued and is tried again");
                    let next_at = self.clock.now().checked_add(pause(*failures)).unwrap_or(queued.next_at);
                    let tried = OutboxMail {
                        attempts: queued.attempts + 1,
                        next_at,
                        last_error: Some(error),
                        ..queued
                    };
                    if let Err(error) = self.store.put(vec![Put::Mail(tried.clone())]).await {
                        tracing::error!(%error, mail.key = tried.key, "the tries of a mail cannot be noted");
                    }
                    left.iter_mut()
                        .filter(|m| m.key == tried.key && m.created_at == tried.created_at)
                        .for_each(|m| *m = tried.clone());
                    break;
                }
            }
        }
        self.tell(&left);
        all_sent
    }

    fn tell(&self, left: &[OutboxMail]) {
        self.queued.send_replace(left.iter().map(QueuedMail::of).collect());
    }

    async fn deliver(&self, queued: &OutboxMail) -> Result<(), String> {
        let message = serde_json::from_value(queued.message.clone())
            .map_err(|e| format!("the queued mail cannot be read: {e}"))?;
        self.mail.send(&message).await.map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backends::mail::Message;
    use backends::{BackendError, ErrorKind};
    use state::memory::Memory;

    /// A server that takes everything but what is for `nobody`.
    struct Picky;

    #[async_trait::async_trait]
    impl Mail for Picky {
        async fn send(&self, message: &Message) -> backends::Result<()> {
            if message.to == ["nobody"] {
                return Err(BackendError::new(ErrorKind::Rejected, "mail", "550 no such user"));
            }
            Ok(())
        }
        async fn check(&self) -> backends::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_mail_that_nobody_takes_is_told_with_its_tries_and_holds_up_no_other() {
        let at: jiff::Timestamp = "2026-11-20T04:11:02Z".parse().expect("a time");
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        for (key, to) in [("a", "nobody"), ("b", "somebody")] {
            let (from, subject) = ("x".to_owned(), format!("subject {key}"));
            let message =
                Message { key: key.into(), from, to: vec![to.into()], subject, text: String::new(), at };
            let message = serde_json::to_value(message).expect("JSON");
            let mail = OutboxMail {
                key: key.into(),
                created_at: at,
                attempts: 0,
                next_at: at,
                last_error: None,
                message,
            };
            store.put(vec![Put::Mail(mail)]).await.expect("queued");
        }
        let (queued, told) = watch::channel(Vec::new());
        let wake = Arc::new(Notify::new());
        let outbox =
            Outbox { store: store.clone(), mail: Arc::new(Picky), clock: Clock::manual(at), wake, queued };
        let mut failures = 0;
        assert!(!outbox.send_all(&mut failures).await);
        assert_eq!(
            told.borrow().iter().map(|m| (m.key.as_str(), m.tries)).collect::<Vec<_>>(),
            [("a", 1), ("b", 0)]
        );
        assert!(!outbox.send_all(&mut failures).await);
        let left = told.borrow().clone();
        assert_eq!(left.iter().map(|m| (m.key.as_str(), m.tries)).collect::<Vec<_>>(), [("a", 2)]);
        assert!(
            left[0].last_error.as_deref().is_some_and(|e| e.contains("550")) && left[0].next_at > at,
            "{left:?}"
        );
        assert_eq!(
            (left[0].to.as_slice(), left[0].subject.as_str()),
            (&["nobody".to_owned()][..], "subject a")
        );
        // The next life of the daemon knows it too.
        assert_eq!(store.outbox().await.expect("readable")[0].attempts, 2);
    }
}

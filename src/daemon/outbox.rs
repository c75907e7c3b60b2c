//! Sends queued mails. A mail is queued in the same write as the event that caused it and removed after it was delivered,
//! so a dead mail server delays an alert and never loses it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::backends::mail::Mail;
use crate::clock::Clock;
use crate::domain::retry::{Backoff, hash};
use crate::state::{OutboxMail, Put, Store};

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
    /// Keys still waiting, for the page.
    pub queued: watch::Sender<Vec<String>>,
}

impl Outbox {
    /// Sends until stopped; what is queued stays queued.
    pub async fn run(self, stop: CancellationToken) {
        let backoff = Backoff { initial: Duration::from_secs(5), max: Duration::from_secs(300), jitter: true };
        let mut failures = 0;
        loop {
            let all_sent = self.send_all(&mut failures).await;
            let retry = async {
                if all_sent {
                    std::future::pending::<()>().await;
                }
                self.clock.sleep(backoff.delay(failures, hash("outbox") ^ u64::from(failures))).await;
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
        let mut left: BTreeSet<String> = mails.iter().map(|m| m.key.clone()).collect();
        self.queued.send_replace(left.iter().cloned().collect());
        let mut all_sent = true;
        for queued in mails {
            match self.deliver(&queued).await {
                Ok(()) => {
                    *failures = 0;
                    let done = Put::MailDone { key: queued.key.clone(), created_at: queued.created_at };
                    match self.store.put(vec![done]).await {
                        Ok(()) => {
                            left.remove(&queued.key);
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
                    break;
                }
            }
        }
        self.queued.send_replace(left.into_iter().collect());
        all_sent
    }

    async fn deliver(&self, queued: &OutboxMail) -> Result<(), String> {
        let message =
            serde_json::from_value(queued.message.clone()).map_err(|e| format!("the queued mail cannot be read: {e}"))?;
        self.mail.send(&message).await.map_err(|e| e.to_string())
    }
}

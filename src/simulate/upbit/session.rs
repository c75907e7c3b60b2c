//! One WebSocket connection: reads what the client says, and writes what the exchange has for it.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::exchange::Exchange;
use crate::connection::{BATCH, Connection, Incoming, QUEUE};
use crate::event_log::Why;

/// Serves a connection whose handshake is done, until it ends.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(exchange: Arc<Exchange>, stream: S) {
    let (sender, mut queue) = mpsc::channel(QUEUE);
    let id = exchange.enter(sender);
    let clock = exchange.played.clock.clone();
    let mut connection = Connection::new(stream, id, clock, exchange.options.patience).await;
    tracing::debug!(session = id, "a client connected");
    // When the client was last heard: on the clock, and in real time.
    let mut heard = (exchange.played.clock.now(), Instant::now());
    let mut batch = Vec::with_capacity(BATCH);
    let why = loop {
        let idle = heard.0.checked_add(exchange.options.idle).unwrap_or(Timestamp::MAX);
        let result = tokio::select! {
            message = connection.next() => {
                heard = (exchange.played.clock.now(), Instant::now());
                match connection.receive(message).await {
                    Ok(Incoming::Text(text)) if !exchange.handle(id, &text) => Err(Why::Refused),
                    Ok(_) => Ok(()),
                    Err(why) => Err(why),
                }
            }
            count = queue.recv_many(&mut batch, BATCH) => match count {
                // The pacer ended this session.
                0 => Err(Why::Disconnect),
                _ => connection.write_batch(&mut batch).await,
            },
            () = exchange.played.clock.sleep_until(idle) => {
                // However fast the clock runs, a client needs real time to show its life.
                if heard.1.elapsed() < exchange.options.patience.min(exchange.options.idle) {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    Ok(())
                } else {
                    Err(Why::Silent)
                }
            }
        };
        if let Err(why) = result {
            break why;
        }
    };
    exchange.end(id, why);
    tracing::debug!(session = id, ?why, "a client is gone");
    if !matches!(why, Why::ClientClosed | Why::ClientLost) {
        connection.hang_up().await;
    }
}

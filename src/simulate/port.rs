//! A port with HTTP and WebSocket on one address, on any path, as clients of exchanges expect them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Who answers behind a port.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers a call over HTTP.
    fn call(&self, call: &Call) -> Reply;

    /// The HTTP status with which it refuses a WebSocket handshake now, if it does.
    fn refuse_handshake(&self) -> Option<u16>;

    /// Serves a WebSocket connection whose handshake is done, until it ends.
    fn serve(self: Arc<Self>, stream: TokioIo<Upgraded>) -> impl Future<Output = ()> + Send;
}

/// A call over HTTP.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names and values, unescaped.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Call {
    /// A value of the query.
    pub(crate) fn asked(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The answer: status, headers and JSON.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

/// An open port. Dropping it ends everything without waiting; [`close`](Self::close) waits.
pub(crate) struct Port {
    address: SocketAddr,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Port {
    /// Opens it.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub(crate) async fn open<V: Handler>(
        listen: SocketAddr,
        handler: impl FnOnce() -> Arc<V>,
    ) -> io::Result<(Self, Arc<V>)> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let handler = handler();
        let port = Self { address, cancel: CancellationToken::new(), tasks: TaskTracker::new() };
        let acceptor =
            Acceptor { handler: handler.clone(), cancel: port.cancel.clone(), tasks: port.tasks.clone() };
        port.spawn(acceptor.accept(listener));
        Ok((port, handler))
    }

    /// Starts something that ends with the port.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            // Work that is cancelled has nothing to report.
            cancel.run_until_cancelled(work).await.unwrap_or_default();
        });
    }

    /// The address it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends everything and waits until all is down.
    pub(crate) async fn close(self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// What a connection needs.
struct Acceptor<V> {
    handler: Arc<V>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl<V> Clone for Acceptor<V> {
    fn clone(&self) -> Self {
        Self { handler: self.handler.clone(), cancel: self.cancel.clone(), tasks: self.tasks.clone() }
    }
}

/// The longest body of a call.
const LONGEST_BODY: usize = 64 * 1024;

impl<V: Handler> Acceptor<V> {
    async fn accept(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (acceptor, cancel) = (self.clone(), self.cancel.clone());
                    // Cut off when the simulator stops.
                    self.tasks.spawn(async move {
                        cancel.run_until_cancelled(acceptor.serve(stream)).await.unwrap_or_default()
                    });
                }
                Err(error) => {
                    // Out of file descriptors, for example: give others time to close theirs.
                    tracing::warn!(%error, "the simulator cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it began");
            return;
        }
        let service = service_fn(move |request| {
            let acceptor = self.clone();
            async move { Ok::<_, Infallible>(acceptor.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection broke");
        }
    }

    async fn answer(self, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        if header(UPGRADE).is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket")) {
            let key = header(SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
            return self.upgrade(&mut request, key);
        }
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let query = pairs(request.uri().query().unwrap_or_default());
        let body = match Limited::new(request.into_body(), LONGEST_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return plain(StatusCode::BAD_REQUEST, &format!("unreadable body: {error}")),
        };
        let reply = self.handler.call(&Call { method, path, query, body });
        let mut response = Response::new(Full::from(reply.body));
        *response.status_mut() =
            StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        for (name, value) in reply.headers {
            if let Ok(value) = value.parse() {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }

    fn upgrade(self, request: &mut Request<Incoming>, accept: Option<String>) -> Response<Full<Bytes>> {
        if let Some(status) = self.handler.refuse_handshake() {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            return plain(status, "the exchange takes no sessions");
        }
        let Some(accept) = accept.and_then(|accept| accept.parse().ok()) else {
            return plain(StatusCode::BAD_REQUEST, "a WebSocket handshake needs Sec-WebSocket-Key");
        };
        let upgrade = hyper::upgrade::on(request);
        let (handler, cancel) = (self.handler, self.cancel);
        let work = async move {
            match upgrade.await {
                Ok(stream) => handler.serve(TokioIo::new(stream)).await,
                Err(error) => tracing::debug!(%error, "a handshake came to nothing"),
            }
        };
        // Cut off when the simulator stops.
        self.tasks.spawn(async move { cancel.run_until_cancelled(work).await.unwrap_or_default() });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        response
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{text}\n")));
    *response.status_mut() = status;
    response
}

/// A query's names and values, unescaped.
fn pairs(query: &str) -> Vec<(String, String)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let unescaped = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| (unescaped(name), unescaped(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_unescaped() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs("market=KRW-BTC&to=2026-11-20T00%3A01%3a00Z&count=3&&flag&odd=%zz%4"),
            [
                pair("market", "KRW-BTC"),
                pair("to", "2026-11-20T00:01:00Z"),
                pair("count", "3"),
                pair("flag", ""),
                pair("odd", "%zz%4")
            ]
        );
        assert_eq!(pairs(""), []);
    }
}

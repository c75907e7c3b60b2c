//! Accepts connections. A client that is slow with its headers is cut off, and however many there are, they
//! are bounded.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a client may take to send the head of a request, and to send the next one on an open connection,
/// in real time.
const HEADERS: Duration = Duration::from_secs(20);
/// Most connections at a time; further ones wait to be accepted. Live pages (`live::PLACES`) leave room for
/// all else.
const MOST: usize = 2048;
/// How long a client may leave what was sent to it unread, in real time. Whoever does longer is gone, or
/// holds a place for nothing.
const UNREAD: Duration = Duration::from_secs(60);
/// Pause after the system refused a connection (no file descriptors left, mostly), in real time.
const PAUSE: Duration = Duration::from_millis(500);

/// Serves until `stop` is cancelled and every connection has ended.
///
/// # Errors
/// Never by itself: what goes wrong with one connection ends that one.
pub(crate) async fn serve(listener: TcpListener, site: Router, stop: CancellationToken) -> io::Result<()> {
    serve_patiently(listener, site, stop, Patience { headers: HEADERS, unread: UNREAD }).await
}

/// How long clients are waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    headers: Duration,
    unread: Duration,
}

async fn serve_patiently(
    listener: TcpListener,
    site: Router,
    stop: CancellationToken,
    patience: Patience,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(MOST));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, peer, place)) = accepted else { continue };
        open.spawn(connection(stream, peer, site.clone(), stop.clone(), patience, place));
    }
    drop(listener);
    while open.join_next().await.is_some() {}
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // Never closed.
    let place = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
            if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
                tracing::warn!(%error, "cannot accept a connection to the page");
                tokio::time::sleep(PAUSE).await;
            }
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    site: Router,
    stop: CancellationToken,
    patience: Patience,
    _place: OwnedSemaphorePermit,
) {
    // Answers are small and wanted at once; without it they come all the same.
    drop(stream.set_nodelay(true));
    let unread = u32::try_from(patience.unread.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, unread) {
        tracing::debug!(%error, %peer, "a client that stops reading is not cut off");
    }
    let site = TowerToHyperService::new(site);
    let handler = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer: <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future = site.call(request);
        async move { Ok::<Response<Body>, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.headers);
    let connection = http.serve_connection(TokioIo::new(stream), handler);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients go away in the middle of things all day.
        tracing::debug!(%error, %peer, "a connection to the page ended early");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Only how long a failure takes.
    const LONG: Duration = Duration::from_secs(120);
    /// Nobody is cut off while a test runs.
    const ENDLESS: Patience =
        Patience { headers: Duration::from_secs(3600), unread: Duration::from_secs(3600) };

    /// Says when it is dropped.
    struct Told(Option<tokio::sync::oneshot::Sender<()>>);

    impl Drop for Told {
        fn drop(&mut self) {
            if let Some(tell) = self.0.take() {
                // Whoever asked may have given up waiting.
                tell.send(()).unwrap_or_default();
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_what_it_asked_for_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (tell, told) = tokio::sync::oneshot::channel();
        let held = std::sync::Mutex::new(Some(Told(Some(tell))));
        let endless = move || {
            let held = held.lock().expect("not poisoned").take();
            let piece = move || {
                let _held = &held;
                Ok::<_, Infallible>(vec![b'x'; 1 << 16])
            };
            async move { Body::from_stream(futures_util::stream::repeat_with(piece)) }
        };
        let endless = Arc::new(endless);
        let stop = CancellationToken::new();
        let site = Router::new().route("/", get(move || endless()));
        let patience = Patience { unread: Duration::from_millis(300), ..ENDLESS };
        let server = tokio::spawn(serve_patiently(listener, site, stop.clone(), patience));
        let mut idle = TcpStream::connect(address).await.expect("connected");
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        tokio::time::timeout(LONG, told).await.expect("it is cut off").expect("its answer ends");
        stop.cancel();
        tokio::time::timeout(LONG, server).await.expect("it ends").expect("no panic").expect("a clean end");
        drop(idle);
    }

    #[tokio::test]
    async fn a_client_that_is_slow_with_its_headers_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let site = Router::new().route("/", get(|| async { "here" }));
        let patience = Patience { headers: Duration::from_millis(100), ..ENDLESS };
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve_patiently(listener, site, stop.clone(), patience));
        let mut slow = TcpStream::connect(address).await.expect("connected");
        slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").await.expect("sent");
        let mut said = Vec::new();
        tokio::time::timeout(LONG, slow.read_to_end(&mut said)).await.expect("it is cut off").expect("read");
        assert!(!String::from_utf8_lossy(&said).contains("here"));
        stop.cancel();
        tokio::time::timeout(LONG, server).await.expect("it ends").expect("no panic").expect("a clean end");
    }

    #[tokio::test]
    async fn a_stop_ends_all_who_are_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let site = Router::new().route("/", get(|| async { "here" }));
        let server = tokio::spawn(serve_patiently(listener, site, stop.clone(), ENDLESS));
        let _idle = TcpStream::connect(address).await.expect("connected");
        let mut quick = TcpStream::connect(address).await.expect("connected");
        quick.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
        let mut said = Vec::new();
        tokio::time::timeout(LONG, quick.read_to_end(&mut said)).await.expect("in time").expect("read");
        assert!(String::from_utf8_lossy(&said).ends_with("here"));
        stop.cancel();
        tokio::time::timeout(LONG, server).await.expect("it ends").expect("no panic").expect("a clean end");
    }
}

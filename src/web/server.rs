//! Serving, and what every handler shares.

use std::fs::File;
use std::future::IntoFuture;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::routes;
use crate::daemon::Handle;

/// Most live pages at a time; each holds a connection and renders for itself.
const LIVE_PAGES: usize = 64;
/// How long open answers may take to end after a stop, in real time.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Settings of the site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Address of the site as people reach it through a proxy; its host name is then accepted too.
    pub public_url: Option<String>,
}

/// What every handler shares.
pub(super) struct Site {
    /// The daemon.
    pub(super) handle: Handle,
    /// Hidden in every form; new with every start of the site.
    pub(super) csrf: String,
    /// Ends live pages.
    pub(super) stop: CancellationToken,
    /// Host name that is accepted besides loopback names and plain addresses.
    pub(super) public_host: Option<String>,
    /// Room for live pages.
    pub(super) live: Arc<Semaphore>,
}

/// How handlers hold it.
pub(super) type App = Arc<Site>;

impl Site {
    pub(super) fn new(handle: Handle, stop: CancellationToken, options: &Options) -> io::Result<App> {
        let public_host = options.public_url.as_deref().and_then(host_of).map(str::to_ascii_lowercase);
        Ok(Arc::new(Self { handle, csrf: token()?, stop, public_host, live: Arc::new(Semaphore::new(LIVE_PAGES)) }))
    }
}

/// The host name of a URL, without port.
fn host_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next()?;
    Some(super::guard::without_port(authority)).filter(|h| !h.is_empty())
}

/// 256 random bits from the kernel, in hex.
fn token() -> io::Result<String> {
    let mut bytes = [0u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Serves the page and the API until `stop` is cancelled.
///
/// # Errors
/// When the listener's address is not a loopback one (the site has no authentication), or the socket fails.
pub async fn serve(listener: TcpListener, handle: Handle, stop: CancellationToken) -> io::Result<()> {
    serve_with(listener, handle, stop, Options::default()).await
}

/// [`serve`] with settings.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(listener: TcpListener, handle: Handle, stop: CancellationToken, options: Options) -> io::Result<()> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "will not serve the page on {address}: it has no authentication, and whoever reaches it can stop runs; \
                 listen on 127.0.0.1 and let a proxy that checks who comes forward to it"
            ),
        ));
    }
    let site = Site::new(handle, stop.clone(), &options)?;
    let server = axum::serve(listener, routes::router(site)).with_graceful_shutdown(stop.clone().cancelled_owned());
    let too_long = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        ended = server.into_future() => ended,
        () = too_long => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_differ() {
        let (a, b) = (token().expect("random"), token().expect("random"));
        assert_eq!(a.len(), 64);
        assert_ne!(a, b);
    }

    #[test]
    fn hosts_are_found_in_urls() {
        assert_eq!(host_of("https://ops.example.com:8443/openbell"), Some("ops.example.com"));
        assert_eq!(host_of("http://[::1]:80"), Some("[::1]"));
        assert_eq!(host_of(""), None);
    }
}

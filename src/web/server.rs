//! Serving, and what every handler shares.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use accounts::secret;
use axum::extract::FromRef;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::auth::{Access, Caller, Settings};
use crate::http::connections;
use crate::live::{Channels, Feed, Full, Place, Places};
use crate::locale::Reader;
use crate::pages::events;
use crate::pages::stores::Stores;
use crate::routes;
use backends::Backends;
use config::{BasePath, Network};
use daemon::Handle;

/// How long open answers may take to end after a stop, in real time.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Settings of the site.
#[derive(Clone, Default)]
pub struct Options {
    /// Address of the site as people reach it through a proxy; its host name is then accepted too.
    pub public_url: Option<String>,
    /// What every path begins with, where a proxy shows the site below one.
    pub base: BasePath,
    /// Proxies whose word about a request is believed.
    pub trusted_proxies: Vec<Network>,
    /// Who may come in. Without it, nobody ever has to log in.
    pub auth: Option<Settings>,
}

/// What every handler shares.
pub(crate) struct Site {
    /// The daemon.
    pub(crate) handle: Handle,
    /// Hidden in every form while nobody has to log in; new with every start of the site.
    pub(crate) form_token: String,
    /// Ends live pages.
    pub(crate) stop: CancellationToken,
    /// Host and port of the public address; its host is accepted besides loopback names and plain addresses.
    pub(crate) public_authority: Option<String>,
    /// What every path of the site begins with.
    pub(crate) base: BasePath,
    /// People reach the site encrypted.
    pub(crate) public_https: bool,
    /// Proxies whose word about a request is believed.
    pub(crate) trusted_proxies: Vec<Network>,
    /// Who may come in; `None`: nobody ever has to log in.
    pub(crate) access: Option<Access>,
    /// Room for live pages.
    pub(crate) places: Places,
    /// Live pages that somebody watches.
    pub(crate) channels: Arc<Channels>,
    /// What happened lately.
    pub(crate) feed: Arc<Feed>,
    /// What pages show of the stores.
    pub(crate) stores: Stores,
}

/// The site as all requests share it.
pub(crate) type Shared = Arc<Site>;

/// The site as the handler of one request holds it: with whoever asks.
#[derive(Clone)]
pub(crate) struct App {
    site: Shared,
    caller: Caller,
    /// In which language, and below which path.
    pub(crate) reader: Reader,
    /// Hidden in the forms of whoever asks. Empty for those who may only read: views leave their forms out then.
    pub(crate) csrf: String,
}

impl Deref for App {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl FromRef<Shared> for App {
    fn from_ref(site: &Shared) -> Self {
        let caller = Caller::current();
        let csrf = if caller.acts() { caller.csrf.clone() } else { String::new() };
        Self { site: site.clone(), caller, reader: Reader::current(), csrf }
    }
}

impl App {
    /// The name of whoever asks, for the audit; without one, the door they came through.
    pub(crate) fn by(&self, door: &str) -> String {
        self.caller.by(door)
    }

    /// A place for a connection that stays open.
    pub(crate) fn take_place(&self) -> Result<Place, Full> {
        self.site.places.take(self.caller.name())
    }

    /// Whether whoever asked may still read; a long answer looks at it now and then.
    pub(crate) fn may_go_on(&self) -> bool {
        self.site.access.as_ref().is_none_or(|access| access.still(&self.caller))
    }
}

impl Site {
    pub(crate) fn new(handle: Handle, backends: Backends, stop: CancellationToken, options: Options) -> io::Result<Shared> {
        let Options { public_url, base, trusted_proxies, auth } = options;
        let access = auth.map(Access::open).transpose().map_err(io::Error::other)?;
        let stores = Stores::new(backends, handle.clone());
        let channels = Channels::new(handle.clone(), stop.clone(), events::draw)?;
        let feed = Feed::new(handle.clone(), stop.clone())?;
        Ok(Arc::new(Self {
            handle,
            form_token: secret::token()?,
            stop,
            public_authority: public_url.as_deref().and_then(authority_of).map(str::to_ascii_lowercase),
            base,
            public_https: public_url.is_some_and(|url| url.starts_with("https://")),
            trusted_proxies,
            access,
            places: Places::default(),
            channels,
            feed,
            stores,
        }))
    }
}

/// Host and port of a URL.
fn authority_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().filter(|authority| !authority.is_empty())
}

/// Serves the page and the API until `stop` is cancelled.
///
/// # Errors
/// When the listener's address is not a loopback one while nobody has to log in, the users file cannot be used, or the socket fails.
pub async fn serve(listener: TcpListener, handle: Handle, backends: Backends, stop: CancellationToken) -> io::Result<()> {
    serve_with(listener, handle, backends, stop, Options::default()).await
}

/// [`serve`] with settings.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    listener: TcpListener,
    handle: Handle,
    backends: Backends,
    stop: CancellationToken,
    options: Options,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let site = Site::new(handle, backends, stop.clone(), options)?;
    let closed = site.access.as_ref().and_then(Access::accounts).is_some();
    if !address.ip().is_loopback() && !closed {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "will not serve the page on {address}: nobody would have to log in, and whoever reaches it could stop runs; make a user with \
                 `openbell user add NAME --role operator`, or listen on 127.0.0.1"
            ),
        ));
    }
    let server = connections::serve(listener, routes::router(site), stop.clone());
    let too_long = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        ended = server => ended,
        () = too_long => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_urls() {
        assert_eq!(authority_of("https://ops.example.com:8443/openbell"), Some("ops.example.com:8443"));
        assert_eq!(authority_of("http://[::1]:80"), Some("[::1]:80"));
        assert_eq!(authority_of(""), None);
    }
}

//! Serving, and the site that handlers take their parts of.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use accounts::secret;
use axum::extract::FromRef;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::api::document::Document;
use crate::auth::{Access, Door, Settings};
use crate::cache::READS;
use crate::http::connections;
use crate::http::reader::Address;
use crate::live::{Channels, Feed, Places};
use crate::pages::dead_letters::data::LetterReads;
use crate::pages::events;
use crate::pages::market::data::MarketReads;
use crate::pages::topics::data::TopicReads;
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

/// The site. Handlers take the parts of it that they need.
#[derive(Clone)]
pub(crate) struct Site {
    /// The daemon.
    handle: Handle,
    /// Ends live pages.
    stop: CancellationToken,
    /// Where people reach it.
    pub(crate) address: Address,
    /// Host and port of the public address; its host is accepted besides loopback names and plain addresses.
    pub(crate) public_authority: Option<Arc<str>>,
    /// What the door decides by.
    pub(crate) door: Door,
    /// Who may come in; `None`: nobody ever has to log in.
    pub(crate) access: Option<Arc<Access>>,
    /// Room for live pages.
    pub(crate) places: Places,
    /// Live pages that somebody watches.
    channels: Arc<Channels>,
    /// What happened lately.
    feed: Arc<Feed>,
    topics: Arc<TopicReads>,
    letters: Arc<LetterReads>,
    market: Arc<MarketReads>,
    /// What the API says of itself.
    document: Document,
}

macro_rules! parts {
    ($($name:ident: $part:ty,)*) => {
        $(impl FromRef<Site> for $part {
            fn from_ref(site: &Site) -> Self {
                site.$name.clone()
            }
        })*
    };
}

parts! {
    handle: Handle,
    stop: CancellationToken,
    access: Option<Arc<Access>>,
    places: Places,
    channels: Arc<Channels>,
    feed: Arc<Feed>,
    topics: Arc<TopicReads>,
    letters: Arc<LetterReads>,
    market: Arc<MarketReads>,
    document: Document,
}

impl Site {
    pub(crate) fn new(
        handle: Handle,
        backends: Backends,
        stop: CancellationToken,
        options: Options,
    ) -> io::Result<Self> {
        let Options { public_url, base, trusted_proxies, auth } = options;
        let access = auth.map(Access::open).transpose().map_err(io::Error::other)?.map(Arc::new);
        let public_authority =
            public_url.as_deref().and_then(authority_of).map(|at| at.to_ascii_lowercase().into());
        let address = Address { base, https: public_url.is_some_and(|url| url.starts_with("https://")) };
        let door = Door {
            access: access.clone(),
            form_token: secret::token()?.into(),
            trusted_proxies: trusted_proxies.into(),
            address: address.clone(),
            handle: handle.clone(),
        };
        // What reads the same store shares its room.
        let (log, index) = (Arc::new(Semaphore::new(READS)), Arc::new(Semaphore::new(READS)));
        let topics = Arc::new(TopicReads::new(backends.log.clone(), handle.clone(), &log));
        Ok(Self {
            stop: stop.clone(),
            address,
            public_authority,
            door,
            access,
            places: Places::default(),
            channels: Channels::new(handle.clone(), stop.clone(), events::draw)?,
            feed: Feed::new(handle.clone(), stop)?,
            letters: Arc::new(LetterReads::new(backends.clone(), handle.clone(), topics.clone(), &log)),
            market: Arc::new(MarketReads::new(backends, handle.clone(), &index)),
            topics,
            document: Document(&routes::OPENAPI),
            handle,
        })
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
/// When the listener's address is not a loopback one while nobody has to log in, the users file cannot be
/// used, or the socket fails.
pub async fn serve(
    listener: TcpListener,
    handle: Handle,
    backends: Backends,
    stop: CancellationToken,
) -> io::Result<()> {
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
    let closed = site.access.as_ref().and_then(|access| access.accounts()).is_some();
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

//! The connection to an engine.

use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ContainerState;
use bollard::query_parameters::RemoveContainerOptions;
use tokio::sync::OnceCell;

/// Where an engine is when nobody says otherwise.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// Longest real wait for the beginning of an answer. Containers are made and started within it, on a busy
/// machine too.
const PATIENCE_SECONDS: u64 = 120;
/// Real time between tries at an engine that does not answer.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Longest real wait for the first answer of an engine.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// An engine that is connected to when it is first needed.
pub(crate) struct Engine {
    host: String,
    client: OnceCell<bollard::Docker>,
}

impl Engine {
    /// The engine at `host` (`unix://PATH`, `tcp://HOST:PORT`); without one, where `DOCKER_HOST` says, or the
    /// usual socket.
    pub(crate) fn new(host: Option<&str>) -> Self {
        let from_environment = || std::env::var("DOCKER_HOST").ok().filter(|h| !h.is_empty());
        let host =
            host.map(str::to_owned).or_else(from_environment).unwrap_or_else(|| DEFAULT_HOST.to_owned());
        Self { host, client: OnceCell::new() }
    }

    /// Its address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// A client that speaks the newest version both sides know.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub(crate) async fn client(&self) -> Result<&bollard::Docker, Error> {
        self.client
            .get_or_try_init(|| async {
                let client = self.connect()?.with_timeout(Duration::from_secs(PATIENCE_SECONDS));
                tokio::time::timeout(FIRST_ANSWER, client.negotiate_version())
                    .await
                    .unwrap_or(Err(Error::RequestTimeoutError))
            })
            .await
    }

    /// What the engine says of a container; `None`: it has none of this name.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub(crate) async fn inspect(&self, name: &str) -> Result<Option<ContainerState>, Error> {
        match self.client().await?.inspect_container(name, None).await {
            Ok(found) => Ok(Some(found.state.unwrap_or_default())),
            Err(error) if http_status(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a container, running or not; one that is not there is fine.
    ///
    /// # Errors
    /// When the engine does not answer, or refuses.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), Error> {
        let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
        match self.client().await?.remove_container(name, Some(options)).await {
            Err(error) if http_status(&error) == Some(404) => Ok(()),
            outcome => outcome,
        }
    }

    fn connect(&self) -> Result<bollard::Docker, Error> {
        let version = bollard::API_DEFAULT_VERSION;
        if self.host.starts_with("unix://") {
            return bollard::Docker::connect_with_unix(&self.host, PATIENCE_SECONDS, version);
        }
        bollard::Docker::connect_with_http(&self.host, PATIENCE_SECONDS, version)
    }
}

/// What went wrong, in a few words for people.
pub(crate) fn explain(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::RequestTimeoutError => "it does not answer".into(),
        Error::SocketNotFoundError(path) => format!("there is no socket {path}"),
        other => {
            // The library's own words end where the cause begins.
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(next) = cause {
                text = format!("{text}: {next}");
                cause = next.source();
            }
            text
        }
    }
}

/// The HTTP status of the engine's answer, if it gave one.
pub(crate) fn http_status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

//! Puts a daemon together: data folder, stores, executors with the built-in steps, daemon, page.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use accounts::{secret, store};
use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::exit::Failure;
use super::step::environment;
use backends::Backends;
use clock::Clock;
use config::{Config, MetricsAccess};
use daemon::lock::{Lock, Note};
use daemon::{self, Handle};
use domain::dag::ExecutorKind;
use domain::ids::DagName;
use executor::container::{Installation, docker, swarm};
use executor::embedded::{Embedded, Failure as StepFailure, Launch, StatusSink};
use executor::process::Process;
use executor::{AttemptSpec, Executor, Status};
use steps::launch::StepRuntime;
use steps::{Reporter, Secret};
use web::Settings;

/// What to put together.
pub struct Options {
    /// Addresses and settings.
    pub config: Config,
    /// Data folder.
    pub data: PathBuf,
    /// DAG folder.
    pub dags: PathBuf,
    /// Time.
    pub clock: Clock,
    /// Run only this DAG, even if its file says it is not enabled (demo).
    pub only: Option<DagName>,
    /// Values for secret references (demo).
    pub stand_ins: BTreeMap<String, String>,
}

/// A running daemon with its page.
pub struct RunningDaemon {
    /// Talks to the daemon.
    pub handle: Handle,
    /// The stores.
    pub backends: Backends,
    /// Where the page is.
    pub url: String,
    daemon: JoinHandle<Result<(), daemon::Failed>>,
    web: JoinHandle<std::io::Result<()>>,
    stop: CancellationToken,
    data: PathBuf,
    _lock: Lock,
}

/// The async runtime of a command that needs one.
///
/// # Errors
/// When the machine has no threads left.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::unusable(format!("cannot start the async runtime: {e}")))
}

/// The configuration of `--config FILE`, or the default one.
///
/// # Errors
/// A file that cannot be read, or what is wrong in it.
pub fn configuration(path: Option<&Path>) -> Result<Config, Failure> {
    let Some(path) = path else { return Ok(Config::default()) };
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::unusable(format!("--config {}: {e}", path.display())))?;
    parse(path, &text).map_err(Failure::usage)
}

/// The configuration that a file's text is.
///
/// # Errors
/// What is wrong in it, with the file.
pub fn parse(path: &Path, text: &str) -> Result<Config, String> {
    let config = Config::parse(&path.display().to_string(), text).map_err(|error| error.to_string())?;
    feed::check_addresses(&config.feeds).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(config)
}

fn no_dags(dags: &Path, error: &std::io::Error) -> Failure {
    Failure::unusable(format!(
        "DAG folder {}: {error}; give the folder your DAG files are in with --dags",
        dags.display()
    ))
}

/// Where steps run that do not say it.
fn default_executor(config: &Config) -> ExecutorKind {
    match config.executor.as_str() {
        "process" => ExecutorKind::Process,
        "docker" => ExecutorKind::Docker,
        "swarm" => ExecutorKind::Swarm,
        _ => ExecutorKind::Embedded,
    }
}

/// Starts everything.
///
/// # Errors
/// A data folder in use or not usable, a DAG folder that cannot be read, a port that is taken, an address
/// this version does not know: each named, with the remedy.
pub async fn start(options: Options) -> Result<RunningDaemon, Failure> {
    let Options { config, data, dags, clock, only, stand_ins } = options;
    config.check().map_err(Failure::usage)?;
    let lock = Lock::take(&data).map_err(Failure::unusable)?;
    let data = data.canonicalize().map_err(|e| Failure::unusable(format!("{}: {e}", data.display())))?;
    let dags = dags.canonicalize().map_err(|e| no_dags(&dags, &e))?;
    let listener = listen(&config.listen).await?;
    let address = listener.local_addr().map_err(Failure::unusable)?;
    let url = format!("http://{}{}", reachable(address), config.base_path);
    let encrypted = config.public_url.as_deref().is_some_and(|url| url.starts_with("https://"));
    if !address.ip().is_loopback() && !encrypted {
        tracing::warn!(%address, "passwords and tokens come unencrypted; put a proxy with TLS in front, and name it with public_url");
    }
    let backends = backends::open(&config, &data).map_err(Failure::unusable)?;
    let mail = backends::open_mail(&config, &data).map_err(Failure::unusable)?;

    let local = secret::token().map_err(Failure::unusable)?;
    let site = site(&config, &data, &local)?;
    let stop = CancellationToken::new();
    let step_runtime = StepRuntime {
        clock: clock.clone(),
        backends: backends.clone(),
        feeds: config.feeds.clone(),
        data: data.clone(),
        dags: dags.clone(),
        stand_ins: stand_ins.iter().map(|(k, v)| (k.clone(), Secret::new(v.clone()))).collect(),
    };
    let runs = data.join("runs");
    let environment = step_environment(&config, &data, &dags, &clock, &stand_ins)?;
    let owner = std::fs::metadata(&data);
    let owner = owner.map_err(|e| Failure::unusable(format!("{}: {e}", data.display())))?;
    let installation = Installation {
        data: data.clone(),
        dags: dags.clone(),
        environment: environment.clone(),
        owner: (owner.uid(), owner.gid()),
    };
    let executors: Vec<Arc<dyn Executor>> = vec![
        Arc::new(Embedded::new(clock.clone(), launcher(step_runtime))),
        Arc::new(Process::new(clock.clone(), runs.clone(), environment)),
        Arc::new(docker::executor(clock.clone(), runs.clone(), config.docker.clone(), installation.clone())),
        Arc::new(swarm::executor(clock.clone(), runs.clone(), &config, installation)),
    ];
    serve_socket(&data, &backends, &stop)?;
    let public_url =
        config.public_url.clone().unwrap_or_else(|| url.clone()).trim_end_matches('/').to_owned();
    let (handle, daemon) = daemon::start(daemon::Options {
        clock,
        data: data.clone(),
        dags,
        programs: steps::programs(),
        only,
        executors: daemon::action_runner::Executors::new(executors, default_executor(&config)),
        backends: backends.clone(),
        mail,
        letterhead: daemon::alerts::Letterhead {
            from: config.mail_from.clone(),
            public_url,
            programs: steps::programs(),
        },
        keep_days: config.keep_days,
        stop: stop.clone(),
    })
    .await
    .map_err(Failure::unusable)?;
    Note::write_token(&data, &local).map_err(Failure::unusable)?;
    Note { url: url.clone(), pid: std::process::id() }.write(&data).map_err(Failure::unusable)?;
    let web = tokio::spawn(web::serve_with(listener, handle.clone(), backends.clone(), stop.clone(), site));
    Ok(RunningDaemon { handle, backends, url, daemon, web, stop, data, _lock: lock })
}

impl RunningDaemon {
    /// Waits until the daemon ends by itself (`openbell down`).
    pub async fn ended(&mut self) -> Result<(), Failure> {
        flatten((&mut self.daemon).await)
    }

    /// Stops everything; steps that are processes live on.
    ///
    /// # Errors
    /// What the daemon ended with.
    pub async fn stop(self) -> Result<(), Failure> {
        self.stop.cancel();
        let ended = if self.daemon.is_finished() { Ok(()) } else { flatten(self.daemon.await) };
        match self.web.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the page ended with an error"),
            Err(error) => tracing::warn!(%error, "the page's task failed"),
        }
        Note::remove(&self.data).map_err(Failure::unusable)?;
        ended
    }
}

fn flatten(joined: Result<Result<(), daemon::Failed>, tokio::task::JoinError>) -> Result<(), Failure> {
    match joined {
        Ok(result) => result.map_err(Failure::fault),
        Err(error) => Err(Failure::fault(format!("the daemon's loop failed: {error}"))),
    }
}

/// Settings of the page, and whether it could be served with them: before the day is taken up, not after.
fn site(config: &Config, data: &Path, local: &str) -> Result<web::Options, Failure> {
    let users = data.join(config.auth.users_path());
    let known = store::read(&users).map_err(Failure::unusable)?;
    if config.auth.users.is_some() && known.is_none_or(|all| all.is_empty()) {
        return Err(Failure::unusable(format!(
            "auth.users: there is nobody in {}; make a user with `openbell user add NAME --role operator`, with this --config and --data",
            users.display()
        )));
    }
    let auth = Settings {
        users,
        required: config.auth.users.is_some(),
        metrics_open: config.auth.metrics == MetricsAccess::Open,
        idle: SignedDuration::from_hours(config.auth.idle_hours.into()),
        longest: SignedDuration::from_hours(i64::from(config.auth.session_days) * 24),
        local: Some(local.to_owned()),
        clock: Clock::system(),
    };
    Ok(web::Options {
        public_url: config.public_url.clone(),
        base: config.base_path.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        auth: Some(auth),
    })
}

/// The address by which this machine reaches a listener on all its addresses.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let own: std::net::IpAddr = if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(own);
    }
    address
}

async fn listen(address: &str) -> Result<TcpListener, Failure> {
    let address: SocketAddr = address.parse().map_err(|e| Failure::usage(format!("{address}: {e}")))?;
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!(
                    "another program listens on port {}; choose another with --port, or --port 0 for a free one",
                    address.port()
                )
            }
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need root; choose a higher one with --port".to_owned(),
            _ => "choose another address with `listen` in the configuration".to_owned(),
        };
        Failure::unusable(format!("cannot listen on {address}: {error}; {remedy}"))
    })
}

/// The local socket for steps that run as processes. A socket left by a daemon that died is replaced: the
/// lock on the folder says that nobody else serves it.
fn serve_socket(data: &Path, backends: &Backends, stop: &CancellationToken) -> Result<(), Failure> {
    let path = data.join("openbell.sock");
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::unusable(format!("{}: {e}; remove it", path.display())));
        }
        _ => {}
    }
    let listener = tokio::net::UnixListener::bind(&path).map_err(|e| {
        Failure::unusable(format!(
            "cannot make the socket {}: {e}; a socket's path may have 107 bytes, choose a shorter --data",
            path.display()
        ))
    })?;
    tokio::spawn(backends::socket::serve(listener, backends.clone(), stop.clone()));
    Ok(())
}

fn step_environment(
    config: &Config,
    data: &Path,
    dags: &Path,
    clock: &Clock,
    stand_ins: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, Failure> {
    let json = |e: serde_json::Error| Failure::fault(e);
    let mut all = vec![
        (environment::DATA.to_owned(), data.display().to_string()),
        (environment::DAGS.to_owned(), dags.display().to_string()),
        (environment::CONFIG.to_owned(), serde_json::to_string(config).map_err(json)?),
    ];
    if !stand_ins.is_empty() {
        all.push((environment::STAND_INS.to_owned(), serde_json::to_string(stand_ins).map_err(json)?));
    }
    if let Some(file) = clock.file() {
        all.push((environment::CLOCK.to_owned(), file.display().to_string()));
    }
    Ok(all)
}

/// Runs built-in programs inside the daemon.
fn launcher(step_runtime: StepRuntime) -> Launch {
    Arc::new(move |spec: AttemptSpec, stop: CancellationToken, sink: Arc<dyn StatusSink>| {
        let step_runtime = step_runtime.clone();
        Box::pin(async move {
            let reporter = Arc::new(ToSink(sink));
            step_runtime
                .run(spec, stop, reporter)
                .await
                .map_err(|error| StepFailure { text: error.to_string(), result: error.result() })
        })
    })
}

struct ToSink(Arc<dyn StatusSink>);

impl Reporter for ToSink {
    fn status(&self, status: Status) {
        self.0.status(status);
    }
    fn line(&self, line: &str) {
        self.0.line(line);
    }
}

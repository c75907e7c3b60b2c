//! `openbell up` and `openbell down`.

use std::path::PathBuf;

use super::exit::{Exit, Failure};
use super::serve;
use super::target::DataFolder;
use clock::Clock;
use config::Config;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  openbell up                                  page on http://127.0.0.1:8650, data in ./data, DAGs in ./dags
  openbell up --data /var/lib/openbell --port 0

SIGTERM and Ctrl-C end the daemon; steps that are processes live on and are adopted at the next start.
`openbell down --drain` ends everything in order.")]
pub struct Arguments {
    /// Configuration file (YAML): addresses of the parts
    #[arg(long, env = "OPENBELL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// DAG folder
    #[arg(long, default_value = "dags", value_name = "DIR")]
    dags: PathBuf,
    #[command(flatten)]
    data: DataFolder,
    /// Port of page and API, instead of the configuration's; 0 takes a free one and prints it
    #[arg(long, value_name = "P")]
    port: Option<u16>,
    /// Executor of steps that name none: embedded, process or docker
    #[arg(long, value_name = "WHERE")]
    executor: Option<String>,
}

/// Carries out the command.
pub fn main(arguments: Arguments) -> super::exit::Result {
    let mut config = super::serve::configuration(arguments.config.as_deref())?;
    if let Some(executor) = arguments.executor {
        config.executor = executor;
    }
    if let Some(port) = arguments.port {
        let mut address: std::net::SocketAddr = config
            .listen
            .parse()
            .map_err(|_| Failure::usage(format!("listen: {} is not an address", config.listen)))?;
        address.set_port(port);
        config.listen = address.to_string();
    }
    more_files();
    let runtime = serve::runtime()?;
    let result = runtime.block_on(run(config, arguments.data.to_path_buf(), arguments.dags));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    result
}

/// Most open files that are asked for: connections, and what stores and steps hold.
const FILES: u64 = 8192;

/// Takes as many open files as the system allows, up to [`FILES`]: many systems begin with 1,024, which a
/// thousand live pages use up.
fn more_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = now.maximum.unwrap_or(FILES).min(FILES);
    if now.current.is_some_and(|current| current < wanted)
        && let Err(error) =
            setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: now.maximum })
    {
        tracing::warn!(%error, wanted, "cannot take more open files");
    }
}

async fn run(config: Config, data: PathBuf, dags: PathBuf) -> super::exit::Result {
    use tokio::signal::unix::{SignalKind, signal};
    let cannot = |e| Failure::unusable(format!("cannot listen for signals: {e}"));
    let (mut term, mut int) =
        (signal(SignalKind::terminate()).map_err(cannot)?, signal(SignalKind::interrupt()).map_err(cannot)?);
    let options = serve::Options {
        config,
        data,
        dags,
        clock: Clock::system(),
        only: None,
        stand_ins: Default::default(),
    };
    let mut daemon = serve::start(options).await?;
    println!("openbell is up: {}", daemon.url);
    let snapshot = daemon.handle.snapshot();
    for problem in &snapshot.problems {
        eprintln!("{}", problem.text);
    }
    for dag in &snapshot.dags {
        let next =
            dag.next.first().map_or("not scheduled".to_owned(), |w| format!("next window {}", w.open_at));
        println!("  {}: {}", dag.name, if dag.paused { "paused".to_owned() } else { next });
    }
    tokio::select! {
        ended = daemon.ended() => ended?,
        _ = term.recv() => println!("going down; process steps live on"),
        _ = int.recv() => println!("going down; process steps live on"),
    }
    daemon.stop().await?;
    Ok(Exit::Fine)
}

/// Arguments of `down`.
#[derive(Debug, clap::Args)]
pub struct DownArguments {
    #[command(flatten)]
    data: DataFolder,
    /// End every run first: collectors stop, sinks drain, teardown steps run
    #[arg(long)]
    drain: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Stops the daemon.
pub fn down(arguments: DownArguments) -> super::exit::Result {
    let runtime = serve::runtime()?;
    runtime.block_on(async {
        let client = super::client::Client::find(&arguments.data)?;
        let answer =
            client.post_json("/api/v1/down", &serde_json::json!({ "drain": arguments.drain })).await?;
        if !arguments.json {
            println!("{}", answer.get("message").and_then(serde_json::Value::as_str).unwrap_or("going down"));
        }
        let lock = arguments.data.join("openbell.lock");
        super::client::wait_unlocked(&lock).await?;
        if arguments.json {
            super::table::print_json(
                &serde_json::json!({ "down": true, "drained": arguments.drain, "said": answer["message"] }),
            )?;
        } else {
            println!("the daemon is down");
        }
        Ok(Exit::Fine)
    })
}

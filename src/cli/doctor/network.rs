//! A running daemon, the port, the feeds, Docker.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::super::client::{Client, read_note};
use super::Finding;
use backends::BackendError;
use backends::address::{self, Address, Part};
use backends::endpoint::Endpoint;
use config::Config;

/// Longest wait for a server, in real time.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for a server of a store, whose client tries more than once.
const SERVER_PATIENCE: Duration = Duration::from_secs(15);

/// Whether a daemon runs on the data folder; and its address.
pub(super) async fn daemon(data: &Path) -> (Finding, Option<String>) {
    const CHECK: &str = "daemon";
    let note = match read_note(data) {
        Ok(Some(note)) => note,
        Ok(None) => {
            return (
                Finding::ok(CHECK, format!("none runs on {}; openbell up starts one", data.display())),
                None,
            );
        }
        Err(failure) => {
            return (Finding::fail(CHECK, failure.message, "remove the file if no daemon runs"), None);
        }
    };
    let answers = match Client::at(&note.url) {
        Ok(client) => tokio::time::timeout(PATIENCE, client.get_pieces("/healthz", |_| Ok(())))
            .await
            .is_ok_and(|r| r.is_ok()),
        Err(_) => false,
    };
    if answers {
        return (Finding::ok(CHECK, format!("runs at {} (process {})", note.url, note.pid)), Some(note.url));
    }
    if Path::new("/proc").join(note.pid.to_string()).exists() {
        let message = format!("process {} should serve {}, which does not answer", note.pid, note.url);
        return (Finding::warn(CHECK, message, "look at its output; openbell down stops it"), None);
    }
    (
        Finding::ok(
            CHECK,
            format!(
                "the last one on {} is gone; openbell up starts one and adopts what it left",
                data.display()
            ),
        ),
        None,
    )
}

/// Whether the page's port is free, or taken by the daemon itself.
pub(super) fn port(listen: &str, running: Option<&str>) -> Finding {
    const CHECK: &str = "port";
    let address: SocketAddr = match listen.parse() {
        Ok(address) => address,
        Err(error) => {
            return Finding::fail(
                CHECK,
                format!("listen: \"{listen}\": {error}"),
                "write for example 127.0.0.1:8650",
            );
        }
    };
    if running == Some(format!("http://{}", super::super::serve::reachable(address)).as_str()) {
        return Finding::ok(CHECK, format!("{address} is the running daemon's"));
    }
    match std::net::TcpListener::bind(address) {
        Ok(_) => Finding::ok(CHECK, format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let who = holder(address.port()).map_or_else(
                || "another program".to_owned(),
                |(pid, name)| format!("{name} (process {pid})"),
            );
            let remedy = "stop it, or choose another port with --port (0 takes a free one)";
            Finding::fail(CHECK, format!("{address} is taken by {who}"), remedy)
        }
        Err(error) => Finding::fail(
            CHECK,
            format!("cannot listen on {address}: {error}"),
            "choose another address with listen in the configuration",
        ),
    }
}

/// The process that listens on a local port, as far as /proc tells this user.
fn holder(port: u16) -> Option<(u32, String)> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let socket =
        tables.iter().flat_map(|t| t.lines().skip(1)).find_map(|line| listening_inode(line, port))?;
    let target = PathBuf::from(format!("socket:[{socket}]"));
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        if files.flatten().any(|f| std::fs::read_link(f.path()).is_ok_and(|to| to == target)) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

/// The inode of a line of `/proc/net/tcp` (proc(5)), if the line is a listener on `port`.
fn listening_inode(line: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let fields: Vec<_> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let ours = u16::from_str_radix(local_port, 16).ok()? == port && *fields.get(3)? == LISTEN;
    fields.get(9).filter(|_| ours)?.parse().ok()
}

/// Host and port of a URL.
fn host_and_port(url: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let default = match scheme {
        "http" | "ws" => 80,
        "https" | "wss" => 443,
        _ => return None,
    };
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => Some((host, port.parse().ok()?)),
        _ => Some((authority, default)),
    }
    .filter(|(host, _)| !host.is_empty())
}

/// Whether a server of the feed takes connections. Only a warning: a laptop may well be offline.
pub(super) async fn endpoint(check: &str, url: &str) -> Finding {
    let check = check.to_owned();
    let Some((host, port)) = host_and_port(url) else {
        return Finding::fail(
            check,
            "the address is not a URL",
            "write it as in https://host:port, or leave it out of the configuration",
        );
    };
    let remedy = "look at the network and the firewall; a demo does not need it";
    match tokio::time::timeout(PATIENCE, TcpStream::connect((host.trim_matches(['[', ']']), port))).await {
        Ok(Ok(_)) => Finding::ok(check, format!("{host}:{port} takes connections")),
        Ok(Err(error)) => Finding::warn(check, format!("{host}:{port} cannot be reached: {error}"), remedy),
        Err(_) => {
            Finding::warn(check, format!("{host}:{port} did not answer in {} s", PATIENCE.as_secs()), remedy)
        }
    }
}

/// Whether the servers of the stores answer a question that needs the rights a day needs.
pub(super) async fn servers(config: &Config, data: &Path) -> Vec<Finding> {
    let asked = super::machine::parts(config).into_iter().filter_map(|(part, name, address)| {
        let Ok(Address::Server(endpoint)) = address::parse(part, address, data) else { return None };
        Some(async move {
            let answer = match tokio::time::timeout(SERVER_PATIENCE, ask(part, address, data)).await {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err(format!("{endpoint} did not answer in {} s", SERVER_PATIENCE.as_secs())),
            };
            match answer {
                Ok(()) => Finding::ok(name, format!("{endpoint} answers")),
                Err(error) => Finding::fail(name, error, stranger(&endpoint)),
            }
        })
    });
    futures_util::future::join_all(asked).await
}

/// What may be wrong with a server on this machine: somebody else may have its port.
fn stranger(endpoint: &Endpoint) -> String {
    let port = endpoint.port().ok().flatten();
    let here = matches!(endpoint.host(), "127.0.0.1" | "localhost" | "[::1]");
    match port.filter(|_| here).and_then(|port| Some((port, holder(port)?))) {
        Some((port, (pid, name))) => {
            format!(
                "port {port} of this machine belongs to {name} (process {pid}); is that the server you mean?"
            )
        }
        None => "start the server, or correct its address in the configuration".to_owned(),
    }
}

async fn ask(part: Part, address: &str, data: &Path) -> Result<(), BackendError> {
    let mut config = Config::default();
    let field = match part {
        Part::Log => &mut config.log,
        Part::Raw => &mut config.raw,
        Part::Index => &mut config.index,
        Part::Objects => &mut config.objects,
        Part::Mail => &mut config.mail,
    };
    address.clone_into(field);
    let stores = || address::open_beside_the_daemon(&config, &data.join("openbell.sock"), data);
    match part {
        Part::Log => stores()?.log.topics().await.map(drop),
        Part::Raw => stores()?.raw.ids("openbell-doctor", "", None, 1).await.map(drop),
        Part::Index => stores()?.index.indices("openbell-doctor").await.map(drop),
        Part::Objects => stores()?.objects.list("", None, 1).await.map(drop),
        Part::Mail => address::open_mail(&config, data)?.check().await,
    }
}

/// Whether the Docker Engine answers, and is a swarm's manager where steps run on a swarm.
pub(super) async fn docker(config: &Config) -> Finding {
    let from_environment = || std::env::var("DOCKER_HOST").unwrap_or_default();
    ping(&config.docker.host.clone().unwrap_or_else(from_environment), &config.executor).await
}

async fn ping(host: &str, executor: &str) -> Finding {
    const CHECK: &str = "Docker";
    let is_needed = matches!(executor, "docker" | "swarm");
    let trouble = |message: String| match is_needed {
        true => Finding::fail(
            CHECK,
            message,
            format!("executor: {executor} needs one; start it, or set docker.host to where one is"),
        ),
        false => Finding::warn(
            CHECK,
            message,
            "only steps with executor: docker, or with an image, need one; start it, or set DOCKER_HOST",
        ),
    };
    let path = match host {
        "" => "/var/run/docker.sock",
        other => match other.strip_prefix("unix://") {
            Some(path) => path,
            None => {
                return Finding::warn(
                    CHECK,
                    format!("the engine at {other} is not on this machine"),
                    "it is not looked at",
                );
            }
        },
    };
    let (request, missing) = if executor == "swarm" {
        ("/nodes", "is no manager of a swarm; write docker swarm init there, or set docker.host to a manager")
    } else {
        ("/_ping", "does not answer as an engine")
    };
    match tokio::time::timeout(PATIENCE, asked(path, request)).await {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.") && answer.contains(" 200 ") => {
            let what = if executor == "swarm" { "manages a swarm" } else { "answers" };
            Finding::ok(CHECK, format!("the engine at {path} {what}"))
        }
        Ok(Ok(answer)) => {
            let said = answer.lines().next().unwrap_or_default().trim_end();
            trouble(format!("the engine at {path} {missing}: \"{said}\""))
        }
        Ok(Err(error)) => trouble(format!("no engine at {path}: {error}")),
        Err(_) => trouble(format!("the engine at {path} did not answer in {} s", PATIENCE.as_secs())),
    }
}

/// One HTTP/1.0 request over a local socket; the engine closes the connection after its answer.
async fn asked(path: &str, request: &str) -> std::io::Result<String> {
    let mut socket = UnixStream::connect(path).await?;
    socket.write_all(format!("GET {request} HTTP/1.0\r\nHost: docker\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    socket.take(4096).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_taken_port_names_its_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let finding = port(&address, None);
        assert_eq!(finding.level, Level::Fail);
        assert!(finding.message.contains(&format!("process {}", std::process::id())), "{finding:?}");
        assert_eq!(port(&address, Some(&format!("http://{address}"))).level, Level::Ok);
        drop(listener);
        assert_eq!(port(&address, None).level, Level::Ok);
        assert_eq!(port("here", None).level, Level::Fail);
    }

    #[test]
    fn hosts_and_ports_are_found_in_urls() {
        assert_eq!(
            host_and_port("https://openapi.koreainvestment.com:9443"),
            Some(("openapi.koreainvestment.com", 9443))
        );
        assert_eq!(
            host_and_port("ws://ops.koreainvestment.com:21000/tryitout"),
            Some(("ops.koreainvestment.com", 21000))
        );
        assert_eq!(host_and_port("https://h/x?y=1:2"), Some(("h", 443)));
        assert_eq!(host_and_port("ws://[::1]:9/x"), Some(("[::1]", 9)));
        for bad in ["h:1", "https://", "ftp://h", "https://h:x"] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_feed_that_refuses_is_a_warning() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        assert_eq!(endpoint("feed", &url).await.level, Level::Ok);
        drop(listener);
        assert_eq!(endpoint("feed", &url).await.level, Level::Warn);
        assert_eq!(endpoint("feed", "nonsense").await.level, Level::Fail);
    }

    #[tokio::test]
    async fn an_engine_is_asked_over_its_socket() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("docker.sock");
        let host = format!("unix://{}", path.display());
        assert_eq!(ping(&host, "process").await.level, Level::Warn);
        let needed = ping(&host, "docker").await;
        assert!(needed.level == Level::Fail && needed.remedy.contains("docker.host"), "{needed:?}");
        let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
        let engine = tokio::spawn(async move {
            let mut requests = Vec::new();
            for answer in ["HTTP/1.0 200 OK\r\n\r\nOK", "HTTP/1.0 503 Service Unavailable\r\n\r\n{}"] {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                let mut request = [0; 256];
                let n = socket.read(&mut request).await.expect("a request");
                socket.write_all(answer.as_bytes()).await.expect("answered");
                requests.push(String::from_utf8_lossy(&request[..n]).into_owned());
            }
            requests
        });
        assert_eq!(ping(&host, "docker").await.level, Level::Ok);
        let alone = ping(&host, "swarm").await;
        assert!(alone.level == Level::Fail && alone.message.contains("no manager of a swarm"), "{alone:?}");
        let requests = engine.await.expect("no panic");
        assert!(
            requests[0].starts_with("GET /_ping HTTP/1.0\r\n")
                && requests[1].starts_with("GET /nodes HTTP/1.0\r\n")
        );
        assert_eq!(ping("tcp://elsewhere:2375", "docker").await.level, Level::Warn);
    }

    #[tokio::test]
    async fn a_daemon_is_found_or_said_to_be_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (none, _) = daemon(folder.path()).await;
        assert!(none.level == Level::Ok && none.message.starts_with("none runs"), "{none:?}");
        std::fs::write(
            folder.path().join("daemon.json"),
            "{\"url\": \"http://127.0.0.1:1\", \"pid\": 4194999}",
        )
        .expect("written");
        let (gone, url) = daemon(folder.path()).await;
        assert!(gone.message.contains("is gone") && url.is_none(), "{gone:?}");
    }
}

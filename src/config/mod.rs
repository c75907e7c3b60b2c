//! Floor 1: where the parts are. Everything has a default, so a laptop needs no file at all.

mod auth;
mod base;
mod docker;
mod variable;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use auth::{AuthSettings, MetricsAccess, Network};
pub use base::BasePath;
pub use docker::{DockerSettings, SwarmSettings};
pub use variable::{SECRETS_FOLDER, resolve, secret_empty, secret_not_set, secret_unreadable, variable};

pub use domain::dag::Pull;

/// Why a configuration file is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {message}")]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// What is wrong, with line and column where known, and what to write instead.
    pub message: String,
}

impl Config {
    /// Reads a configuration file's text.
    ///
    /// # Errors
    /// Unknown keys, wrong types (with line and column), an unknown executor, or an address to listen on that
    /// is not `HOST:PORT`, or that other machines reach while no users are named.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let refuse = |message: String| ConfigError { file: file.to_owned(), message };
        let config: Self = if text.trim().is_empty() {
            Self::default()
        } else {
            serde_saphyr::from_str(text).map_err(|e| refuse(e.to_string()))?
        };
        config.check().map_err(refuse)?;
        Ok(config)
    }

    /// The rules that types cannot say; also for values given on the command line.
    ///
    /// # Errors
    /// The first rule broken and what to write instead.
    pub fn check(&self) -> Result<(), String> {
        match self.executor.as_str() {
            "embedded" | "process" | "docker" => {}
            "swarm" => {
                let local = self.local_stores();
                if !local.is_empty() {
                    return Err(format!(
                        "executor: \"swarm\" runs steps on other machines, which cannot reach {}; write addresses of servers \
                         (log: kafka://…, raw: mongodb://…, index: https://…, objects: s3://…)",
                        local.join(", ")
                    ));
                }
            }
            other => {
                return Err(format!(
                    "executor: \"{other}\" is not an executor; write embedded, process, docker or swarm"
                ));
            }
        }
        self.docker.check()?;
        self.swarm.check()?;
        self.check_base()?;
        let address: std::net::SocketAddr = self.listen.parse().map_err(|_| {
            format!("listen: \"{}\" is not an address; write for example 127.0.0.1:8650", self.listen)
        })?;
        if !address.ip().is_loopback() && self.auth.users.is_none() {
            return Err(format!(
                "listen: {address} can be reached from other machines, and nobody would have to log in; make a user with \
                 `openbell user add NAME --role operator` and name the file they are in (auth: {{ users: file:users.json }}), or \
                 listen on 127.0.0.1"
            ));
        }
        self.auth.check()
    }
}

impl Config {
    /// Links in mails begin with the public address, so it has to lead to where the site is.
    fn check_base(&self) -> Result<(), String> {
        let (base, url) =
            (self.base_path.as_str(), self.public_url.as_deref().map(|url| url.trim_end_matches('/')));
        match url {
            Some(url) if !url.ends_with(base) => Err(format!(
                "public_url: \"{url}\" is not where the site is, since base_path is {base}; write {url}{base}, or another base_path"
            )),
            _ => Ok(()),
        }
    }

    /// The stores that only the daemon's own machine reaches, as they are written: `log: embedded:log`.
    pub fn local_stores(&self) -> Vec<String> {
        let all =
            [("log", &self.log), ("raw", &self.raw), ("index", &self.index), ("objects", &self.objects)];
        let local = all
            .into_iter()
            .filter(|(_, address)| ["embedded:", "file:"].iter().any(|kind| address.starts_with(kind)));
        local.map(|(name, address)| format!("{name}: {address}")).collect()
    }
}

/// Addresses and settings of a daemon. Relative paths are below its data folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the page and the API; port 0 takes a free one.
    pub listen: String,
    /// Log: `embedded:PATH`.
    pub log: String,
    /// Raw documents: `embedded:PATH`.
    pub raw: String,
    /// Search index: `embedded:PATH`.
    pub index: String,
    /// Objects: `file:PATH`.
    pub objects: String,
    /// Mail: `file:PATH`.
    pub mail: String,
    /// Sender of alerts.
    pub mail_from: String,
    /// Address of the page as people reach it, for links in mails; default `http://{listen}`.
    pub public_url: Option<String>,
    /// Path below which a reverse proxy shows the site (`/openbell`); default: the root.
    pub base_path: BasePath,
    /// Who may use the page and the API.
    pub auth: AuthSettings,
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<Network>,
    /// Executor of steps that name none: `embedded`, `process`, `docker` or `swarm` (commands without an
    /// image always run as processes).
    pub executor: String,
    /// The engine that runs containers, and what they are given.
    pub docker: DockerSettings,
    /// The swarm, whose manager is the engine of `docker`, and which gives containers the same.
    pub swarm: SwarmSettings,
    /// Where the feeds are.
    pub feeds: Feeds,
    /// Ended runs older than this are removed, with their output.
    pub keep_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8650".into(),
            log: "embedded:log".into(),
            raw: "embedded:raw".into(),
            index: "embedded:index".into(),
            objects: "file:objects".into(),
            mail: "file:outbox".into(),
            mail_from: "openbell@localhost".into(),
            public_url: None,
            base_path: BasePath::default(),
            auth: AuthSettings::default(),
            trusted_proxies: Vec::new(),
            executor: "embedded".into(),
            docker: DockerSettings::default(),
            swarm: SwarmSettings::default(),
            feeds: Feeds::default(),
            keep_days: 90,
        }
    }
}

/// Where the feeds are: name of the feed → key of the address → URL. What is not given is the feed's own
/// server. Which names and keys there are, the feeds know.
pub type Feeds = BTreeMap<String, BTreeMap<String, String>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("c.yaml", "").expect("fine"), Config::default());
    }

    #[test]
    fn faults_name_the_file_and_the_remedy() {
        let unknown = Config::parse("c.yaml", "lisen: 127.0.0.1:1\n").expect_err("unknown key").to_string();
        assert!(unknown.starts_with("c.yaml: ") && unknown.contains("lisen"), "{unknown}");
        let open = Config::parse("c.yaml", "listen: 0.0.0.0:8650\n").expect_err("not loopback").to_string();
        assert!(
            open.contains("openbell user add") && open.contains("auth: { users: file:users.json }"),
            "{open}"
        );
        assert!(Config::parse("c.yaml", "listen: 0.0.0.0:8650\nauth: { users: file:users.json }\n").is_ok());
        let proxy =
            Config::parse("c.yaml", "trusted_proxies: [nginx]\n").expect_err("no address").to_string();
        assert!(proxy.contains("10.0.0.0/8"), "{proxy}");
        let base = Config::parse("c.yaml", "base_path: openbell/\n").expect_err("no path").to_string();
        assert!(base.contains("base_path: \"openbell/\"") && base.contains("/openbell"), "{base}");
        let apart = "base_path: /openbell\npublic_url: https://ops.example.com/\n";
        let apart = Config::parse("c.yaml", apart).expect_err("mails would lead astray").to_string();
        assert!(apart.contains("write https://ops.example.com/openbell"), "{apart}");
        assert!(Config::parse("c.yaml", "base_path: /ob\npublic_url: https://ops.example.com/ob/\n").is_ok());
        let executor =
            Config::parse("c.yaml", "executor: threads\n").expect_err("unknown executor").to_string();
        assert!(executor.contains("embedded, process, docker or swarm"), "{executor}");
        let local = "executor: swarm\nlog: kafka://k:9092\nraw: mongodb://m/d\nindex: https://s:9200\n";
        let objects = Config::parse("c.yaml", local).expect_err("a folder of this machine").to_string();
        assert!(
            objects.contains("objects: file:objects")
                && objects.contains("s3://")
                && !objects.contains("mongodb://m"),
            "{objects}"
        );
        assert!(Config::parse("c.yaml", &format!("{local}objects: s3://b\n")).is_ok());
        let nodes = Config::parse("c.yaml", "swarm: { placement: [zone == a] }\n")
            .expect_err("no such attribute")
            .to_string();
        assert!(nodes.contains("swarm.placement") && nodes.contains("node.labels"), "{nodes}");
    }
}

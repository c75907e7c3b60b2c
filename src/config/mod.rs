//! Floor 1: where the parts are. Everything has a default, so a laptop needs no file at all.

use serde::{Deserialize, Serialize};

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
    /// Executor of steps that name none: `embedded` or `process` (commands always run as processes).
    pub executor: String,
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
            executor: "embedded".into(),
            feeds: Feeds::default(),
            keep_days: 90,
        }
    }
}

/// Where the feeds are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Feeds {
    /// Korea Investment & Securities.
    pub kis: Kis,
}

/// Addresses of KIS; the defaults are its real servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kis {
    /// REST base, for the approval key.
    pub rest: String,
    /// WebSocket address, path included.
    pub websocket: String,
}

impl Default for Kis {
    fn default() -> Self {
        Self {
            rest: "https://openapi.koreainvestment.com:9443".into(),
            websocket: "ws://ops.koreainvestment.com:21000/tryitout".into(),
        }
    }
}

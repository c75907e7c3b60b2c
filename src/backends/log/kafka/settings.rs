//! What an address says about a cluster, as settings of the client library.

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::endpoint::{Endpoint, EndpointError};
use crate::{BackendError, ErrorKind, Result};

/// Largest record, all parts together: as in the embedded log.
pub(super) const MAX_RECORD: usize = 15 << 20;
/// Largest request or batch, on both sides; a record and what is around it fit.
pub(super) const MAX_MESSAGE: usize = 16 << 20;
/// Longest wait for an answer of the cluster, in real time.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// A member that the cluster has not heard of for this long loses its partitions.
const SESSION: Duration = Duration::from_secs(10);
/// A member that has not been polled for this long loses its partitions.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// How long a member that was told of a loss may take until it polls again; less than [`POLL_INTERVAL`].
pub(super) const HAND_OVER: Duration = Duration::from_secs(20);

/// The parameters of a `kafka:` address besides those that every server has.
const PARAMETERS: [&str; 4] = ["security", "mechanism", "replication", "min_insync"];
const DEFAULT_PORT: u16 = 9092;

/// How connections are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Security {
    Plaintext,
    SaslPlaintext,
    Ssl,
    SaslSsl,
}

impl Security {
    fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::Ssl => "ssl",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    pub(super) fn signs_in(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    pub(super) fn encrypts(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

/// What an address says.
pub(super) struct Settings {
    /// For messages: `kafka host:port,…`.
    pub(super) place: String,
    /// Each with its port.
    pub(super) brokers: Vec<String>,
    pub(super) security: Security,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub(super) mechanism: String,
    /// Of topics created; the cluster's own default if there is none.
    pub(super) replication: Option<u32>,
    /// The same.
    pub(super) min_insync: Option<u32>,
    ca: Option<PathBuf>,
    endpoint: Endpoint,
}

/// Whether user, mechanism and certificate fit how the connection is secured; else what does not, and what to
/// write instead.
fn fits(endpoint: &Endpoint, security: Security, mechanism: &str) -> Result<(), (String, &'static str)> {
    if security.signs_in() && endpoint.user.is_none() {
        return Err((
            format!("security={} needs a user", security.name()),
            "add user=NAME&password=env:VARIABLE to the address",
        ));
    }
    if !security.signs_in() && endpoint.user.is_some() {
        return Err((
            format!("security={} does not sign in, but there is a user", security.name()),
            "write security=sasl_plaintext or security=sasl_ssl, or leave the user out",
        ));
    }
    let needs = match () {
        () if security.encrypts() => Some(format!("security={}", security.name())),
        () if security.signs_in() && mechanism != "PLAIN" => Some(format!("mechanism={mechanism}")),
        () => None,
    };
    if let Some(needs) = needs.filter(|_| !cfg!(feature = "kafka-tls")) {
        return Err((
            format!("{needs} is not part of this build"),
            "build openbell with `--features kafka-tls`, or use security=plaintext or sasl_plaintext with mechanism=PLAIN",
        ));
    }
    if endpoint.ca.is_some() && !security.encrypts() {
        return Err((
            "\"ca\" is there, but the connection is not encrypted".into(),
            "write security=ssl or security=sasl_ssl",
        ));
    }
    Ok(())
}

impl Settings {
    /// Reads an address; nobody is asked.
    ///
    /// # Errors
    /// `Rejected` with what to write instead.
    pub(super) fn read(endpoint: &Endpoint) -> Result<Self> {
        let place = format!("kafka {}", endpoint.hosts.join(","));
        let wrong = |e: EndpointError| BackendError::new(ErrorKind::Rejected, &place, e.to_string());
        let refuse = |message: String, remedy: &str| {
            Err(BackendError::new(ErrorKind::Rejected, &place, message).remedy(remedy))
        };
        endpoint.only(&PARAMETERS).map_err(wrong)?;
        if !endpoint.path.is_empty() {
            return refuse(
                format!("the address ends in \"/{}\"", endpoint.path),
                "leave it out: topics are named by the steps",
            );
        }
        let security = match endpoint.text("security").map(str::to_ascii_lowercase).as_deref() {
            None if endpoint.user.is_some() => Security::SaslPlaintext,
            None | Some("plaintext") => Security::Plaintext,
            Some("sasl_plaintext") => Security::SaslPlaintext,
            Some("ssl") => Security::Ssl,
            Some("sasl_ssl") => Security::SaslSsl,
            Some(_) => {
                return refuse(
                    "parameter \"security\" is unknown".into(),
                    "write plaintext, sasl_plaintext, ssl or sasl_ssl",
                );
            }
        };
        let mechanism = endpoint.text("mechanism").unwrap_or("PLAIN").to_ascii_uppercase();
        if !["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].contains(&mechanism.as_str()) {
            return refuse(
                "parameter \"mechanism\" is unknown".into(),
                "write PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
            );
        }
        if let Err((message, remedy)) = fits(endpoint, security, &mechanism) {
            return refuse(message, remedy);
        }
        let number = |name: &str| match endpoint.text(name) {
            None => Ok(None),
            Some(_) => endpoint.number(name, 1).map(Some).map_err(wrong),
        };
        let (replication, min_insync) = (number("replication")?, number("min_insync")?);
        if let (Some(replication), Some(least)) = (replication, min_insync)
            && least > replication
        {
            return refuse(
                format!("min_insync={least} is more than replication={replication}"),
                "nothing could be written then",
            );
        }
        let brokers = endpoint.hosts.iter().map(|host| with_port(host)).collect();
        Ok(Self {
            brokers,
            security,
            mechanism,
            replication,
            min_insync,
            ca: endpoint.ca.clone(),
            endpoint: endpoint.clone(),
            place,
        })
    }

    /// Who signs in, with what; read anew each time, so that a changed password is found.
    ///
    /// # Errors
    /// `Forbidden` when the password cannot be read.
    pub(super) fn credentials(&self) -> Result<Option<(String, String)>> {
        let Some(user) = &self.endpoint.user else { return Ok(None) };
        let password = self
            .endpoint
            .password()
            .map_err(|e| BackendError::new(ErrorKind::Forbidden, &self.place, e.to_string()))?;
        match password {
            Some(password) => Ok(Some((user.clone(), password))),
            None => {
                Err(BackendError::new(ErrorKind::Forbidden, &self.place, "there is a user, but no password")
                    .remedy("add password=env:VARIABLE or password=file:PATH to the address"))
            }
        }
    }

    fn common(&self) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", "openbell")
            .set("security.protocol", self.security.name())
            .set("allow.auto.create.topics", "false")
            .set("enable.metrics.push", "false")
            .set("socket.timeout.ms", PATIENCE.as_millis().to_string())
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "1000")
            .set("log.connection.close", "false")
            .set_log_level(RDKafkaLogLevel::Warning);
        if let Some((user, password)) = self.credentials()? {
            config
                .set("sasl.mechanism", &self.mechanism)
                .set("sasl.username", user)
                .set("sasl.password", password);
        }
        if let Some(ca) = &self.ca {
            config.set("ssl.ca.location", ca.to_string_lossy());
        }
        Ok(config)
    }

    /// For questions about the cluster and its topics.
    pub(super) fn asking(&self) -> Result<ClientConfig> {
        self.common()
    }

    /// For appends. Messages never expire by themselves: a message that did while a later one went through
    /// would leave a gap that no look at the tail can find. Whoever appends ends the whole producer instead.
    pub(super) fn producing(&self) -> Result<ClientConfig> {
        let mut config = self.common()?;
        config
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("max.in.flight.requests.per.connection", "1")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("request.timeout.ms", "5000")
            .set("linger.ms", "1")
            .set("compression.type", "lz4")
            .set("message.max.bytes", MAX_MESSAGE.to_string())
            .set("queue.buffering.max.kbytes", (64 << 10).to_string())
            .set("topic.metadata.propagation.max.ms", "3000");
        Ok(config)
    }

    fn fetching(&self, group: &str) -> Result<ClientConfig> {
        let mut config = self.common()?;
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("check.crcs", "true")
            .set("fetch.max.bytes", MAX_MESSAGE.to_string())
            .set("message.max.bytes", MAX_MESSAGE.to_string())
            .set("receive.message.max.bytes", (4 * MAX_MESSAGE).to_string())
            .set("queued.max.messages.kbytes", (16 << 10).to_string())
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.queue.backoff.ms", "50");
        Ok(config)
    }

    /// For reading without a group. The client library wants a group's name all the same; nobody joins it.
    pub(super) fn reading(&self) -> Result<ClientConfig> {
        let mut config = self.fetching("openbell-reader")?;
        // A fetch that waits at the end of a partition would hold up the next read.
        config.set("fetch.wait.max.ms", "10").set("enable.partition.eof", "true");
        Ok(config)
    }

    /// For a member of a group. Partitions that a member keeps are never interrupted: cooperative hand-over.
    /// A name is Kafka's `group.instance.id`: whoever joins under it is given the assignment of the member
    /// before, without a hand-over.
    pub(super) fn joining(&self, group: &str, name: Option<&str>) -> Result<ClientConfig> {
        let mut config = self.fetching(group)?;
        if let Some(name) = name {
            config.set("group.instance.id", name);
        }
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", SESSION.as_millis().to_string())
            .set("heartbeat.interval.ms", "1000")
            .set("max.poll.interval.ms", POLL_INTERVAL.as_millis().to_string())
            // How soon a topic that somebody just made is seen.
            .set("topic.metadata.refresh.interval.ms", "2000");
        Ok(config)
    }
}

fn with_port(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((_, port)) if !port.contains(']') => host.to_owned(),
        _ => format!("{host}:{DEFAULT_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings> {
        Settings::read(&Endpoint::parse(text).expect("an address"))
    }

    #[test]
    fn an_address_becomes_settings() {
        let plain = read("kafka://a,b:9093").expect("fine");
        assert_eq!(plain.brokers, ["a:9092", "b:9093"]);
        assert_eq!((plain.security, plain.replication, plain.min_insync), (Security::Plaintext, None, None));
        let (unnamed, named) =
            (plain.joining("g", None).expect("fine"), plain.joining("g", Some("n")).expect("fine"));
        assert_eq!((unnamed.get("group.id"), unnamed.get("group.instance.id")), (Some("g"), None));
        assert_eq!((named.get("group.id"), named.get("group.instance.id")), (Some("g"), Some("n")));
        let signed = read("kafka://a?user=u&password=p&replication=3&min_insync=2").expect("fine");
        assert_eq!(
            (signed.security, signed.replication, signed.min_insync),
            (Security::SaslPlaintext, Some(3), Some(2))
        );
        assert_eq!(signed.producing().expect("fine").get("sasl.password"), Some("p"));
        assert_eq!(read("kafka://[::1]").expect("fine").brokers, ["[::1]:9092"]);
    }

    #[test]
    fn faults_are_named_with_a_remedy() {
        for (address, word) in [
            ("kafka://a/topic", "topic"),
            ("kafka://a?acks=1", "acks"),
            ("kafka://a?security=tls", "security"),
            ("kafka://a?user=u&password=p&mechanism=GSSAPI", "mechanism"),
            ("kafka://a?security=sasl_plaintext", "user"),
            ("kafka://a?security=plaintext&user=u&password=p", "user"),
            ("kafka://a?replication=0", "replication"),
            ("kafka://a?replication=1&min_insync=2", "min_insync"),
            ("kafka://a?ca=/x", "ca"),
        ] {
            let error = read(address).err().unwrap_or_else(|| panic!("{address} was taken"));
            assert_eq!(error.kind, ErrorKind::Rejected);
            assert!(error.to_string().contains(word), "{address}: {error}");
        }
        let missing = read("kafka://a?user=u").expect("fine so far").producing().expect_err("no password");
        assert_eq!(missing.kind, ErrorKind::Forbidden);
    }

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn what_this_build_lacks_is_said() {
        for address in ["kafka://a?security=ssl", "kafka://a?user=u&password=p&mechanism=SCRAM-SHA-256"] {
            let error = read(address).err().unwrap_or_else(|| panic!("{address} was taken"));
            assert!(error.remedy.contains("kafka-tls"), "{error}");
        }
    }
}

//! Mail through an SMTP server: `smtp://[user@]host[:port]?tls=starttls|none|implicit` or `smtps://…`.
//!
//! | address | connection | port by default |
//! |---|---|---|
//! | `smtps://`, or `tls=implicit` | encrypted from the start | 465 |
//! | `smtp://`, or `tls=starttls` | encrypted by STARTTLS, or no mail at all | 587 |
//! | `smtp://` to this machine, or `tls=none` | in clear; a password is sent so to this machine alone | 25 |
//!
//! Nobody waits for another's mailbox: who was refused for good is told in the log while the others get the
//! mail, and who has it already does not get it again when the rest is repeated (as long as this process
//! lives; the Message-ID tells repeats later).

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use lettre::Address;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use parking_lot::{Mutex, MutexGuard};

use super::{Mail, Message, letter};
use crate::endpoint::Endpoint;
use crate::remote::{Limits, authorities, causes, remedy, start_of, unusable, within};
use crate::{BackendError, ErrorKind, Result};

/// To sign in, when nothing is sent.
const ANSWER: Duration = Duration::from_secs(10);
/// To say good-bye after the mail was taken.
const QUIT: Duration = Duration::from_secs(2);
/// Half-delivered mails that are remembered.
const REMEMBERED: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    None,
    Starttls,
    Implicit,
}

/// See the module.
pub struct SmtpMail {
    place: String,
    endpoint: Endpoint,
    host: String,
    port: u16,
    tls: Tls,
    parameters: Option<TlsParameters>,
    hello: ClientId,
    limits: Limits,
    /// Message key → who has it, of mails that some have not.
    delivered: Mutex<HashMap<String, BTreeSet<Address>>>,
}

impl SmtpMail {
    /// Prepares the client; nothing is sent before the first mail.
    ///
    /// # Errors
    /// `Rejected` for an address that cannot be used, or that would send a password in clear; `Forbidden`
    /// when the reference to the password leads nowhere.
    pub fn connect(endpoint: &Endpoint) -> Result<Self> {
        let place = format!("mail {endpoint}");
        let wrong = |why: String| {
            BackendError::new(ErrorKind::Rejected, &place, why)
                .remedy("write smtps://HOST or smtp://HOST?tls=starttls")
        };
        endpoint.only(&["tls", "hello"]).map_err(|e| unusable(&place, &e))?;
        if endpoint.hosts.len() > 1 || !endpoint.path.is_empty() {
            return Err(wrong("a mail address names one host and nothing after it".into()));
        }
        let host = endpoint.host().trim_matches(['[', ']']).to_owned();
        let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let tls = match (endpoint.text("tls"), endpoint.scheme.as_str()) {
            (None | Some("implicit"), "smtps") | (Some("implicit"), _) => Tls::Implicit,
            (Some(_), "smtps") => {
                return Err(wrong("smtps:// is encrypted from the start and takes no other tls".into()));
            }
            (Some("starttls"), _) => Tls::Starttls,
            (Some("none"), _) => Tls::None,
            (None, _) if here => Tls::None,
            (None, _) => Tls::Starttls,
            (Some(_), _) => return Err(wrong("tls is none, starttls or implicit".into())),
        };
        let secret = endpoint.password().map_err(|e| unusable(&place, &e))?;
        if endpoint.user.is_some() && secret.is_none() {
            return Err(wrong("the user has no password".into())
                .remedy("write password=env:NAME or password=file:PATH"));
        }
        if secret.is_some() && tls == Tls::None && !here {
            return Err(wrong("a password would be sent in clear over the network".into()));
        }
        let port = endpoint.port().map_err(|e| unusable(&place, &e))?.unwrap_or(match tls {
            Tls::None => 25,
            Tls::Starttls => 587,
            Tls::Implicit => 465,
        });
        let parameters = if tls == Tls::None {
            None
        } else {
            let mut builder = TlsParameters::builder(host.clone());
            if let Some(pem) = authorities(&place, endpoint)? {
                builder =
                    builder.add_root_certificate(Certificate::from_pem(&pem).map_err(|e| wrong(causes(&e)))?);
            }
            Some(builder.build().map_err(|e| wrong(causes(&e)))?)
        };
        let hello =
            endpoint.text("hello").map_or_else(ClientId::default, |name| ClientId::Domain(name.to_owned()));
        Ok(Self {
            place,
            endpoint: endpoint.clone(),
            host,
            port,
            tls,
            parameters,
            hello,
            limits: Limits::USUAL,
            delivered: Mutex::default(),
        })
    }

    /// An open, encrypted where asked for, signed-in connection.
    async fn open(&self) -> Result<AsyncSmtpConnection> {
        let at_once = if self.tls == Tls::Implicit { self.parameters.clone() } else { None };
        let address = (self.host.as_str(), self.port);
        let opened = AsyncSmtpConnection::connect_tokio1(
            address,
            Some(self.limits.connect),
            &self.hello,
            at_once,
            None,
        )
        .await;
        let mut connection = opened.map_err(|e| self.fail(&e))?;
        if self.tls == Tls::Starttls
            && let Some(parameters) = self.parameters.clone()
        {
            if !connection.can_starttls() {
                connection.abort().await;
                return Err(BackendError::new(
                    ErrorKind::Rejected,
                    &self.place,
                    "the server does not offer STARTTLS",
                )
                .remedy("use smtps://HOST; only in a network that you trust, tls=none"));
            }
            connection.starttls(parameters, &self.hello).await.map_err(|e| self.fail(&e))?;
        }
        // Read anew for every mail, so that a changed password is found.
        let secret = self.endpoint.password().map_err(|e| unusable(&self.place, &e))?;
        if let (Some(user), Some(secret)) = (&self.endpoint.user, secret) {
            let credentials = Credentials::new(user.clone(), secret);
            if let Err(error) = connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await {
                connection.abort().await;
                let refused = error.is_permanent() || error.is_client();
                let error = self.fail(&error);
                let remedy = "check user and password of the mail address";
                return Err(if refused {
                    BackendError { kind: ErrorKind::Forbidden, ..error }.remedy(remedy)
                } else {
                    error
                });
            }
        }
        Ok(connection)
    }

    /// One mail to those who do not have it yet.
    async fn deliver(&self, key: &str, envelope: &Envelope, bytes: &[u8]) -> Result<()> {
        let had = self.remembered().get(key).cloned().unwrap_or_default();
        let to: Vec<_> = envelope.to().iter().filter(|to| !had.contains(*to)).collect();
        let mut connection = self.open().await?;
        let mut options = Vec::new();
        let addresses = envelope.from().into_iter().chain(envelope.to());
        if !addresses.map(AsRef::<str>::as_ref).all(str::is_ascii) {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                connection.abort().await;
                return Err(BackendError::new(
                    ErrorKind::Rejected,
                    &self.place,
                    "the server takes ASCII addresses only",
                )
                .remedy("use addresses in ASCII (mail_from, alerts.email)"));
            }
            options.push(MailParameter::SmtpUtfEight);
        }
        connection
            .command(MailFrom::new(envelope.from().cloned(), options))
            .await
            .map_err(|e| self.fail(&e))?;
        let mut taken = BTreeSet::new();
        let mut refused = Vec::new();
        let mut later = Vec::new();
        for to in to {
            match connection.command(Rcpt::new(to.clone(), vec![])).await {
                Ok(_) => {
                    taken.insert(to.clone());
                }
                Err(error) if error.is_permanent() => refused.push((to.clone(), self.fail(&error))),
                Err(error) if error.is_transient() => later.push((to.clone(), self.fail(&error))),
                Err(error) => return Err(self.fail(&error)),
            }
        }
        let told = |(to, error): &(Address, BackendError)| BackendError {
            message: format!("recipient {to}: {}", error.message),
            ..error.clone()
        };
        if taken.is_empty() {
            connection.abort().await;
            return match (later.first(), refused.first()) {
                (Some(one), _) => Err(told(one)),
                // The others have it.
                (None, Some(_)) if !had.is_empty() => self.done(key, &refused),
                (None, Some(one)) => Err(told(one).remedy("correct alerts.email")),
                (None, None) => Ok(()),
            };
        }
        connection.command(Data).await.map_err(|e| self.fail(&e))?;
        connection.message(bytes).await.map_err(|e| self.fail(&e))?;
        // The mail is theirs now; a server that is slow to part changes nothing.
        let _ = tokio::time::timeout(QUIT, connection.abort()).await;
        let Some(one) = later.first() else { return self.done(key, &refused) };
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.entry(key.to_owned()).or_default().extend(taken);
        Err(told(one))
    }

    fn done(&self, key: &str, refused: &[(Address, BackendError)]) -> Result<()> {
        for (to, error) in refused {
            tracing::error!(%error, recipient = %to, mail.key = key, "one recipient will not get this mail; the others did. Correct alerts.email");
        }
        self.remembered().remove(key);
        Ok(())
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<String, BTreeSet<Address>>> {
        self.delivered.lock()
    }

    fn fail(&self, error: &lettre::transport::smtp::Error) -> BackendError {
        let message = start_of(&causes(error), 400);
        let (kind, remedy) = match error.status().map(u16::from) {
            Some(530 | 534 | 535 | 538) => {
                (ErrorKind::Forbidden, "check user and password of the mail address")
            }
            Some(500..=599) => (ErrorKind::Rejected, ""),
            Some(_) => (ErrorKind::Busy, ""),
            None => (ErrorKind::Unavailable, remedy(&message)),
        };
        BackendError::new(kind, &self.place, message).remedy(remedy)
    }
}

#[async_trait]
impl Mail for SmtpMail {
    async fn send(&self, message: &Message) -> Result<()> {
        let letter = letter::build(&self.place, message)?;
        let bytes = letter.formatted();
        within(self.limits.work, &self.place, self.deliver(&message.key, letter.envelope(), &bytes)).await
    }

    async fn check(&self) -> Result<()> {
        within(ANSWER, &self.place, async {
            let mut connection = self.open().await?;
            let _ = tokio::time::timeout(QUIT, connection.abort()).await;
            Ok(())
        })
        .await
    }
}

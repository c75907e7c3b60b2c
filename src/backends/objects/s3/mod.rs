//! Objects in S3 or a server that speaks its protocol:
//! `s3://bucket[/prefix]?endpoint=http://host:9000&region=…&path_style=true`.
//!
//! `user` and `password` are the access key and its secret; without them the environment's
//! `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` are taken. A key is written by one
//! conditional request (`If-None-Match: *`); the client repeats nothing by itself, so that an answer is about
//! the request it was given to.

#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::{Metadata, Objects, Put, key};
use crate::endpoint::Endpoint;
use crate::remote::{Limits, authorities, causes, remedy, start_of, unusable, within};
use crate::{BackendError, ErrorKind, Result};

/// Bytes for which the time for an object is given once more.
const BODY_PART: usize = 16 << 20;
/// Keys of one listing: the protocol's limit.
const PAGE: usize = 1_000;
/// What cannot stand in a header, and the sign that marks it.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// See the module.
pub struct S3Objects {
    place: String,
    endpoint: Endpoint,
    bucket: String,
    /// Before every key: empty, or ending with '/'.
    root: String,
    http: SharedHttpClient,
    limits: Limits,
    /// Made by the first call, and made anew when the server refuses the key, which may have been changed.
    client: Mutex<Option<Client>>,
}

impl S3Objects {
    /// Prepares the client; nothing is sent before the first call.
    ///
    /// # Errors
    /// `Rejected` for an address that cannot be used, `Forbidden` when there are no credentials.
    pub fn connect(endpoint: &Endpoint) -> Result<Self> {
        let place = format!("objects {endpoint}");
        let wrong = |why: &str| {
            BackendError::new(ErrorKind::Rejected, &place, why)
                .remedy("write s3://BUCKET/PREFIX?region=REGION, and endpoint=http://HOST:PORT for a server other than Amazon's")
        };
        endpoint.only(&["endpoint", "region", "path_style"]).map_err(|e| unusable(&place, &e))?;
        let [bucket] = endpoint.hosts.as_slice() else { return Err(wrong("an address names one bucket")) };
        if bucket.contains(':') {
            return Err(wrong("a bucket has no port"));
        }
        let server = endpoint.text("endpoint");
        if server.is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            return Err(wrong("the endpoint is not an http:// or https:// address"));
        }
        let mut trusted = TrustStore::empty();
        if let Some(pem) = authorities(&place, endpoint)? {
            trusted.add_pem_certificate(pem);
        } else if !server.is_some_and(|url| url.starts_with("http://")) {
            trusted = trusted.with_native_roots(true);
        }
        let tls = TlsContext::builder().with_trust_store(trusted).build().map_err(|e| wrong(&causes(&e)))?;
        let http =
            Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls).build_https();
        let root = match endpoint.path.trim_matches('/') {
            "" => String::new(),
            path => format!("{path}/"),
        };
        let objects = Self {
            bucket: bucket.clone(),
            place,
            endpoint: endpoint.clone(),
            root,
            http,
            limits: Limits::USUAL,
            client: Mutex::default(),
        };
        objects.client()?;
        Ok(objects)
    }

    fn client(&self) -> Result<Client> {
        let mut held = self.client.lock();
        if let Some(client) = held.as_ref() {
            return Ok(client.clone());
        }
        let server = self.endpoint.text("endpoint");
        let region =
            self.endpoint.text("region").map(str::to_owned).or_else(|| std::env::var("AWS_REGION").ok());
        let mut config = Config::builder()
            .region(Region::new(region.unwrap_or_else(|| "us-east-1".into())))
            .credentials_provider(self.credentials()?)
            .http_client(self.http.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(self.limits.connect).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // The newer checksums travel as trailers, which other servers than Amazon's do not all
            // understand.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .force_path_style(
                self.endpoint
                    .switch("path_style", server.is_some())
                    .map_err(|e| unusable(&self.place, &e))?,
            );
        if let Some(server) = server {
            config = config.endpoint_url(server);
        }
        let client = Client::from_conf(config.build());
        *held = Some(client.clone());
        Ok(client)
    }

    fn credentials(&self) -> Result<Credentials> {
        let missing = |what: &str| {
            BackendError::new(ErrorKind::Forbidden, &self.place, format!("{what} is missing")).remedy(
                "write user=ACCESSKEY&password=env:NAME into the address, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
        };
        let of_environment = |name: &str| config::variable(name).filter(|value| !value.is_empty());
        let (key, secret, token) = match &self.endpoint.user {
            Some(key) => {
                let secret = self.endpoint.password().map_err(|e| unusable(&self.place, &e))?;
                (key.clone(), secret.ok_or_else(|| missing("the password of the access key"))?, None)
            }
            None => (
                of_environment("AWS_ACCESS_KEY_ID").ok_or_else(|| missing("an access key"))?,
                of_environment("AWS_SECRET_ACCESS_KEY")
                    .ok_or_else(|| missing("the secret of the access key"))?,
                of_environment("AWS_SESSION_TOKEN"),
            ),
        };
        Ok(Credentials::new(key, secret, token, None, "openbell"))
    }

    /// The key in the bucket.
    fn key(&self, key: &str) -> Result<String> {
        key::check(&self.place, key)?;
        let full = format!("{}{key}", self.root);
        if full.len() > 1024 {
            let message =
                format!("\"{key}\" is not a usable key: with its prefix, it is longer than 1024 bytes");
            return Err(BackendError::new(ErrorKind::Rejected, &self.place, message)
                .remedy("use a shorter prefix in the objects address"));
        }
        Ok(full)
    }

    /// Time for a body of so many bytes.
    fn body_limit(&self, bytes: usize) -> Duration {
        self.limits.work.saturating_mul(u32::try_from(1 + bytes / BODY_PART).unwrap_or(u32::MAX))
    }

    fn place_of(&self, key: &str) -> String {
        format!("{} key {key}", self.place)
    }

    fn fail<E>(&self, place: &str, error: SdkError<E, HttpResponse>) -> BackendError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|r| r.status().as_u16());
        let code = error.code().unwrap_or_default().to_owned();
        let message = match error.message() {
            Some(message) => format!("status {}, {code}: {message}", status.unwrap_or_default()),
            None => causes(&error),
        };
        let (kind, remedy) = match (&error, status, code.as_str()) {
            (_, _, "NoSuchBucket") => {
                (ErrorKind::NotFound, "create the bucket, or correct its name in the objects address")
            }
            (
                _,
                _,
                "SlowDown"
                | "RequestLimitExceeded"
                | "ServiceUnavailable"
                | "ConditionalRequestConflict"
                | "OperationAborted",
            )
            | (_, Some(409 | 429 | 503), _) => (ErrorKind::Busy, ""),
            (_, _, "QuotaExceeded" | "XMinioStorageFull" | "InsufficientCapacity") | (_, Some(507), _) => {
                (ErrorKind::Full, "give the store more room")
            }
            (_, _, "RequestTimeTooSkewed") => (ErrorKind::Forbidden, "set this machine's clock"),
            (_, Some(401 | 403), _) | (_, _, "ExpiredToken") => (
                ErrorKind::Forbidden,
                "check the access key and its secret, and that they may get, put and list in the bucket",
            ),
            (_, _, "RequestTimeout") | (_, Some(408), _) => (ErrorKind::Unavailable, ""),
            (_, Some(301 | 307), _) => {
                (ErrorKind::Rejected, "name the bucket's region in the objects address (region=…)")
            }
            (_, Some(404), _) => (ErrorKind::NotFound, ""),
            (_, Some(400..=499), _) | (SdkError::ConstructionFailure(_), ..) => (ErrorKind::Rejected, ""),
            _ => (ErrorKind::Unavailable, remedy(&message)),
        };
        if kind == ErrorKind::Forbidden {
            *self.client.lock() = None;
        }
        BackendError::new(kind, place, start_of(&message, 400)).remedy(remedy)
    }
}

/// Whether an error is the answer "there is no such object".
fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let status = error.raw_response().map(|r| r.status().as_u16());
    // The answer to HEAD has no body, and so no code.
    status == Some(404) && matches!(error.code(), None | Some("NoSuchKey" | "NotFound"))
}

#[async_trait]
impl Objects for S3Objects {
    async fn put_if_absent(&self, key: &str, body: Vec<u8>, metadata: &Metadata) -> Result<Put> {
        let (full, place) = (self.key(key)?, self.place_of(key));
        let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let mut request = self.client()?.put_object().bucket(&self.bucket).key(full).if_none_match("*");
        for (name, value) in metadata {
            request = request.metadata(name, escaped(value));
        }
        let limit = self.body_limit(body.len());
        within(limit, &place, async {
            match request.body(ByteStream::from(body)).send().await {
                Ok(_) => Ok(Put::Created),
                Err(error) if error.raw_response().is_some_and(|r| r.status().as_u16() == 412) => {
                    Ok(Put::Exists)
                }
                Err(error) => Err(self.fail(&place, error)),
            }
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<Option<Metadata>> {
        let (full, place) = (self.key(key)?, self.place_of(key));
        let request = self.client()?.head_object().bucket(&self.bucket).key(full);
        within(self.limits.answer, &place, async {
            match request.send().await {
                Ok(head) => Ok(Some(read_metadata(head.metadata.unwrap_or_default()))),
                Err(error) if is_missing(&error) => Ok(None),
                Err(error) => Err(self.fail(&place, error)),
            }
        })
        .await
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let (full, place) = (self.key(key)?, self.place_of(key));
        let request = self.client()?.get_object().bucket(&self.bucket).key(full);
        let found = within(self.limits.answer, &place, async {
            match request.send().await {
                Ok(found) => Ok(Some(found)),
                Err(error) if is_missing(&error) => Ok(None),
                Err(error) => Err(self.fail(&place, error)),
            }
        });
        let Some(found) = found.await? else { return Ok(None) };
        let promised = found.content_length.and_then(|n| usize::try_from(n).ok());
        within(self.body_limit(promised.unwrap_or_default()), &place, async {
            let broken = |why: String| BackendError::new(ErrorKind::Unavailable, &place, why);
            let body = found.body.collect().await.map_err(|e| broken(causes(&e)))?.to_vec();
            match promised {
                Some(promised) if promised != body.len() => {
                    Err(broken(format!("{} bytes came of {promised}", body.len())))
                }
                _ => Ok(Some(body)),
            }
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let place = format!("{} prefix {prefix}", self.place);
        let client = self.client()?;
        let mut keys: Vec<String> = Vec::new();
        while keys.len() < limit {
            let size = PAGE.min(limit - keys.len());
            let mut request = client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(format!("{}{prefix}", self.root))
                .max_keys(i32::try_from(size).unwrap_or(1_000));
            // Servers treat a page's end and a given start alike, and every page is bounded by itself.
            if let Some(after) = keys.last().map(String::as_str).or(after) {
                request = request.start_after(format!("{}{after}", self.root));
            }
            let found = within(self.limits.answer, &place, async {
                request.send().await.map_err(|e| self.fail(&place, e))
            })
            .await?;
            let before = keys.len();
            let named = found.contents.unwrap_or_default().into_iter().filter_map(|object| object.key);
            keys.extend(named.filter_map(|key| key.strip_prefix(&self.root).map(str::to_owned)));
            if keys.len() == before || found.is_truncated != Some(true) {
                break;
            }
        }
        keys.truncate(limit);
        Ok(keys)
    }
}

/// Names in lower case, values as they were given to `put_if_absent`.
fn read_metadata(headers: std::collections::HashMap<String, String>) -> Metadata {
    let plain = |value: String| {
        percent_decode_str(&value).decode_utf8().map(|v| v.into_owned()).unwrap_or(value.clone())
    };
    headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), plain(value))).collect()
}

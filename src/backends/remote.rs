//! What the clients of servers have in common: bounded time, authorities of TLS, texts of errors.

use std::error::Error;
use std::time::Duration;

use super::endpoint::{Endpoint, EndpointError};
use super::{BackendError, ErrorKind, Result};

#[cfg(test)]
pub(super) mod fake;

/// An address whose parameters or secrets cannot be used.
pub(super) fn unusable(place: &str, error: &EndpointError) -> BackendError {
    let kind = if matches!(error, EndpointError::Secret { .. }) {
        ErrorKind::Forbidden
    } else {
        ErrorKind::Rejected
    };
    BackendError::new(kind, place, error.to_string()).remedy("correct the address in the configuration")
}

/// How long a server is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// To reach it.
    pub connect: Duration,
    /// For an answer.
    pub answer: Duration,
    /// For what takes longer than an answer: many documents, a whole object, a whole mail.
    pub work: Duration,
}

impl Limits {
    /// 5 s, 10 s, 30 s.
    pub const USUAL: Self = Self {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(10),
        work: Duration::from_secs(30),
    };

    /// Limits for tests that wait for them to pass.
    #[cfg(test)]
    pub const SHORT: Self = Self {
        connect: Duration::from_millis(100),
        answer: Duration::from_millis(200),
        work: Duration::from_millis(200),
    };
}

/// Waits for a server at most this long: one that is frozen keeps its connections and never answers.
pub(super) async fn within<T>(
    limit: Duration,
    place: &str,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        let message = format!("no answer within {limit:?}; the call may or may not have happened");
        Err(BackendError::new(ErrorKind::Unavailable, place, message)
            .remedy("look whether the server is up and reachable"))
    })
}

/// The certificates (PEM) of the address's own authority, read and checked.
pub(super) fn authorities(place: &str, endpoint: &Endpoint) -> Result<Option<Vec<u8>>> {
    let Some(path) = &endpoint.ca else { return Ok(None) };
    let broken = |why: String| {
        BackendError::new(ErrorKind::Rejected, place, format!("ca file {}: {why}", path.display()))
            .remedy("name a file with the authority's certificates in PEM form")
    };
    let pem = std::fs::read(path).map_err(|e| broken(e.to_string()))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| broken(causes(&e)))?;
    if certificates.is_empty() {
        return Err(broken("it holds no certificate".into()));
    }
    // Not every client says what is wrong with a certificate; some give up on it: this one says so, before
    // them.
    let all = certificates
        .into_iter()
        .fold(reqwest::Client::builder(), reqwest::ClientBuilder::add_root_certificate);
    all.build().map_err(|e| broken(causes(&e)))?;
    Ok(Some(pem))
}

/// An error with its causes, each told once.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

/// What helps when a server cannot be reached for this reason.
pub(super) fn remedy(reason: &str) -> &'static str {
    if reason.contains("certificate") {
        "name the authority's certificates with ?ca=FILE, and the server as in its certificate"
    } else {
        "look whether the server is up and reachable"
    }
}

/// The start of a text that may be long.
pub(super) fn start_of(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_is_checked_before_any_client_sees_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("ca.pem");
        let endpoint = Endpoint::parse(&format!("s3://b?ca={}", path.display())).expect("fine");
        let refused = || authorities("objects s3://b", &endpoint).expect_err("refused").to_string();
        assert!(refused().contains("No such file"), "{}", refused());
        std::fs::write(&path, "nothing").expect("written");
        assert!(refused().contains("no certificate"), "{}", refused());
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .expect("written");
        assert!(refused().contains("ca.pem"), "{}", refused());
        assert_eq!(authorities("x", &Endpoint::parse("s3://b").expect("fine")), Ok(None));
    }

    #[tokio::test]
    async fn waiting_ends() {
        let error = within(Duration::from_millis(9), "place", std::future::pending::<Result<()>>())
            .await
            .expect_err("late");
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.to_string().contains("within 9ms"), "{error}");
    }

    #[test]
    fn long_texts_are_cut_at_characters() {
        assert_eq!(start_of("가나다", 2), "가나…");
        assert_eq!(start_of("가나", 2), "가나");
    }
}

//! The approval key: `POST /oauth2/Approval`, once a day, before the WebSocket is opened.

use serde_json::{Value, json};

/// Path below the REST base.
pub const PATH: &str = "/oauth2/Approval";

/// Why no key was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The credentials are wrong; asking again is useless.
    #[error("KIS refuses the credentials: {0}")]
    Credentials(String),
    /// Asked too often (one key a second).
    #[error("KIS gives one approval key a second: {0}")]
    TooOften(String),
    /// Anything else: no answer, a server's fault, an answer without a key.
    #[error("{0}")]
    Failed(String),
}

/// Body of the call. The secret is called `secretkey` here and nowhere else.
pub fn body(app_key: &str, app_secret: &str) -> Value {
    json!({"grant_type": "client_credentials", "appkey": app_key, "secretkey": app_secret})
}

/// Reads the answer. The messages repeat KIS's error code and text, nothing of the request and no key.
///
/// # Errors
/// Why there is no key in it.
pub fn answer(status: u16, body: &str) -> Result<String, Refusal> {
    let value: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    if status == 200 {
        return match value["approval_key"].as_str() {
            Some(key) if !key.is_empty() => Ok(key.to_owned()),
            _ => Err(Refusal::Failed("the answer to the approval call has no approval_key".into())),
        };
    }
    let first =
        |names: [&str; 2]| names.iter().find_map(|n| value[n].as_str()).unwrap_or_default().to_owned();
    let (code, text) = (first(["error_code", "msg_cd"]), first(["error_description", "msg1"]));
    let said = format!("{code} {text} (HTTP {status})").trim().to_owned();
    match code.as_str() {
        "EGW00103" => Err(Refusal::Credentials(said)),
        "EGW00105" => Err(Refusal::Credentials(said)),
        "EGW00133" | "EGW00201" => Err(Refusal::TooOften(said)),
        _ if status == 429 => Err(Refusal::TooOften(said)),
        _ => Err(Refusal::Failed(said)),
    }
}

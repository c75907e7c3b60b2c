//! Control messages: JSON text frames with the replies to subscriptions, and PINGPONG.

use serde_json::Value;

use super::cipher::Seal;
use crate::Refused;

/// A control message.
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// The server's sign of life, to be sent back unchanged.
    PingPong {
        /// The message as received.
        text: String,
    },
    /// The reply to a subscribe or unsubscribe message, or a fault of the session.
    Reply(Reply),
}

/// A reply. There is no request id: it belongs to the registration `(tr_id, tr_key)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Message type; absent, null and the literal `(null)` are `None`.
    pub tr_id: Option<String>,
    /// Instrument or login id; empty and absent are `None`.
    pub tr_key: Option<String>,
    /// `rt_cd`: `0` is good.
    pub rt_cd: String,
    /// What happened.
    pub code: Code,
    /// `msg1`, with a repeated approval key taken out.
    pub text: String,
    /// Data of this type comes encrypted.
    pub encrypted: bool,
    /// What opens encrypted data of this type.
    pub seal: Option<Seal>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal => $action:ident,)*) => {
        /// `msg_cd` of a reply.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code this codec does not know.
            Unknown(String),
        }
        impl Code {
            fn known(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$name),)*
                    _ => None,
                }
            }
            /// The code as KIS writes it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unknown(text) => text,
                }
            }
            /// What a client does about it.
            pub fn action(&self) -> Action {
                match self {
                    $(Self::$name => Action::$action,)*
                    Self::Unknown(_) => Action::RetryLater,
                }
            }
            /// All codes known.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$name,)*]
            }
        }
    };
}

codes! {
    /// Subscribed.
    SubscribeSuccess = "OPSP0000" => MarkActive,
    /// Unsubscribed.
    UnsubscribeSuccess = "OPSP0001" => MarkInactive,
    /// It was subscribed before.
    AlreadyInSubscribe = "OPSP0002" => TreatAsActive,
    /// Nothing to unsubscribe.
    UnsubscribeNotFound = "OPSP0003" => MarkInactive,
    /// Internal error on subscribe.
    SubscribeInternalError = "OPSP0007" => RetryLater,
    /// No registration left in this session.
    MaxSubscribeOver = "OPSP0008" => LearnLimit,
    /// `mci send failed`.
    SubscribeSendFailed = "OPSP0009" => RetryLater,
    /// Invalid app key.
    InvalidAppKeyWarning = "OPSP0010" => FatalConfig,
    /// The approval key is not accepted (the reply repeats it).
    InvalidApproval = "OPSP0011" => RenewKey,
    /// The HTS login id is wrong.
    WrongHtsId = "OPSP0017" => FatalForType,
    /// Invalid tr_id.
    InvalidTrId = "OPSP8991" => RejectedRequest,
    /// Invalid tr_key.
    InvalidTrKey = "OPSP8992" => RejectedRequest,
    /// JSON parsing error: invalid tr_key.
    UnparsableTrKey = "OPSP8993" => RejectedRequest,
    /// personalseckey not found.
    PersonalSecKeyNotFound = "OPSP8994" => FatalConfig,
    /// appsecret not found.
    AppSecretNotFound = "OPSP8995" => FatalConfig,
    /// Another session holds the app key's only slot.
    AlreadyInUse = "OPSP8996" => WaitForSlot,
    /// Invalid tr_type.
    InvalidTrType = "OPSP8997" => RejectedRequest,
    /// Invalid custtype.
    InvalidCustType = "OPSP8998" => RejectedRequest,
    /// Resource not available.
    ResourceNotAvailable = "OPSP8999" => RetryLater,
    /// tr_key not found.
    TrKeyNotFound = "OPSP9990" => RejectedRequest,
    /// input not found.
    InputNotFound = "OPSP9991" => RejectedRequest,
    /// body not found.
    BodyNotFound = "OPSP9992" => RejectedRequest,
    /// Internal error.
    InternalError = "OPSP9993" => RetryLater,
    /// Invalid app key.
    InvalidAppKey = "OPSP9994" => FatalConfig,
    /// Resource not available.
    ResourceUnavailable = "OPSP9995" => RetryLater,
    /// A problem with the app key.
    AppKeyProblem = "OPSP9996" => FatalConfig,
    /// custtype not found.
    CustTypeNotFound = "OPSP9997" => RejectedRequest,
    /// header not found.
    HeaderNotFound = "OPSP9998" => RejectedRequest,
    /// Invalid JSON.
    InvalidJson = "OPSP9999" => RejectedRequest,
}

/// What a client does about a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The registration is active.
    MarkActive,
    /// The registration is not active.
    MarkInactive,
    /// It was active before: do not send it again.
    TreatAsActive,
    /// Ask again later.
    RetryLater,
    /// Stop adding: the limit is what is active now.
    LearnLimit,
    /// Get a new approval key, once, and connect again.
    RenewKey,
    /// Wait a minute or two: another session holds the slot.
    WaitForSlot,
    /// The credentials are wrong: nothing helps but a person.
    FatalConfig,
    /// This message type cannot be had with this configuration.
    FatalForType,
    /// The request itself was wrong: a bug or a bad symbol.
    RejectedRequest,
}

/// Reads a control message.
///
/// # Errors
/// `bad_json`, `bad_control`. The message repeats nothing of the input: it may hold keys.
pub fn parse(text: &str) -> Result<Control, Refused> {
    let value: Value = serde_json::from_str(text).map_err(|e| Refused {
        cause: "bad_json",
        message: format!("the control message is not JSON (line {}, column {})", e.line(), e.column()),
    })?;
    let header = &value["header"];
    if !header.is_object() {
        return Err(Refused { cause: "bad_control", message: "the control message has no header".into() });
    }
    let tr_id = word(&header["tr_id"]);
    if tr_id.as_deref() == Some("PINGPONG") {
        return Ok(Control::PingPong { text: text.to_owned() });
    }
    let body = &value["body"];
    let (Some(rt_cd), message) = (word(&body["rt_cd"]), word(&body["msg1"]).unwrap_or_default()) else {
        return Err(Refused {
            cause: "bad_control",
            message: "the control message has no body.rt_cd".into(),
        });
    };
    let msg_cd = word(&body["msg_cd"]).unwrap_or_default();
    let code = Code::known(&msg_cd).unwrap_or_else(|| match rt_cd.as_str() {
        // KIS's own client tells the two kinds of success apart by the text.
        "0" if message.starts_with("UNSUB") => Code::UnsubscribeSuccess,
        "0" => Code::SubscribeSuccess,
        _ => Code::Unknown(msg_cd),
    });
    let seal = match (body["output"]["key"].as_str(), body["output"]["iv"].as_str()) {
        (Some(key), Some(iv)) => Seal::new(key, iv),
        _ => None,
    };
    Ok(Control::Reply(Reply {
        tr_id,
        tr_key: word(&header["tr_key"]),
        rt_cd,
        text: redact(&code, message),
        code,
        encrypted: header["encrypt"].as_str() == Some("Y"),
        seal,
    }))
}

/// A text or number that is there; `(null)` and empty are not.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() && text != "(null)" => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Takes the approval key out of a message that repeats it: everything after the last colon, and any word
/// long enough to be a key.
fn redact(code: &Code, message: String) -> String {
    if *code != Code::InvalidApproval && !message.to_ascii_lowercase().contains("approval") {
        return message;
    }
    match message.split_once(':') {
        Some((head, tail)) if tail.trim() == "NOT FOUND" => format!("{head}: NOT FOUND"),
        Some((head, _)) => format!("{head}: [redacted]"),
        None => message
            .split(' ')
            .map(|w| if w.len() >= 20 { "[redacted]" } else { w })
            .collect::<Vec<_>>()
            .join(" "),
    }
}

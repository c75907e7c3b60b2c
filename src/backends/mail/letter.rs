//! A message in the Internet Message Format (RFC 5322).

use std::time::SystemTime;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;

use super::Message;
use crate::{BackendError, ErrorKind, Result};

/// Builds the letter. Its Message-ID follows from the key alone, so that a repeat can be told from a new
/// mail.
pub(super) fn build(place: &str, message: &Message) -> Result<lettre::Message> {
    let refuse = |what: String| BackendError::new(ErrorKind::Rejected, place, what);
    let mailbox = |role: &str, text: &str| -> Result<Mailbox> {
        let remedy = format!(
            "write it as name@example.com or Name <name@example.com> ({})",
            if role == "sender" { "mail_from" } else { "alerts.email" }
        );
        text.parse()
            .map_err(|e| refuse(format!("{role} \"{text}\" is not a mail address: {e}")).remedy(remedy))
    };
    let from = mailbox("sender", &message.from)?;
    let host = from.email.domain().to_owned();
    let subject = message.subject.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut builder = lettre::Message::builder()
        .from(from)
        .subject(subject)
        .date(SystemTime::from(message.at))
        .message_id(Some(format!("<{:016x}.{}@{host}>", fingerprint(&message.key), safe(&message.key))));
    for to in &message.to {
        builder = builder.to(mailbox("recipient", to)?);
    }
    let built = builder.header(ContentType::TEXT_PLAIN).body(message.text.clone());
    built.map_err(|e| refuse(format!("the message cannot be built: {e}")))
}

/// The part of a key that may stand in a Message-ID.
fn safe(key: &str) -> String {
    let safe = key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' });
    safe.take(60).collect()
}

/// FNV-1a, 64 bit: the same in every version, so that a repeat after an upgrade still overwrites.
pub(super) fn fingerprint(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

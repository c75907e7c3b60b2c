//! What a client may say on the WebSocket, and what the exchange answers: pure text in, text out.

use serde_json::{Value, json};

use super::ledger::{Channel, Format};

/// What a message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// A sign of life.
    Ping,
    /// These instead of all that was subscribed.
    Subscribe { wanted: Vec<Wanted>, format: Format },
    /// What is subscribed.
    List { ticket: String, format: Option<Format> },
}

/// One type object of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) channel: Channel,
    pub(super) codes: Vec<String>,
    pub(super) snapshot: bool,
    pub(super) realtime: bool,
}

/// An error's name and words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) name: String,
    words: &'static str,
}

impl Refusal {
    pub(super) fn new(name: &str) -> Self {
        let words = match name {
            "INVALID_AUTH" => "인증 정보가 올바르지 않습니다.",
            "WRONG_FORMAT" => "Format 이 맞지 않습니다.",
            "NO_TICKET" => "티켓이 존재하지 않거나, 유효하지 않습니다.",
            "NO_TYPE" => "type 필드가 존재하지 않습니다.",
            "NO_CODES" => "codes 필드가 존재하지 않습니다.",
            "INVALID_PARAM" => "지원하지 않는 값입니다.",
            _ => "?",
        };
        Self { name: name.to_owned(), words }
    }

    /// The message.
    pub(super) fn text(&self) -> String {
        json!({"error": {"name": self.name, "message": self.words}}).to_string()
    }
}

/// The answer to a sign of life.
pub(super) const UP: &str = r#"{"status":"UP"}"#;

/// Reads a client's message.
pub(super) fn parse(text: &str) -> Result<Request, Refusal> {
    if text.trim() == "PING" {
        return Ok(Request::Ping);
    }
    let Ok(Value::Array(parts)) = serde_json::from_str::<Value>(text) else {
        return Err(Refusal::new("WRONG_FORMAT"));
    };
    if parts.iter().any(|part| !part.is_object()) {
        return Err(Refusal::new("WRONG_FORMAT"));
    }
    let find = |name: &str| parts.iter().find_map(|part| part.get(name));
    let ticket = find("ticket").and_then(Value::as_str).filter(|ticket| !ticket.is_empty());
    let ticket = ticket.ok_or_else(|| Refusal::new("NO_TICKET"))?.to_owned();
    let format = find("format").map(format).transpose()?;
    if let Some(method) = find("method") {
        return match method.as_str() {
            Some("LIST_SUBSCRIPTIONS") => Ok(Request::List { ticket, format }),
            _ => Err(Refusal::new("INVALID_PARAM")),
        };
    }
    let wanted: Vec<Wanted> =
        parts.iter().filter(|part| part.get("type").is_some()).map(wanted).collect::<Result<_, _>>()?;
    if wanted.is_empty() {
        return Err(Refusal::new("NO_TYPE"));
    }
    Ok(Request::Subscribe { wanted, format: format.unwrap_or_default() })
}

fn format(word: &Value) -> Result<Format, Refusal> {
    Ok(match word.as_str() {
        Some("DEFAULT") => Format::default(),
        Some("SIMPLE") => Format { short: true, list: false },
        Some("JSON_LIST") => Format { short: false, list: true },
        Some("SIMPLE_LIST") => Format { short: true, list: true },
        _ => return Err(Refusal::new("WRONG_FORMAT")),
    })
}

fn wanted(part: &Value) -> Result<Wanted, Refusal> {
    let channel = Channel::ALL.into_iter().find(|channel| part["type"] == channel.as_str());
    let channel = channel.ok_or_else(|| Refusal::new("INVALID_PARAM"))?;
    let codes = part.get("codes").and_then(Value::as_array).ok_or_else(|| Refusal::new("NO_CODES"))?;
    let codes: Option<Vec<String>> = codes.iter().map(|code| code.as_str().map(str::to_owned)).collect();
    let codes = codes.filter(|codes| !codes.is_empty()).ok_or_else(|| Refusal::new("INVALID_PARAM"))?;
    // The names that clients of old still write, too.
    let flag = |name: &str, old: &str| {
        part.get(name).or_else(|| part.get(old)).and_then(Value::as_bool).unwrap_or(false)
    };
    Ok(Wanted {
        channel,
        codes,
        snapshot: !flag("is_only_realtime", "isOnlyRealtime"),
        realtime: !flag("is_only_snapshot", "isOnlySnapshot"),
    })
}

/// The list of what is subscribed.
pub(super) fn list(subscribed: &[(Channel, Vec<String>)], ticket: &str, format: Format) -> String {
    let name = |full: &'static str, short: &'static str| if format.short { short } else { full };
    let lines: Vec<Value> = subscribed
        .iter()
        .map(|(channel, codes)| json!({name("type", "ty"): channel.as_str(), name("codes", "cds"): codes}))
        .collect();
    let list = json!({name("method", "mthd"): "LIST_SUBSCRIPTIONS", name("result", "rslt"): lines, name("ticket", "tckt"): ticket});
    if format.list { json!([list]).to_string() } else { list.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_read_in_old_and_new_spelling() {
        let text = r#"[{"ticket":"t"},{"type":"ticker","codes":["KRW-BTC"],"isOnlySnapshot":true},
            {"type":"trade","codes":["KRW-BTC","KRW-ETH"],"is_only_realtime":true},{"format":"SIMPLE_LIST"}]"#;
        let Ok(Request::Subscribe { wanted, format }) = parse(text) else { panic!() };
        assert_eq!(format, Format { short: true, list: true });
        let flags: Vec<_> =
            wanted.iter().map(|w| (w.channel, w.codes.len(), w.snapshot, w.realtime)).collect();
        assert_eq!(flags, [(Channel::Ticker, 1, true, false), (Channel::Trade, 2, false, true)]);
        assert_eq!(parse(" PING "), Ok(Request::Ping));
        let list = r#"[{"method":"LIST_SUBSCRIPTIONS"},{"ticket":"t"}]"#;
        assert_eq!(parse(list), Ok(Request::List { ticket: "t".into(), format: None }));
    }

    #[test]
    fn every_fault_of_a_message_has_its_name() {
        for (text, name) in [
            ("", "WRONG_FORMAT"),
            ("{}", "WRONG_FORMAT"),
            ("[1]", "WRONG_FORMAT"),
            (r#"[{"type":"trade","codes":["KRW-BTC"]}]"#, "NO_TICKET"),
            (r#"[{"ticket":""},{"type":"trade","codes":["KRW-BTC"]}]"#, "NO_TICKET"),
            (r#"[{"ticket":"t"}]"#, "NO_TYPE"),
            (r#"[{"ticket":"t"},{"type":"trade"}]"#, "NO_CODES"),
            (r#"[{"ticket":"t"},{"type":"trade","codes":[]}]"#, "INVALID_PARAM"),
            (r#"[{"ticket":"t"},{"type":"news","codes":["KRW-BTC"]}]"#, "INVALID_PARAM"),
            (r#"[{"ticket":"t"},{"type":"trade","codes":["KRW-BTC"]},{"format":"XML"}]"#, "WRONG_FORMAT"),
        ] {
            assert_eq!(parse(text).expect_err(text).name, name, "{text}");
        }
        assert!(Refusal::new("NO_CODES").text().starts_with(r#"{"error":{"#));
    }
}

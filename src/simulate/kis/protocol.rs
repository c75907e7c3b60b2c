//! What a client may say on the WebSocket, and what the exchange answers: pure text in, text out.

use serde_json::Value;

/// A text as JSON. The messages are put together by hand because their members come in the exchange's order,
/// on which careless clients rely.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Message types with which a client can register.
const TR_IDS: [&str; 18] = [
    "H0STCNT0", "H0STASP0", "H0UNCNT0", "H0UNASP0", "H0NXCNT0", "H0NXASP0", "H0STANC0", "H0UNANC0",
    "H0STOUP0", "H0STOAC0", "H0STOAA0", "H0STMKO0", "H0UPCNT0", "H0STMBC0", "H0STPGM0", "H0STCNI0",
    "H0STCNI9", "HDFSCNT0",
];

/// A well-formed registration or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) approval_key: String,
    pub(super) subscribe: bool,
    pub(super) tr_id: String,
    pub(super) tr_key: String,
}

/// A code with its words: what `body` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) words: String,
    /// The registration it is about, if the exchange got as far as that.
    pub(super) about: Option<(String, String)>,
}

impl Refusal {
    pub(super) fn new(code: &str, words: impl Into<String>) -> Self {
        Self { code: code.to_owned(), words: words.into(), about: None }
    }

    pub(super) fn about(mut self, request: &Request) -> Self {
        self.about = Some((request.tr_id.clone(), request.tr_key.clone()));
        self
    }

    /// The words of a code for which nobody gave any.
    pub(super) fn of_code(code: &str) -> Self {
        let words = match code {
            "OPSP0002" => "ALREADY IN SUBSCRIBE",
            "OPSP0003" => "UNSUBSCRIBE ERROR(not found!)",
            "OPSP0007" => "SUBSCRIBE INTERNAL ERROR",
            "OPSP0008" => "MAX SUBSCRIBE OVER",
            "OPSP0009" => "SUBSCRIBE ERROR : mci send failed",
            "OPSP0010" => "SUBSCRIBE WARNNING : invalid appkey",
            "OPSP0011" => "invalid approval(appkey) : NOT FOUND",
            "OPSP0017" => "ERROR : htsid가잘못되었습니다",
            "OPSP8991" => "invalid tr_id",
            "OPSP8992" => "invalid tr_key",
            "OPSP8996" => "ALREADY IN USE appkey",
            "OPSP9993" => "internal error",
            "OPSP9999" => "invalid json format",
            _ => "ERROR",
        };
        Self::new(code, words)
    }

    /// Whether the exchange drops the connection after saying this.
    pub(super) fn fatal(&self) -> bool {
        matches!(self.code.as_str(), "OPSP0011" | "OPSP8996")
    }

    /// The message.
    pub(super) fn text(&self) -> String {
        let (tr_id, tr_key) = match &self.about {
            Some((tr_id, tr_key)) => (tr_id.as_str(), tr_key.as_str()),
            None => ("(null)", ""),
        };
        // Refusals of the session or of the message say 9, refusals of one registration 1.
        let rt_cd = if self.about.is_some() { "1" } else { "9" };
        format!(
            r#"{{"header":{{"tr_id":{},"tr_key":{},"encrypt":"N"}},"body":{{"rt_cd":"{rt_cd}","msg_cd":{},"msg1":{}}}}}"#,
            quoted(tr_id),
            quoted(tr_key),
            quoted(&self.code),
            quoted(&self.words)
        )
    }
}

/// Whether a message only sends a PINGPONG back; one that comes late, or twice, is no fault.
pub(super) fn is_echo(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|message| message["header"]["tr_id"] == "PINGPONG")
}

/// Reads a client's message.
pub(super) fn parse(text: &str) -> Result<Request, Refusal> {
    let Ok(message) = serde_json::from_str::<Value>(text) else { return Err(Refusal::of_code("OPSP9999")) };
    let part = |of: &Value, name: &str, code: &str| {
        of.get(name).cloned().ok_or_else(|| Refusal::new(code, format!("{name} not found")))
    };
    let word = |of: &Value, name: &str| of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let header = part(&message, "header", "OPSP9998")?;
    let input = part(&part(&message, "body", "OPSP9992")?, "input", "OPSP9991")?;
    part(&header, "custtype", "OPSP9997")?;
    part(&input, "tr_key", "OPSP9990")?;
    if !matches!(word(&header, "custtype").as_str(), "P" | "B") {
        return Err(Refusal::new("OPSP8998", "invalid custtype"));
    }
    let subscribe = match word(&header, "tr_type").as_str() {
        "1" => true,
        "2" => false,
        _ => return Err(Refusal::new("OPSP8997", "invalid tr_type")),
    };
    Ok(Request {
        approval_key: word(&header, "approval_key"),
        subscribe,
        tr_id: word(&input, "tr_id"),
        tr_key: word(&input, "tr_key"),
    })
}

/// Whether a registration can exist at all.
pub(super) fn check(request: &Request) -> Result<(), Refusal> {
    if !TR_IDS.contains(&request.tr_id.as_str()) {
        return Err(Refusal::of_code("OPSP8991").about(request));
    }
    // Stock codes have 6 to 9 characters; order notices are keyed by a login name.
    let longest = if request.tr_id.starts_with("H0STCNI") { 40 } else { 9 };
    let key = &request.tr_key;
    if key.is_empty() || key.len() > longest || !key.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(Refusal::of_code("OPSP8992").about(request));
    }
    Ok(())
}

/// The acknowledgement of a request; `secret` is the session's (iv, key).
pub(super) fn acknowledgement(request: &Request, secret: &(String, String)) -> String {
    let (code, words) = if request.subscribe {
        ("OPSP0000", "SUBSCRIBE SUCCESS")
    } else {
        ("OPSP0001", "UNSUBSCRIBE SUCCESS")
    };
    let encrypt = if request.tr_id.starts_with("H0STCNI") { "Y" } else { "N" };
    format!(
        r#"{{"header":{{"tr_id":{},"tr_key":{},"encrypt":"{encrypt}"}},"body":{{"rt_cd":"0","msg_cd":"{code}","msg1":"{words}","output":{{"iv":"{}","key":"{}"}}}}}}"#,
        quoted(&request.tr_id),
        quoted(&request.tr_key),
        secret.0,
        secret.1
    )
}

/// The exchange's sign of life; the client sends it back.
pub(super) fn pingpong(local: &jiff::Zoned) -> String {
    format!(r#"{{"header":{{"tr_id":"PINGPONG","datetime":"{}"}}}}"#, local.strftime("%Y%m%d%H%M%S"))
}

/// Iv (16) and key (32) of a session: letters and digits made from a number.
pub(super) fn session_secret(unique: u64) -> (String, String) {
    let mut rng = fastrand::Rng::with_seed(unique);
    let mut word = |length: usize| (0..length).map(|_| rng.alphanumeric()).collect::<String>();
    (word(16), word(32))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(custtype: &str, tr_type: &str, tr_id: &str, tr_key: &str) -> String {
        json!({"header": {"approval_key": "k", "custtype": custtype, "tr_type": tr_type, "content-type": "utf-8"},
               "body": {"input": {"tr_id": tr_id, "tr_key": tr_key}}})
        .to_string()
    }

    #[test]
    fn a_subscription_is_read_and_acknowledged_as_recorded() {
        let request = parse(&message("P", "1", "H0STCNT0", "005930")).expect("good");
        assert!(request.subscribe && check(&request).is_ok());
        let secret = session_secret(1);
        assert_eq!((secret.0.len(), secret.1.len()), (16, 32));
        let ack: Value = serde_json::from_str(&acknowledgement(&request, &secret)).expect("json");
        assert_eq!(ack["header"], json!({"tr_id": "H0STCNT0", "tr_key": "005930", "encrypt": "N"}));
        assert_eq!(ack["body"]["msg_cd"], "OPSP0000");
        assert_eq!(ack["body"]["output"]["key"], secret.1);
    }

    #[test]
    fn echoes_are_told_from_requests() {
        let local = crate::korea::korean(jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(pingpong(&local), r#"{"header":{"tr_id":"PINGPONG","datetime":"19700101090000"}}"#);
        assert!(is_echo(&pingpong(&local)));
        assert!(!is_echo(&message("P", "1", "H0STCNT0", "005930")) && !is_echo("[1]") && !is_echo("{"));
    }

    #[test]
    fn every_fault_of_a_message_has_its_code() {
        let code = |text: &str| parse(text).and_then(|r| check(&r)).expect_err(text).code;
        assert_eq!(code("{"), "OPSP9999");
        assert_eq!(code("{}"), "OPSP9998");
        assert_eq!(code(r#"{"header":{}}"#), "OPSP9992");
        assert_eq!(code(r#"{"header":{},"body":{}}"#), "OPSP9991");
        assert_eq!(code(r#"{"header":{},"body":{"input":{}}}"#), "OPSP9997");
        assert_eq!(code(r#"{"header":{"custtype":"P"},"body":{"input":{}}}"#), "OPSP9990");
        assert_eq!(code(&message("X", "1", "H0STCNT0", "005930")), "OPSP8998");
        assert_eq!(code(&message("P", "0", "H0STCNT0", "005930")), "OPSP8997");
        assert_eq!(code(&message("B", "1", "H0STCNT1", "005930")), "OPSP8991");
        assert_eq!(code(&message("P", "1", "H0STCNT0", "00-930")), "OPSP8992");
    }

    #[test]
    fn session_refusals_name_no_registration() {
        let text = Refusal::of_code("OPSP8996").text();
        let refusal: Value = serde_json::from_str(&text).expect("json");
        assert_eq!(refusal["header"], json!({"tr_id": "(null)", "tr_key": "", "encrypt": "N"}));
        assert!(text.starts_with(r#"{"header":{"tr_id":"(null)","tr_key":"","#), "{text}");
        assert_eq!(
            refusal["body"],
            json!({"rt_cd": "9", "msg_cd": "OPSP8996", "msg1": "ALREADY IN USE appkey"})
        );
    }
}

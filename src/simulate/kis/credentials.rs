//! App keys, approval keys and access tokens: the REST side of the exchange, as a function of state and time.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::korea::KST;
use domain::retry::{hash, mix};

/// Approval keys are given out once in this time.
const APPROVAL_EVERY: SignedDuration = SignedDuration::from_secs(1);
/// Access tokens are given out once in this time.
const TOKEN_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// Asking again in this time gives the same access token.
const TOKEN_SAME: SignedDuration = SignedDuration::from_hours(6);
/// An approval key or an access token is good for this long.
const VALID: SignedDuration = SignedDuration::from_hours(24);

/// What has been given out.
#[derive(Debug)]
pub(super) struct Credentials {
    seed: u64,
    /// The app keys with their secrets; none: every non-empty pair is good.
    accounts: Option<HashMap<String, String>>,
    issued: u64,
    /// Approval key to app key and time of issue.
    approvals: HashMap<String, (String, Timestamp)>,
    last_approval: HashMap<String, Timestamp>,
    tokens: HashMap<String, Token>,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    issued: Timestamp,
    asked: Timestamp,
}

/// An HTTP answer: status and JSON body.
pub(super) type Answer = (u16, Value);

impl Credentials {
    pub(super) fn new(seed: u64, accounts: &[(String, String)]) -> Self {
        Self {
            seed,
            accounts: (!accounts.is_empty()).then(|| accounts.iter().cloned().collect()),
            issued: 0,
            approvals: HashMap::new(),
            last_approval: HashMap::new(),
            tokens: HashMap::new(),
        }
    }

    /// Answers a call of the REST side.
    pub(super) fn answer(&mut self, method: &str, path: &str, body: &[u8], now: Timestamp) -> Answer {
        let call = match path {
            "/oauth2/Approval" => Self::approve,
            "/oauth2/tokenP" => Self::token,
            "/oauth2/revokeP" => Self::revoke,
            _ => {
                return (
                    404,
                    json!({"rt_cd": "1", "msg_cd": "EGW00404", "msg1": format!("the simulator has no {path}")}),
                );
            }
        };
        if method != "POST" {
            return (405, json!({"rt_cd": "1", "msg_cd": "EGW00405", "msg1": format!("{path} takes POST")}));
        }
        let body = serde_json::from_slice(body).unwrap_or(Value::Null);
        call(self, &body, now).unwrap_or_else(|refusal| refusal)
    }

    /// The app key that an approval key was given to, while it is good.
    pub(super) fn app_key(&self, approval_key: &str, now: Timestamp) -> Option<String> {
        let (app_key, issued) = self.approvals.get(approval_key)?;
        (now.duration_since(*issued) < VALID).then(|| app_key.clone())
    }

    fn check(&self, body: &Value, secret_name: &str) -> Result<String, Answer> {
        let word = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let app_key = word("appkey").ok_or_else(|| refusal("EGW00103", "유효하지 않은 AppKey입니다."))?;
        let secret =
            word(secret_name).ok_or_else(|| refusal("EGW00105", "유효하지 않은 AppSecret입니다."))?;
        if let Some(accounts) = &self.accounts {
            match accounts.get(app_key) {
                None => return Err(refusal("EGW00103", "유효하지 않은 AppKey입니다.")),
                Some(right) if right != secret => {
                    return Err(refusal("EGW00105", "유효하지 않은 AppSecret입니다."));
                }
                Some(_) => {}
            }
        }
        Ok(app_key.to_owned())
    }

    fn approve(&mut self, body: &Value, now: Timestamp) -> Result<Answer, Answer> {
        let app_key = self.check(body, "secretkey")?;
        if self.last_approval.get(&app_key).is_some_and(|last| now.duration_since(*last) < APPROVAL_EVERY) {
            return Err(refusal("EGW00201", "초당 거래건수를 초과하였습니다."));
        }
        self.last_approval.insert(app_key.clone(), now);
        // Old keys go when they are no longer good: what is kept is bounded by the rate and the validity.
        self.approvals.retain(|_, (_, issued)| now.duration_since(*issued) < VALID);
        let unique = self.unique(&app_key, now);
        let (high, low) = (mix(unique), mix(unique ^ 1));
        let key = format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | ((low >> 48) & 0x3fff),
            low & 0xffff_ffff_ffff
        );
        self.approvals.insert(key.clone(), (app_key, now));
        Ok((200, json!({"approval_key": key})))
    }

    fn token(&mut self, body: &Value, now: Timestamp) -> Result<Answer, Answer> {
        let app_key = self.check(body, "appsecret")?;
        let token = match self.tokens.get(&app_key) {
            Some(token) if now.duration_since(token.asked) < TOKEN_EVERY => {
                return Err(refusal("EGW00133", "접근토큰 발급 잠시 후 다시 시도하세요(1분당 1회)"));
            }
            Some(token) if now.duration_since(token.issued) < TOKEN_SAME => {
                Token { asked: now, ..token.clone() }
            }
            _ => {
                let unique = self.unique(&app_key, now);
                Token {
                    text: format!("eyJ0eXAiOiJKV1QifQ.{:016x}.{:016x}", mix(unique), mix(unique ^ 1)),
                    issued: now,
                    asked: now,
                }
            }
        };
        let ends = KST.to_datetime(token.issued + VALID).strftime("%Y-%m-%d %H:%M:%S").to_string();
        let left = (VALID - now.duration_since(token.issued)).as_secs();
        let answer = json!({"access_token": token.text, "token_type": "Bearer", "expires_in": left, "access_token_token_expired": ends});
        self.tokens.insert(app_key, token);
        Ok((200, answer))
    }

    fn revoke(&mut self, body: &Value, now: Timestamp) -> Result<Answer, Answer> {
        let app_key = self.check(body, "appsecret")?;
        let token = body.get("token").and_then(Value::as_str).unwrap_or_default();
        match self.tokens.get_mut(&app_key).filter(|known| known.text == token) {
            // The rate still counts from when the token was asked for.
            Some(known) => known.issued = now - TOKEN_SAME,
            None => return Err(refusal("EGW00121", "유효하지 않은 token 입니다.")),
        }
        Ok((200, json!({"code": 200, "message": "접근토큰 폐기에 성공하였습니다"})))
    }

    /// A number that no other key of this or another life of the simulator is made from.
    fn unique(&mut self, app_key: &str, now: Timestamp) -> u64 {
        self.issued += 1;
        mix(self.seed ^ hash(app_key) ^ mix(self.issued) ^ (now.as_nanosecond() as u64).rotate_left(17))
    }
}

fn refusal(code: &str, words: &str) -> Answer {
    (403, json!({"error_description": words, "error_code": code}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + seconds)
    }

    fn call(credentials: &mut Credentials, path: &str, body: &Value, seconds: i64) -> Answer {
        credentials.answer("POST", path, body.to_string().as_bytes(), at(seconds))
    }

    #[test]
    fn approval_keys_are_given_once_a_second_and_are_good_for_a_day() {
        let mut c = Credentials::new(1, &[]);
        let body = json!({"grant_type": "client_credentials", "appkey": "a", "secretkey": "s"});
        let (status, answer) = call(&mut c, "/oauth2/Approval", &body, 0);
        let key = answer["approval_key"].as_str().expect("a key").to_owned();
        assert_eq!((status, key.len()), (200, 36));
        assert_eq!(c.app_key(&key, at(5)).as_deref(), Some("a"));
        assert_eq!(c.app_key(&key, at(24 * 3600)), None);
        assert_eq!(call(&mut c, "/oauth2/Approval", &body, 0).0, 403);
        let (status, second) = call(&mut c, "/oauth2/Approval", &body, 1);
        assert_eq!(status, 200);
        assert_ne!(second["approval_key"], key);
    }

    #[test]
    fn wrong_keys_and_secrets_have_their_codes() {
        let mut c = Credentials::new(1, &[("a".into(), "s".into())]);
        let mut code = |path: &str, body: Value| {
            let (status, answer) = call(&mut c, path, &body, 0);
            assert_eq!(status, 403);
            answer["error_code"].as_str().expect("a code").to_owned()
        };
        assert_eq!(code("/oauth2/Approval", json!({"appkey": "b", "secretkey": "s"})), "EGW00103");
        assert_eq!(code("/oauth2/Approval", json!({"appkey": "a", "secretkey": "x"})), "EGW00105");
        assert_eq!(
            code("/oauth2/Approval", json!({"appkey": "a", "appsecret": "s"})),
            "EGW00105",
            "it is called secretkey here"
        );
        assert_eq!(code("/oauth2/tokenP", json!({"appkey": "a", "secretkey": "s"})), "EGW00105");
        assert_eq!(code("/oauth2/Approval", json!("no object")), "EGW00103");
        assert_eq!(c.answer("GET", "/oauth2/Approval", b"", at(0)).0, 405);
        assert_eq!(c.answer("POST", "/oauth2/other", b"", at(0)).0, 404);
    }

    #[test]
    fn tokens_are_the_same_for_six_hours_and_given_once_a_minute() {
        let mut c = Credentials::new(1, &[]);
        let body = json!({"appkey": "a", "appsecret": "s"});
        let (_, first) = call(&mut c, "/oauth2/tokenP", &body, 0);
        assert_eq!((&first["expires_in"], &first["token_type"]), (&json!(86_400), &json!("Bearer")));
        let (status, early) = call(&mut c, "/oauth2/tokenP", &body, 59);
        assert_eq!((status, &early["error_code"]), (403, &json!("EGW00133")));
        let (_, again) = call(&mut c, "/oauth2/tokenP", &body, 60);
        assert_eq!(again["access_token"], first["access_token"]);
        assert_eq!(again["access_token_token_expired"], first["access_token_token_expired"]);
        let (_, later) = call(&mut c, "/oauth2/tokenP", &body, 6 * 3600);
        assert_ne!(later["access_token"], first["access_token"]);

        let revoke = json!({"appkey": "a", "appsecret": "s", "token": later["access_token"]});
        assert_eq!(call(&mut c, "/oauth2/revokeP", &revoke, 6 * 3600 + 1).0, 200);
        assert_ne!(
            call(&mut c, "/oauth2/tokenP", &body, 6 * 3600 + 60).1["access_token"],
            later["access_token"]
        );
        assert_eq!(
            call(&mut c, "/oauth2/revokeP", &json!({"appkey": "a", "appsecret": "s", "token": "x"}), 0).0,
            403
        );
    }
}

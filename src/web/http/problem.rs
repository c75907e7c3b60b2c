//! Refusals for programs, as RFC 9457 has them: `application/problem+json`.
//!
//! The type of a problem is a URN, so that it is the same behind every address and proxy; it never changes,
//! and never means something else. `detail` says what and where, `remedy` what to do. The types are listed in
//! the OpenAPI document and in `docs/api.md`.

use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{Object, ObjectBuilder};

use super::reply::Refusal;

/// What every type begins with.
pub(crate) const NAMESPACE: &str = "urn:openbell:problem:";
/// The media type of a problem.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";
/// When to ask again after a store did not answer, or there was no room, in seconds.
const AGAIN: HeaderValue = HeaderValue::from_static("5");

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $status:ident $name:literal $title:literal,)*) => {
        /// The types of problems there are.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The status it is sent with.
            pub(crate) fn status(self) -> StatusCode {
                match self {
                    $(Self::$kind => StatusCode::$status,)*
                }
            }

            /// Its name, the last part of its type.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// What it is, in words that are the same for all problems of the type.
            pub(crate) fn title(self) -> &'static str {
                match self {
                    $(Self::$kind => $title,)*
                }
            }
        }
    };
}

kinds! {
    /// The request itself is none.
    BadRequest BAD_REQUEST "bad-request" "The request cannot be read",
    /// A part of the path, a word of the query or a header.
    BadParameter BAD_REQUEST "bad-parameter" "A parameter cannot be used",
    /// The body is not what the request takes.
    BadBody BAD_REQUEST "bad-body" "The body cannot be used",
    /// Nobody is logged in.
    LoginNeeded UNAUTHORIZED "login-needed" "A login is needed",
    /// The token is none, or no longer one.
    WrongToken UNAUTHORIZED "wrong-token" "The token is not known",
    /// A viewer wants to act.
    OperatorNeeded FORBIDDEN "operator-needed" "Only operators may do this",
    /// It may come from a page of another site.
    ForeignRequest FORBIDDEN "foreign-request" "The request could be another site's",
    /// What is asked for does not exist.
    NotFound NOT_FOUND "not-found" "There is no such thing",
    /// There is no such path.
    UnknownPath NOT_FOUND "unknown-path" "There is no such path",
    /// The path is there, but not with this method.
    WrongMethod METHOD_NOT_ALLOWED "wrong-method" "The path does not take this method",
    /// The body did not arrive in time.
    TooSlow REQUEST_TIMEOUT "too-slow" "The request took too long to arrive",
    /// The daemon will not do it as things are.
    Refused CONFLICT "refused" "The daemon did not do it",
    /// The body is too large.
    TooLarge PAYLOAD_TOO_LARGE "too-large" "The body is too large",
    /// The body is not JSON.
    NotJson UNSUPPORTED_MEDIA_TYPE "not-json" "The body is not JSON",
    /// The host name is not this site's.
    WrongHost MISDIRECTED_REQUEST "wrong-host" "The site is not called so",
    /// The key came before with another request.
    KeyReused UNPROCESSABLE_ENTITY "key-reused" "The idempotency key belongs to another request",
    /// Too many failures.
    Wait TOO_MANY_REQUESTS "wait" "Too much failed, or too much at once",
    /// Something broke here.
    Internal INTERNAL_SERVER_ERROR "internal" "Something is broken",
    /// A store does not answer, or there is no room.
    Unavailable SERVICE_UNAVAILABLE "unavailable" "It cannot be had now",
    /// The daemon did not answer in time.
    NoAnswer GATEWAY_TIMEOUT "no-answer" "The daemon did not answer in time",
}

impl Kind {
    /// What a status means where nobody says more.
    pub(crate) fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            401 => Self::LoginNeeded,
            403 => Self::OperatorNeeded,
            404 => Self::NotFound,
            405 => Self::WrongMethod,
            408 => Self::TooSlow,
            409 => Self::Refused,
            413 => Self::TooLarge,
            415 => Self::NotJson,
            421 => Self::WrongHost,
            429 => Self::Wait,
            503 => Self::Unavailable,
            504 => Self::NoAnswer,
            500.. => Self::Internal,
            _ => Self::BadRequest,
        }
    }
}

/// Why something was not done (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    #[schema(schema_with = types)]
    r#type: String,
    /// The kind in words.
    title: &'static str,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What, and where.
    detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

fn types() -> Object {
    let all = Kind::ALL.iter().map(|kind| json!(format!("{NAMESPACE}{}", kind.name())));
    let said = "What kind of problem it is; it never changes.";
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(all)).description(Some(said)).build()
}

/// A refusal as an answer.
pub(crate) fn answer(refusal: &Refusal) -> Response {
    let problem = Problem {
        r#type: format!("{NAMESPACE}{}", refusal.kind.name()),
        title: refusal.kind.title(),
        status: refusal.status.as_u16(),
        detail: refusal.error.to_string(),
        remedy: refusal.remedy.to_string(),
    };
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE))]);
    // The door knows better how long a wrong token waits.
    if matches!(refusal.kind, Kind::Unavailable | Kind::Wait) {
        headers.insert(RETRY_AFTER, AGAIN);
    }
    // Strings and a number are always JSON.
    (refusal.status, headers, serde_json::to_string(&problem).unwrap_or_default()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::message::Message;

    #[test]
    fn every_type_has_a_name_of_its_own_and_its_status_means_it_or_a_sibling() {
        let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            if *kind != Kind::KeyReused {
                assert_eq!(Kind::of(kind.status()).status(), kind.status(), "{kind:?}");
            }
            assert!(kind.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{kind:?}");
        }
        assert_eq!(
            (Kind::of(StatusCode::IM_A_TEAPOT), Kind::of(StatusCode::BAD_GATEWAY)),
            (Kind::BadRequest, Kind::Internal)
        );
    }

    #[tokio::test]
    async fn a_refusal_becomes_a_problem() {
        let answered =
            answer(&Refusal::missing(Message::foreign("there is no run a@1"), Message::foreign("list them")));
        assert_eq!(
            (answered.status(), &answered.headers()[CONTENT_TYPE]),
            (StatusCode::NOT_FOUND, &HeaderValue::from_static(MEDIA_TYPE))
        );
        let bytes = axum::body::to_bytes(answered.into_body(), 10_000).await.expect("a body");
        let said: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        let wanted = serde_json::json!({ "type": "urn:openbell:problem:not-found", "title": "There is no such thing", "status": 404,
            "detail": "there is no run a@1", "remedy": "list them" });
        assert_eq!(said, wanted);
        let busy = answer(&Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Message::foreign("the log does not answer"),
            Message::none(),
        ));
        assert_eq!(busy.headers()[RETRY_AFTER], "5");
    }
}

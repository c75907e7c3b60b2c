//! The refusals of the OpenAPI document. Each stands once among its components; an operation names those that
//! its handler gives.

use std::collections::BTreeMap;

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ContentBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::http::problem::{Kind, MEDIA_TYPE, Problem};

/// A refusal that operations share.
pub(crate) struct Answer {
    name: &'static str,
    /// The kinds of problem it can be, all of one status.
    kinds: &'static [Kind],
    said: &'static str,
    /// A header that it has, and what the header's value is.
    header: Option<(&'static str, Type, &'static str)>,
}

impl Answer {
    fn status(&self) -> String {
        self.kinds.first().map_or_else(String::new, |kind| kind.status().as_u16().to_string())
    }

    fn reference(&self) -> RefOr<Response> {
        Ref::from_response_name(self.name).into()
    }

    /// Says that an operation may be answered so.
    pub(crate) fn add(&self, operation: &mut Operation) {
        operation.responses.responses.insert(self.status(), self.reference());
    }

    /// The component that the operations refer to.
    pub(crate) fn component(&self) -> (&'static str, Response) {
        let kinds: Vec<_> = self.kinds.iter().map(|kind| format!("`{}`", kind.name())).collect();
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
        let mut answer = ResponseBuilder::new()
            .description(format!("{}: {}.", self.said, kinds.join(", ")))
            .content(MEDIA_TYPE, content);
        if let Some((name, kind, said)) = &self.header {
            let value = ObjectBuilder::new().schema_type(kind.clone());
            answer = answer
                .header(*name, HeaderBuilder::new().schema(Some(value)).description(Some(*said)).build());
        }
        (self.name, answer.build())
    }
}

macro_rules! shared {
    ($($name:ident [$($kind:ident),+] $said:literal $(, $header:literal $type:ident $value:literal)?;)*) => {
        $(
            #[doc = $said]
            pub(crate) enum $name {}

            impl $name {
                pub(crate) const ANSWER: Answer = Answer {
                    name: stringify!($name),
                    kinds: &[$(Kind::$kind),+],
                    said: $said,
                    header: shared!(@header $($header $type $value)?),
                };
            }

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    BTreeMap::from([(Self::ANSWER.status(), Self::ANSWER.reference())])
                }
            }
        )*

        /// All of them.
        pub(crate) const ALL: &[Answer] = &[$($name::ANSWER),*];
    };
    (@header) => { None };
    (@header $header:literal $type:ident $value:literal) => { Some(($header, Type::$type, $value)) };
}

shared! {
    Unusable [BadRequest, BadParameter, BadBody] "The request, a parameter or the body cannot be used";
    Unknown [LoginNeeded, WrongToken] "A login is needed, or the token is not one of this daemon",
        "WWW-Authenticate" String "How to say who asks.";
    Forbidden [OperatorNeeded, ForeignRequest] "A viewer may not act, or the request could be of another site";
    Missing [NotFound] "There is no such thing, or the cursor is none of this list’s";
    Slow [TooSlow] "The body took more than 30 s to arrive";
    Refused [Refused] "The daemon will not do it as things are";
    Large [TooLarge] "The body is larger than 64 KiB";
    NotJson [NotJson] "The body is not JSON";
    WrongHost [WrongHost] "The site is not called so";
    KeyReused [KeyReused] "The idempotency key came before, with another request";
    Wait [Wait] "Too many wrong tokens came from this address, or too many live pages of one user are open",
        "Retry-After" Integer "Seconds.";
    Broken [Internal] "Something is broken; the daemon’s log says more";
    Unavailable [Unavailable] "A store does not answer, or there is no room", "Retry-After" Integer "Seconds.";
    NoAnswer [NoAnswer] "The daemon did not answer in 30 s; it may still do it";
}

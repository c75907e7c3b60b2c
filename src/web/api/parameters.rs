//! Parameters of the OpenAPI document that operations share. Each stands once among its components.

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Required, Schema};
use utoipa::{IntoParams, PartialSchema};

use super::schemas::{Name, RunName};

fn text(pattern: &str) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).into()
}

macro_rules! shared {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal in $place:ident, $schema:expr;)*) => {
        $(
            $(#[doc = $doc])+
            pub(crate) enum $name {}

            impl $name {
                pub(crate) fn parameter() -> Parameter {
                    let place = ParameterIn::$place;
                    let needed = if place == ParameterIn::Path { Required::True } else { Required::False };
                    ParameterBuilder::new()
                        .name($word)
                        .parameter_in(place)
                        .required(needed)
                        .description(Some(concat!($($doc),+).trim()))
                        .schema(Some($schema))
                        .build()
                }
            }

            impl IntoParams for $name {
                fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                    vec![Self::parameter()]
                }
            }
        )*

        /// All of them, by the name of the component.
        pub(crate) fn all() -> [(&'static str, Parameter); 5] {
            [$((stringify!($name), $name::parameter())),*]
        }
    };
}

shared! {
    /// Name of the DAG.
    Dag = "name" in Path, Name::schema();
    /// `DAG@KEY`, for example `kis-trading-day@2026-11-20`.
    Run = "id" in Path, RunName::schema();
    /// Name of the step.
    Step = "step" in Path, Name::schema();
    /// Any value. Needed when there is no JSON body, so that no page of another site can send the request.
    Header = "x-openbell" in Header, ObjectBuilder::new().schema_type(Type::String);
    /// Chosen by whoever asks, for example a UUID; bare or in quotes. A request with the same key and body is
    /// carried out once.
    Key = "Idempotency-Key" in Header, text("^[A-Za-z0-9._:-]{1,128}$");
}

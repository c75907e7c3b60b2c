//! The OpenAPI document, made of what stands at the handlers.
//!
//! What the door and the guard answer in front of every handler is added here, so that no handler has to say
//! it.

use std::borrow::Cow;
use std::sync::LazyLock;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, Schema,
    SecurityRequirement, ServerBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use super::answers::{self, Forbidden, KeyReused, Large, NotJson, Slow, Unknown, Unusable, Wait, WrongHost};
use super::parameters;
use super::schemas::True;
use crate::http::problem::Problem;
use crate::locale::Reader;

const TITLE: &str = "openbell";
const ABOUT: &str = "\
    What runs in an openbell daemon, and commands to it. Instants are RFC 3339 in UTC. While users are \
    configured every request needs a token (made with `openbell token create`) or a session: with the \
    role viewer it may read, with the role operator also act.\n\n\
    What is refused is answered with a problem of RFC 9457 (`Problem`); its `type` is stable. Any path \
    may also answer 404 `unknown-path` and 405 `wrong-method`; a head that is no HTTP or too long gets \
    400 or 431 without a body.\n\n\
    Lists come in parts: `limit` says how many, and the `next` of a part is the `after` of the next; it \
    is null at the end.\n\n\
    A POST with an `Idempotency-Key` is carried out once: sent again within a day, also after a restart \
    of the daemon, it is given the first answer again, with `Idempotency-Replayed: true`. A request that \
    was refused did nothing and is not remembered. pause, resume, cancel, mark and down do no more when \
    sent twice.";
const TAGS: [(&str, &str); 6] = [
    ("daemon", "The daemon itself, and who asks it."),
    ("dags", "DAGs, their files and their calendar."),
    ("runs", "Runs, what can be done with them, and what their steps printed."),
    ("alerts", "Alerts, their mails, and who did what."),
    ("log", "Topics and dead letters."),
    ("market", "Symbols and their sessions."),
];
/// The address of the API; its place in the document changes with the path below which the site is shown.
const SERVER: &str = "/api/v1";

const AGAIN: &str = "`true`: the answer of the first request with this key.";
const TOKEN: &str = "A token of `openbell token create`.";
const COOKIE: &str = "The cookie of a login (`__Host-openbell` over HTTPS); what acts also needs the header \
    x-openbell or a JSON body.";

/// The document before there are paths in it.
pub(crate) fn empty() -> OpenApi {
    let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).description(Some(TOKEN));
    let cookie = ApiKeyValue::with_description("openbell", COOKIE);
    let mut components = ComponentsBuilder::new()
        .schema(Problem::name(), Problem::schema())
        .security_scheme("token", SecurityScheme::Http(bearer.build()))
        .security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    for (name, parameter) in parameters::all() {
        components = components.parameter(name, parameter);
    }
    for (name, answer) in answers::ALL.iter().map(answers::Answer::component) {
        components = components.response(name, answer);
    }
    let one_of = ["token", "session"].map(|name| SecurityRequirement::new(name, Vec::<String>::new()));
    OpenApiBuilder::new()
        .info(InfoBuilder::new().title(TITLE).version("1").description(Some(ABOUT)))
        .servers(Some([ServerBuilder::new().url(SERVER).build()]))
        .security(Some(one_of.into_iter().chain([SecurityRequirement::default()])))
        .tags(Some(TAGS.map(|(name, said)| TagBuilder::new().name(name).description(Some(said)).build())))
        .components(Some(components.build()))
        .build()
}

/// Operations of a path, with their methods as OpenAPI writes them.
fn operations_of(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [("get", get), ("put", put), ("post", post), ("delete", delete), ("patch", patch)]
        .into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Adds what is true of every operation of its kind.
fn complete(mut document: OpenApi) -> OpenApi {
    let components = document.components.clone().unwrap_or_default();
    for (method, operation) in document.paths.paths.values_mut().flat_map(operations_of) {
        let mut refusals = vec![Unusable::ANSWER, Unknown::ANSWER, WrongHost::ANSWER, Wait::ANSWER];
        if method != "get" {
            refusals.extend([Forbidden::ANSWER, Slow::ANSWER, Large::ANSWER]);
            operation.parameters.get_or_insert_default().push(RefOr::T(parameters::Header::parameter()));
        }
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            refusals.push(NotJson::ANSWER);
            // An empty body counts as an empty object.
            let optional = may_be_empty(&components, body);
            body.required = Some(if optional { Required::False } else { Required::True });
        }
        let key = RefOr::T(parameters::Key::parameter());
        if operation.parameters.iter().flatten().any(|parameter| *parameter == key) {
            refusals.push(KeyReused::ANSWER);
            if let Some(RefOr::T(done)) = operation.responses.responses.get_mut("200") {
                let replayed = HeaderBuilder::new().schema(Some(True::schema())).description(Some(AGAIN));
                done.headers.insert("Idempotency-Replayed".to_owned(), replayed.build().into());
            }
        }
        for refusal in refusals {
            refusal.add(operation);
        }
        refer(operation);
        // A comment of several lines.
        operation.summary = operation.summary.take().map(|summary| summary.replace('\n', " "));
    }
    document
}

/// Whether a body can be left out.
fn may_be_empty(components: &Components, body: &RequestBody) -> bool {
    body.content.values().all(|content| match content {
        RefOr::T(content) => content.schema.as_ref().is_none_or(|schema| takes_nothing(components, schema)),
        RefOr::Ref(_) => false,
    })
}

/// Whether an object without fields is what a schema wants.
fn takes_nothing(components: &Components, schema: &RefOr<Schema>) -> bool {
    match schema {
        RefOr::T(Schema::Object(object)) => object.required.is_empty(),
        RefOr::T(_) => false,
        RefOr::Ref(Ref { ref_location, .. }) => {
            let name = ref_location.rsplit('/').next().unwrap_or_default();
            components.schemas.get(name).is_some_and(|schema| takes_nothing(components, schema))
        }
    }
}

/// Lets an operation refer to shared parameters instead of repeating them.
fn refer(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let known = parameters::all().into_iter().find(|(_, shared)| *parameter == RefOr::T(shared.clone()));
        if let Some((name, _)) = known {
            *parameter = RefOr::Ref(Ref::new(format!("#/components/parameters/{name}")));
        }
    }
}

/// The document of some routes, whole and as text.
pub(crate) fn text(routes: OpenApi) -> String {
    // Strings, numbers and maps with text for keys are always JSON.
    let text = complete(routes).to_pretty_json().unwrap_or_default();
    // As OpenAPI's registry of formats writes them; the crate puts a hyphen in.
    text.replace("\"format\": \"u-int", "\"format\": \"uint")
}

/// The document of the routes of this site.
#[derive(Clone, Copy)]
pub(crate) struct Document(pub(crate) &'static LazyLock<String>);

/// Every operation of some routes: its method, in lower case, and its path below `/api/v1`.
#[cfg(test)]
pub(crate) fn operations(mut document: OpenApi) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (path, item) in &mut document.paths.paths {
        found.extend(operations_of(item).map(|(method, _)| (method, path.clone())));
    }
    found
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "daemon",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)),
)]
pub(crate) async fn openapi(State(Document(text)): State<Document>, reader: Reader) -> Response {
    let base = reader.base;
    // Where a client finds what the document lists.
    let document = if base.is_root() {
        Cow::Borrowed(text.as_str())
    } else {
        let url = |base: &str| format!("\"url\": \"{base}{SERVER}\"");
        Cow::Owned(text.replacen(&url(""), &url(&base.to_string()), 1))
    };
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

//! Every path of the site. Those of the API stand in [`api_routes`], each made of what its handler says of
//! itself.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::problem::Kind;
use crate::http::reply::Refusal;
use crate::http::{guard, reader};
use crate::pages::{
    account, alerts, assets, audit, dag, dags, dead_letters, events, language, market, output, run, today,
    topics,
};
use crate::server::Site;
use crate::{api, auth};
use domain::said;

/// Largest request body, in bytes.
const BODY_BYTES: usize = 64 * 1024;

/// The API. A route is what stands at its handler: without a description there is no route.
pub(crate) fn api_routes() -> OpenApiRouter<Site> {
    OpenApiRouter::with_openapi(api::document::empty())
        .routes(routes!(api::document::openapi))
        .routes(routes!(api::process::whoami))
        .routes(routes!(api::process::snapshot))
        .routes(routes!(api::process::export))
        .routes(routes!(api::process::down))
        .routes(routes!(api::events::events))
        .routes(routes!(api::dags::dags))
        .routes(routes!(api::dags::dag))
        .routes(routes!(api::dags::calendar))
        .routes(routes!(api::dags::pause))
        .routes(routes!(api::dags::resume))
        .routes(routes!(api::dags::backfill))
        .routes(routes!(api::runs::runs, api::runs::trigger))
        .routes(routes!(api::runs::dag_runs))
        .routes(routes!(api::runs::run))
        .routes(routes!(api::runs::cancel))
        .routes(routes!(api::runs::clear))
        .routes(routes!(api::runs::mark))
        .routes(routes!(output::api::output))
        .routes(routes!(output::api::lines))
        .routes(routes!(api::alerts::alerts))
        .routes(routes!(api::alerts::test_mail))
        .routes(routes!(api::alerts::outbox))
        .routes(routes!(api::audit::audit))
        .routes(routes!(topics::api::topics))
        .routes(routes!(topics::api::topic))
        .routes(routes!(topics::api::records))
        .routes(routes!(dead_letters::api::dead_letters))
        .routes(routes!(dead_letters::api::dead_letters_of))
        .routes(routes!(dead_letters::api::dead_letter))
        .routes(routes!(dead_letters::api::replay))
        .routes(routes!(market::api::symbols))
        .routes(routes!(market::api::symbol))
}

/// The OpenAPI document of it.
pub(crate) static OPENAPI: LazyLock<String> =
    LazyLock::new(|| api::document::text(api_routes().into_openapi()));

/// Every operation of it: its method, in lower case, and its path below `/api/v1`.
#[cfg(test)]
pub(crate) fn operations() -> Vec<(&'static str, String)> {
    api::document::operations(api_routes().into_openapi())
}

/// The site.
pub(crate) fn router(site: Site) -> Router {
    let inside = Router::new()
        .route("/", get(today::page))
        .route("/dags", get(dags::page))
        .route("/dags/{name}/pause", post(dag::pause))
        .route("/dags/{name}/resume", post(dag::resume))
        .route("/dags/{name}/trigger", post(dag::trigger))
        .route("/runs/{id}", get(run::page))
        .route("/runs/{id}/cancel", post(run::cancel))
        .route("/runs/{id}/clear", post(run::clear))
        .route("/runs/{id}/mark", post(run::mark))
        .route("/runs/{id}/steps/{step}/output", get(output::page))
        .route("/runs/{id}/steps/{step}/output/live", get(output::live))
        .route("/dags/{name}", get(dag::page))
        .route("/alerts", get(alerts::page))
        .route("/alerts/test", post(alerts::test_mail))
        .route("/audit", get(audit::page))
        .route("/topics", get(topics::list))
        .route("/topics/{name}", get(topics::one))
        .route("/dead-letters", get(dead_letters::list))
        .route("/dead-letters/{topic}", get(dead_letters::messages))
        .route("/dead-letters/{topic}/{partition}/{offset}", get(dead_letters::message))
        .route("/dead-letters/replay", post(dead_letters::replay))
        .route("/market", get(market::list))
        .route("/market/{symbol}", get(market::one))
        .route("/events", get(events::events))
        .route("/assets/{file}", get(assets::asset))
        .route("/favicon.ico", get(assets::icon))
        .route("/metrics", get(api::health::metrics))
        .route("/language", get(language::choose))
        .route("/healthz", get(api::health::healthz))
        .route("/readyz", get(api::health::readyz))
        .route("/login", get(account::login_form).post(account::log_in))
        .route("/logout", post(account::log_out))
        .route("/account", get(account::account))
        .route("/account/password", post(account::change_password))
        .route("/account/logout-everywhere", post(account::log_out_everywhere))
        .nest("/api/v1", api_routes().into())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(site.door.clone(), auth::door))
        .layer(middleware::from_fn_with_state(site.public_authority.clone(), guard::guard))
        .with_state(site.clone());
    // Around the routes, since it changes the path by which they are found.
    Router::new().fallback_service(inside).layer(middleware::from_fn_with_state(site.address, reader))
}

async fn unknown(request: Request) -> Response {
    let error = said!("there is nothing at {}", request.uri().path());
    let api = request.uri().path().starts_with("/api/");
    let remedy = if api {
        said!("GET /api/v1/openapi.json lists what there is")
    } else {
        said!("start from the first page")
    };
    Refusal::missing(error, remedy).kind(Kind::UnknownPath).answer(api)
}

async fn wrong_method(request: Request) -> Response {
    let error = said!("{} is not possible on {}", request.method().as_str(), request.uri().path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error, said!("GET /api/v1/openapi.json lists what is"))
        .answer(request.uri().path().starts_with("/api/"))
}

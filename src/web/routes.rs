//! Every path of the site. The API's routes are a table, so that a test can compare it with the OpenAPI document.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use super::problem::Kind;
use super::reply::{self, Refusal};
use super::server::Shared;
use super::{
    actions, api, auth, backfill, control, dead_letters, events, export, guard, health, market, output, output_lines,
    output_page, pages, reader, topics,
};

/// Largest request body, in bytes.
const BODY_BYTES: usize = 64 * 1024;

/// A route of the API.
pub(super) struct ApiRoute {
    /// Method, in lower case as in OpenAPI.
    #[cfg_attr(not(test), expect(dead_code, reason = "compared with the OpenAPI document by a test"))]
    pub(super) method: &'static str,
    /// Path below `/api/v1`.
    pub(super) path: &'static str,
    handler: MethodRouter<Shared>,
}

/// The API.
pub(super) fn api_routes() -> Vec<ApiRoute> {
    let at = |method, path, handler| ApiRoute { method, path, handler };
    vec![
        at("get", "/openapi.json", get(api::openapi)),
        at("get", "/whoami", get(api::whoami)),
        at("get", "/snapshot", get(api::snapshot)),
        at("get", "/events", get(events::api)),
        at("post", "/export", post(export::api)),
        at("get", "/dags", get(api::dags)),
        at("post", "/dags/{name}/pause", post(api::pause)),
        at("post", "/dags/{name}/resume", post(api::resume)),
        at("get", "/runs", get(control::runs)),
        at("post", "/runs", post(api::trigger)),
        at("get", "/runs/{id}", get(api::run)),
        at("post", "/runs/{id}/cancel", post(api::cancel)),
        at("post", "/runs/{id}/clear", post(api::clear)),
        at("post", "/runs/{id}/mark", post(api::mark)),
        at("get", "/runs/{id}/steps/{step}/output", get(output::api)),
        at("get", "/runs/{id}/steps/{step}/lines", get(output_lines::lines)),
        at("get", "/alerts", get(control::alerts)),
        at("post", "/alerts/test", post(api::test_mail)),
        at("get", "/dags/{name}", get(control::dag)),
        at("get", "/dags/{name}/runs", get(control::dag_runs)),
        at("get", "/dags/{name}/calendar", get(control::calendar)),
        at("post", "/dags/{name}/backfill", post(backfill::backfill)),
        at("get", "/outbox", get(control::outbox)),
        at("get", "/audit", get(control::audit)),
        at("post", "/down", post(api::down)),
        at("get", "/topics", get(topics::api_list)),
        at("get", "/topics/{name}", get(topics::api_one)),
        at("get", "/topics/{name}/records", get(topics::api_records)),
        at("get", "/dead-letters", get(dead_letters::api_list)),
        at("get", "/dead-letters/{topic}", get(dead_letters::api_messages)),
        at("get", "/dead-letters/{topic}/{partition}/{offset}", get(dead_letters::api_message)),
        at("post", "/dead-letters/replay", post(dead_letters::api_replay)),
        at("get", "/market", get(market::api_list)),
        at("get", "/market/{symbol}", get(market::api_one)),
    ]
}

/// The site.
pub(super) fn router(site: Shared) -> Router {
    let api = api_routes().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler));
    let inside = Router::new()
        .route("/", get(pages::today))
        .route("/dags", get(pages::dags))
        .route("/dags/{name}/pause", post(actions::pause))
        .route("/dags/{name}/resume", post(actions::resume))
        .route("/dags/{name}/trigger", post(actions::trigger))
        .route("/runs/{id}", get(pages::run))
        .route("/runs/{id}/cancel", post(actions::cancel))
        .route("/runs/{id}/clear", post(actions::clear))
        .route("/runs/{id}/mark", post(actions::mark))
        .route("/runs/{id}/steps/{step}/output", get(output_page::page))
        .route("/runs/{id}/steps/{step}/output/live", get(output_page::live))
        .route("/dags/{name}", get(pages::dag))
        .route("/alerts", get(pages::alerts))
        .route("/alerts/test", post(actions::test_mail))
        .route("/audit", get(pages::audit))
        .route("/topics", get(topics::list))
        .route("/topics/{name}", get(topics::one))
        .route("/dead-letters", get(dead_letters::list))
        .route("/dead-letters/{topic}", get(dead_letters::messages))
        .route("/dead-letters/{topic}/{partition}/{offset}", get(dead_letters::message))
        .route("/dead-letters/replay", post(dead_letters::replay))
        .route("/market", get(market::list))
        .route("/market/{symbol}", get(market::one))
        .route("/events", get(events::events))
        .route("/assets/{file}", get(pages::asset))
        .route("/favicon.ico", get(pages::icon))
        .route("/metrics", get(health::metrics))
        .route("/language", get(reader::language::choose))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/login", get(auth::login_form).post(auth::log_in))
        .route("/logout", post(auth::log_out))
        .route("/account", get(auth::account))
        .route("/account/password", post(auth::change_password))
        .route("/account/logout-everywhere", post(auth::log_out_everywhere))
        .nest("/api/v1", api)
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(site.clone(), auth::door))
        .layer(middleware::from_fn_with_state(site.clone(), guard::guard))
        .with_state(site.clone());
    // Around the routes, since it changes the path by which they are found.
    Router::new().fallback_service(inside).layer(middleware::from_fn_with_state(site, reader::front::front))
}

fn answer(request: &Request, refusal: Refusal) -> Response {
    if request.uri().path().starts_with("/api/") {
        reply::json(refusal).into_response()
    } else {
        reply::page(refusal).into_response()
    }
}

async fn unknown(request: Request) -> Response {
    let error = format!("there is nothing at {}", request.uri().path());
    let api = request.uri().path().starts_with("/api/");
    let remedy = if api { "GET /api/v1/openapi.json lists what there is" } else { "start from the first page" };
    answer(&request, Refusal::missing(error, remedy).kind(Kind::UnknownPath))
}

async fn wrong_method(request: Request) -> Response {
    let error = format!("{} is not possible on {}", request.method(), request.uri().path());
    answer(&request, Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error, "GET /api/v1/openapi.json lists what is"))
}

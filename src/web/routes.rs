//! Every path of the site. Those of the API stand in [`api::routes`], each made of what its handler says of
//! itself.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::http::problem::Kind;
use crate::http::reply::{self, Refusal};
use crate::http::{guard, reader};
use crate::pages::{
    account, alerts, assets, audit, dag, dags, dead_letters, events, language, market, output, run, today, topics,
};
use crate::server::Shared;
use crate::{api, auth};
use domain::said;

/// Largest request body, in bytes.
const BODY_BYTES: usize = 64 * 1024;

/// The site.
pub(crate) fn router(site: Shared) -> Router {
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
        .nest("/api/v1", api::routes().into())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(site.clone(), auth::door))
        .layer(middleware::from_fn_with_state(site.clone(), guard::guard))
        .with_state(site.clone());
    // Around the routes, since it changes the path by which they are found.
    Router::new().fallback_service(inside).layer(middleware::from_fn_with_state(site, reader))
}

fn answer(request: &Request, refusal: Refusal) -> Response {
    if request.uri().path().starts_with("/api/") {
        reply::json(refusal).into_response()
    } else {
        reply::page(refusal).into_response()
    }
}

async fn unknown(request: Request) -> Response {
    let error = said!("there is nothing at {}", request.uri().path());
    let api = request.uri().path().starts_with("/api/");
    let remedy = if api { said!("GET /api/v1/openapi.json lists what there is") } else { said!("start from the first page") };
    answer(&request, Refusal::missing(error, remedy).kind(Kind::UnknownPath))
}

async fn wrong_method(request: Request) -> Response {
    let error = said!("{} is not possible on {}", request.method().as_str(), request.uri().path());
    answer(&request, Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error, said!("GET /api/v1/openapi.json lists what is")))
}

//! The journal as plain text, for a backup that is taken while the daemon runs.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::http::body::{Body, Nothing, body};
use crate::http::reply::{ApiRefusal, Refusal};
use crate::server::App;
use domain::message::Message;
use domain::said;

/// Writes the journal into a file of the data folder, and says where.
pub(crate) async fn export(State(app): State<App>, headers: HeaderMap, sent: Body) -> Result<Json<Value>, ApiRefusal> {
    let (Nothing {}, _) = body(&headers, sent)?;
    let file = app.handle.export().await.map_err(|error| {
        tracing::error!(%error, "the journal cannot be exported");
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Message::foreign(error.to_string()),
            said!("look at the data folder's rights and disk"),
        )
    })?;
    Ok(Json(json!({ "file": file })))
}

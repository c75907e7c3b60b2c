//! Forms of the pages. Each carries the site's token and leads back to the page it came from.

use std::collections::BTreeMap;

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::response::Redirect;

use super::guard::check_token;
use super::reply::{PageRefusal, Refusal};
use crate::server::App;
use domain::message::Message;
use domain::said;

pub(crate) type Fields = Result<Form<BTreeMap<String, String>>, FormRejection>;
/// The answer to a form: where to go back to.
pub(crate) type Done = Result<Redirect, PageRefusal>;

/// Fields of a form whose token is right.
pub(crate) fn checked(app: &App, fields: Fields) -> Result<BTreeMap<String, String>, Refusal> {
    let Form(fields) = fields.map_err(|error| {
        Refusal::new(error.status(), Message::foreign(error.body_text().to_lowercase()), said!("send the form of the page"))
    })?;
    check_token(fields.get("csrf"), &app.csrf)?;
    Ok(fields)
}

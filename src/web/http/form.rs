//! Forms of the pages. Each carries the token of whoever asks and leads back to the page it came from.

use std::collections::BTreeMap;

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{FromRequest, Request};
use axum::response::Redirect;

use super::caller::Caller;
use super::guard::check_token;
use super::reply::{PageRefusal, Refusal};
use domain::message::Message;
use domain::said;

/// The fields of a form, whose token need not be right.
pub(crate) struct Fields(pub(crate) BTreeMap<String, String>);

/// The fields of a form whose token is that of whoever sends it.
pub(crate) struct Checked(pub(crate) BTreeMap<String, String>);

/// The answer to a form: where to go back to.
pub(crate) type Done = Result<Redirect, PageRefusal>;

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = PageRefusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, PageRefusal> {
        let refuse = |error: FormRejection| {
            let words = Message::foreign(error.body_text().to_lowercase());
            PageRefusal(Refusal::new(error.status(), words, said!("send the form of the page")))
        };
        Form::from_request(request, state).await.map(|Form(fields)| Self(fields)).map_err(refuse)
    }
}

impl<S: Send + Sync> FromRequest<S> for Checked {
    type Rejection = PageRefusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, PageRefusal> {
        let caller = Caller::of(request.extensions());
        let Fields(fields) = Fields::from_request(request, state).await?;
        check_token(fields.get("csrf"), caller.form_token())?;
        Ok(Self(fields))
    }
}

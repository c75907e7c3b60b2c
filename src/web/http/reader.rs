//! Stands before everything else: takes the base path off a request, finds out the language, and puts the
//! base path before redirects.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE, CONTENT_TYPE, LOCATION, VARY};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::Response;

use super::caller::Caller;
use super::guard;
use super::page::Frame;
use super::reply::Refusal;
use crate::locale::{BasePath, Language, Reader, choice};
use domain::said;

/// Where the site is.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// What every path of it begins with.
    pub(crate) base: BasePath,
    /// People reach it encrypted.
    pub(crate) https: bool,
}

/// Who reads the answer to a request, and where they are.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) reader: Reader,
    /// Path and query of the page, to come back to.
    pub(crate) place: String,
}

impl Default for Asked {
    fn default() -> Self {
        Self { reader: Reader::default(), place: "/".to_owned() }
    }
}

impl Asked {
    /// What was left with a request; where nothing was, English, at the root.
    pub(crate) fn of(left: &Extensions) -> Self {
        left.get::<Self>().cloned().unwrap_or_default()
    }
}

impl<S: Sync> FromRequestParts<S> for Reader {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Asked::of(&parts.extensions).reader)
    }
}

/// The language a browser has chosen here, else the one it likes best.
fn language(headers: &HeaderMap) -> Language {
    let liked = || Language::accepted(headers.get(ACCEPT_LANGUAGE)?.to_str().ok()?);
    choice::chosen(headers).or_else(liked).unwrap_or_default()
}

/// Where a request leads on the site. Probes come to the machine itself, without the proxy and its path.
fn inside(base: &BasePath, uri: &Uri) -> Option<PathAndQuery> {
    let path = match uri.path() {
        path @ ("/healthz" | "/readyz") => path,
        path => base.strip(path)?,
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{path}{query}").parse().ok()
}

/// Answers for a reader, below the base path, and draws the refusals of pages.
pub(crate) async fn reader(State(address): State<Address>, mut request: Request, next: Next) -> Response {
    let reader = Reader { language: language(request.headers()), base: address.base };
    let asks = matches!(*request.method(), Method::GET | Method::HEAD);
    let found = inside(&reader.base, request.uri());
    let place = found.as_ref().filter(|_| asks).map_or("/", PathAndQuery::as_str).to_owned();
    let asked = Asked { reader: reader.clone(), place };
    let mut response = match found {
        Some(found) => {
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(found);
            // The same address with a shorter path is one, too.
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
            request.extensions_mut().insert(asked.clone());
            next.run(request).await
        }
        None => outside(&reader.base, request.uri()),
    };
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        let caller = Caller::of(response.extensions());
        Frame::new(asked, caller).draw(&refusal, &mut response);
    }
    guard::dress(address.https, &mut response);
    dress(&reader, &mut response);
    response
}

fn outside(base: &BasePath, uri: &Uri) -> Response {
    let error = said!("there is nothing at {}: this site is below {}", uri.path(), format!("{base}/"));
    let wanted = format!("{base}{}", uri.path());
    let remedy =
        said!("ask for {}; a proxy has to pass the path on whole, or base_path has to be left out", wanted);
    Refusal::missing(error, remedy).answer(uri.path().starts_with("/api/"))
}

/// Redirects lead below the base path; pages say in which language they are, and that another reader would
/// get another page.
fn dress(reader: &Reader, response: &mut Response) {
    let headers = response.headers_mut();
    let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).map(|to| reader.base.join(to));
    if let Some(to) = to.and_then(|to| HeaderValue::from_str(&to).ok()) {
        headers.insert(LOCATION, to);
    }
    let page = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if page {
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(reader.language.code()));
        headers.append(VARY, HeaderValue::from_static("accept-language, cookie"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_counts_more_than_what_a_browser_likes() {
        let with = |cookie: &'static str, accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(axum::http::header::COOKIE, HeaderValue::from_static(cookie));
            headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static(accept));
            language(&headers)
        };
        assert_eq!(with("a=b; openbell-language=ko", "en"), Language::Korean);
        assert_eq!(with("openbell-language=en", "ko"), Language::English);
        assert_eq!(with("openbell-language=xx", "ko-KR,ko;q=0.9,en;q=0.8"), Language::Korean);
        assert_eq!(with("", "de, en;q=0.5, ko;q=0.7"), Language::Korean);
        assert_eq!(with("", "ko;q=0, *;q=0.1"), Language::English);
        assert_eq!(with("", "de-DE"), Language::English);
        assert_eq!(language(&HeaderMap::new()), Language::English);
    }

    #[test]
    fn probes_need_no_base_path() {
        let base: BasePath = "/ob".parse().expect("a path");
        let at = |uri: &str| inside(&base, &uri.parse().expect("a uri")).map(|p| p.to_string());
        assert_eq!(at("/ob/dags?skip=3").as_deref(), Some("/dags?skip=3"));
        assert_eq!(at("/healthz").as_deref(), Some("/healthz"));
        assert_eq!(at("/ob/readyz").as_deref(), Some("/readyz"));
        assert_eq!((at("/dags"), at("/"), at("/obx")), (None, None, None));
    }
}

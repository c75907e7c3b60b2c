//! The search index in Elasticsearch 8 or 9, or OpenSearch: `http://host:9200[,host:9200…][/path]` or
//! `https://…`.
//!
//! `user` and `password` sign in by name; a `password` without a `user` is an API key in its encoded form.
//! Plain JSON is spoken, without the media types that only one version of a server knows.
//!
//! Documents are checked against the templates put by this process before they are sent, with the rules of
//! the embedded index: the server alone would cut `1.5` to a `long`, or take a bare number for a date. Each
//! stored document carries its id as a field too ([`mapping::ID_FIELD`]), because servers do not sort by
//! `_id`. Reading refreshes first, so that it sees what was written.

mod answer;
mod mapping;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use elasticsearch::auth::Credentials;
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::headers::{CONTENT_TYPE, HeaderMap, HeaderValue};
use elasticsearch::http::transport::{MultiNodeConnectionPool, Transport, TransportBuilder};
use elasticsearch::http::{Method, StatusCode, Url};
use parking_lot::{Mutex, RwLock};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use self::answer::Answer;
use self::mapping::{Dialect, ID_FIELD};
use super::embedded::mapping as rules;
use super::{Index, Item, ItemResult, Op, Template};
use crate::endpoint::Endpoint;
use crate::remote::{Limits, authorities, causes, remedy, start_of, unusable, within};
use crate::{BackendError, ErrorKind, Result};

/// Hits of one search: the servers' default limit.
const PAGE: usize = 10_000;
/// Patterns that match nothing are empty, not an error.
const LENIENT: &str = "ignore_unavailable=true&allow_no_indices=true&expand_wildcards=open";

/// See the module.
pub struct ElasticIndex {
    place: String,
    endpoint: Endpoint,
    transport: Transport,
    limits: Limits,
    templates: RwLock<Vec<Template>>,
    /// Indices that have the id field.
    prepared: Mutex<HashSet<String>>,
}

impl ElasticIndex {
    /// Prepares the client; nothing is sent before the first call.
    ///
    /// # Errors
    /// `Rejected` for an address that cannot be used, `Forbidden` when the reference to the password leads
    /// nowhere.
    pub fn connect(endpoint: &Endpoint) -> Result<Self> {
        let place = format!("index {endpoint}");
        let wrong = |why: String| {
            BackendError::new(ErrorKind::Rejected, &place, why)
                .remedy("write http://HOST:9200 or https://HOST:9200")
        };
        endpoint.only(&["compress"]).map_err(|e| unusable(&place, &e))?;
        let urls = endpoint
            .hosts
            .iter()
            .map(|host| Url::parse(&format!("{}://{host}/{}", endpoint.scheme, endpoint.path)));
        let urls: Vec<Url> = urls.collect::<Result<_, _>>().map_err(|e| wrong(e.to_string()))?;
        let mut builder = TransportBuilder::new(MultiNodeConnectionPool::round_robin(urls, None))
            .disable_proxy()
            .enable_meta_header(false)
            .request_body_compression(endpoint.switch("compress", false).map_err(|e| unusable(&place, &e))?)
            .timeout(Limits::USUAL.work);
        if let Some(pem) = authorities(&place, endpoint)? {
            let authority = Certificate::from_pem(&pem).map_err(|e| wrong(causes(&e)))?;
            builder = builder.cert_validation(CertificateValidation::Full(authority));
        }
        if let Some(credentials) = credentials(&place, endpoint)? {
            builder = builder.auth(credentials);
        }
        let transport = builder.build().map_err(|e| wrong(causes(&e)))?;
        Ok(Self {
            place,
            endpoint: endpoint.clone(),
            transport,
            limits: Limits::USUAL,
            templates: RwLock::default(),
            prepared: Mutex::default(),
        })
    }

    /// Sends a request, to the next host when one cannot be reached, and waits for the whole answer in
    /// bounded time.
    async fn ask(
        &self,
        place: &str,
        method: Method,
        path: &str,
        body: Option<Body>,
        limit: Duration,
    ) -> Result<Answer> {
        let mut headers = HeaderMap::new();
        let body = body.map(|body| match body {
            Body::Json(value) => value.to_string().into_bytes(),
            Body::Lines(lines) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
                lines
            }
        });
        let call = async {
            let mut hosts_left = self.endpoint.hosts.len();
            loop {
                let sent = self
                    .transport
                    .send(method, path, headers.clone(), None::<&()>, body.as_deref(), Some(limit))
                    .await;
                let response = match sent {
                    Ok(response) => response,
                    Err(error) => {
                        hosts_left -= 1;
                        // Nothing was sent, so that asking another host is no repeat.
                        if hosts_left > 0 && http(&error).is_some_and(reqwest::Error::is_connect) {
                            continue;
                        }
                        return Err(self.unreachable(place, &error));
                    }
                };
                let status = response.status_code();
                let body = response.bytes().await.map_err(|e| self.unreachable(place, &e))?.to_vec();
                return Ok(Answer { status, body });
            }
        };
        let answer = within(limit, place, call).await?;
        if answer.status == StatusCode::UNAUTHORIZED
            && let Ok(Some(credentials)) = credentials(&self.place, &self.endpoint)
        {
            // The password may have been changed: the next call uses the one that is written now.
            self.transport.set_auth(credentials);
        }
        Ok(answer)
    }

    fn unreachable(&self, place: &str, error: &elasticsearch::Error) -> BackendError {
        let message = start_of(&causes(error), 400);
        let remedy = remedy(&message);
        BackendError::new(ErrorKind::Unavailable, place, message).remedy(remedy)
    }

    /// An answer that must be a success.
    async fn done(
        &self,
        place: &str,
        method: Method,
        path: &str,
        body: Option<Body>,
        limit: Duration,
    ) -> Result<Answer> {
        let answer = self.ask(place, method, path, body, limit).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(answer.refused(place)) }
    }

    fn place_of(&self, index: &str) -> String {
        format!("{} {index}", self.place)
    }

    async fn dialect(&self) -> Result<Dialect> {
        let answer = self.ask(&self.place, Method::Get, "", None, self.limits.answer).await?;
        let about: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        // Small distributions and careful proxies do not say what they are.
        let open = about["version"]["distribution"] == "opensearch";
        Ok(if open { Dialect::OpenSearch } else { Dialect::Elasticsearch })
    }

    /// The template of an index: the one with the longest prefix.
    fn template(&self, index: &str) -> Option<Template> {
        let templates = self.templates.read();
        templates.iter().filter(|t| index.starts_with(&t.prefix)).max_by_key(|t| t.prefix.len()).cloned()
    }

    /// Makes sure that an index is there and has the id field, once: in an index made by a document's arrival
    /// without a template, the field would be a text, by which nothing can be sorted.
    async fn prepare(&self, index: &str) -> Result<()> {
        if self.prepared.lock().contains(index) {
            return Ok(());
        }
        let place = self.place_of(index);
        let name = encoded(index);
        let fields = json!({ "properties": mapping::own_fields() });
        let mut answer = self
            .ask(
                &place,
                Method::Put,
                &format!("{name}/_mapping"),
                Some(Body::Json(fields.clone())),
                self.limits.work,
            )
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            answer = self
                .ask(
                    &place,
                    Method::Put,
                    &name,
                    Some(Body::Json(json!({ "mappings": fields }))),
                    self.limits.work,
                )
                .await?;
            if answer.error_type() == "resource_already_exists_exception" {
                // Another process was faster, and does the same.
                return Ok(());
            }
        }
        match answer.status.as_u16() {
            200..=299 => {}
            // A user that may only write: the bulk call will tell whether the index is there.
            403 => tracing::debug!(index, "the user may not look after the index; it is taken as it is"),
            400 if answer.error_type() == "validation_exception" => {
                return Err(BackendError { kind: ErrorKind::Full, ..answer.refused(&place) }
                    .remedy("delete old indices, or raise cluster.max_shards_per_node"));
            }
            400 => {
                // Not the documents' fault, so that they must wait rather than be refused.
                return Err(BackendError { kind: ErrorKind::Unavailable, ..answer.refused(&place) }
                    .remedy("the index was not made by openbell, or a template of others applies to it; delete or reindex it"));
            }
            _ => return Err(answer.refused(&place)),
        }
        self.prepared.lock().insert(index.to_owned());
        Ok(())
    }

    /// Makes what was written visible to searches; false if there is no such index.
    async fn refresh(&self, place: &str, indices: &str) -> Result<bool> {
        let answer = self
            .ask(place, Method::Post, &format!("{indices}/_refresh?{LENIENT}"), None, self.limits.work)
            .await?;
        match answer.status.as_u16() {
            200..=299 => Ok(true),
            404 => Ok(false),
            _ => Err(answer.refused(place)),
        }
    }

    async fn search(&self, place: &str, indices: &str, query: Value) -> Result<Vec<Hit>> {
        let path = format!("{indices}/_search?{LENIENT}");
        let answer =
            self.done(place, Method::Post, &path, Some(Body::Json(query)), self.limits.answer).await?;
        let found: Found = parse(place, &answer.body)?;
        if found.timed_out || found.shards.failed > 0 {
            let message =
                format!("the search reached only a part of the data ({} shards failed)", found.shards.failed);
            return Err(BackendError::new(ErrorKind::Unavailable, place, message)
                .remedy("look at the cluster's health"));
        }
        Ok(found.hits.hits)
    }

    /// What is wrong with an item before it is sent.
    fn check(&self, item: &Item) -> Option<String> {
        if let Some(reason) = rules::refuse_names(&item.index, &item.id) {
            return Some(reason);
        }
        match rules::check(self.template(&item.index).as_ref(), &item.id, &item.source) {
            Err(reason) => Some(reason),
            Ok(fields) if fields.contains_key(ID_FIELD) => {
                Some(format!("the field [{ID_FIELD}] is kept for openbell"))
            }
            Ok(_) => None,
        }
    }
}

enum Body {
    Json(Value),
    Lines(Vec<u8>),
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    timed_out: bool,
    #[serde(rename = "_shards", default)]
    shards: Shards,
    hits: Hits,
}

#[derive(Deserialize, Default)]
struct Shards {
    #[serde(default)]
    failed: u64,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_source", default)]
    source: serde_json::Map<String, Value>,
}

fn credentials(place: &str, endpoint: &Endpoint) -> Result<Option<Credentials>> {
    let password = endpoint.password().map_err(|e| unusable(place, &e))?;
    match (&endpoint.user, password) {
        (Some(user), password) => Ok(Some(Credentials::Basic(user.clone(), password.unwrap_or_default()))),
        // It becomes a header, where the client does not expect anything else.
        (None, Some(key)) if !key.is_empty() && key.chars().all(|c| c.is_ascii_graphic()) => {
            Ok(Some(Credentials::EncodedApiKey(key)))
        }
        (None, Some(_)) => Err(BackendError::new(
            ErrorKind::Forbidden,
            place,
            "a password without a user must be an encoded API key",
        )
        .remedy("write user=NAME too, or the key as the server showed it (\"encoded\")")),
        (None, None) => Ok(None),
    }
}

/// The HTTP client's error inside of an error.
fn http(error: &elasticsearch::Error) -> Option<&reqwest::Error> {
    error.source().and_then(|e| e.downcast_ref())
}

fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// All indices with a prefix.
fn pattern(prefix: &str) -> String {
    format!("{}*", encoded(prefix))
}

fn parse<'a, T: Deserialize<'a>>(place: &str, body: &'a [u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|e| {
        let message = format!(
            "the answer is not what a search server says ({e}): {}",
            start_of(&String::from_utf8_lossy(body), 100)
        );
        BackendError::new(ErrorKind::Unavailable, place, message)
            .remedy("check host, port and path of the index address")
    })
}

#[async_trait]
impl Index for ElasticIndex {
    async fn put_template(&self, template: &Template) -> Result<()> {
        rules::check_template(&self.place, template)?;
        let differs = template.fields.iter().any(|(_, kind)| kind == "flattened");
        let dialect = if differs { self.dialect().await? } else { Dialect::Elasticsearch };
        let path = format!("_index_template/{}", encoded(&template.name));
        let place = format!("{} template {}", self.place, template.name);
        self.done(
            &place,
            Method::Put,
            &path,
            Some(Body::Json(mapping::template(template, dialect))),
            self.limits.work,
        )
        .await?;
        let mut templates = self.templates.write();
        templates.retain(|t| t.name != template.name);
        templates.push(template.clone());
        Ok(())
    }

    async fn bulk(&self, items: Vec<Item>) -> Result<Vec<ItemResult>> {
        let mut results: Vec<_> = items
            .iter()
            .map(|item| self.check(item).map(|reason| ItemResult::Rejected { status: 400, reason }))
            .collect();
        let sent: Vec<(usize, &Item)> =
            items.iter().enumerate().filter(|(n, _)| results[*n].is_none()).collect();
        for index in sent.iter().map(|(_, item)| item.index.as_str()).collect::<BTreeSet<_>>() {
            self.prepare(index).await?;
        }
        if !sent.is_empty() {
            let mut lines =
                Vec::with_capacity(items.iter().map(|i| i.source.len() + 2 * i.id.len() + 100).sum());
            for (_, item) in &sent {
                let op = if item.op == Op::Create { "create" } else { "index" };
                lines
                    .extend(json!({ op: { "_index": item.index, "_id": item.id } }).to_string().into_bytes());
                lines.push(b'\n');
                mapping::with_id(&mut lines, &item.id, &item.source);
                lines.push(b'\n');
            }
            let path = "_bulk?timeout=20s&filter_path=took,errors,items.*.status,items.*.error";
            let answer = self
                .done(&self.place, Method::Post, path, Some(Body::Lines(lines)), self.limits.work)
                .await?;
            let told = answer::items(&answer.body, sent.iter().map(|(_, item)| item.op));
            let told = told.or_else(|_| {
                parse::<Value>(&self.place, &answer.body).and_then(|_| Err(strange(&self.place, "no items")))
            })?;
            if told.len() != sent.len() {
                return Err(strange(&self.place, &format!("{} items for {}", told.len(), sent.len())));
            }
            for ((n, item), result) in sent.into_iter().zip(told) {
                if matches!(result, ItemResult::Retry { status: 404, .. }) {
                    self.prepared.lock().remove(&item.index);
                }
                results[n] = Some(result);
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    async fn indices(&self, prefix: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Named {
            index: String,
        }
        let path = format!("_cat/indices/{}?format=json&h=index&expand_wildcards=open", pattern(prefix));
        let answer = self.ask(&self.place, Method::Get, &path, None, self.limits.answer).await?;
        match answer.status {
            StatusCode::NOT_FOUND => return Ok(Vec::new()),
            status if !status.is_success() => return Err(answer.refused(&self.place)),
            _ => {}
        }
        let named: Vec<Named> = parse(&self.place, &answer.body)?;
        // The servers' own begin with a dot.
        let ours =
            named.into_iter().map(|n| n.index).filter(|n| n.starts_with(prefix) && !n.starts_with('.'));
        Ok(ours.collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn ids(&self, index: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let place = self.place_of(index);
        let name = encoded(index);
        if limit == 0 || index.is_empty() || !self.refresh(&place, &name).await? {
            return Ok(Vec::new());
        }
        let mut ids: Vec<String> = Vec::new();
        while ids.len() < limit {
            let size = PAGE.min(limit - ids.len());
            let mut query = json!({
                "size": size,
                "sort": [{ ID_FIELD: "asc" }],
                "query": if prefix.is_empty() { json!({ "match_all": {} }) } else { json!({ "prefix": { ID_FIELD: prefix } }) },
                "_source": false,
                "track_total_hits": false,
            });
            if let Some(after) = ids.last().map(String::as_str).or(after) {
                query["search_after"] = json!([after]);
            }
            let found = self.search(&place, &name, query).await?;
            let last = found.len() < size;
            ids.extend(found.into_iter().map(|hit| hit.id));
            if last {
                break;
            }
        }
        Ok(ids)
    }

    async fn get(&self, index: &str, id: &str) -> Result<Option<Vec<u8>>> {
        #[derive(Deserialize)]
        struct Got<'a> {
            #[serde(rename = "_source", borrow)]
            source: Option<&'a RawValue>,
        }
        if index.is_empty() || id.is_empty() {
            return Ok(None);
        }
        let place = self.place_of(index);
        let answer = self
            .ask(
                &place,
                Method::Get,
                &format!("{}/_doc/{}", encoded(index), encoded(id)),
                None,
                self.limits.answer,
            )
            .await?;
        match answer.status {
            StatusCode::NOT_FOUND => return Ok(None),
            status if !status.is_success() => return Err(answer.refused(&place)),
            _ => {}
        }
        let got: Got<'_> = parse(&place, &answer.body)?;
        Ok(got.source.map(|source| mapping::without_id(id, source.get())))
    }

    async fn latest(&self, prefix: &str, field: &str) -> Result<Option<String>> {
        let place = self.place_of(&format!("{prefix}*"));
        let indices = pattern(prefix);
        if !self.refresh(&place, &indices).await? {
            return Ok(None);
        }
        let query = json!({
            "size": 1,
            "query": { "exists": { "field": field } },
            "sort": [{ field: { "order": "desc", "unmapped_type": "date", "numeric_type": "date_nanos" } }],
            "_source": [field],
            "track_total_hits": false,
        });
        let found = self.search(&place, &indices, query).await?;
        Ok(found.first().and_then(|hit| rules::date(&hit.source, field)).map(|(_, text)| text))
    }
}

/// An answer that fits no question: what happened is unknown.
fn strange(place: &str, what: &str) -> BackendError {
    BackendError::new(ErrorKind::Unavailable, place, format!("the bulk answer has {what}"))
}

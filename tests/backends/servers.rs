//! The contracts on real servers, each test with names of its own. `scripts/services up` starts such servers
//! and says in which variables their addresses are; a test whose variable is not set says so and passes.

use std::sync::Arc;

use async_trait::async_trait;
use openbell::backends::Result;
use openbell::backends::endpoint::Endpoint;
use openbell::backends::index::elasticsearch::ElasticIndex;
use openbell::backends::index::{Index, Item, ItemResult, Template};
use openbell::backends::log::Log;
use openbell::backends::objects::Objects;
use openbell::backends::objects::s3::S3Objects;
use openbell::backends::raw::Raw;
use openbell::backends::raw::mongodb::MongoRaw;

use crate::places::Place;
pub use crate::support::server as variable;

fn unique() -> String {
    format!("t{:016x}", fastrand::u64(..))
}

/// An address with something appended to its path.
fn below(address: &str, path: &str) -> Endpoint {
    let (place, query) =
        address.split_once('?').map_or((address, String::new()), |(p, q)| (p, format!("?{q}")));
    Endpoint::parse(&format!("{}/{path}{query}", place.trim_end_matches('/'))).expect("an address")
}

/// A server that has one of the stores.
pub enum Server {
    Mongo { address: String, endpoint: Endpoint },
    Search { address: String, prefix: String },
    S3(Endpoint),
}

/// A database of its own.
pub fn mongo(test: &str) -> Option<Server> {
    let address = variable("OPENBELL_MONGO", test)?;
    let mut endpoint = Endpoint::parse(&address).expect("an address");
    endpoint.path = unique();
    Some(Server::Mongo { address, endpoint })
}

/// Indices with a prefix of their own.
pub fn elasticsearch(test: &str) -> Option<Server> {
    Some(Server::Search {
        address: variable("OPENBELL_ELASTICSEARCH", test)?,
        prefix: format!("{}-", unique()),
    })
}

/// Indices with a prefix of their own.
pub fn opensearch(test: &str) -> Option<Server> {
    Some(Server::Search { address: variable("OPENBELL_OPENSEARCH", test)?, prefix: format!("{}-", unique()) })
}

/// Keys with a prefix of their own.
pub fn s3(test: &str) -> Option<Server> {
    Some(Server::S3(below(&variable("OPENBELL_S3", test)?, &unique())))
}

impl Server {
    /// Takes away what a passed test left; the servers are shared.
    pub async fn clean(&self) {
        match self {
            Self::Mongo { address, endpoint } => {
                let client = mongodb::Client::with_uri_str(address).await.expect("a client");
                client.database(&endpoint.path).drop().await.expect("dropped");
            }
            Self::Search { address, prefix } => {
                let client = reqwest::Client::new();
                for index in self.index().await.indices("").await.expect("lists") {
                    client.delete(format!("{address}/{prefix}{index}")).send().await.expect("an answer");
                }
                client
                    .delete(format!("{address}/_index_template/{prefix}*"))
                    .send()
                    .await
                    .expect("an answer");
            }
            Self::S3(_) => {}
        }
    }
}

#[async_trait]
impl Place for Server {
    async fn log(&self) -> Arc<dyn Log> {
        panic!("no log here")
    }

    async fn raw(&self) -> Arc<dyn Raw> {
        let Self::Mongo { endpoint, .. } = self else { panic!("no raw store here") };
        Arc::new(MongoRaw::connect(endpoint).expect("connects"))
    }

    async fn index(&self) -> Arc<dyn Index> {
        let Self::Search { address, prefix } = self else { panic!("no index here") };
        let inner = ElasticIndex::connect(&Endpoint::parse(address).expect("an address")).expect("connects");
        Arc::new(Prefixed { inner, prefix: prefix.clone() })
    }

    async fn objects(&self) -> Arc<dyn Objects> {
        let Self::S3(endpoint) = self else { panic!("no objects here") };
        Arc::new(S3Objects::connect(endpoint).expect("connects"))
    }
}

/// An index whose names all have a prefix that its user does not see.
struct Prefixed {
    inner: ElasticIndex,
    prefix: String,
}

impl Prefixed {
    fn name(&self, index: &str) -> String {
        if index.is_empty() { String::new() } else { format!("{}{index}", self.prefix) }
    }
}

#[async_trait]
impl Index for Prefixed {
    async fn put_template(&self, template: &Template) -> Result<()> {
        let (name, prefix) = (self.name(&template.name), self.name(&template.prefix));
        self.inner.put_template(&Template { name, prefix, fields: template.fields.clone() }).await
    }

    async fn bulk(&self, mut items: Vec<Item>) -> Result<Vec<ItemResult>> {
        for item in &mut items {
            item.index = self.name(&item.index);
        }
        self.inner.bulk(items).await
    }

    async fn indices(&self, prefix: &str) -> Result<Vec<String>> {
        let names = self.inner.indices(&format!("{}{prefix}", self.prefix)).await?;
        Ok(names.iter().filter_map(|n| n.strip_prefix(&self.prefix)).map(str::to_owned).collect())
    }

    async fn ids(&self, index: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        self.inner.ids(&self.name(index), prefix, after, limit).await
    }

    async fn get(&self, index: &str, id: &str) -> Result<Option<Vec<u8>>> {
        self.inner.get(&self.name(index), id).await
    }

    async fn latest(&self, prefix: &str, field: &str) -> Result<Option<String>> {
        self.inner.latest(&format!("{}{prefix}", self.prefix), field).await
    }
}

/// Writes one test a contract function on a kind of server.
#[macro_export]
macro_rules! contract_on {
    ($server:ident: $($name:ident),* $(,)?) => {
        mod $server {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let test = concat!(module_path!(), "::", stringify!($name));
                if let Some(server) = $crate::servers::$server(test) {
                    super::$name(&server).await;
                    server.clean().await;
                }
            })*
        }
    };
}

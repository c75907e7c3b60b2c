//! Servers that stop answering in the middle: every call ends in bounded time, and work goes on when they are
//! back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use openbell::backends::endpoint::Endpoint;
use openbell::backends::index::elasticsearch::ElasticIndex;
use openbell::backends::index::{Index, Item, ItemResult, Op};
use openbell::backends::objects::s3::S3Objects;
use openbell::backends::objects::{Objects, Put};
use openbell::backends::raw::mongodb::MongoRaw;
use openbell::backends::raw::{Document, Raw};
use openbell::backends::{BackendError, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::servers::variable;

/// A call that does not end by then never ends: each store's own limits are far below, and only how long a
/// failure takes is above.
const BOUND: Duration = Duration::from_secs(300);

/// Passes bytes on to a server, unless it is frozen: then connections stay open, new ones too, and nothing
/// moves.
struct Between {
    address: String,
    frozen: watch::Sender<bool>,
}

impl Between {
    async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("an address").to_string();
        let (frozen, state) = watch::channel(false);
        let server = server.to_owned();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (server, state) = (server.clone(), state.clone());
                tokio::spawn(async move {
                    let far = TcpStream::connect(server).await.expect("the server");
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::join!(pass(near_in, far_out, state.clone()), pass(far_in, near_out, state));
                });
            }
        });
        Self { address, frozen }
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut frozen: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if frozen.wait_for(|frozen| !frozen).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// Works, freezes, is told in time, thaws, works again.
async fn survives<T: std::fmt::Debug>(
    between: &Between,
    call: impl AsyncFn(usize) -> Result<T, BackendError>,
) {
    call(0).await.expect("works");
    between.frozen.send_replace(true);
    let error = tokio::time::timeout(BOUND, call(1)).await.expect("it ends").expect_err("frozen");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    between.frozen.send_replace(false);
    let thawed = Instant::now();
    while let Err(error) = call(1).await {
        assert!(thawed.elapsed() < BOUND, "not again: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mongodb_freezes_and_comes_back() {
    let Some(address) = variable("OPENBELL_MONGO", "mongodb_freezes_and_comes_back") else { return };
    let mut endpoint = Endpoint::parse(&address).expect("an address");
    let between = Between::start(&endpoint.hosts[0]).await;
    endpoint.hosts = vec![between.address.clone()];
    endpoint.path = format!("t{:016x}", fastrand::u64(..));
    let raw = MongoRaw::connect(&endpoint).expect("connects");
    survives(&between, async |n| {
        let document =
            |n: usize| Document { id: n.to_string(), body: b"{}".to_vec(), received_at: Default::default() };
        raw.insert("c", vec![document(n)]).await
    })
    .await;
    assert_eq!(raw.ids("c", "", None, 5).await.expect("lists"), ["0", "1"]);
    mongodb::Client::with_uri_str(&address)
        .await
        .expect("a client")
        .database(&endpoint.path)
        .drop()
        .await
        .expect("dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elasticsearch_freezes_and_comes_back() {
    let Some(address) = variable("OPENBELL_ELASTICSEARCH", "elasticsearch_freezes_and_comes_back") else {
        return;
    };
    let mut endpoint = Endpoint::parse(&address).expect("an address");
    let between = Between::start(&endpoint.hosts[0]).await;
    endpoint.hosts = vec![between.address.clone()];
    let name = format!("t{:016x}", fastrand::u64(..));
    let index = ElasticIndex::connect(&endpoint).expect("connects");
    survives(&between, async |n| {
        let results = index
            .bulk(vec![Item {
                index: name.clone(),
                id: n.to_string(),
                op: Op::Create,
                source: b"{}".to_vec(),
            }])
            .await?;
        // The call that was given up may have been carried out.
        assert!(matches!(results[..], [ItemResult::Stored | ItemResult::Exists]), "{results:?}");
        Ok(())
    })
    .await;
    assert_eq!(index.ids(&name, "", None, 5).await.expect("lists"), ["0", "1"]);
    reqwest::Client::new().delete(format!("{address}/{name}")).send().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_freezes_and_comes_back() {
    let Some(address) = variable("OPENBELL_S3", "s3_freezes_and_comes_back") else { return };
    let server =
        Endpoint::parse(&address).expect("an address").text("endpoint").expect("an endpoint").to_owned();
    let between = Between::start(server.strip_prefix("http://").expect("http")).await;
    let address = address.replace(&server, &format!("http://{}", between.address));
    let objects = S3Objects::connect(&Endpoint::parse(&address).expect("an address")).expect("connects");
    let name = format!("t{:016x}", fastrand::u64(..));
    let metadata = BTreeMap::from([("end_offset".to_owned(), "7".to_owned())]);
    survives(&between, async |n| objects.put_if_absent(&format!("{name}/{n}"), vec![1], &metadata).await)
        .await;
    // Whatever became of the call that was given up, the key is written once and whole.
    assert_eq!(
        objects.put_if_absent(&format!("{name}/1"), vec![2], &metadata).await.expect("puts"),
        Put::Exists
    );
    assert_eq!(objects.get(&format!("{name}/1")).await.expect("reads"), Some(vec![1]));
}

//! A web server for tests: it answers by a script, loses answers, or freezes.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// What becomes of a request.
pub enum Reply {
    /// Status, header lines, body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The connection ends without an answer.
    Lost,
    /// Nothing, ever.
    Frozen,
}

impl Reply {
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self::Answer(status, vec![("content-type", "application/json".into())], body.into())
    }
}

/// The server; ends with the test's runtime.
pub struct Fake {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    pub async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (script, all) = (Arc::new(script), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, all) = (Arc::clone(&script), Arc::clone(&all));
                tokio::spawn(async move { serve(stream, script.as_ref(), &all).await });
            }
        });
        Self { address, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

async fn serve(stream: TcpStream, script: &(dyn Fn(&Seen) -> Reply + Send + Sync), all: &Mutex<Vec<Seen>>) {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let mut first = lines[0].split(' ').map(str::to_owned);
    let headers: Vec<_> = lines[1..].iter().filter_map(|l| l.split_once(':')).collect();
    let headers: Vec<_> =
        headers.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned())).collect();
    let length =
        headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("a body");
    let seen =
        Seen { method: first.next().expect("a method"), path: first.next().expect("a path"), headers, body };
    let reply = script(&seen);
    let bodiless = seen.method == "HEAD";
    all.lock().push(seen);
    match reply {
        Reply::Lost => {}
        Reply::Frozen => std::future::pending().await,
        Reply::Answer(status, headers, body) => {
            let mut answer =
                format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                answer.push_str(&format!("{name}: {value}\r\n"));
            }
            answer.push_str("\r\n");
            if !bodiless {
                answer.push_str(&body);
            }
            // The client may be gone.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }
}

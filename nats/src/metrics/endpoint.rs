//! The HTTP server, and the page that it serves.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, http::header, response::IntoResponse, routing::get};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

use super::Samples;
use crate::Patience;

/// How many connections are open at once. Others wait.
const CONNECTIONS: usize = 16;
/// How long a client may take to say what it wants.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may last. It carries one request.
const CONNECTION_LIMIT: Duration = Duration::from_secs(20);
/// The first and the longest pause while the address cannot be listened on.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The text format of Prometheus.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the endpoint shows: what was found at the last look, and what is cheap enough to be read at each scrape.
pub struct Page {
    shown: Mutex<Shown>,
    live: Box<Live>,
}

/// Adds what is read at each scrape, given the age of the last look.
type Live = dyn Fn(&mut Samples, Option<Duration>) + Send + Sync;

#[derive(Clone, Default)]
struct Shown {
    text: Bytes,
    looked: Option<Instant>,
}

impl Page {
    /// An empty page. At each scrape `live` adds what it reads, which must not take time. It is given the age of the last
    /// look, if there was one.
    pub fn new(live: impl Fn(&mut Samples, Option<Duration>) + Send + Sync + 'static) -> Page {
        Page { shown: Mutex::default(), live: Box::new(live) }
    }

    /// Shows what was found.
    pub fn show(&self, found: Samples) {
        *self.lock() = Shown { text: found.text().into(), looked: Some(Instant::now()) };
    }

    /// Shows nothing but what is live, because nobody looks any more.
    pub fn clear(&self) {
        *self.lock() = Shown::default();
    }

    /// The page in the text format of Prometheus.
    pub fn text(&self) -> Bytes {
        let Shown { text, looked } = self.lock().clone();
        let mut live = Samples::default();
        (self.live)(&mut live, looked.map(|at| at.elapsed()));
        let mut page = live.text();
        page.push_str(&String::from_utf8_lossy(&text));
        page.into()
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The endpoint's routes.
pub fn routes(page: Arc<Page>) -> Router {
    let scrape = move || {
        let page = Arc::clone(&page);
        async move { ([(header::CONTENT_TYPE, CONTENT_TYPE)], page.text()).into_response() }
    };
    Router::new().route("/metrics", get(scrape))
}

/// Serves a page forever. If the address cannot be listened on, that is logged and tried again: the program does its work
/// without being watched.
pub async fn serve(address: SocketAddr, page: Arc<Page>) -> Infallible {
    let routes = routes(page);
    let mut patience = Patience::new(FIRST_PAUSE, MAX_PAUSE);
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                let what = format!("metrics.listen: cannot listen on {address}");
                tokio::time::sleep(patience.failed(&what, &error.to_string())).await;
            }
        }
    };
    patience.mended("metrics are served");
    tracing::info!(%address, "metrics are served");
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return std::future::pending().await };
        while connections.try_join_next().is_some() {}
        let Ok((connection, _)) = listener.accept().await else {
            // Out of file descriptors, for example.
            tokio::time::sleep(FIRST_PAUSE).await;
            continue;
        };
        let service = TowerToHyperService::new(routes.clone());
        connections.spawn(async move {
            let _until_the_end = place;
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_LIMIT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(connection), service);
            // A client that goes away or is too slow concerns nobody else.
            let _ = tokio::time::timeout(CONNECTION_LIMIT, serving).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::metrics;

    metrics! {
        /// The age of the last look.
        AGE: Gauge "sealbus_test_age_seconds" [];
        /// What was found.
        FOUND: Gauge "sealbus_test_found" [];
    }

    fn page() -> Arc<Page> {
        Arc::new(Page::new(|live, age| live.set(&AGE, &[], age.map_or(-1.0, |age| age.as_secs_f64()))))
    }

    async fn scrape(address: SocketAddr) -> String {
        let mut connection = loop {
            match TcpStream::connect(address).await {
                Ok(connection) => break connection,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await.expect("asks");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.expect("answers and closes");
        answer
    }

    fn free_address() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
    }

    #[tokio::test]
    async fn a_scrape_shows_the_last_look_until_nobody_looks() {
        let (page, address) = (page(), free_address());
        let serving = tokio::spawn(serve(address, Arc::clone(&page)));
        let first = scrape(address).await;
        assert!(first.starts_with("HTTP/1.1 200") && first.contains(CONTENT_TYPE), "{first}");
        assert!(first.contains("sealbus_test_age_seconds -1.0") && !first.contains("sealbus_test_found"), "{first}");
        let mut found = Samples::default();
        found.set(&FOUND, &[], 3.0);
        page.show(found);
        assert!(scrape(address).await.contains("sealbus_test_found 3.0"));
        page.clear();
        assert!(!scrape(address).await.contains("sealbus_test_found"));
        serving.abort();
    }

    #[tokio::test]
    async fn clients_that_say_nothing_leave_room_for_others() {
        let (page, address) = (page(), free_address());
        let serving = tokio::spawn(serve(address, page));
        scrape(address).await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS - 1 {
            silent.push(TcpStream::connect(address).await.expect("connects"));
        }
        assert!(scrape(address).await.contains("sealbus_test_age_seconds"));
        serving.abort();
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_tried_again() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = holder.local_addr().expect("an address");
        let serving = tokio::spawn(serve(address, page()));
        tokio::task::yield_now().await;
        drop(holder);
        assert!(scrape(address).await.contains("sealbus_test_age_seconds"));
        serving.abort();
    }
}

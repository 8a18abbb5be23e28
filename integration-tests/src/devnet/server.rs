//! A running devnet: the node, its clock and its RPC server.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::error;

use super::config::Config;
use super::node::{Node, NodeError};
use super::proofs::ProofVerifier;
use super::rpc::auth::{Secret, Tokens};
use super::rpc::{REQUEST_BYTES_MAX, Service, handle};

/// Why the server did not start.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The test chain is open to whoever reaches it, so it stays on this host.
    #[error("listen: {0} is not a loopback address")]
    NotLoopback(SocketAddr),
    /// The port is taken, or the address is not of this host.
    #[error("listen: failed to bind {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A node that many may use.
#[derive(Clone)]
pub struct Devnet {
    node: Arc<Mutex<Node>>,
    secret: Secret,
}

impl Devnet {
    /// A devnet at genesis. Its clock runs only while a [`Server`] does.
    pub fn new(config: Config, verifier: Arc<dyn ProofVerifier>) -> Result<Self, NodeError> {
        let node = Node::new(config, verifier)?;
        Ok(Self { node: Arc::new(Mutex::new(node)), secret: Secret::random() })
    }

    /// Uses the node while nothing else does.
    pub fn with_node<T>(&self, act: impl FnOnce(&mut Node) -> T) -> T {
        act(&mut self.node.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The tokens that the RPC server accepts.
    pub fn tokens(&self) -> Tokens {
        self.secret.tokens()
    }
}

/// A devnet that serves RPC; stops when dropped.
pub struct Server {
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Binds a loopback address (port 0 = any) and starts to serve and to tick.
    pub async fn start(devnet: &Devnet, listen: SocketAddr) -> Result<Self, ServerError> {
        if !listen.ip().is_loopback() {
            return Err(ServerError::NotLoopback(listen));
        }
        let failed = |source| ServerError::Bind { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let service = Service { node: devnet.node.clone(), secret: devnet.secret.clone() };
        let router = Router::new()
            .route("/rpc/v1", post(handle))
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(service);
        let serve = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                error!(%error, "the RPC server stopped");
            }
        });
        let millis = devnet.with_node(|node| node.watch_epoch_millis());
        let clock = tokio::spawn(tick(devnet.clone(), millis));
        Ok(Self { address, tasks: vec![serve, clock] })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the RPC endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/rpc/v1", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Lets epochs pass in real time, at the rate that is asked for at the moment.
async fn tick(devnet: Devnet, mut millis: watch::Receiver<u64>) {
    let mut last = tokio::time::Instant::now();
    loop {
        let current = *millis.borrow_and_update();
        if current == 0 {
            if millis.changed().await.is_err() {
                return;
            }
            last = tokio::time::Instant::now();
            continue;
        }
        let next = last + Duration::from_millis(current);
        tokio::select! {
            changed = millis.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
            () = tokio::time::sleep_until(next) => {}
        }
        // An epoch that came late does not make the next ones shorter than they should be.
        let now = tokio::time::Instant::now();
        let period = Duration::from_millis(current);
        last = now.checked_sub(period).map_or(next, |earliest| next.max(earliest));
        let advancing = devnet.clone();
        let advanced = tokio::task::spawn_blocking(move || advancing.with_node(Node::advance_epoch)).await;
        match advanced {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, "an epoch failed"),
            Err(error) => error!(%error, "an epoch died"),
        }
    }
}

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
use super::rpc::{REQUEST_BYTES_MAX, Service, channels, handle};

/// Why the server could not start.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The test chain has no protection, so it accepts connections from this host only.
    #[error("listen: {0} is not a loopback address")]
    NotLoopback(SocketAddr),
    /// The port is in use, or the address does not belong to this host.
    #[error("listen: failed to bind {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
}

/// A shared node.
#[derive(Clone)]
pub struct Devnet {
    node: Arc<Mutex<Node>>,
    secret: Secret,
}

impl Devnet {
    /// Creates a devnet at genesis. Its clock runs only while there is a [`Server`].
    pub fn new(config: Config, verifier: Arc<dyn ProofVerifier>) -> Result<Self, NodeError> {
        let node = Node::new(config, verifier)?;
        Ok(Self { node: Arc::new(Mutex::new(node)), secret: Secret::random() })
    }

    /// Calls `act` with exclusive access to the node.
    pub fn with_node<T>(&self, act: impl FnOnce(&mut Node) -> T) -> T {
        act(&mut self.node.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The tokens that the RPC server accepts.
    pub fn tokens(&self) -> Tokens {
        self.secret.tokens()
    }
}

/// A devnet that serves RPC. It stops when it is dropped.
pub struct Server {
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
    /// Its drop ends the connections over WebSocket.
    _ends: watch::Sender<()>,
}

impl Server {
    /// Binds a loopback address (port 0 for any free port), and starts serving and ticking.
    pub async fn start(devnet: &Devnet, listen: SocketAddr) -> Result<Self, ServerError> {
        if !listen.ip().is_loopback() {
            return Err(ServerError::NotLoopback(listen));
        }
        let failed = |source| ServerError::Bind { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (ends, ending) = watch::channel(());
        let service = Service { node: devnet.node.clone(), secret: devnet.secret.clone(), ending };
        let router = Router::new()
            .route("/rpc/v1", post(handle).get(channels::handle))
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(service);
        let serve = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                error!(%error, "the RPC server stopped");
            }
        });
        let millis = devnet.with_node(|node| node.watch_epoch_millis());
        let clock = tokio::spawn(tick(devnet.clone(), millis));
        Ok(Self { address, tasks: vec![serve, clock], _ends: ends })
    }

    /// The address on which it listens.
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

/// Advances epochs in real time at the configured rate.
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
        // Missed epochs are not made up in a burst: after a delay only the next one may come at once.
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

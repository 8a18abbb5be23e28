//! The thread that starts child processes.
//!
//! A child asks the kernel for a signal when its parent dies, and the kernel takes the *thread* that started it for the
//! parent. Tokio's threads come and go, so children are started by one thread that lives as long as the pool.

use std::io;
use std::sync::mpsc;

use tokio::process::{Child, Command};
use tokio::sync::oneshot;

type Order = (Command, oneshot::Sender<io::Result<Child>>);

/// A handle to the thread. The thread ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub(super) struct Spawner {
    orders: mpsc::Sender<Order>,
}

impl Spawner {
    /// Starts the thread; within a tokio runtime.
    pub(super) fn start() -> io::Result<Self> {
        let (orders, received) = mpsc::channel::<Order>();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name("processor-spawner".to_owned()).spawn(move || {
            let _within = runtime.enter();
            while let Ok((mut command, reply)) = received.recv() {
                // If nobody waits any more, the child is dropped and thereby killed.
                let _ = reply.send(command.spawn());
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts a process.
    pub(super) async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the spawner thread is gone");
        self.orders.send((command, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

//! The thread that starts child processes.
//!
//! A child asks the kernel for a signal when its parent dies, and the kernel takes the *thread* that started it for the
//! parent. Tokio's threads come and go, so children are started by one thread that lives as long as the pool.

use std::io;
use std::sync::mpsc;

use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::orphans::{self, OwnChild};
use super::running::descendants;

type Started = io::Result<(Child, OwnChild)>;
type Order = (Command, oneshot::Sender<Started>);

/// A handle to the thread. The thread ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Spawner {
    orders: mpsc::Sender<Order>,
}

impl Spawner {
    /// Starts the thread; within a tokio runtime. What earlier workers left behind when they were killed goes first.
    ///
    /// # Errors
    /// Of the operating system, if there can be no more threads.
    pub fn start() -> io::Result<Self> {
        let (orders, received) = mpsc::channel::<Order>();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name("processor-spawner".to_owned()).spawn(move || {
            let _within = runtime.enter();
            let killed = descendants::kill_leftovers();
            if killed > 0 {
                tracing::warn!(killed, "killed processors that a dead worker had left behind");
            }
            while let Ok((mut command, reply)) = received.recv() {
                // If nobody waits any more, the child is dropped and thereby killed.
                let _ = reply.send(orphans::start(|| command.spawn(), Child::id));
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts a process.
    ///
    /// # Errors
    /// Of the operating system.
    pub async fn spawn(&self, command: Command) -> Started {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the spawner thread is gone");
        self.orders.send((command, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

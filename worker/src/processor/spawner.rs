//! The thread that starts child processes.
//!
//! A child asks the kernel for a signal at its parent's death, and the kernel treats the *thread* that started it as
//! the parent. Tokio's threads come and go. So all children are started by one thread, which lives as long as the pool.

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
    /// Starts the thread, within a tokio runtime. First it kills what earlier workers left behind when they were
    /// killed.
    ///
    /// # Errors
    /// [`io::Error`] if no thread can be created.
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
                // If the caller no longer waits, the child is dropped, which kills it.
                let _ = reply.send(orphans::start(|| command.spawn(), Child::id));
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts a process.
    ///
    /// # Errors
    /// [`io::Error`] from the operating system.
    pub async fn spawn(&self, command: Command) -> Started {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the spawner thread is gone");
        self.orders.send((command, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

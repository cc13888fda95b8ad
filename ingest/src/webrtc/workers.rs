//! All workers of a server, seen from outside: threads that each own a socket of the one port.

use std::io;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::order::Command;
use super::socket::Port;
use super::status::SessionStatus;
use super::strays::{Note, Others};
use super::worker::{Settings, Worker};

/// Orders from HTTP handlers that wait for a worker; a full queue makes them wait.
const COMMANDS_MAX: usize = 256;

/// The worker has ended.
#[derive(Debug)]
pub(crate) struct Gone;

/// Ways to the workers.
pub(crate) struct Workers {
    commands: Vec<mpsc::Sender<Command>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Workers {
    /// No worker yet.
    pub(crate) fn new() -> Self {
        Self { commands: Vec::new(), threads: Mutex::default() }
    }

    /// Starts a worker on a socket, on the processor core of its number if `pin` says so. It ends
    /// at [`Command::Stop`] or when this is dropped.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub(crate) fn start(
        &mut self,
        socket: std::net::UdpSocket,
        (others, notes): (Others, mpsc::Receiver<Note>),
        settings: Settings,
        pin: bool,
    ) -> io::Result<()> {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let port = {
            let _entered = runtime.enter();
            Port::new(socket)?
        };
        let me = others.me();
        let thread = std::thread::Builder::new().name(format!("webrtc-{me}"));
        let thread = thread.spawn(move || {
            if pin && let Err(error) = pin_to(usize::from(me)) {
                tracing::warn!(%error, "this WebRTC thread has no core of its own");
            }
            runtime.block_on(Worker::serve(port, settings, others, inbox, notes));
        })?;
        self.commands.push(commands);
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Whether there is a worker of this number.
    pub(crate) fn knows(&self, worker: u8) -> bool {
        usize::from(worker) < self.commands.len()
    }

    /// Tells a worker something, waiting while its queue is full.
    pub(crate) async fn send(&self, worker: u8, command: Command) -> Result<(), Gone> {
        let commands = self.commands.get(usize::from(worker)).ok_or(Gone)?;
        commands.send(command).await.map_err(|_| Gone)
    }

    /// The sessions of all, oldest first.
    pub(crate) async fn list(&self) -> Vec<SessionStatus> {
        let mut all = Vec::new();
        for commands in &self.commands {
            let (reply, answer) = oneshot::channel();
            if commands.send(Command::List(reply)).await.is_ok() {
                all.extend(answer.await.unwrap_or_default());
            }
        }
        all.sort_by_key(|session| session.since);
        all
    }

    /// Ends a session; false when nobody has it.
    pub(crate) async fn kick(&self, id: &str) -> bool {
        for commands in &self.commands {
            let (reply, answer) = oneshot::channel();
            let kick = Command::Kick { id: id.to_owned(), reply };
            if commands.send(kick).await.is_ok() && answer.await.unwrap_or(false) {
                return true;
            }
        }
        false
    }

    /// Has all peers told goodbye and waits for the threads.
    pub(crate) async fn stop(&self) {
        for commands in &self.commands {
            // One that has ended already needs no telling.
            let _ = commands.send(Command::Stop).await;
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().for_each(|thread| {
                let _ = thread.join();
            });
        });
        let _ = joined.await;
    }
}

/// Binds the calling thread to the `index`th of the cores that this process may use.
fn pin_to(index: usize) -> io::Result<()> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    if let Some(&core) = cores.get(index % cores.len().max(1)) {
        let mut one = CpuSet::new();
        one.set(core);
        sched_setaffinity(None, &one)?;
    }
    Ok(())
}

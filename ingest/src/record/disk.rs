//! Threads for work that waits for disks, so that no other task does.

use std::io;

use tokio::sync::Semaphore;

/// Pieces of disk work at the same time, of all recorders and players together. More would only
/// take threads from others while a disk hangs.
const DISK_WORK_MAX: usize = 32;

/// Threads for work that waits for disks.
pub(super) struct Disk {
    places: Semaphore,
}

impl Default for Disk {
    fn default() -> Self {
        Self { places: Semaphore::new(DISK_WORK_MAX) }
    }
}

impl Disk {
    /// Does a piece of work; fails when it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let _place = self.places.acquire().await;
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
    }
}

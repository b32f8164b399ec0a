//! Writing to a port that somebody else holds open: the words of an actuator, in the pauses of what is read.

use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Weak};

use tokio::sync::{Mutex, mpsc};

use crate::limits::{SERIAL_WRITE_DEADLINE, SERIAL_WRITE_QUEUE};
use crate::model::Moment;

/// Some bytes on their way out; none to ask whether the port is open.
pub struct WriteJob {
    /// What is to be written.
    pub bytes: Vec<u8>,
    /// Held by whoever asked, for as long as he waits.
    asker: Weak<()>,
    reply: std_mpsc::SyncSender<Result<Moment, String>>,
}

impl WriteJob {
    /// Tells how it went, and since when the port is open.
    pub fn end(self, outcome: Result<Moment, String>) {
        // Whoever asked may have lost patience.
        let _ = self.reply.try_send(outcome);
    }
}

/// The end that asks. Its clones ask the same port.
#[derive(Clone)]
pub struct SerialWriter(mpsc::Sender<WriteJob>);

/// The end that has the port; its clones are for the task that follows one that panicked.
#[derive(Clone)]
pub struct WriteQueue(Arc<Mutex<mpsc::Receiver<WriteJob>>>);

/// Both ends.
pub fn write_path() -> (SerialWriter, WriteQueue) {
    let (sender, receiver) = mpsc::channel(SERIAL_WRITE_QUEUE);
    (SerialWriter(sender), WriteQueue(Arc::new(Mutex::new(receiver))))
}

impl SerialWriter {
    /// Writes the bytes; waits until the kernel has them, for [`SERIAL_WRITE_DEADLINE`] at most. Blocks: not for the runtime's own threads.
    /// What the port has not come to by then is not written later.
    /// Returns since when the port is open: what was told a device before that, it may have forgotten.
    ///
    /// # Errors
    /// Why they have not been written, in words.
    pub fn write(&self, bytes: &[u8]) -> Result<Moment, String> {
        let (reply, told) = std_mpsc::sync_channel(1);
        let asker = Arc::new(());
        let job = WriteJob { bytes: bytes.to_vec(), asker: Arc::downgrade(&asker), reply };
        self.0.try_send(job).map_err(|_| "too much waits for its port, or the port is closed".to_owned())?;
        let outcome = told.recv_timeout(SERIAL_WRITE_DEADLINE);
        drop(asker);
        outcome.unwrap_or_else(|_| Err("its port takes nothing".to_owned()))
    }

    /// Whether the port is open, and since when. Blocks likewise.
    ///
    /// # Errors
    /// Why it is not, in words.
    pub fn check(&self) -> Result<Moment, String> {
        self.write(&[])
    }
}

impl WriteQueue {
    /// Waits for the next job that somebody still waits for. Cancel safe.
    pub async fn next(&self) -> WriteJob {
        loop {
            match self.0.lock().await.recv().await {
                // Its asker was told that it failed: what is said later must not be done.
                Some(job) if job.asker.strong_count() == 0 => {}
                Some(job) => return job,
                // Nobody asks any more.
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_waits_for_any_longer_is_not_written() {
        let (writer, queue) = write_path();
        let late = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..SERIAL_WRITE_QUEUE).map(|_| scope.spawn(|| writer.write(b"ON"))).collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(late.iter().all(Result::is_err), "{late:?}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let next = async { tokio::time::timeout(std::time::Duration::from_millis(100), queue.next()).await };
        let next = runtime.block_on(next).map(|job| job.bytes);
        assert!(next.is_err(), "{next:?} was written after its asker was told that it failed");
        assert_eq!(writer.0.capacity(), SERIAL_WRITE_QUEUE, "there is room again");
    }
}

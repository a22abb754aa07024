//! A bounded channel from one step to the next that tells the end of the data from a giver that is gone.
//!
//! With it a step either sees all of its input or knows that it did not, so no step reports damage that
//! is only another step's early end.

use crossbeam_channel::{Receiver, Sender, bounded};

use super::StepEnd;

/// Makes a channel that holds at most `limit` items.
pub(super) fn handover<T>(limit: usize) -> (Giver<T>, Taker<T>) {
    let (sender, receiver) = bounded(limit);
    (Giver { sender }, Taker { receiver })
}

/// The end of the step before. Dropped without [`Giver::finish`] it stops the step after.
#[derive(Debug)]
pub(super) struct Giver<T> {
    sender: Sender<Option<T>>,
}

impl<T> Giver<T> {
    /// Hands `item` on; waits while the channel is full.
    ///
    /// # Errors
    ///
    /// [`StepEnd::Stopped`] if the step after is gone.
    pub(super) fn give(&self, item: T) -> Result<(), StepEnd> {
        self.sender
            .send(Some(item))
            .map_err(|_gone| StepEnd::Stopped)
    }

    /// Says that the data was handed on whole.
    ///
    /// # Errors
    ///
    /// [`StepEnd::Stopped`] if the step after is gone.
    pub(super) fn finish(self) -> Result<(), StepEnd> {
        self.sender.send(None).map_err(|_gone| StepEnd::Stopped)
    }
}

/// The end of the step after.
#[derive(Debug)]
pub(super) struct Taker<T> {
    receiver: Receiver<Option<T>>,
}

impl<T> Taker<T> {
    /// Takes the next item; `None` at the end of the data, after which this is not called again.
    ///
    /// # Errors
    ///
    /// [`StepEnd::Stopped`] if the step before is gone and its data is not whole.
    pub(super) fn take(&self) -> Result<Option<T>, StepEnd> {
        self.receiver.recv().map_err(|_gone| StepEnd::Stopped)
    }
}

//! Where the publisher tells one watcher that there is something for it.

use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::log::Position;

/// One per watch. Holds no event: only the position of the first one that the watcher has not looked at.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pending: Option<Position>,
    closed: bool,
    waker: Option<Waker>,
}

/// What a watcher finds in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Nothing happened in its scope since it looked last.
    Idle,
    /// Something may have, from this position on.
    Pending(Position),
    /// The store ended, and everything pending was taken.
    Closed,
}

impl Slot {
    /// Notes that the event at `position` touches the scope. The waker returned is to be woken without a lock held.
    pub(crate) fn mark(&self, position: Position) -> Option<Waker> {
        let mut state = self.lock();
        state.pending.get_or_insert(position);
        state.waker.take()
    }

    /// Notes that no event will follow.
    pub(crate) fn close(&self) -> Option<Waker> {
        let mut state = self.lock();
        state.closed = true;
        state.waker.take()
    }

    /// Takes what is pending.
    pub(crate) fn take(&self) -> Signal {
        let mut state = self.lock();
        match state.pending.take() {
            Some(position) => Signal::Pending(position),
            None if state.closed => Signal::Closed,
            None => Signal::Idle,
        }
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.lock().pending.is_some()
    }

    /// Ready when [`Self::take`] would not be idle.
    pub(crate) fn poll_signal(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.pending.is_some() || state.closed {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds a slot")
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::{Signal, Slot};

    #[test]
    fn the_first_pending_position_stays() {
        let slot = Slot::default();
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(slot.take(), Signal::Idle);
        assert!(slot.poll_signal(&mut context).is_pending());
        assert!(slot.mark(4).is_some(), "the waiting watcher is woken");
        assert!(slot.mark(5).is_none(), "once");
        assert!(slot.poll_signal(&mut context).is_ready());
        assert_eq!(slot.take(), Signal::Pending(4));
        assert_eq!(slot.take(), Signal::Idle);
    }

    #[test]
    fn what_is_pending_comes_before_the_end() {
        let slot = Slot::default();
        slot.mark(1);
        slot.close();
        assert_eq!(slot.take(), Signal::Pending(1));
        assert_eq!(slot.take(), Signal::Closed);
        assert_eq!(slot.take(), Signal::Closed);
        assert!(slot.poll_signal(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}

//! How much is under way at once: the requests of each user, and the bytes of their bodies; and of requests that flow control
//! exempts, those that read and those that write.
//!
//! ```text
//!   authorized ──turn of the user──▶ body read ──seats, or a permit of the exempt──▶ work ──▶ the answer is read
//! ```
//!
//! A request takes seats ([`crate::flow`]) or a permit, which others wait for, only when its body is there: a client that
//! sends slowly, or never ends, spends nothing but turns and bytes of its own. Members of `system:masters` have a pool of
//! their own and need no turns, so that whoever can help is not kept out; components in this process have another, so that
//! the help does not keep out what the cluster lives by. An answer that is made while it is read needs its user's turn, but
//! neither seats nor permit, until its end. Watches and streams are bounded elsewhere.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use xebec_api::error::Details;
use xebec_api::{Reason, Status};

use crate::config::Settings;
use crate::flow::Seat;
use crate::metrics::Working;

/// One user's bodies hold at most this part of all that bodies may hold.
const SHARE: usize = 4;

/// Who asks, as far as bounds go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller<'a> {
    /// A user, by name.
    User(&'a str),
    /// Who may do everything.
    Master,
    /// A component in this process.
    Component,
}

/// The bounds of one server.
#[derive(Debug)]
pub(crate) struct Bounds {
    common: Arc<Pool>,
    masters: Arc<Pool>,
    components: Arc<Pool>,
    users: Mutex<HashMap<String, Account>>,
    user_requests: usize,
    /// A short wait smooths bursts; a queue that does not move within it is full.
    wait: Duration,
}

/// What a group of users shares.
#[derive(Debug)]
struct Pool {
    mutating: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    bodies: Bytes,
}

/// A count of bytes with a limit.
#[derive(Debug)]
struct Bytes {
    held: AtomicUsize,
    limit: usize,
}

/// What one user holds. There while somebody has a place in it.
#[derive(Debug)]
struct Account {
    share: Arc<Share>,
    places: usize,
}

#[derive(Debug)]
struct Share {
    turns: Arc<Semaphore>,
    bodies: Bytes,
}

/// A request that may go on. What it holds is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    pool: Arc<Pool>,
    wait: Duration,
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
    seat: Option<Seat>,
    working: Option<Working>,
    _turn: Option<OwnedSemaphorePermit>,
    place: Option<Place>,
}

/// A place in a user's account.
#[derive(Debug)]
struct Place {
    bounds: Arc<Bounds>,
    user: String,
    share: Arc<Share>,
}

impl Bounds {
    /// The bounds that the operator chose.
    pub(crate) fn new(settings: &Settings) -> Self {
        let pool = || {
            Arc::new(Pool {
                mutating: Arc::new(Semaphore::new(settings.max_mutating)),
                reading: Arc::new(Semaphore::new(settings.max_reading)),
                bodies: Bytes::new(settings.max_body_bytes),
            })
        };
        Self {
            common: pool(),
            masters: pool(),
            components: pool(),
            users: Mutex::default(),
            user_requests: settings.max_user_requests,
            wait: settings.request_timeout / 4,
        }
    }

    /// Waits for the caller's turn.
    ///
    /// # Errors
    /// 429: too many requests of the user are under way.
    pub(crate) async fn turn(self: &Arc<Self>, caller: Caller<'_>) -> Result<Turn, Status> {
        let (pool, place) = match caller {
            Caller::Component => (&self.components, None),
            Caller::Master => (&self.masters, None),
            Caller::User(name) => (&self.common, Some(self.enter(name))),
        };
        let turn = match &place {
            None => None,
            Some(place) => {
                let turn = place.share.turns.clone().acquire_owned();
                let limit = self.user_requests;
                let full = || format!("{limit} requests of this user are under way, which is the limit");
                Some(in_time(self.wait, turn, full).await?)
            }
        };
        Ok(Turn {
            pool: pool.clone(),
            wait: self.wait,
            bytes: 0,
            permit: None,
            seat: None,
            working: None,
            _turn: turn,
            place,
        })
    }

    fn enter(self: &Arc<Self>, user: &str) -> Place {
        let mut users = self.users();
        if !users.contains_key(user) {
            let turns = Arc::new(Semaphore::new(self.user_requests));
            let share = Arc::new(Share { turns, bodies: Bytes::new(self.common.bodies.limit / SHARE) });
            users.insert(user.to_owned(), Account { share, places: 0 });
        }
        let account = users.get_mut(user).expect("an account that there was not has just been opened");
        account.places += 1;
        Place { bounds: self.clone(), user: user.to_owned(), share: account.share.clone() }
    }

    fn users(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Counts bytes of the request's body, which the caller keeps.
    ///
    /// # Errors
    /// 429: bodies hold too many bytes.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Status> {
        let own = self.place.as_ref().map(|place| &place.share.bodies);
        if let Some(own) = own {
            own.add(bytes).map_err(|limit| too_many_bytes("of this user", limit))?;
        }
        if let Err(limit) = self.pool.bodies.add(bytes) {
            own.inspect(|own| own.remove(bytes));
            return Err(too_many_bytes("of all users", limit));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Waits until the request may be worked on.
    ///
    /// # Errors
    /// 429: too many are.
    pub(crate) async fn permit(&mut self, write: bool) -> Result<(), Status> {
        let bound = if write { &self.pool.mutating } else { &self.pool.reading };
        let full = || "too many requests are under way".to_owned();
        self.permit = Some(in_time(self.wait, bound.clone().acquire_owned(), full).await?);
        Ok(())
    }

    /// Keeps seats in the request's priority level until its work ends.
    pub(crate) fn sit(&mut self, seat: Seat) {
        self.seat = Some(seat);
    }

    /// The request is worked on from now on.
    pub(crate) fn works(&mut self, working: Working) {
        self.working = Some(working);
    }

    /// Ends the work: others may be worked on while this request's answer is read.
    pub(crate) fn give_permit_back(&mut self) {
        self.permit = None;
        self.seat = None;
        self.working = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pool.bodies.remove(self.bytes);
        if let Some(place) = &self.place {
            place.share.bodies.remove(self.bytes);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = self.bounds.users();
        if let Some(account) = users.get_mut(&self.user) {
            account.places -= 1;
            if account.places == 0 {
                users.remove(&self.user);
            }
        }
    }
}

impl Bytes {
    const fn new(limit: usize) -> Self {
        Self { held: AtomicUsize::new(0), limit }
    }

    /// Takes bytes; over the limit none is taken, and the limit told.
    fn add(&self, bytes: usize) -> Result<(), usize> {
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limit {
            self.remove(bytes);
            return Err(self.limit);
        }
        Ok(())
    }

    fn remove(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

async fn in_time<P, E>(
    wait: Duration,
    taken: impl Future<Output = Result<P, E>>,
    full: impl Fn() -> String,
) -> Result<P, Status> {
    match tokio::time::timeout(wait, taken).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(too_many(&full())),
    }
}

fn too_many_bytes(whose: &str, limit: usize) -> Status {
    too_many(&format!("bodies of requests {whose} hold more than {limit} bytes, which is the limit"))
}

/// 429: something is at its limit, which may soon be otherwise.
pub(crate) fn too_many(what: &str) -> Status {
    let mut status = Status::new(Reason::TooManyRequests, format!("{what}, try again later"));
    status.details = Some(Box::new(Details { retry_after_seconds: Some(1), ..Details::default() }));
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Arc<Bounds> {
        let settings = Settings {
            max_mutating: 2,
            max_reading: 1,
            max_user_requests: 2,
            max_body_bytes: 400,
            request_timeout: Duration::from_millis(40),
            ..Settings::default()
        };
        Arc::new(Bounds::new(&settings))
    }

    fn text<T: std::fmt::Debug>(result: Result<T, Status>) -> String {
        let status = result.expect_err("over a limit");
        assert_eq!(status.code(), 429);
        assert_eq!(status.details.and_then(|details| details.retry_after_seconds), Some(1));
        status.message.into_owned()
    }

    #[tokio::test]
    async fn a_user_has_so_many_turns() {
        let bounds = bounds();
        let jane = Caller::User("jane");
        let first = bounds.turn(jane).await.expect("the first");
        let second = bounds.turn(jane).await.expect("the second");
        assert!(text(bounds.turn(jane).await).contains("2 requests of this user"));
        bounds.turn(Caller::User("bob")).await.expect("another user");
        let mut others = Vec::new();
        for caller in [Caller::Master, Caller::Component] {
            for _ in 0..9 {
                others.push(bounds.turn(caller).await.unwrap_or_else(|why| panic!("{caller:?}: {why}")));
            }
        }
        drop(first);
        bounds.turn(jane).await.expect("one ended");
        assert_eq!(bounds.users().len(), 1, "bob has gone");
        drop(second);
        assert_eq!(bounds.users().len(), 0, "nobody is there");
    }

    #[tokio::test]
    async fn bodies_hold_so_many_bytes() {
        let bounds = bounds();
        let mut all = Vec::new();
        for name in ["a", "b", "c", "d"] {
            let mut turn = bounds.turn(Caller::User(name)).await.expect("a turn");
            turn.hold(60).expect("within a quarter");
            turn.hold(40).expect("the quarter");
            assert!(text(turn.hold(1)).contains("of this user hold more than 100 bytes"));
            all.push(turn);
        }
        let mut late = bounds.turn(Caller::User("e")).await.expect("a turn");
        assert!(text(late.hold(1)).contains("of all users hold more than 400 bytes"));
        for caller in [Caller::Master, Caller::Component] {
            let mut turn = bounds.turn(caller).await.expect("a turn");
            turn.hold(400).unwrap_or_else(|why| panic!("{caller:?} has a pool of its own: {why}"));
            all.push(turn);
        }
        drop(all);
        late.hold(100).expect("given back");
    }

    #[tokio::test]
    async fn permits_are_of_all_users() {
        let bounds = bounds();
        let mut turns = Vec::new();
        for name in ["a", "b", "c"] {
            turns.push(bounds.turn(Caller::User(name)).await.expect("a turn"));
        }
        turns[0].permit(true).await.expect("the first");
        turns[1].permit(true).await.expect("the second");
        assert!(text(turns[2].permit(true).await).contains("too many requests"));
        turns[2].permit(false).await.expect("reading is counted apart");
        let mut others = Vec::new();
        for caller in [Caller::Master, Caller::Master, Caller::Component, Caller::Component] {
            let mut turn = bounds.turn(caller).await.expect("a turn");
            let permit = turn.permit(true).await;
            permit.unwrap_or_else(|why| panic!("{caller:?} has a pool of its own: {why}"));
            others.push(turn);
        }
        turns.remove(0);
        turns[1].permit(true).await.expect("one ended");
    }
}

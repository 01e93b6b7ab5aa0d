//! The queues of one priority level: which request runs next. No clock, no lock, no waiting: time comes in, decisions go out.
//!
//! ```text
//!   arrives ──seats free, nobody waits──────────────────────▶ runs ──▶ leaves
//!      │                                                       ▲
//!      ├──its queue has room──▶ waits ──turn of its queue──────┘
//!      │                          └──gives up──▶ gone
//!      └──its queue is full──▶ refused
//! ```
//!
//! A flow (a user, or a namespace) has a hand of a few queues out of all, and a request of it goes to the shortest of them
//! (shuffle sharding): one flow fills only its own hand, and two flows seldom have the same one. Among queues the seats are
//! shared by fair queuing in virtual time: [`Queues::virtual_time`] goes on as a queue that always has something to do gets
//! service, in seat-seconds; each queue remembers up to when it has been served, and who is behind comes first. What a
//! request will take is guessed when it starts, and put right when it leaves.
//!
//! A request that needs more seats than are free holds up those behind it until it has them, so that wide requests are not
//! overtaken for ever. One that needs more than there are runs alone.

use std::collections::VecDeque;

/// A moment, in nanoseconds since some beginning.
pub(super) type Nanos = u64;

/// How long a request is thought to take, in seconds.
const GUESS: f64 = 0.001;
const SECOND: f64 = 1e9;

/// The largest hand that can be dealt.
pub(super) const MAX_HAND: usize = 10;

/// How requests of a level wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queuing {
    /// How many queues there are; 0: none waits.
    pub(super) queues: usize,
    /// How many of them a flow has.
    pub(super) hand: usize,
    /// How many requests wait in one.
    pub(super) length: usize,
}

/// A request in the level, as its owner holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    queue: usize,
    seats: u64,
    number: u64,
}

/// What becomes of a request that arrives.
#[derive(Debug)]
pub(super) enum Arrival {
    /// It runs.
    Runs(Ticket),
    /// It waits.
    Waits(Ticket),
    /// There is no room for it.
    Refused(Refusal),
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its queue is full.
    QueueFull,
    /// All seats are taken, and none waits in this level.
    ConcurrencyLimit,
    /// It has waited for too long.
    TimeOut,
}

impl Refusal {
    /// Its name in metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::TimeOut => "time-out",
        }
    }
}

/// A request that waits, and how it is woken.
#[derive(Debug)]
struct Waiting<W> {
    ticket: Ticket,
    since: Nanos,
    wake: W,
}

/// A request that runs.
#[derive(Clone, Copy, Debug)]
struct Running {
    number: u64,
    since: Nanos,
}

#[derive(Debug)]
struct Queue<W> {
    waiting: VecDeque<Waiting<W>>,
    waiting_seats: u64,
    running: Vec<Running>,
    running_seats: u64,
    /// Up to when, in virtual time, it has been served.
    served: f64,
}

impl<W> Queue<W> {
    const fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_seats: 0,
            running: Vec::new(),
            running_seats: 0,
            served: 0.0,
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }
}

/// See the module's documentation. `W` wakes a request that waits.
#[derive(Debug)]
pub(super) struct Queues<W> {
    queuing: Queuing,
    limit: u64,
    queues: Vec<Queue<W>>,
    /// Queues that are not idle.
    active: usize,
    waiting: usize,
    waiting_seats: u64,
    running: usize,
    running_seats: u64,
    virtual_time: f64,
    now: Nanos,
    next_number: u64,
    /// Where the search for the next one begins, so that none of equals comes first always.
    next_queue: usize,
    demand: u64,
}

impl<W> Queues<W> {
    pub(super) fn new(queuing: Queuing, limit: u64) -> Self {
        let mut queues = Self {
            queuing,
            limit,
            queues: Vec::new(),
            active: 0,
            waiting: 0,
            waiting_seats: 0,
            running: 0,
            running_seats: 0,
            virtual_time: 0.0,
            now: 0,
            next_number: 0,
            next_queue: 0,
            demand: 0,
        };
        queues.set_queuing(queuing);
        queues
    }

    /// Another number, hand or length of queues. Queues beyond are not filled any more, and run empty.
    pub(super) fn set_queuing(&mut self, queuing: Queuing) {
        let hand = queuing.hand.clamp(1, MAX_HAND.min(queuing.queues.max(1)));
        self.queuing = Queuing { hand, ..queuing };
        while self.queues.len() < queuing.queues.max(1) {
            self.queues.push(Queue::new());
        }
    }

    /// Another number of seats; [`Queues::next`] then says who runs.
    pub(super) fn set_limit(&mut self, limit: u64, now: Nanos) {
        self.advance(now);
        self.limit = limit;
    }

    /// A request of a flow arrives.
    pub(super) fn arrive(&mut self, flow: u64, seats: u64, now: Nanos, wake: impl FnOnce() -> W) -> Arrival {
        self.advance(now);
        let queue = self.choose(flow);
        self.next_number += 1;
        let ticket = Ticket { queue, seats, number: self.next_number };
        if self.waiting == 0 && self.fits(seats) {
            self.wakes_up(queue);
            self.start(ticket);
            self.note_demand();
            return Arrival::Runs(ticket);
        }
        if self.queuing.queues == 0 {
            return Arrival::Refused(Refusal::ConcurrencyLimit);
        }
        if self.queues[queue].waiting.len() >= self.queuing.length {
            return Arrival::Refused(Refusal::QueueFull);
        }
        self.wakes_up(queue);
        let own = &mut self.queues[queue];
        own.waiting.push_back(Waiting { ticket, since: now, wake: wake() });
        own.waiting_seats += seats;
        self.waiting += 1;
        self.waiting_seats += seats;
        self.note_demand();
        Arrival::Waits(ticket)
    }

    /// The next request that may run, which runs from now on. To be asked until there is none.
    pub(super) fn next(&mut self, now: Nanos) -> Option<(Ticket, W)> {
        self.advance(now);
        let queue = self.furthest_behind()?;
        let seats = self.queues[queue].waiting.front()?.ticket.seats;
        if !self.fits(seats) {
            return None;
        }
        let Waiting { ticket, wake, .. } = self.queues[queue].waiting.pop_front()?;
        self.forget_waiting(ticket);
        self.start(ticket);
        self.next_queue = queue + 1;
        Some((ticket, wake))
    }

    /// A request that ran has ended; [`Queues::next`] then says who runs.
    pub(super) fn leave(&mut self, ticket: Ticket, now: Nanos) {
        self.advance(now);
        let queue = &mut self.queues[ticket.queue];
        let Some(place) = queue.running.iter().position(|one| one.number == ticket.number) else { return };
        let since = queue.running.swap_remove(place).since;
        queue.running_seats -= ticket.seats;
        queue.served += ticket.seats as f64 * (seconds(now.saturating_sub(since)) - GUESS);
        let idle = queue.is_idle();
        self.running -= 1;
        self.running_seats -= ticket.seats;
        self.active -= usize::from(idle);
    }

    /// A request that waited gives up; whether it still did.
    pub(super) fn give_up(&mut self, ticket: Ticket, now: Nanos) -> bool {
        self.advance(now);
        let queue = &mut self.queues[ticket.queue];
        let Some(place) = queue.waiting.iter().position(|one| one.ticket == ticket) else { return false };
        queue.waiting.remove(place);
        let idle = queue.is_idle();
        self.forget_waiting(ticket);
        self.active -= usize::from(idle);
        true
    }

    /// How many seats were wanted at most since this was asked before.
    pub(super) fn take_demand(&mut self) -> u64 {
        std::mem::replace(&mut self.demand, self.running_seats + self.waiting_seats)
    }

    /// How many seats there are.
    pub(super) const fn limit(&self) -> u64 {
        self.limit
    }

    /// How it stands.
    pub(super) fn digest(&self) -> Digest {
        let queue = |queue: &Queue<W>| QueueDigest {
            waiting: queue.waiting.len(),
            waiting_seats: queue.waiting_seats,
            running: queue.running.len(),
            running_seats: queue.running_seats,
            served: queue.served,
        };
        Digest {
            limit: self.limit,
            waiting: self.waiting,
            running_seats: self.running_seats,
            queues: self.queues.iter().take(self.queuing.queues.max(1)).map(queue).collect(),
        }
    }

    /// Who waits: queue, place in it, seats, since when.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (usize, usize, u64, Nanos, &W)> {
        self.queues.iter().enumerate().flat_map(|(n, queue)| {
            let waiting = queue.waiting.iter().enumerate();
            waiting.map(move |(place, one)| (n, place, one.ticket.seats, one.since, &one.wake))
        })
    }

    /// Moves virtual time to now.
    fn advance(&mut self, now: Nanos) {
        let elapsed = now.saturating_sub(self.now);
        self.now = self.now.max(now);
        if self.active > 0 {
            let served = self.limit.min(self.running_seats + self.waiting_seats) as f64;
            self.virtual_time += seconds(elapsed) * served / self.active as f64;
        }
    }

    /// The queue of the flow's hand that has the least to do.
    fn choose(&self, flow: u64) -> usize {
        let mut hand = [0; MAX_HAND];
        let hand = deal(flow, self.queuing.queues.max(1), &mut hand[..self.queuing.hand]);
        let load = |queue: &usize| {
            let queue = &self.queues[*queue];
            queue.waiting_seats + queue.running_seats
        };
        hand.iter().copied().min_by_key(load).unwrap_or_default()
    }

    /// A queue that was idle has no claim on what it did not use.
    fn wakes_up(&mut self, queue: usize) {
        let queue = &mut self.queues[queue];
        if queue.is_idle() {
            queue.served = self.virtual_time;
            self.active += 1;
        }
    }

    fn fits(&self, seats: u64) -> bool {
        let alone = self.running_seats == 0 && self.limit > 0;
        alone || self.running_seats + seats <= self.limit
    }

    fn start(&mut self, ticket: Ticket) {
        let queue = &mut self.queues[ticket.queue];
        queue.running.push(Running { number: ticket.number, since: self.now });
        queue.running_seats += ticket.seats;
        queue.served += ticket.seats as f64 * GUESS;
        self.running += 1;
        self.running_seats += ticket.seats;
    }

    /// The queue with waiting requests whose first one would be served up to the earliest virtual time.
    fn furthest_behind(&self) -> Option<usize> {
        if self.waiting == 0 {
            return None;
        }
        let count = self.queues.len();
        let from_next = (0..count).map(|n| (self.next_queue + n) % count);
        let due = |n: usize| {
            let queue = &self.queues[n];
            let first = queue.waiting.front()?;
            Some((n, queue.served + first.ticket.seats as f64 * GUESS))
        };
        from_next.filter_map(due).min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(n, _)| n)
    }

    fn forget_waiting(&mut self, ticket: Ticket) {
        self.queues[ticket.queue].waiting_seats -= ticket.seats;
        self.waiting -= 1;
        self.waiting_seats -= ticket.seats;
    }

    fn note_demand(&mut self) {
        self.demand = self.demand.max(self.running_seats + self.waiting_seats);
    }
}

/// How a level stands.
#[derive(Clone, Debug)]
pub(super) struct Digest {
    pub(super) limit: u64,
    pub(super) waiting: usize,
    pub(super) running_seats: u64,
    pub(super) queues: Vec<QueueDigest>,
}

/// How a queue stands.
#[derive(Clone, Debug)]
pub(super) struct QueueDigest {
    pub(super) waiting: usize,
    pub(super) waiting_seats: u64,
    pub(super) running: usize,
    pub(super) running_seats: u64,
    pub(super) served: f64,
}

fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / SECOND
}

/// Deals a hand of different cards out of a deck: the same for the same flow.
fn deal(flow: u64, deck: usize, hand: &mut [usize]) -> &[usize] {
    let mut rest = flow;
    for dealt in 0..hand.len() {
        let cards = (deck - dealt) as u64;
        // One of the cards that are left, counted without those that are dealt.
        let mut card = usize::try_from(rest % cards).unwrap_or_default();
        rest /= cards;
        let (before, after) = hand.split_at_mut(dealt);
        before.sort_unstable();
        for other in before.iter() {
            card += usize::from(card >= *other);
        }
        after[0] = card;
    }
    hand
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::{BTreeSet, BinaryHeap, HashMap};

    use super::*;

    const MILLISECOND: Nanos = 1_000_000;

    fn queuing(queues: usize, hand: usize, length: usize) -> Queuing {
        Queuing { queues, hand, length }
    }

    fn runs(arrival: Arrival) -> Ticket {
        match arrival {
            Arrival::Runs(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn waits(arrival: Arrival) -> Ticket {
        match arrival {
            Arrival::Waits(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hands_are_of_different_cards() {
        let mut dealt = BTreeSet::new();
        for flow in 0..5000_u64 {
            let mut hand = [0; 4];
            let hand = deal(flow.wrapping_mul(0x9e37_79b9_7f4a_7c15), 8, &mut hand);
            let cards: BTreeSet<usize> = hand.iter().copied().collect();
            assert!(cards.len() == 4 && cards.iter().all(|card| *card < 8), "{hand:?}");
            dealt.insert(cards);
        }
        assert_eq!(dealt.len(), 70, "all hands of 4 out of 8 come");
        assert_eq!(deal(7, 1, &mut [0]), [0]);
        assert_eq!(deal(u64::MAX, 3, &mut [0; 3]).len(), 3);
    }

    #[test]
    fn seats_queues_and_refusals() {
        let mut level: Queues<&str> = Queues::new(queuing(1, 1, 2), 2);
        let first = runs(level.arrive(0, 1, 0, || "a"));
        runs(level.arrive(0, 1, 0, || "b"));
        let third = waits(level.arrive(0, 1, 0, || "c"));
        waits(level.arrive(0, 1, 0, || "d"));
        assert!(matches!(level.arrive(0, 1, 0, || "e"), Arrival::Refused(Refusal::QueueFull)));
        assert!(level.next(1).is_none(), "all seats are taken");
        level.leave(first, 2);
        assert_eq!(level.next(2).map(|(_, wake)| wake), Some("c"));
        assert!(!level.give_up(third, 3), "it runs");
        level.set_limit(3, 3);
        assert_eq!(level.next(3).map(|(_, wake)| wake), Some("d"));
    }

    #[test]
    fn where_nothing_waits() {
        let mut level: Queues<()> = Queues::new(queuing(0, 0, 0), 1);
        let one = runs(level.arrive(0, 1, 0, || ()));
        assert!(matches!(level.arrive(0, 1, 0, || ()), Arrival::Refused(Refusal::ConcurrencyLimit)));
        level.leave(one, 1);
        runs(level.arrive(0, 1, 0, || ()));
        let mut none: Queues<()> = Queues::new(queuing(1, 1, 1), 0);
        waits(none.arrive(0, 1, 0, || ()));
        assert!(none.next(1).is_none(), "there are no seats");
    }

    #[test]
    fn wide_requests_have_their_turn() {
        let mut level: Queues<&str> = Queues::new(queuing(8, 1, 9), 4);
        let small = runs(level.arrive(1, 1, 0, || "small"));
        waits(level.arrive(2, 4, 0, || "wide"));
        assert!(level.next(0).is_none(), "three seats are free, which are kept for it");
        waits(level.arrive(2, 1, 0, || "behind it"));
        level.leave(small, MILLISECOND);
        let (wide, wake) = level.next(MILLISECOND).expect("all seats are free");
        assert_eq!(wake, "wide");
        level.leave(wide, 2 * MILLISECOND);
        assert_eq!(level.next(2 * MILLISECOND).map(|(_, wake)| wake), Some("behind it"));
        let mut level: Queues<()> = Queues::new(queuing(1, 1, 9), 2);
        runs(level.arrive(0, 10, 0, || ()));
        waits(level.arrive(0, 1, 0, || ()));
        assert!(level.next(0).is_none(), "what needs more than there is runs alone");
    }

    /// One flow: it sends `burst` requests of some width at once, and another one whenever one ends.
    struct Load {
        flow: u64,
        burst: usize,
        seats: u64,
        takes: Nanos,
    }

    /// How much service each flow gets in some time, in seat-milliseconds.
    fn simulate(level: &mut Queues<usize>, loads: &[Load], until: Nanos) -> Vec<u64> {
        let mut service = vec![0; loads.len()];
        let mut ends: BinaryHeap<Reverse<(Nanos, usize, usize)>> = BinaryHeap::new();
        let mut tickets: HashMap<usize, (Ticket, usize)> = HashMap::new();
        let mut number = 0;
        let mut begin = |ticket: Ticket,
                         load: usize,
                         now: Nanos,
                         ends: &mut BinaryHeap<_>,
                         tickets: &mut HashMap<_, _>| {
            number += 1;
            tickets.insert(number, (ticket, load));
            ends.push(Reverse((now + loads[load].takes, load, number)));
        };
        for (n, load) in loads.iter().enumerate() {
            for _ in 0..load.burst {
                if let Arrival::Runs(ticket) = level.arrive(load.flow, load.seats, 0, || n) {
                    begin(ticket, n, 0, &mut ends, &mut tickets);
                }
            }
        }
        while let Some(Reverse((now, load, number))) = ends.pop() {
            if now > until {
                break;
            }
            let (ticket, _) = tickets.remove(&number).expect("it ran");
            level.leave(ticket, now);
            service[load] += loads[load].seats * loads[load].takes / MILLISECOND;
            let again = level.arrive(loads[load].flow, loads[load].seats, now, || load);
            if let Arrival::Runs(ticket) = again {
                begin(ticket, load, now, &mut ends, &mut tickets);
            }
            while let Some((ticket, load)) = level.next(now) {
                begin(ticket, load, now, &mut ends, &mut tickets);
            }
            let digest = level.digest();
            assert!(digest.running_seats <= digest.limit, "{digest:?}");
            assert!(
                digest.waiting == 0 || digest.running_seats + 10 > digest.limit,
                "seats are idle: {digest:?}"
            );
        }
        service
    }

    #[test]
    fn flows_get_equal_service_however_much_they_send() {
        let mut level = Queues::new(queuing(64, 1, 1000), 10);
        let loads = [
            Load { flow: 1, burst: 500, seats: 1, takes: 10 * MILLISECOND },
            Load { flow: 2, burst: 20, seats: 1, takes: 10 * MILLISECOND },
            Load { flow: 3, burst: 20, seats: 1, takes: 40 * MILLISECOND },
            Load { flow: 4, burst: 20, seats: 5, takes: 10 * MILLISECOND },
        ];
        let service = simulate(&mut level, &loads, 20_000 * MILLISECOND);
        let (least, most) = (service.iter().min().expect("some"), service.iter().max().expect("some"));
        assert!(*most < least * 12 / 10, "{service:?}");
        let total: u64 = service.iter().sum();
        assert!(total > 180_000, "nine of ten seats are used: {total} of 200000 seat-milliseconds");
    }

    #[test]
    fn a_light_flow_does_not_wait_for_a_heavy_one() {
        let mut level = Queues::new(queuing(64, 1, 1000), 10);
        let loads = [
            Load { flow: 1, burst: 900, seats: 1, takes: 10 * MILLISECOND },
            Load { flow: 2, burst: 1, seats: 1, takes: 10 * MILLISECOND },
        ];
        let service = simulate(&mut level, &loads, 10_000 * MILLISECOND);
        // One request after the other, each taking 10 ms, would have 10,000 alone.
        assert!(service[1] > 4_500, "{service:?}");
        assert!(service[0] > 85_000, "{service:?}");
    }

    #[test]
    fn nothing_is_lost_in_any_order() {
        let mut seed = 1_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut level: Queues<()> = Queues::new(queuing(8, 3, 5), 6);
        let (mut running, mut waiting): (Vec<Ticket>, Vec<Ticket>) = (Vec::new(), Vec::new());
        for step in 0..20_000 {
            let now = step * MILLISECOND / 7;
            match random(10) {
                0..4 => match level.arrive(random(20), 1 + random(4), now, || ()) {
                    Arrival::Runs(ticket) => running.push(ticket),
                    Arrival::Waits(ticket) => waiting.push(ticket),
                    Arrival::Refused(_) => {}
                },
                4..7 if !running.is_empty() => {
                    let at = usize::try_from(random(running.len() as u64)).expect("small");
                    level.leave(running.swap_remove(at), now);
                }
                7 if !waiting.is_empty() => {
                    let at = usize::try_from(random(waiting.len() as u64)).expect("small");
                    assert!(level.give_up(waiting.swap_remove(at), now));
                }
                8 => level.set_limit(1 + random(10), now),
                9 => level.set_queuing(queuing(1 + usize::try_from(random(12)).expect("small"), 3, 5)),
                _ => {}
            }
            while let Some((ticket, ())) = level.next(now) {
                waiting.retain(|other| *other != ticket);
                running.push(ticket);
            }
            assert_eq!((level.running, level.waiting), (running.len(), waiting.len()));
            assert_eq!(level.running_seats, running.iter().map(|ticket| ticket.seats).sum::<u64>());
            let active = level.queues.iter().filter(|queue| !queue.is_idle()).count();
            assert_eq!(level.active, active);
        }
        let now = 20_000 * MILLISECOND;
        waiting.drain(..).for_each(|ticket| assert!(level.give_up(ticket, now)));
        running.drain(..).for_each(|ticket| level.leave(ticket, now));
        assert_eq!((level.active, level.waiting_seats, level.running_seats), (0, 0, 0));
        assert!(level.queues.iter().all(Queue::is_idle));
    }
}

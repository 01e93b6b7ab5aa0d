//! Seeded random walks of the Deployment and ReplicaSet plans over a model of a cluster.
//!
//! Each controller acts on its own view, which lags behind the truth by a random number of events, but never behind
//! its own writes: that is what the runtime guarantees. Between their steps pods start, become ready, fail and go,
//! and a user changes the template, the size and the pace.
//!
//! A failing seed prints itself; `WALK_SEED=<seed> cargo test -p xebec-controllers --test rollout` replays it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod model;

use model::{Chaos, World};

const SEEDS: u64 = 100;
const STEPS: usize = 400;

#[test]
fn prompt_walks_keep_every_limit_and_converge() {
    walk(Chaos::Prompt);
}

#[test]
fn calm_walks_keep_every_limit_and_converge() {
    walk(Chaos::Calm);
}

#[test]
fn stormy_walks_keep_the_surge_and_converge() {
    walk(Chaos::Stormy);
}

fn walk(chaos: Chaos) {
    let replay = std::env::var("WALK_SEED").ok().map(|seed| seed.parse().expect("WALK_SEED is a number"));
    let seeds = replay.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, chaos);
            for _ in 0..STEPS {
                world.step();
            }
            world.settle();
        });
        if result.is_err() {
            panic!("{chaos:?} walk failed; replay with WALK_SEED={seed}");
        }
    }
}

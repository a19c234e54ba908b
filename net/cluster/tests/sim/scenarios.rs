//! Schedules written by hand.

use fulmar_cluster::ClusterId;
use fulmar_cluster::coordinator::{Coordinator, Serving};

use crate::world::{Options, World};

/// Nodes that found their cluster and settle before 6 s.
fn settled(slots: u16, seed: u64) -> World {
    let options = Options {
        is_calm: true,
        slots,
        ..Options::default()
    };
    let mut world = World::new(seed, options);
    for slot in 0..usize::from(slots) {
        world.restart(slot);
    }
    world.run_until(6_000);
    for slot in 0..usize::from(slots) {
        let serving = world.call(slot, |coordinator, now| coordinator.serves(now));
        assert_eq!(serving, Serving::Decided, "seed {seed}");
    }
    world
}

fn cluster(coordinator: &Coordinator) -> ClusterId {
    coordinator.decided().expect("it has a topology").cluster()
}

#[test]
fn an_adopted_branch_is_a_cluster_that_the_old_one_never_meets() {
    let adopted = ClusterId(99);
    for seed in 0..10 {
        let mut world = settled(5, seed);
        let old = world.call(0, |coordinator, _| cluster(coordinator));
        (0..3).for_each(|slot| world.crash(slot));
        world.run_until(9_000);
        // Of the two that are left, the senior founded the branch of both.
        let founded: Vec<bool> = [3, 4]
            .map(|slot| {
                world.call(slot, |coordinator, now| {
                    assert_eq!(coordinator.serves(now), Serving::Provisional);
                    coordinator.handle_adopt(now, adopted)
                })
            })
            .into();
        assert!(founded.contains(&true), "seed {seed}: {founded:?}");
        world.run_until(11_000);
        for slot in [3, 4] {
            world.call(slot, |coordinator, now| {
                assert_eq!(cluster(coordinator), adopted, "seed {seed}");
                assert_eq!(coordinator.serves(now), Serving::Decided, "seed {seed}");
            });
        }
        (0..3).for_each(|slot| world.restart(slot));
        world.run_until(15_900);
        for slot in 0..3 {
            let theirs = world.call(slot, |coordinator, _| cluster(coordinator));
            assert_eq!(theirs, old, "seed {seed}");
        }
    }
}

#[test]
fn the_survivor_of_a_cluster_keeps_its_items() {
    for seed in 0..10 {
        let mut world = settled(3, seed);
        world.crash(1);
        world.crash(2);
        world.run_until(8_500);
        let is_provisional = world.call(0, |coordinator, _| coordinator.is_provisional());
        assert!(is_provisional, "seed {seed}");
        world.restart(1);
        world.restart(2);
        world.run_until(12_000);
        for slot in 0..3 {
            let serving = world.call(slot, |coordinator, now| coordinator.serves(now));
            assert_eq!(serving, Serving::Decided, "seed {seed}");
        }
        // With one replica, what the two dead had of each other is gone, and only that.
        let lost_ranges = world.finish().lost_ranges;
        assert!(lost_ranges <= 2_048 / 3 + 256, "seed {seed}: {lost_ranges}");
    }
}

#[test]
fn either_of_two_nodes_may_die() {
    for seed in 0..10 {
        for dead in 0..2 {
            let mut world = settled(2, seed);
            world.crash(dead);
            world.run_until(9_000);
            let alive = 1 - dead;
            let serving = world.call(alive, |coordinator, now| coordinator.serves(now));
            assert!(serving.is_writable(), "seed {seed}: {serving:?}");
            world.restart(dead);
            world.run_until(13_000);
            for slot in 0..2 {
                let serving = world.call(slot, |coordinator, now| coordinator.serves(now));
                assert_eq!(serving, Serving::Decided, "seed {seed}");
            }
            let report = world.finish();
            assert_eq!(report.lost_ranges, 0, "seed {seed}");
        }
    }
}

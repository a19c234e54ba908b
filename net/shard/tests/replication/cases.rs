//! Cases of their own: what the log gets, long values, flushes and deletes in the middle of a sync,
//! seals, stale primaries, rewinds, lags.

use fulmar_cluster::replication::{CopyPosition, Limits, RemoteCore, Role, Verdict, Write};
use fulmar_cluster::{Epoch, NodeId, Range, Seq, ShardIndex};
use fulmar_shard::{Access, Shard};

use crate::check::items;
use crate::world::{ROOMY, Sizes, World};

fn core(id: u64) -> RemoteCore {
    RemoteCore {
        node: NodeId(id),
        core: ShardIndex(0),
    }
}

/// Two nodes of one core, the second follows the first.
fn pair(sizes: Sizes) -> World {
    let mut world = World::new(&[1, 1], sizes);
    world.decide_copies(&[1, 2]);
    world.settle();
    world
}

fn range_a() -> Range {
    Range::of(b"a")
}

fn position_of(world: &World, index: usize) -> CopyPosition {
    let position = world.nodes[index].position(range_a());
    position.expect("it has a copy")
}

fn value_of(world: &World, index: usize, key: &[u8]) -> Option<Vec<u8>> {
    let held = items(&world.nodes[index], Range::of(key), world.now.time);
    held.get(key).map(|(value, _)| value.clone())
}

/// Sends and delivers one batch from node 1 to node 2, and what comes back.
fn pass_one(world: &mut World) -> bool {
    let (from, to) = (core(1), core(2));
    world.connect(from, to);
    if !world.send_batch(from, to) {
        return false;
    }
    let pipe = world.pipes.get_mut(&(from, to)).expect("it is open");
    let batch = pipe.batches.pop_front().expect("it was sent");
    world.deliver_batch(&batch);
    if world.send_reply(from, to) {
        let pipe = world.pipes.get_mut(&(from, to)).expect("it is open");
        let reply = pipe.replies.pop_front().expect("it was sent");
        world.deliver_reply(&reply);
    }
    true
}

#[test]
fn every_command_that_changes_a_key_is_logged() {
    let mut world = pair(ROOMY);
    let cases: &[(&[&str], u64)] = &[
        (&["SET", "{a}k", "1"], 1),
        (&["GET", "{a}k"], 0),
        (&["SET", "{a}k", "1", "NX"], 0),
        (&["SETNX", "{a}other", "1"], 1),
        (&["GETSET", "{a}k", "2"], 1),
        (&["INCR", "{a}k"], 1),
        (&["DECRBY", "{a}k", "5"], 1),
        (&["INCRBYFLOAT", "{a}k", "0.5"], 1),
        (&["APPEND", "{a}k", "9"], 1),
        (&["SETRANGE", "{a}k", "0", "1"], 1),
        (&["SETRANGE", "{a}k", "0", ""], 0),
        (&["STRLEN", "{a}k"], 0),
        (&["EXPIRE", "{a}k", "100"], 1),
        (&["PEXPIRE", "{a}k", "5", "GT"], 0),
        (&["EXPIREAT", "{a}k", "1"], 1),
        (&["EXPIRE", "{a}k", "100"], 0),
        (&["SET", "{a}k", "1", "EX", "10"], 1),
        (&["PERSIST", "{a}k"], 1),
        (&["PERSIST", "{a}k"], 0),
        (&["GETEX", "{a}k"], 0),
        (&["GETEX", "{a}k", "EX", "10"], 1),
        (&["GETEX", "{a}k", "PERSIST"], 1),
        (&["SETEX", "{a}k", "10", "1"], 1),
        (&["MSET", "{a}k", "1", "{a}l", "2", "{b}m", "3"], 3),
        (&["MSETNX", "{a}k", "1", "{a}new", "2"], 0),
        (&["TOUCH", "{a}k"], 0),
        (&["TTL", "{a}k"], 0),
        (&["GETDEL", "{a}k"], 1),
        // It may still be there in a copy, so it counts even if it is not here.
        (&["DEL", "{a}k", "{a}l", "{b}missing"], 3),
        (&["UNLINK", "{a}new"], 1),
        (&["INCR", "{a}text"], 1),
        (&["SET", "{a}text", "text"], 1),
        (&["INCR", "{a}text"], 0),
    ];
    for (args, expected) in cases {
        let before = world.nodes[0].shards[0].log_head();
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        world.run(0, &args);
        let replication = world.nodes[0].replication(range_a());
        let writes: Vec<Write> = replication.writes_since(before).collect();
        assert_eq!(writes.len() as u64, *expected, "{}", args[0].escape_ascii());
        if let Some(last) = writes.last() {
            assert_eq!(world.nodes[0].shards[0].last_write(), Some(*last));
        }
    }
    world.settle();
    world.assert_copies_equal(0);
}

#[test]
fn writes_of_a_follower_are_not_logged() {
    let mut world = pair(ROOMY);
    let before = world.nodes[1].shards[0].log_head();
    world.run(1, &[b"SET", b"{a}k", b"1"]);
    assert_eq!(world.nodes[1].shards[0].log_head(), before);
    assert_eq!(world.nodes[1].shards[0].last_write(), None);
}

#[test]
fn acknowledgements_count_for_their_term_alone() {
    let mut world = pair(ROOMY);
    world.run(0, &[b"SET", b"{a}k", b"1"]);
    let write = world.nodes[0].shards[0]
        .last_write()
        .expect("it was logged");
    let count = |world: &World, index: usize, write| {
        let replication = world.nodes[index].replication(range_a());
        replication.acknowledged_by(write)
    };
    assert_eq!(count(&world, 0, write), 0);
    world.settle();
    assert_eq!(count(&world, 0, write), 1);
    let later = Write {
        seq: write.seq.next(),
        ..write
    };
    assert_eq!(count(&world, 0, later), 0);
    let of_another_term = Write {
        term: Epoch(write.term.0 + 1),
        ..write
    };
    assert_eq!(count(&world, 0, of_another_term), 0);
    world.decide_copies(&[2, 1]);
    world.settle();
    assert_eq!((count(&world, 0, write), count(&world, 1, write)), (0, 0));
}

#[test]
fn hot_keys_are_sent_once_a_batch() {
    let mut world = pair(ROOMY);
    world.settle();
    let entries = world.entries;
    for number in 0..500 {
        world.run(0, &[b"SET", b"{a}hot", number.to_string().as_bytes()]);
    }
    world.settle();
    // The value and how far that is.
    assert_eq!(world.entries - entries, 2);
    assert_eq!(value_of(&world, 1, b"{a}hot"), Some(b"499".to_vec()));
    let (one, other) = (position_of(&world, 0), position_of(&world, 1));
    assert_eq!((one, one.seq), (other, Seq(500)));
}

#[test]
fn values_of_all_lengths_arrive() {
    let mut world = pair(ROOMY);
    let lengths = [
        0,
        1,
        4_000,
        4_096,
        16_384,
        65_535,
        65_536,
        65_537,
        200_000,
        1 << 20,
        4 << 20,
    ];
    for bytes in lengths {
        let value: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        world.run(0, &[b"SET", format!("{{a}}{bytes}").as_bytes(), &value]);
    }
    world.settle();
    world.assert_copies_equal(0);
    // And to a new copy, by a full sync.
    world.restart(1);
    world.decide_copies(&[1]);
    world.settle();
    world.decide_copies(&[1, 2]);
    world.settle();
    world.assert_copies_equal(0);
    world.assert_integrity();
}

#[test]
fn a_long_value_that_changes_while_it_is_sent_arrives_whole() {
    for change in ["APPEND", "SET", "DEL", "PEXPIRE"] {
        let mut world = pair(ROOMY);
        let value = vec![b'v'; 3 << 20];
        world.run(0, &[b"SET", b"{a}long", &value]);
        world.run(0, &[b"SET", b"{a}short", b"old"]);
        assert!(pass_one(&mut world) && pass_one(&mut world));
        let args: &[&[u8]] = &[change.as_bytes(), b"{a}long", b"600000"];
        world.run(0, if change == "DEL" { &args[..2] } else { args });
        world.run(0, &[b"SET", b"{a}short", b"new"]);
        // Others are not held up by it, but the position is until it is sent.
        assert!(pass_one(&mut world));
        assert_eq!(value_of(&world, 1, b"{a}short"), Some(b"new".to_vec()));
        let is_short = matches!(change, "DEL" | "SET");
        assert_eq!(
            position_of(&world, 1).seq,
            Seq(if is_short { 4 } else { 0 })
        );
        world.settle();
        world.assert_copies_equal(0);
        world.assert_integrity();
    }
}

#[test]
fn a_connection_that_breaks_inside_a_long_value_loses_nothing() {
    let mut world = pair(ROOMY);
    let value = vec![b'v'; 3 << 20];
    world.run(0, &[b"SET", b"{a}long", &value]);
    for batches in 1..6 {
        for _ in 0..batches {
            pass_one(&mut world);
        }
        world.cut(core(1), core(2), 0);
    }
    let staged = world.nodes[1].shards[0].cache.stats().pages_in_use;
    assert!(staged < 8, "parts of {staged} pages are kept");
    world.settle();
    world.assert_copies_equal(0);
}

#[test]
fn deletes_and_flushes_in_the_middle_of_a_sync_hold() {
    for flush in [false, true] {
        let mut world = World::new(&[1, 1], ROOMY);
        let value = vec![b'v'; 3_000];
        for number in 0..3_000 {
            world.run(0, &[b"SET", format!("{{a}}{number}").as_bytes(), &value]);
        }
        world.decide_copies(&[1, 2]);
        world.learn_all();
        for _ in 0..8 {
            world.advance();
            pass_one(&mut world);
        }
        let held = items(&world.nodes[1], range_a(), world.now.time).len();
        assert!(held > 0 && held < 2_900, "{held} are there already");
        assert!(!position_of(&world, 1).is_complete);
        if flush {
            world.run(0, &[b"FLUSHALL"]);
        }
        for number in (0..3_000).step_by(3) {
            world.run(0, &[b"DEL", format!("{{a}}{number}").as_bytes()]);
            let next = format!("{{a}}{}", number + 1);
            world.run(0, &[b"SET", next.as_bytes(), b"new"]);
        }
        world.settle();
        world.assert_copies_equal(0);
    }
}

#[test]
fn a_sync_goes_on_where_it_was_acknowledged() {
    let mut world = World::new(&[1, 1], ROOMY);
    let value = vec![b'v'; 3_000];
    for number in 0..3_000 {
        world.run(0, &[b"SET", format!("{{a}}{number}").as_bytes(), &value]);
    }
    world.decide_copies(&[1, 2]);
    world.learn_all();
    for round in 0..200 {
        world.advance();
        pass_one(&mut world);
        if round % 10 == 9 {
            world.cut(core(1), core(2), 0);
        }
    }
    world.settle();
    world.assert_copies_equal(0);
    let all = 3_000 * 3_010;
    // A step of the walk is an index table, of up to 1,024 items; each cut may repeat one.
    assert!(world.item_bytes < all * 3, "{} for {all}", world.item_bytes);
    let ranges = world.ranges.len() as u64;
    assert!(world.syncs <= ranges + 2, "{} syncs", world.syncs);
}

#[test]
fn a_follower_that_lags_out_of_the_log_gets_what_it_misses() {
    let limits = Limits {
        log_bytes_max: 140_000,
        ..ROOMY.limits
    };
    let mut world = pair(Sizes { limits, ..ROOMY });
    world.run(0, &[b"SET", b"{b}k", b"1"]);
    world.settle();
    let syncs = world.syncs;
    world.cut(core(1), core(2), 0);
    for number in 0..10_000 {
        world.run(0, &[b"SET", format!("{{a}}{number}").as_bytes(), b"v"]);
    }
    world.settle();
    world.assert_copies_equal(0);
    assert_eq!(
        world.syncs - syncs,
        1,
        "only that of the range that was written"
    );
}

#[test]
fn what_is_acknowledged_in_a_branch_does_not_count() {
    let mut world = World::new(&[1, 1, 1], ROOMY);
    world.decide_copies(&[1, 2]);
    world.settle();
    world.found_branch(&[1, 2]);
    world.run(0, &[b"SET", b"{a}k", b"1"]);
    world.settle();
    let write = world.nodes[0].shards[0]
        .last_write()
        .expect("it was logged");
    let count = |world: &World| world.nodes[0].replication(range_a()).acknowledged_by(write);
    assert_eq!(position_of(&world, 1).seq, write.seq);
    assert_eq!(count(&world), 0);
    // Its primary stays.
    world.decide_copies(&[1, 2]);
    world.settle();
    assert_eq!(count(&world), 1);
}

/// The follower was in a branch, and its primary learned of neither that nor of the topology after it.
#[test]
fn a_follower_that_was_rewound_meanwhile_gets_what_it_had() {
    let mut world = World::new(&[1, 1, 1], ROOMY);
    world.decide_copies(&[1, 2, 3]);
    world.settle();
    world.run(0, &[b"SET", b"{a}k", b"1"]);
    while pass_one(&mut world) {}
    assert_eq!(position_of(&world, 1).seq, Seq(1));
    world.cut(core(1), core(3), 0);
    world.found_branch(&[3, 2]);
    world.settle();
    assert_eq!(value_of(&world, 1, b"{a}k"), None);
    world.decide_copies(&[1, 2, 3]);
    for index in [1, 2] {
        world.learn(index);
    }
    world.decide_copies(&[1, 2, 3]);
    world.settle();
    world.assert_copies_equal(0);
    assert_eq!(value_of(&world, 1, b"{a}k"), Some(b"1".to_vec()));
}

/// The same, but the primary missed the branch alone; and what the follower lacks takes some batches.
fn rewound_in_a_branch() -> (World, Write) {
    let mut world = World::new(&[1, 1, 1], ROOMY);
    world.decide_copies(&[1, 2, 3]);
    world.settle();
    for number in 0..600 {
        let key = format!("{{a}}{number}");
        world.run(0, &[b"SET", key.as_bytes(), &[b'v'; 1_000]]);
    }
    let write = world.nodes[0].shards[0].last_write();
    while pass_one(&mut world) {}
    world.cut(core(1), core(2), 0);
    world.cut(core(1), core(3), 0);
    world.found_branch(&[3, 2]);
    world.settle();
    assert_eq!(value_of(&world, 1, b"{a}0"), None);
    world.decide_copies(&[1, 2, 3]);
    world.learn_all();
    (world, write.expect("it was logged"))
}

#[test]
fn what_a_follower_has_no_more_it_has_not_acknowledged() {
    let (mut world, write) = rewound_in_a_branch();
    let mut is_there = false;
    for _ in 0..20 {
        let replication = world.nodes[0].replication(range_a());
        let counts = replication.acknowledged_by(write) > 0;
        let is_ready = replication.is_caught_up(range_a(), NodeId(2));
        is_there = position_of(&world, 1).seq >= write.seq;
        assert!(is_there || !(counts || is_ready));
        if !pass_one(&mut world) {
            world.advance_ms(2_100);
            world.advance();
        }
    }
    assert!(is_there);
    world.settle();
    world.assert_copies_equal(0);
}

/// Node 2 is the heir in two branches of one epoch, and follows the primary in between.
#[test]
fn reigns_of_one_node_in_one_epoch_are_told_apart() {
    let mut world = World::new(&[1, 1, 1], ROOMY);
    world.decide_copies(&[2, 1, 3]);
    world.settle();
    // Its term is the branches'.
    world.decide_copies(&[1, 2, 3]);
    world.settle();
    world.run(0, &[b"SET", b"{a}k", b"0"]);
    world.settle();
    world.found_branch(&[1]);
    world.found_branch(&[2, 3]);
    for key in [b"{a}x", b"{a}y", b"{a}z"] {
        world.run(1, &[b"SET", key, b"void"]);
    }
    world.settle();
    world.found_branch(&[1, 2]);
    world.settle();
    for number in 0..6 {
        world.run(0, &[b"SET", format!("{{a}}{number}").as_bytes(), b"1"]);
        world.settle();
    }
    world.found_branch(&[1]);
    world.found_branch(&[2, 3]);
    world.run(1, &[b"SET", b"{a}k", b"1"]);
    world.settle();
    world.decide_copies(&[1, 2, 3]);
    world.settle();
    world.assert_copies_equal(0);
    assert_eq!(value_of(&world, 2, b"{a}x"), None);
}

/// Node 2 was late for a branch, which started the ranges anew; before, it may have been the heir in another one.
#[test]
fn a_branch_leaves_a_whole_copy_that_it_does_not_name_as_it_is() {
    let cases = [
        (false, &[2, 1][..]),
        (false, &[1, 2]),
        (true, &[2, 1]),
        (true, &[1, 2]),
    ];
    for (was_heir, next) in cases {
        let mut world = World::new(&[1, 1, 1], ROOMY);
        world.decide_copies(&[1, 2]);
        world.run(0, &[b"SET", b"{a}k", b"1"]);
        world.settle();
        let decided = position_of(&world, 1);
        if was_heir {
            world.found_branch(&[2]);
        }
        for _ in 0..2 {
            world.found_branch_with(&[3], &[2]);
            world.run(2, &[b"SET", b"{a}x", b"void"]);
            world.settle();
            assert_eq!(position_of(&world, 1).seq, decided.seq);
            let replication = world.nodes[2].replication(range_a());
            let mut told = replication.positions(std::iter::once(range_a()));
            assert_eq!(told.next().map(|one| one.term), Some(Epoch(0)));
        }
        world.decide_copies(next);
        // Before it has heard from anybody.
        world.learn(1);
        assert_eq!(value_of(&world, 1, b"{a}k"), Some(b"1".to_vec()));
        assert!(world.nodes[1].position(range_a()).is_some());
        world.settle();
        world.assert_copies_equal(0);
        assert_eq!(value_of(&world, 0, b"{a}k"), Some(b"1".to_vec()));
        assert_eq!(value_of(&world, 1, b"{a}x"), None);
    }
}

/// The follower learns first, and what the heir offered in the branch arrives then.
#[test]
fn what_was_offered_in_a_branch_that_is_adopted_is_decided() {
    let mut world = World::new(&[1, 1, 1], ROOMY);
    world.decide_copies(&[1, 2, 3]);
    world.settle();
    world.run(0, &[b"SET", b"{a}k", b"1"]);
    world.settle();
    world.kill(0);
    world.found_branch(&[2, 3]);
    world.connect(core(2), core(3));
    assert!(world.send_batch(core(2), core(3)), "it offers");
    world.adopt(1);
    world.learn(2);
    let pipe = world
        .pipes
        .get_mut(&(core(2), core(3)))
        .expect("it is open");
    let batch = pipe.batches.pop_front().expect("it was sent");
    world.deliver_batch(&batch);
    world.settle();
    world.run(1, &[b"SET", b"{a}k", b"2"]);
    let write = world.nodes[1].shards[0].last_write();
    world.settle();
    assert_eq!(value_of(&world, 2, b"{a}k"), Some(b"2".to_vec()));
    let replication = world.nodes[1].replication(range_a());
    assert_eq!(
        replication.acknowledged_by(write.expect("it was logged")),
        1
    );
}

/// The follower was dropped and is one again, and its primary learned of the second topology only.
#[test]
fn a_follower_of_whose_end_its_primary_never_heard_is_filled_again() {
    let mut world = pair(ROOMY);
    world.run(0, &[b"SET", b"{a}k", b"1"]);
    world.settle();
    let write = world.nodes[0].shards[0]
        .last_write()
        .expect("it was logged");
    world.decide_copies(&[1]);
    world.learn(1);
    while world.advance() {}
    assert!(items(&world.nodes[1], range_a(), world.now.time).is_empty());
    world.decide_copies(&[1, 2]);
    world.learn_all();
    let replication = world.nodes[0].replication(range_a());
    assert_eq!(replication.acknowledged_by(write), 0);
    world.settle();
    world.assert_copies_equal(0);
}

/// A refusal by a topology that is over by now comes late.
#[test]
fn a_refusal_of_the_past_does_not_count() {
    let mut world = pair(ROOMY);
    world.run(0, &[b"SET", b"{a}k", b"1"]);
    world.settle();
    let drop_a = |_: &mut World, range: Range, copies: &mut fulmar_cluster::Copies| {
        if range == range_a() {
            copies.replicas.clear();
        }
    };
    world.decide(drop_a);
    world.learn(1);
    world.run(0, &[b"SET", b"{a}k", b"2"]);
    let (from, to) = (core(1), core(2));
    assert!(world.send_batch(from, to));
    let pipe = world.pipes.get_mut(&(from, to)).expect("it is open");
    let batch = pipe.batches.pop_front().expect("it was sent");
    world.deliver_batch(&batch);
    assert!(world.send_reply(from, to), "it refuses");
    world.learn(0);
    world.decide_copies(&[1, 2]);
    world.learn_all();
    let pipe = world.pipes.get_mut(&(from, to)).expect("it is open");
    let reply = pipe.replies.pop_front().expect("it was told");
    world.deliver_reply(&reply);
    world.settle();
    world.assert_copies_equal(0);
}

#[test]
fn a_full_sync_keeps_its_pace() {
    let limits = Limits {
        sync_bytes_per_second: 1_000_000,
        ..ROOMY.limits
    };
    let mut world = World::new(&[1, 1], Sizes { limits, ..ROOMY });
    for number in 0..200 {
        let key = format!("{{a}}{number}");
        world.run(0, &[b"SET", key.as_bytes(), &[b'v'; 3_000]]);
    }
    world.decide_copies(&[1, 2]);
    world.learn_all();
    let mut last_ms = 0;
    for ms in 1..1_000 {
        world.advance_ms(1);
        world.advance();
        let before = world.item_bytes;
        while pass_one(&mut world) {}
        assert!(
            world.item_bytes <= (ms + 20) * 1_000 + 4_000,
            "after {ms} ms"
        );
        last_ms = if world.item_bytes > before {
            ms
        } else {
            last_ms
        };
    }
    assert!((550..700).contains(&last_ms), "600 kB in {last_ms} ms");
    world.settle();
    world.assert_copies_equal(0);
}

#[test]
fn the_window_bounds_what_is_on_its_way() {
    let mut world = pair(ROOMY);
    for number in 0..2_000 {
        let key = format!("{{a}}{number}");
        world.run(0, &[b"SET", key.as_bytes(), &[b'v'; 3_000]]);
    }
    world.connect(core(1), core(2));
    let mut batches = 0;
    while world.send_batch(core(1), core(2)) {
        batches += 1;
    }
    // 1 MiB of window, 256 KiB a batch.
    assert!((4..=6).contains(&batches), "{batches} batches");
    world.settle();
    world.assert_copies_equal(0);
}

#[test]
fn a_write_does_not_wait_behind_all_that_a_sync_can_send() {
    let mut world = World::new(&[1, 1], ROOMY);
    for number in 0..2_000 {
        let key = format!("{{a}}{number}");
        world.run(0, &[b"SET", key.as_bytes(), &[b'v'; 3_000]]);
    }
    world.decide_copies(&[1, 2]);
    world.learn_all();
    while world.syncs == 0 {
        world.advance();
        assert!(pass_one(&mut world));
    }
    let before = world.item_bytes;
    while world.send_batch(core(1), core(2)) {}
    let sent = world.item_bytes - before;
    // 512 KiB that are not acknowledged, and the batch that went beyond.
    assert!((500_000..800_000).contains(&sent), "{sent} bytes");
    world.run(0, &[b"SET", b"{a}new", b"v"]);
    assert!(world.send_batch(core(1), core(2)), "its entry goes at once");
    assert!(!world.send_batch(core(1), core(2)), "the sync does not");
    world.settle();
    world.assert_copies_equal(0);
}

/// Keys that are only read, at the primary, stay at the follower, too, while others come and go.
#[test]
fn a_copy_keeps_what_is_read_at_its_primary() {
    const HOT: usize = 3_000;
    let limits = Limits {
        log_bytes_max: 140_000,
        ..ROOMY.limits
    };
    let mut world = pair(Sizes {
        memory_bytes: 5 << 20,
        limits,
    });
    let hot: Vec<String> = (0..HOT).map(|number| format!("{{a}}hot{number}")).collect();
    for key in &hot {
        world.run(0, &[b"SET", key.as_bytes(), &[b'v'; 100]]);
    }
    let mut evicted = 0;
    for cold in 0..200_000 {
        let key = format!("{{a}}cold{cold}");
        world.run(0, &[b"SET", key.as_bytes(), &[b'v'; 100]]);
        let reply = world.run(0, &[b"GET", hot[cold % HOT].as_bytes()]);
        evicted += usize::from(reply.starts_with(b"$-1"));
        if cold % 500 == 0 {
            world.advance_ms(100);
            world.settle();
        }
    }
    world.settle();
    let follower = &world.nodes[1].shards[0].cache;
    assert!(follower.stats().evicted > 150_000, "it was never full");
    assert_eq!(evicted, 0, "keys that are read went at the primary");
    let held = items(&world.nodes[1], range_a(), world.now.time);
    let kept = hot.iter().filter(|key| held.contains_key(key.as_bytes()));
    assert_eq!(kept.count(), HOT);
}

#[test]
fn deadlines_are_late_by_the_time_on_the_way() {
    let mut world = pair(ROOMY);
    world.run(0, &[b"SET", b"{a}k", b"1", b"PX", b"50000"]);
    // Waiting in the log costs nothing.
    world.advance_ms(1_000);
    world.connect(core(1), core(2));
    while world.send_batch(core(1), core(2)) {}
    world.advance_ms(7);
    world.settle();
    let of = |index: usize| {
        let held = items(&world.nodes[index], range_a(), world.now.time);
        let (_, deadline) = held[b"{a}k".as_slice()];
        deadline.expect("it expires").0
    };
    assert_eq!(of(1), of(0) + 7);
}

#[test]
fn a_sealed_primary_is_neither_followed_nor_acknowledged() {
    let mut world = pair(ROOMY);
    world.run(0, &[b"SET", b"{a}k", b"1"]);
    world.connect(core(1), core(2));
    while pass_one(&mut world) {}
    world.run(0, &[b"SET", b"{a}k", b"2"]);
    world.send_batch(core(1), core(2));
    world.on_core(core(2), |replication, _| replication.seal(&[NodeId(1)]));
    let before = position_of(&world, 1);
    let pipe = world
        .pipes
        .get_mut(&(core(1), core(2)))
        .expect("it is open");
    let batch = pipe.batches.pop_front().expect("it was sent");
    world.deliver_batch(&batch);
    assert!(!world.send_reply(core(1), core(2)));
    assert_eq!(position_of(&world, 1), before);
    assert_eq!(value_of(&world, 1, b"{a}k"), Some(b"1".to_vec()));
    // The next epoch ends the seal.
    world.decide_copies(&[1, 2]);
    world.settle();
    world.assert_copies_equal(0);
}

#[test]
fn batches_that_vanish_are_sent_again() {
    let mut world = pair(ROOMY);
    world.run(0, &[b"SET", b"{a}k", b"1"]);
    world.connect(core(1), core(2));
    assert!(world.send_batch(core(1), core(2)));
    let pipe = world
        .pipes
        .get_mut(&(core(1), core(2)))
        .expect("it is open");
    pipe.batches.clear();
    world.settle();
    assert_eq!(value_of(&world, 1, b"{a}k"), None);
    world.advance_ms(20_000);
    world.settle();
    world.assert_copies_equal(0);
}

#[test]
fn a_deposed_primary_is_refused_and_rewinds() {
    let mut world = pair(ROOMY);
    for number in 0..100 {
        world.run(0, &[b"SET", format!("{{a}}{number}").as_bytes(), b"shared"]);
    }
    world.settle();
    // Node 2 takes over, and node 1 does not know.
    world.decide_copies(&[2, 1]);
    world.learn(1);
    for number in 0..30 {
        world.run(0, &[b"SET", format!("{{a}}{number}").as_bytes(), b"lost"]);
        world.run(
            1,
            &[b"SET", format!("{{a}}{}", number + 20).as_bytes(), b"kept"],
        );
    }
    world.run(0, &[b"SET", b"{a}only", b"lost"]);
    world.run(0, &[b"DEL", b"{a}99"]);
    world.connect(core(1), core(2));
    assert!(world.send_batch(core(1), core(2)));
    let pipe = world
        .pipes
        .get_mut(&(core(1), core(2)))
        .expect("it is open");
    let batch = pipe.batches.pop_front().expect("it was sent");
    let verdict = world.on_core(core(2), |replication, store| {
        replication.begin_batch(&batch.header, store)
    });
    assert_eq!(verdict, Verdict::Stale);
    let syncs = world.syncs;
    world.settle();
    world.assert_copies_equal(0);
    assert_eq!(world.syncs, syncs, "nothing was synced in full");
    let counts = world.nodes[0].replication(range_a()).counts();
    assert_eq!(counts.divergent_keys, 32);
    assert_eq!(value_of(&world, 0, b"{a}0"), Some(b"shared".to_vec()));
    assert_eq!(value_of(&world, 0, b"{a}25"), Some(b"kept".to_vec()));
    assert_eq!(value_of(&world, 0, b"{a}99"), Some(b"shared".to_vec()));
    assert_eq!(value_of(&world, 0, b"{a}only"), None);
}

/// The next batch from one core to another comes.
fn deliver(world: &mut World, from: RemoteCore, to: RemoteCore) {
    let pipe = world.pipes.get_mut(&(from, to)).expect("it is open");
    let batch = pipe.batches.pop_front().expect("it was sent");
    world.deliver_batch(&batch);
}

/// The next answer to it comes.
fn answer(world: &mut World, from: RemoteCore, to: RemoteCore) {
    let pipe = world.pipes.get_mut(&(from, to)).expect("it is open");
    let reply = pipe.replies.pop_front().expect("it was told");
    world.deliver_reply(&reply);
}

/// Node 1 wrote after node 2 took over, and has asked that for what it wrote; gives where both were before.
fn rewinding() -> (World, CopyPosition) {
    let mut world = pair(ROOMY);
    world.run(0, &[b"SET", b"{a}shared", b"1"]);
    world.settle();
    let shared = position_of(&world, 0);
    world.decide_copies(&[2, 1]);
    world.learn(1);
    world.run(0, &[b"SET", b"{a}lost", b"1"]);
    world.run(1, &[b"SET", b"{a}kept", b"1"]);
    world.learn(0);
    let (from, to) = (core(2), core(1));
    world.connect(from, to);
    assert!(world.send_batch(from, to), "the offer");
    deliver(&mut world, from, to);
    assert!(world.send_reply(from, to), "what it wrote after the fork");
    answer(&mut world, from, to);
    (world, shared)
}

/// A topology may come at any moment, and give the range to whom it was rewound for no longer.
#[test]
fn what_a_rewind_has_undone_counts_no_longer() {
    let (mut world, shared) = rewinding();
    let (from, to) = (core(2), core(1));
    assert_eq!(position_of(&world, 0).seq.0, shared.seq.0 + 1);
    assert!(world.send_batch(from, to), "its values");
    deliver(&mut world, from, to);
    assert_eq!(value_of(&world, 0, b"{a}lost"), None);
    assert_eq!(position_of(&world, 0), shared);
    world.settle();
    world.assert_copies_equal(0);
}

/// The primary waited long for the answer to its offer, and made it again; what follows the first answer comes
/// behind that.
#[test]
fn an_offer_repeated_while_its_answer_is_under_way_changes_nothing() {
    let (mut world, _) = rewinding();
    let (from, to) = (core(2), core(1));
    assert!(world.send_batch(from, to), "its values");
    deliver(&mut world, from, to);
    assert!(world.send_reply(from, to), "from where it starts");
    world.advance_ms(2_500);
    world.advance();
    assert!(world.send_batch(from, to), "the offer again");
    answer(&mut world, from, to);
    assert!(world.send_batch(from, to), "what follows");
    deliver(&mut world, from, to);
    deliver(&mut world, from, to);
    world.settle();
    world.assert_copies_equal(0);
}

#[test]
fn entries_of_an_earlier_term_of_the_same_primary_are_refused() {
    let mut world = pair(ROOMY);
    // The range goes to node 2 and comes back, and node 1 knows of neither.
    world.decide_copies(&[2, 1]);
    world.learn(1);
    world.run(1, &[b"SET", b"{a}k", b"kept"]);
    world.decide_copies(&[1, 2]);
    world.learn(1);
    world.run(0, &[b"SET", b"{a}k", b"lost"]);
    let write = world.nodes[0].shards[0]
        .last_write()
        .expect("it was logged");
    let before = position_of(&world, 1);
    assert!(pass_one(&mut world), "what it wrote");
    assert_eq!(value_of(&world, 1, b"{a}k"), Some(b"kept".to_vec()));
    assert_eq!(position_of(&world, 1), before);
    let replication = world.nodes[0].replication(range_a());
    assert_eq!(replication.acknowledged_by(write), 0);
}

#[test]
fn what_is_held_is_read_and_not_written() {
    let mut world = pair(ROOMY);
    let now = world.now;
    let shard = &mut world.nodes[0].shards[0];
    let may = |shard: &Shard, range: Range| {
        let accesses = [Access::Read, Access::Write];
        accesses.map(|access| shard.is_answerable(range.index(), access))
    };
    let other = Range::of(b"{b}k");
    shard.hold([range_a()].into_iter(), now);
    assert_eq!(
        (may(shard, range_a()), may(shard, other)),
        ([true, false], [true, true])
    );
    let accesses = [Access::Read, Access::Write];
    let held = accesses.map(|access| shard.is_held(range_a(), access));
    assert_eq!(held, [false, true]);
    assert!(!shard.may_write_all());
    let mut later = now;
    later.time.0 += 30;
    assert_eq!((shard.held_ms(now), shard.held_ms(later)), (0, 30));
    shard.release();
    assert_eq!(shard.held_ms(later), 0);
    assert_eq!(may(shard, range_a()), [true, true]);
    assert!(shard.may_write_all());
}

#[test]
fn a_copy_of_an_empty_restart_is_not_followed() {
    let mut world = pair(ROOMY);
    world.run(0, &[b"SET", b"{a}k", b"1"]);
    world.settle();
    // It is back before anyone missed it.
    world.restart(0);
    world.learn(0);
    assert_eq!(
        world.nodes[0].replication(range_a()).role(range_a()),
        Role::None
    );
    world.settle();
    assert_eq!(value_of(&world, 1, b"{a}k"), Some(b"1".to_vec()));
    world.decide_copies(&[2, 1]);
    world.settle();
    world.assert_copies_equal(0);
    assert_eq!(value_of(&world, 0, b"{a}k"), Some(b"1".to_vec()));
}

#[test]
fn a_copy_that_is_given_up_is_dropped_in_steps() {
    let mut world = pair(ROOMY);
    for number in 0..20_000 {
        world.run(0, &[b"SET", format!("{{a}}{number}").as_bytes(), b"v"]);
    }
    world.settle();
    world.decide_copies(&[1]);
    world.learn_all();
    let mut steps = 0;
    let mut held = 20_000;
    while world.advance() {
        steps += 1;
        let left = items(&world.nodes[1], range_a(), world.now.time).len();
        assert!(held - left <= 512 + 2_048, "{} at once", held - left);
        held = left;
    }
    assert!(steps > 8, "{steps} steps");
    assert!(items(&world.nodes[1], range_a(), world.now.time).is_empty());
}

#[test]
fn lags_tell_what_would_be_lost() {
    let mut world = pair(ROOMY);
    let lag = |world: &World| {
        let replication = world.nodes[0].replication(range_a());
        let now = fulmar_cluster::Time(world.now.time.0);
        replication.lags(now).next().expect("there is a follower")
    };
    let at_rest = lag(&world);
    assert_eq!((at_rest.entries, at_rest.bytes, at_rest.ms), (0, 0, 0));
    assert_eq!((at_rest.ranges, at_rest.incomplete), (6, 0));
    world.cut(core(1), core(2), 0);
    for number in 0..100 {
        world.run(0, &[b"SET", format!("{{a}}{number}").as_bytes(), b"v"]);
    }
    world.advance_ms(2_500);
    let behind = lag(&world);
    assert_eq!((behind.entries, behind.is_connected), (100, false));
    assert!(behind.bytes > 0 && behind.ms >= 2_500);
    world.settle();
    assert_eq!(lag(&world).entries, 0);
}

#[test]
fn what_a_follower_could_not_tell_is_not_waited_for() {
    let mut world = pair(ROOMY);
    for round in 0..3 {
        world.run(0, &[b"SET", b"{a}k", b"1"]);
        let (from, to) = (core(1), core(2));
        assert!(world.send_batch(from, to));
        let pipe = world.pipes.get_mut(&(from, to)).expect("it is open");
        let batch = pipe.batches.pop_front().expect("it was sent");
        // Before, or after it was applied and acknowledged.
        if round > 0 {
            world.deliver_batch(&batch);
        }
        if round > 1 {
            assert!(world.send_reply(from, to));
        }
        world.cut_back(from, to);
        if round == 0 {
            world.deliver_batch(&batch);
        }
        // No time passes.
        world.settle();
        world.assert_copies_equal(0);
        let replication = world.nodes[0].replication(range_a());
        let lag = replication
            .lags(fulmar_cluster::Time(world.now.time.0))
            .next();
        assert_eq!(lag.expect("a follower").entries, 0, "round {round}");
    }
}

#[test]
fn an_old_copy_counts_for_nothing_before_it_has_caught_up() {
    let mut world = pair(ROOMY);
    world.run(0, &[b"SET", b"{a}k", b"1"]);
    world.settle();
    world.absent = vec![NodeId(2)];
    world.decide(|_, _, copies| copies.replicas.clear());
    world.learn_all();
    world.run(0, &[b"SET", b"{a}k", b"2"]);
    let syncs = world.nodes[0].replication(range_a()).counts().full_syncs;
    // The same primary and term as before.
    world.absent.clear();
    world.decide(|_, _, copies| copies.learners = [NodeId(2)].into_iter().collect());
    world.learn_all();
    assert_eq!(world.nodes[1].position(range_a()), None);
    world.settle();
    assert_eq!(position_of(&world, 1), position_of(&world, 0));
    assert!(position_of(&world, 1).is_complete);
    assert_eq!(value_of(&world, 1, b"{a}k"), Some(b"2".to_vec()));
    let counts = world.nodes[0].replication(range_a()).counts();
    assert_eq!(counts.full_syncs, syncs, "it had all but the last write");
}

#[test]
fn nobody_finds_a_fork_in_a_part_of_a_range() {
    let mut world = World::new(&[1, 1, 1], ROOMY);
    world.decide_copies(&[1]);
    world.learn_all();
    for number in 0..2_000 {
        let key = format!("{{a}}{number}");
        world.run(0, &[b"SET", key.as_bytes(), &[b'v'; 500]]);
    }
    world.decide(|_, _, copies| copies.learners = [NodeId(2)].into_iter().collect());
    world.learn_all();
    // It has a part of a range when it becomes its primary, while the whole copy is away.
    let held = |world: &World| items(&world.nodes[1], range_a(), world.now.time).len();
    for _ in 0..20 {
        if held(&world) == 0 {
            world.advance();
            pass_one(&mut world);
        }
    }
    assert!((1..2_000).contains(&held(&world)), "{}", held(&world));
    world.decide_copies(&[2, 1]);
    world.settle();
    world.assert_copies_equal(0);
}

#[test]
fn a_flush_of_one_node_leaves_what_others_own() {
    let mut world = World::new(&[1, 1], ROOMY);
    world.decide(|_, range, copies| {
        let (primary, replica) = if range == range_a() { (1, 2) } else { (2, 1) };
        copies.primary = NodeId(primary);
        copies.replicas = [NodeId(replica)].into_iter().collect();
    });
    world.settle();
    world.run(0, &[b"SET", b"{a}k", b"1"]);
    world.run(1, &[b"SET", b"{b}k", b"1"]);
    world.settle();
    world.run(0, &[b"FLUSHALL"]);
    world.settle();
    world.assert_copies_equal(0);
    assert_eq!(value_of(&world, 1, b"{a}k"), None);
    assert_eq!(value_of(&world, 0, b"{b}k"), Some(b"1".to_vec()));
}

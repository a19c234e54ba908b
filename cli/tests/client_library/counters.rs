//! What batching saves, and how exact a split counter is.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use fulmar_client::{BatchOptions, Client, Options};
use rustix::process::Signal;

use crate::cluster::{Cluster, is_long, runtime};

const RATE: u64 = 10_000;

#[test]
fn counters_cost_little_and_are_exact_but_for_what_a_dead_node_had_alone() {
    let Some(mut cluster) = Cluster::start(3) else {
        return;
    };
    ten_thousand_increments_a_second_are_twenty_operations(&cluster);
    a_split_counter_stays_within_its_bound_when_a_node_dies(&mut cluster);
}

fn ten_thousand_increments_a_second_are_twenty_operations(cluster: &Cluster) {
    let seconds = if is_long() { 20 } else { 1 };
    runtime().block_on(async {
        let client = Client::connect(cluster.seeds()).await.expect("it answers");
        for parts in [1, 10] {
            let batcher = client.batcher(BatchOptions::default());
            let counter = batcher
                .counter(format!("visits in {parts}"), parts)
                .expect("valid");
            let before = cluster.sum("commandstats", "cmdstat_incrby");
            let started = Instant::now();
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            for _ in 0..seconds * 100 {
                ticks.tick().await;
                for _ in 0..RATE / 100 {
                    counter.increment(1).await.expect("buffered");
                }
            }
            let took = started.elapsed().as_secs_f64();
            batcher.flush().await.expect("all is well");
            let operations = cluster.sum("commandstats", "cmdstat_incrby") - before;
            let sum = counter.get().await.expect("numbers");
            let (rate, per_second) = (sum as f64 / took, operations as f64 / took);
            eprintln!(
                "{parts} parts: {rate:.0} increments/s, {per_second:.1} operations/s, sum {sum}"
            );
            assert_eq!(sum.unsigned_abs(), seconds * RATE);
            assert!(per_second <= 20.0, "{operations} in {took:.2} s");
            assert!(
                !is_long() || rate >= RATE as f64 * 0.9,
                "the machine is too slow for this: {rate:.0}/s"
            );
        }
    });
}

fn a_split_counter_stays_within_its_bound_when_a_node_dies(cluster: &mut Cluster) {
    let mut victim = cluster.nodes.pop().expect("three");
    runtime().block_on(async {
        let options = Options::default().timeout(Duration::from_secs(2));
        let client = Client::connect_with(cluster.seeds(), options)
            .await
            .expect("it answers");
        let counter = client.counter("split", 10).expect("valid");
        let added = AtomicI64::new(0);
        let doubtful = AtomicI64::new(0);
        let is_over = AtomicBool::new(false);
        let work = async || {
            while !is_over.load(Ordering::Relaxed) {
                match counter.increment(1).await {
                    Ok(()) => added.fetch_add(1, Ordering::SeqCst),
                    Err(error) => {
                        doubtful.fetch_add(error.may_have_been_applied().into(), Ordering::SeqCst)
                    }
                };
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let fault = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let early = added.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(500)).await;
            // What was acknowledged in the half second before may not be replicated yet.
            let at_risk = added.load(Ordering::SeqCst) - early;
            victim.signal(Signal::KILL);
            victim.join();
            tokio::time::sleep(Duration::from_secs(2)).await;
            is_over.store(true, Ordering::Relaxed);
            at_risk
        };
        let (at_risk, ..) = tokio::join!(
            fault,
            work(),
            work(),
            work(),
            work(),
            work(),
            work(),
            work(),
            work(),
            work(),
            work()
        );
        let (added, doubtful) = (added.into_inner(), doubtful.into_inner());
        let sum = counter.get().await.expect("numbers");
        eprintln!("added {added}, {doubtful} doubtful, at risk {at_risk}: sum {sum}");
        assert!(sum <= added + doubtful, "nothing is added twice");
        assert!(
            sum >= added - at_risk,
            "only what was not replicated is lost"
        );
    });
}

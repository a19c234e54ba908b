//! What INFO and `/-/metrics` tell of a cluster.

use std::thread;
use std::time::Duration;

use crate::support::{settle, three};

#[test]
fn lags_and_counts_are_published() {
    let cluster = three();
    let mut client = cluster.nodes[0].client();
    let sent = |client: &mut crate::support::Client| -> u64 {
        client
            .info("cluster_forwards_sent")
            .parse()
            .expect("a number")
    };
    // Counts are published once a tick of 100 ms: those of an earlier test may still be to come.
    let mut before = sent(&mut client);
    settle("earlier commands are counted", || {
        thread::sleep(Duration::from_millis(250));
        let now = sent(&mut client);
        std::mem::replace(&mut before, now) == now
    });
    for number in 0..300 {
        assert_eq!(client.run(&format!("SET key:{number} v")), "+OK");
    }
    assert_eq!(client.number("WAIT 1 0"), 1);
    settle("the commands sent on are counted", || {
        (100..300).contains(&(sent(&mut client) - before))
    });
    settle("all is acknowledged", || {
        client.info("replication_lag_entries") == "0"
    });
    assert_eq!(client.info("connected_slaves"), "2");
    for follower in ["slave0", "slave1"] {
        let line = client.info(follower);
        assert!(line.contains("state=online"), "{line}");
        assert!(
            line.ends_with("lag_entries=0,lag_bytes=0,lag_ms=0"),
            "{line}"
        );
    }
    for (field, value) in [
        ("cluster_members_heard", "3"),
        ("cluster_provisional", "0"),
        ("cluster_ready", "1"),
        ("cluster_lost_ranges", "0"),
        ("replication_divergent_keys", "0"),
    ] {
        assert_eq!(client.info(field), value, "{field}");
    }
    assert_ne!(
        client.info("replication_full_syncs"),
        "0",
        "copies were filled"
    );
    let metrics = cluster.nodes[0].http("GET /-/metrics", "");
    let epoch = client.info("cluster_epoch");
    let line = |name: &str| {
        metrics
            .lines()
            .filter(|line| line.starts_with(name))
            .count()
    };
    assert_eq!(
        line(&format!("fulmar_cluster_epoch {epoch}")),
        1,
        "{metrics}"
    );
    assert_eq!(line("fulmar_cluster_members_heard 3"), 1);
    assert_eq!(line("fulmar_cluster_ready 1"), 1);
    assert_eq!(line("fulmar_cluster_replication_lag_entries{follower="), 2);
    assert_eq!(line("fulmar_cluster_forwards_sent_total "), 1);
    let syncs = client.info("replication_full_syncs");
    assert_eq!(line(&format!("fulmar_cluster_full_syncs_total {syncs}")), 1);
}

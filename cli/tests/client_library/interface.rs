//! All that the client offers, against nodes that are well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fulmar_client::{
    BatchOptions, Client, Command, ErrorKind, Options, ReadFrom, SetOptions, Ttl, Value, blocking,
};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, runtime};
use crate::nodes::Node;

const MINUTE: Duration = Duration::from_secs(60);
const KEYS: usize = 300;

#[test]
fn a_cluster_serves_all_that_the_client_offers() {
    let Some(mut cluster) = Cluster::start(2) else {
        return;
    };
    runtime().block_on(async {
        // One seed is enough.
        let client = Client::connect(&cluster.seeds()[..1])
            .await
            .expect("it answers");
        assert_eq!(client.nodes().len(), 2);
        single_keys(&client).await;
        many_keys(&client).await;
        values_are_computed_once(&client).await;
        replicas(&cluster).await;
        hot_keys(&cluster, &client).await;
    });
    threads(&cluster);
    addresses_change(&mut cluster);
}

async fn single_keys(client: &Client) {
    client.set("k", "v").await.expect("stored");
    assert_eq!(
        client.get("k").await.expect("answered").as_deref(),
        Some(&b"v"[..])
    );
    assert_eq!(client.ttl("k").await.expect("answered"), Ttl::Forever);
    assert!(client.expire("k", MINUTE).await.expect("answered"));
    assert!(matches!(client.ttl("k").await, Ok(Ttl::Left(left)) if left <= MINUTE));
    assert_eq!(client.append("k", "w").await.expect("appended"), 2);
    assert!(client.exists("k").await.expect("answered"));
    assert!(client.delete("k").await.expect("answered"));
    assert!(!client.delete("k").await.expect("answered"));
    assert_eq!(client.get("k").await.expect("answered"), None);
    assert_eq!(client.ttl("k").await.expect("answered"), Ttl::Missing);
    let absent = SetOptions::default().if_absent().ttl(MINUTE);
    assert!(client.set_with("k", "1", absent).await.expect("answered"));
    assert!(!client.set_with("k", "2", absent).await.expect("answered"));
    assert!(
        client
            .set_with("k", "40", SetOptions::default().if_present())
            .await
            .expect("answered")
    );
    assert_eq!(client.increment("k", 2).await.expect("a number"), 42);
    client.set("k", "text").await.expect("stored");
    let error = client.increment("k", 1).await.expect_err("no number");
    assert!(matches!(error.kind(), ErrorKind::Server(_)) && !error.may_have_been_applied());
    let range = Command::read("GETRANGE").key("k").integer(1).integer(2);
    assert_eq!(
        client.command(range).await.expect("answered"),
        Value::Bytes("ex".into())
    );
    let long = vec![b'v'; 3 << 20];
    client.set("long", &long).await.expect("stored");
    assert!(client.get("long").await.expect("answered").expect("there") == long);
}

async fn many_keys(client: &Client) {
    let key = |number: usize| format!("many:{number}");
    let pipeline = (0..KEYS).fold(client.pipeline(), |all, number| {
        all.set(key(number), number.to_string())
    });
    assert!(pipeline.execute().await.iter().all(Result::is_ok));
    let values = client
        .get_many((0..=KEYS).map(key))
        .await
        .expect("answered");
    for (number, value) in values.iter().enumerate() {
        let expected = (number < KEYS).then(|| number.to_string().into());
        assert_eq!(*value, expected);
    }
    // Without a key: any node answers for the whole cluster.
    let size = client
        .command(Command::read("DBSIZE"))
        .await
        .expect("answered");
    assert!(size.into_integer().expect("a number") >= i64::try_from(KEYS).expect("few"));
    assert_eq!(
        client
            .delete_many((0..=KEYS).map(key))
            .await
            .expect("answered"),
        KEYS
    );
    let counter = client.counter("parts", 10).expect("valid");
    for by in 1..=100 {
        counter.increment(by).await.expect("added");
    }
    assert_eq!(counter.get().await.expect("numbers"), 5_050);
}

async fn values_are_computed_once(client: &Client) {
    let computed = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..200 {
        let (client, computed) = (client.clone(), Arc::clone(&computed));
        callers.spawn(async move {
            let compute = || async {
                computed.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok::<_, std::io::Error>("computed")
            };
            client.get_or_compute("computed", MINUTE, compute).await
        });
    }
    while let Some(value) = callers.join_next().await {
        assert_eq!(value.expect("no panic").expect("computed"), "computed");
    }
    assert_eq!(computed.load(Ordering::SeqCst), 1);
    let ttl = client.ttl("computed").await.expect("answered");
    assert!(matches!(ttl, Ttl::Left(left) if left > MINUTE * 8 / 10 && left <= MINUTE * 11 / 10));
}

async fn replicas(cluster: &Cluster) {
    let options = Options::default().read_from(ReadFrom::Replica);
    let client = Client::connect_with(cluster.seeds(), options)
        .await
        .expect("it answers");
    let routed = cluster.sum("cluster", "cluster_forwards_sent");
    for number in 0..20 {
        let key = format!("replicated:{number}");
        client.set(&key, "v").await.expect("stored");
        let started = Instant::now();
        while client.get(&key).await.expect("answered").is_none() {
            assert!(started.elapsed() < MINUTE, "it is replicated");
        }
    }
    // A node sends on what it would redirect for the moment that others need to hear of a new epoch.
    let sent_on = cluster.sum("cluster", "cluster_forwards_sent") - routed;
    assert!(
        sent_on < 10,
        "{sent_on} of 40 and more: each node has what it is asked"
    );
}

async fn hot_keys(cluster: &Cluster, client: &Client) {
    client.set("hot", "v").await.expect("stored");
    let copied = || cluster.sum("cluster", "cluster_hot_copy_reads");
    let started = Instant::now();
    while copied() == 0 {
        assert!(
            started.elapsed() < MINUTE,
            "{} hot keys",
            client.hot_keys_count()
        );
        for _ in 0..10 {
            let gets = (0..200).fold(client.pipeline(), |all, _| all.get("hot"));
            assert!(gets.execute().await.iter().all(Result::is_ok));
        }
    }
    assert!(client.hot_keys_count() >= 1);
    client.set("hot", "w").await.expect("stored");
    for _ in 0..100 {
        assert_eq!(
            client.get("hot").await.expect("answered").expect("there"),
            "w"
        );
    }
}

fn threads(cluster: &Cluster) {
    let client = blocking::Client::connect(cluster.seeds()).expect("it answers");
    client.set("k", "v").expect("stored");
    assert_eq!(client.get("k").expect("answered").expect("there"), "v");
    let batcher = client.batcher(BatchOptions::default());
    let counter = batcher.counter("threads", 3).expect("valid");
    std::thread::scope(|threads| {
        for _ in 0..20 {
            threads.spawn(|| (0..50).for_each(|_| counter.increment(1).expect("buffered")));
        }
    });
    batcher.flush().expect("all is well");
    assert_eq!(counter.get().expect("numbers"), 1_000);
}

/// Each node goes, and another one comes at another address, one after the other.
fn addresses_change(cluster: &mut Cluster) {
    let runtime = runtime();
    let seeds = cluster.seeds();
    let client = runtime
        .block_on(Client::connect(seeds.clone()))
        .expect("it answers");
    runtime.block_on(client.set("stays", "v")).expect("stored");
    for _ in 0..seeds.len() {
        cluster.add(None);
        cluster.wait_until_whole();
        let mut old: Node = cluster.nodes.remove(0);
        old.terminate();
        assert!(old.join().0.success());
        let value = runtime.block_on(client.get("stays")).expect("answered");
        assert_eq!(value.as_deref(), Some(&b"v"[..]));
    }
    let started = Instant::now();
    loop {
        let nodes = client.nodes();
        if nodes.len() == 2 && seeds.iter().all(|seed| !nodes.contains(seed)) {
            break;
        }
        assert!(started.elapsed() < MINUTE, "{nodes:?}");
        runtime.block_on(client.set("stays", "v")).expect("stored");
    }
}

#[test]
fn a_server_without_a_cluster_serves_too() {
    let Some(server) = crate::cluster::Lone::start() else {
        return;
    };
    runtime().block_on(async {
        let client = Client::connect([server.address()])
            .await
            .expect("it answers");
        single_keys(&client).await;
        many_keys(&client).await;
    });
}

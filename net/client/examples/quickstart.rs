//! Stores, reads, counts and computes: `cargo run --example quickstart -- HOST:PORT...`

use std::error::Error;
use std::time::Duration;

use fulmar_client::{Client, SetOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut seeds: Vec<String> = std::env::args().skip(1).collect();
    if seeds.is_empty() {
        seeds.push("127.0.0.1:6379".to_owned());
    }
    let client = Client::connect(seeds).await?;
    println!("nodes: {}", client.nodes().join(", "));

    client.set("example:greeting", "hello").await?;
    let greeting = client.get("example:greeting").await?.unwrap_or_default();
    println!("greeting: {}", greeting.escape_ascii());

    // Gone after a minute.
    let minute = SetOptions::default().ttl(Duration::from_secs(60));
    client.set_with("example:session", "alice", minute).await?;
    println!("session: {:?}", client.ttl("example:session").await?);

    // One trip to each node.
    let replies = client
        .pipeline()
        .increment("example:visits", 1)
        .get("example:greeting")
        .delete("example:session")
        .execute()
        .await;
    for reply in replies {
        println!("reply: {:?}", reply?);
    }

    let slow = || async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, std::io::Error>("computed once")
    };
    let ttl = Duration::from_secs(10);
    let (first, second) = tokio::join!(
        client.get_or_compute("example:slow", ttl, slow),
        client.get_or_compute("example:slow", ttl, slow),
    );
    println!("{} and {}", first?.escape_ascii(), second?.escape_ascii());
    Ok(())
}

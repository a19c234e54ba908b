//! Counts ten thousand times a second with a dozen operations: `cargo run --example counters -- HOST:PORT...`

use std::error::Error;
use std::time::{Duration, Instant};

use fulmar_client::{BatchOptions, Client};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut seeds: Vec<String> = std::env::args().skip(1).collect();
    if seeds.is_empty() {
        seeds.push("127.0.0.1:6379".to_owned());
    }
    let client = Client::connect(seeds).await?;
    let options = BatchOptions::default().on_failure(|failure| eprintln!("lost: {failure}"));
    let batcher = client.batcher(options);
    let visits = batcher.counter("example:visits", 10)?;
    let before = visits.get().await?;
    let started = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    while started.elapsed() < Duration::from_secs(1) {
        ticks.tick().await;
        for _ in 0..100 {
            visits.increment(1).await?;
        }
    }
    // What is not flushed is lost when the process ends.
    batcher.flush().await?;
    println!(
        "{} visits in {:?}",
        visits.get().await? - before,
        started.elapsed()
    );
    Ok(())
}

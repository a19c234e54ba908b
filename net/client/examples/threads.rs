//! Threads that share one client: `cargo run --example threads -- HOST:PORT...`

use fulmar_client::blocking::Client;

fn main() -> fulmar_client::Result<()> {
    let mut seeds: Vec<String> = std::env::args().skip(1).collect();
    if seeds.is_empty() {
        seeds.push("127.0.0.1:6379".to_owned());
    }
    let client = Client::connect(seeds)?;
    std::thread::scope(|threads| {
        for thread in 0..8 {
            let client = client.clone();
            threads.spawn(move || {
                for _ in 0..100 {
                    match client.increment("example:threads", 1) {
                        Ok(_) => {}
                        Err(error) if error.may_have_been_applied() => {
                            eprintln!("thread {thread}: perhaps counted: {error}");
                        }
                        Err(error) => eprintln!("thread {thread}: not counted: {error}"),
                    }
                }
            });
        }
    });
    let count = client.get("example:threads")?.unwrap_or_default();
    println!("{} increments", count.escape_ascii());
    Ok(())
}

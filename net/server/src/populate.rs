//! A thread that makes the shards' memory resident before they need it.
//!
//! The system clears memory when it is first touched, huge pages 2 MiB at a time, which takes a core 0.2 ms
//! and, where a hypervisor has to find the memory first, up to 9 ms. Here no client waits for it: cores that
//! want to run go first, and take small pages where they need memory sooner.

use std::{io, thread};

use crossbeam_channel::bounded;
use fulmar_engine::Populate;
use fulmar_shard::Shard;

use crate::machine;

/// Starts the thread, on the CPUs of the cores; it ends with the last of the shards.
///
/// # Errors
/// If there is no thread to be had.
pub(crate) fn start(shards: &mut [Shard], cpus: &[usize]) -> io::Result<()> {
    // Room for all there can be: each shard asks for one at a time.
    let (sender, asked) = bounded::<Populate>(shards.len());
    let cpus = cpus.to_vec();
    thread::Builder::new()
        .name("populate".into())
        .spawn(move || {
            machine::pin_to(&cpus);
            machine::yield_to_others();
            asked.into_iter().for_each(Populate::run);
        })?;
    for shard in shards {
        let sender = sender.clone();
        // What is not run is touched without it.
        shard
            .cache
            .populate_by(move |populate| drop(sender.try_send(populate)));
    }
    Ok(())
}

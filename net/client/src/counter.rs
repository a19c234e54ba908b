//! A number split over several keys, so that no node has all of its writes.

use bytes::Bytes;

use crate::batch::Batcher;
use crate::client::Client;
use crate::commands;
use crate::error::{Error, ErrorKind, Result};
use crate::slot::hash_tag;

/// Parts of one counter, at most: each costs a read when the sum is read.
const PARTS_MAX: usize = 1_024;

/// A counter whose increments are spread over the keys `name:0`, `name:1` and so on, and whose value is their
/// sum.
///
/// It can be incremented and read, and nothing else: setting one part, or letting it expire, would change the
/// sum by what nobody knows. Everybody who uses a counter must use as many parts, or read at least as many.
///
/// **How exact.** Without faults, exactly the sum of the increments that returned `Ok` (with a
/// [`Batcher`], once its flush did). When a node dies, the sum of its parts may be
/// - lower by what it acknowledged and had not replicated yet (`INFO replication` has the lag: milliseconds,
///   as a rule), or by all of them if there was no replica;
/// - higher or lower by the increments that returned an error that [may have been
///   applied](Error::may_have_been_applied).
///
/// Nothing is ever added twice. Evicted parts are lost: give counters a cluster with room.
///
/// ```no_run
/// # async fn example(client: fulmar_client::Client) -> fulmar_client::Result<()> {
/// let visits = client.counter("visits", 10)?;
/// visits.increment(1).await?;
/// println!("{} visits", visits.get().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Counter {
    client: Client,
    batcher: Option<Batcher>,
    parts: Box<[Bytes]>,
    /// So that not all clients begin with the same part.
    offset: usize,
}

impl Counter {
    pub(crate) fn direct(client: Client, name: &[u8], parts: usize) -> Result<Self> {
        Self::new(client, None, name, parts)
    }

    pub(crate) fn batched(
        client: Client,
        batcher: Batcher,
        name: &[u8],
        parts: usize,
    ) -> Result<Self> {
        Self::new(client, Some(batcher), name, parts)
    }

    fn new(client: Client, batcher: Option<Batcher>, name: &[u8], parts: usize) -> Result<Self> {
        if !(1..=PARTS_MAX).contains(&parts) {
            return Err(Error::invalid("a counter has 1 to 1,024 parts"));
        }
        if parts > 1 && hash_tag(name).is_some() {
            return Err(Error::invalid(
                "a hash tag would put all parts of the counter into one slot",
            ));
        }
        let part = |index: usize| {
            [name, b":", itoa::Buffer::new().format(index).as_bytes()]
                .concat()
                .into()
        };
        let offset = fastrand::usize(..parts);
        Ok(Self {
            client,
            batcher,
            parts: (0..parts).map(part).collect(),
            offset,
        })
    }

    /// Adds to the counter: to a part at random, or to the buffer of its [`Batcher`].
    ///
    /// # Errors
    /// As [`Client::increment`], or as [`Batcher::increment`].
    pub async fn increment(&self, by: i64) -> Result<()> {
        match &self.batcher {
            Some(batcher) => {
                let window =
                    usize::try_from(batcher.window_number() % PARTS_MAX as u64).unwrap_or(0);
                batcher
                    .increment(&self.parts[(self.offset + window) % self.parts.len()], by)
                    .await
            }
            None => {
                let part = &self.parts[fastrand::usize(..self.parts.len())];
                self.client.increment(part, by).await.map(|_| ())
            }
        }
    }

    /// The sum of the parts, each read at its primary. Increments that run meanwhile may be in it or not, and
    /// those that are buffered are not.
    ///
    /// # Errors
    /// As [`Client::get`]; a part that is no number; a sum that is no number of 64 bits.
    pub async fn get(&self) -> Result<i64> {
        let read = |part| commands::get(part).at_primary();
        let pipeline = self.client.pipeline();
        let pipeline = self
            .parts
            .iter()
            .fold(pipeline, |all, part| all.command(read(part)));
        let mut sum: i64 = 0;
        for reply in pipeline.execute().await {
            let Some(digits) = commands::optional_bytes(reply?)? else {
                continue;
            };
            let number = std::str::from_utf8(&digits)
                .ok()
                .and_then(|digits| digits.parse().ok());
            let number: i64 = number.ok_or_else(|| unexpected("a part that is no number"))?;
            sum = sum
                .checked_add(number)
                .ok_or_else(|| unexpected("a sum of more than 64 bits"))?;
        }
        Ok(sum)
    }
}

fn unexpected(what: &'static str) -> Error {
    Error::new(ErrorKind::UnexpectedReply(what))
}

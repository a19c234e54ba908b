//! A caller of the decoder that keeps what it must, and checks what it is promised.

use fulmar_protocol::resp::{Decoded, Decoder, INPUT_KEPT_MAX, Slices, WireError};

/// What a connection would have seen, with staged values put together again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Command(Vec<Vec<u8>>),
    Refused(String),
    Error(WireError),
}

/// Decodes a stream that comes in the given chunks.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) decoder: Decoder,
    pub(crate) outcomes: Vec<Outcome>,
    /// Positions and values of the command under way.
    staged: Vec<(usize, Vec<u8>)>,
    kept: Vec<u8>,
}

impl Driver {
    pub(crate) fn new(value_bytes_max: usize) -> Self {
        Self {
            decoder: Decoder::new(value_bytes_max),
            outcomes: Vec::new(),
            staged: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// All that a stream comes to when it arrives in `chunks`.
    pub(crate) fn run<'a>(
        value_bytes_max: usize,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> Vec<Outcome> {
        let mut driver = Self::new(value_bytes_max);
        for chunk in chunks {
            driver.feed(chunk);
        }
        driver.outcomes
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.outcomes.last(), Some(Outcome::Error(_)))
    }

    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        if self.is_closed() {
            return;
        }
        let mut input = std::mem::take(&mut self.kept);
        input.extend_from_slice(chunk);
        let mut slices = Slices::new();
        let mut at = 0;
        loop {
            let consumed = match self.decoder.decode(&input[at..], &mut slices) {
                Decoded::Need => break,
                Decoded::Skip { consumed } => {
                    assert!(consumed > 0, "a skip makes progress");
                    consumed
                }
                Decoded::Command { frame, consumed } => {
                    let argv = frame.argv();
                    let mut args: Vec<_> = argv.args.iter().map(|arg| arg.to_vec()).collect();
                    assert_eq!(argv.staged.len(), self.staged.len());
                    for (staged, (position, value)) in argv.staged.iter().zip(self.staged.drain(..))
                    {
                        assert_eq!(staged.position, position);
                        assert_eq!(staged.bytes_count, value.len());
                        assert!(args[position].is_empty());
                        args[position] = value;
                    }
                    self.outcomes.push(Outcome::Command(args));
                    consumed
                }
                Decoded::StagedBegin {
                    frame,
                    key,
                    staged,
                    consumed,
                    ..
                } => {
                    let args = frame.argv().args;
                    assert_eq!(args.len(), staged.position);
                    assert!(args.contains(&key));
                    self.staged.push((staged.position, Vec::new()));
                    consumed
                }
                Decoded::StagedPart { bytes, consumed } => {
                    assert!(!bytes.is_empty());
                    let (_, value) = self.staged.last_mut().expect("a part follows a begin");
                    value.extend_from_slice(bytes);
                    consumed
                }
                Decoded::Refused { error, consumed } => {
                    self.staged.clear();
                    self.outcomes.push(Outcome::Refused(error.to_string()));
                    consumed
                }
                Decoded::Error(error) => {
                    self.outcomes.push(Outcome::Error(error));
                    return;
                }
            };
            at += consumed;
        }
        self.kept = input.split_off(at);
        assert!(
            self.kept.len() < INPUT_KEPT_MAX,
            "no more than that is kept"
        );
        if self.kept.is_empty() && self.staged.is_empty() && !self.decoder.is_inside_command() {
            assert_eq!(
                self.decoder.buffered_bytes(),
                0,
                "nothing is held between commands"
            );
        }
    }
}

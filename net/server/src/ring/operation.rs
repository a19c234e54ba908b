//! What an io_uring entry was for, packed into its 64 bits of user data.
//!
//! ```text
//! 63    60 59            32 31                 0
//! operation    generation       connection index
//! ```

/// Bits of a connection's generation.
const GENERATION_BITS: u32 = 28;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

/// A connection's index and the generation of that place, so that a late completion of a closed
/// connection is never taken for its successor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId {
    index: u32,
    generation: u32,
}

impl ConnectionId {
    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        Self {
            index,
            generation: generation & GENERATION_MASK,
        }
    }

    pub(crate) const fn index(self) -> usize {
        self.index as usize
    }

    /// The id that this place's next connection gets.
    pub(crate) const fn next_generation(self) -> Self {
        Self::new(self.index, self.generation.wrapping_add(1))
    }
}

/// The kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Operation {
    /// A listener's multishot accept; the index is the listener's.
    Accept,
    /// A connection's multishot receive.
    Receive,
    /// A connection's send.
    Send,
    /// A cancelled receive.
    Cancel,
    /// The tick.
    Tick,
    /// Another core rang.
    Doorbell,
    /// Our ring at another core's door was heard, or not; the index is the peer's.
    DoorbellRung,
    /// A cancelled accept; the index is the listener's.
    CancelAccept,
    /// A connection's send that does not wait for room.
    SendNow,
    /// The janitor's timer.
    Janitor,
    /// A connection to another node is made, or not.
    Connect,
    /// The multishot receive of datagrams.
    Datagram,
    /// The timer of the cluster's control.
    Control,
    /// What another thread did for this core is done.
    Wake,
    /// A connection has waited long enough.
    Patience,
    /// The timer of commands for other nodes, and of theirs.
    Retry,
}

impl Operation {
    const fn from_bits(bits: u64) -> Self {
        match bits {
            0 => Self::Accept,
            1 => Self::Receive,
            2 => Self::Send,
            3 => Self::Cancel,
            4 => Self::Tick,
            5 => Self::Doorbell,
            6 => Self::DoorbellRung,
            7 => Self::CancelAccept,
            8 => Self::SendNow,
            9 => Self::Janitor,
            10 => Self::Connect,
            11 => Self::Datagram,
            12 => Self::Control,
            13 => Self::Wake,
            14 => Self::Patience,
            _ => Self::Retry,
        }
    }
}

/// An entry's user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserData(u64);

impl UserData {
    pub(crate) const fn new(operation: Operation, id: ConnectionId) -> Self {
        Self((operation as u64) << 60 | (id.generation as u64) << 32 | id.index as u64)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) const fn operation(self) -> Operation {
        Operation::from_bits(self.0 >> 60)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the fields are cut out on purpose"
    )]
    pub(crate) const fn id(self) -> ConnectionId {
        ConnectionId::new(self.0 as u32, (self.0 >> 32) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectionId, GENERATION_MASK, Operation, UserData};

    #[test]
    fn fields_survive_packing() {
        let operations = [
            Operation::Accept,
            Operation::Receive,
            Operation::Send,
            Operation::Cancel,
            Operation::Tick,
            Operation::Doorbell,
            Operation::DoorbellRung,
            Operation::CancelAccept,
            Operation::SendNow,
            Operation::Janitor,
            Operation::Connect,
            Operation::Datagram,
            Operation::Control,
            Operation::Wake,
        ];
        for operation in operations {
            for (index, generation) in [(0, 0), (u32::MAX, GENERATION_MASK), (7, 1 << 27)] {
                let id = ConnectionId::new(index, generation);
                let user_data = UserData::from_bits(UserData::new(operation, id).bits());
                assert_eq!(user_data.operation(), operation);
                assert_eq!(user_data.id(), id);
            }
        }
    }

    #[test]
    fn generations_wrap_inside_their_bits() {
        let last = ConnectionId::new(3, GENERATION_MASK);
        assert_eq!(last.next_generation(), ConnectionId::new(3, 0));
    }
}

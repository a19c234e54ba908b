//! What is asked of the target: which keys, which values, when. Pure; nothing here knows of
//! sockets, clocks or reports.

mod keys;
mod schedule;
mod sizes;
mod values;
mod zipf;

pub(crate) use keys::{Distribution, KEY_BYTES_MAX, KeyChooser, KeyFormat};
pub(crate) use schedule::{Rate, Schedule};
pub(crate) use sizes::ValueSizes;
pub(crate) use values::{Value, Values};

/// Spreads 64 bits over 64 bits (the finalizer of SplitMix64: Steele, Lea, Flood, 2014).
pub(crate) fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

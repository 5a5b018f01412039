//! Places in small tables in front of large ones: by a number made from a key, which few other keys have.

/// A number below two to the power of `bits` that differs for most of what is put together into `parts`: the top of a product with a constant
/// whose bits are spread evenly (Fibonacci hashing).
#[inline]
pub(crate) fn spread(parts: u64, bits: u32) -> usize {
    (parts.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - bits)) as usize
}

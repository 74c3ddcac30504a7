//! One 64-bit hash for hash buckets and checksums. Its results are stored: changing it is a new state format.

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MULTIPLIER: u64 = 0xd6e8_feb8_6659_fd93;

/// Hashes bytes, eight at a time; the length takes part, so padding cannot collide.
pub fn hash64(bytes: &[u8]) -> u64 {
    let mut lanes = [SEED, !SEED, SEED.rotate_left(17), SEED.rotate_left(41)];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = mix(*lane ^ u64::from_le_bytes(*word));
        }
    }
    let mut hash = bytes.len() as u64;
    for lane in lanes {
        hash = mix(hash ^ lane);
    }
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        hash = mix(hash ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash ^ u64::from_le_bytes(last) ^ MULTIPLIER)
}

/// Folds the 128-bit product, so that each input bit reaches the whole result.
fn mix(value: u64) -> u64 {
    let product = u128::from(value ^ SEED) * u128::from(MULTIPLIER);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::hash64;

    #[test]
    fn is_what_was_stored() {
        // These numbers are in checkpoints: when this fails, the state format has changed.
        let bytes: Vec<u8> = (0..100).collect();
        let hashes = [hash64(b""), hash64(b"a"), hash64(&bytes)];
        assert_eq!(hashes, EXPECTED);
    }

    const EXPECTED: [u64; 3] = [2_007_681_048_160_501_499, 5_240_141_323_731_913_055, 17_850_572_964_250_251_550];

    #[test]
    fn notices_every_flipped_bit() {
        let bytes: Vec<u8> = (0..77).collect();
        let mut seen = std::collections::HashSet::from([hash64(&bytes)]);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(hash64(&damaged)), "bit {bit}");
        }
    }
}

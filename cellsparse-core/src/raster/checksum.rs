//! Cyclic redundancy checks of 32 bits, as containers of images and weights have them.

/// The polynomial of zip, gzip and PNG, reversed.
pub(crate) const ZIP: u32 = 0xedb8_8320;

/// Castagnoli's polynomial, reversed (RFC 3720, appendix B.4): zarr and TensorFlow.
pub(crate) const CASTAGNOLI: u32 = 0x82f6_3b78;

/// The checksum of bytes that follow those with the checksum `before`, 0 for none.
pub(crate) fn checksum<const POLYNOMIAL: u32>(before: u32, bytes: &[u8]) -> u32 {
    let table = const { table(POLYNOMIAL) };
    !bytes.iter().fold(!before, |sum, &byte| sum >> 8 ^ table[usize::from(sum as u8 ^ byte)])
}

/// What each byte makes of a sum of 0.
const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ polynomial } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_published_ones_in_one_piece_and_in_parts() {
        let bytes = b"123456789";
        assert_eq!(checksum::<ZIP>(0, bytes), 0xcbf4_3926);
        assert_eq!(checksum::<CASTAGNOLI>(0, bytes), 0xe306_9283);
        assert_eq!(checksum::<CASTAGNOLI>(0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(checksum::<ZIP>(checksum::<ZIP>(0, b"1234"), b"56789"), 0xcbf4_3926);
        assert_eq!(checksum::<ZIP>(7, b""), 7);
    }
}

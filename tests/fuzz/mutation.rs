//! Bytes that nearly are what a reader expects.

use cellsparse_core::random::Random;

/// Numbers at which readers go wrong.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Words at which readers of JSON go wrong.
const WORDS: [&str; 18] = [
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "-0.0",
    "1e-320",
    "9007199254740993",
    "18446744073709551616",
    "\"\"",
    "\"\\u0000\"",
    "[]",
    "{}",
    "[[[[[[[[]]]]]]]]",
    "NaN",
    "4294967296",
    "\"x\"",
    "0.5",
];

/// One of the seeds with some changes.
pub fn mutated(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let seed = seeds[random.below(seeds.len())].clone();
    altered(random, seed, seeds)
}

/// Bytes with some changes, for which pieces of the others are taken, too.
pub fn altered(random: &mut Random, mut bytes: Vec<u8>, others: &[Vec<u8>]) -> Vec<u8> {
    for _ in 0..random.below(6) {
        change(random, &mut bytes, others);
    }
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    // Headers are where sizes stand.
    let within = if random.chance(0.5) { bytes.len().min(512) } else { bytes.len() };
    let at = random.below(within.max(1)).min(bytes.len());
    let most = 1 << random.below(8);
    let len = random.below(most).min(bytes.len() - at);
    match random.below(9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.below(256) as u8,
        2 => {
            let value = NUMBERS[random.below(NUMBERS.len())];
            let width = [1, 2, 4, 8][random.below(4)];
            let mut source = value.to_le_bytes()[..width].to_vec();
            if random.chance(0.5) {
                source.reverse();
            }
            bytes[at..].iter_mut().zip(source).for_each(|(to, from)| *to = from);
        }
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..at + len)),
        5 => {
            let piece = bytes[at..at + len].to_vec();
            bytes.splice(at..at, piece);
        }
        6 => {
            let piece: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
            bytes.splice(at..at, piece);
        }
        7 => {
            let other = &others[random.below(others.len())];
            let from = random.below(other.len().max(1)).min(other.len());
            let piece = other[from..(from + len).min(other.len())].to_vec();
            bytes.splice(at..at + len, piece);
        }
        _ => {
            let word = WORDS[random.below(WORDS.len())];
            replace_token(random, bytes, word);
        }
    }
}

/// Puts a word in place of a number or a text of a JSON file, if there is one.
fn replace_token(random: &mut Random, bytes: &mut Vec<u8>, word: &str) {
    let ends: Vec<usize> = (0..bytes.len()).filter(|&at| b":,[".contains(&bytes[at])).collect();
    if ends.is_empty() {
        return;
    }
    let begin = ends[random.below(ends.len())] + 1;
    let end = bytes[begin..].iter().position(|byte| b",]}".contains(byte)).map_or(bytes.len(), |len| begin + len);
    bytes.splice(begin..end, word.bytes());
}

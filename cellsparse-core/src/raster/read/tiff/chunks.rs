//! From the strips or tiles of a page to samples in the order of pixels.

use super::super::kept::Bytes;
use super::super::source::Source;
use super::super::{Decoded, Problem, jpeg};
use super::codecs::decompress;
use super::directory::cut_off;
use super::page::{Color, Compression, Page};

/// Samples as unsigned words, wide enough for their bits. What the bits mean is decided later.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Words {
    W8(Vec<u8>),
    W16(Vec<u16>),
    W32(Vec<u32>),
    W64(Vec<u64>),
}

/// What a decoder needs besides the page itself.
#[derive(Default)]
pub(super) struct Tables {
    /// The tables that all JPEG strips or tiles share.
    pub(super) jpeg: Option<Vec<u8>>,
    /// How YCbCr becomes RGB.
    pub(super) ycbcr: Ycbcr,
}

/// Weights of red, green and blue in the luminance, and the stored numbers of black and white for each component.
pub(super) struct Ycbcr {
    pub(super) luma: [f64; 3],
    pub(super) reference: [f64; 6],
}

impl Default for Ycbcr {
    fn default() -> Self {
        Self { luma: [0.299, 0.587, 0.114], reference: [0.0, 255.0, 128.0, 255.0, 128.0, 255.0] }
    }
}

impl Words {
    /// Zeros for so many samples of so many bits.
    pub(super) fn zeros(bits: u32, count: usize) -> Decoded<Self> {
        fn zeros<T: Copy + Default>(count: usize) -> Decoded<Vec<T>> {
            let mut words = Vec::new();
            words
                .try_reserve_exact(count)
                .map_err(|_| Problem::Limit(format!("not enough free memory for {count} samples")))?;
            words.resize(count, T::default());
            Ok(words)
        }
        Ok(match bits {
            0..=8 => Words::W8(zeros(count)?),
            9..=16 => Words::W16(zeros(count)?),
            17..=32 => Words::W32(zeros(count)?),
            _ => Words::W64(zeros(count)?),
        })
    }

    /// Copies a piece of what [`decode_chunk`] gave, whose rows have `width` pixels, into samples `stride` apart, each sample
    /// to its place. Words of another width are left alone.
    pub(super) fn paste(&mut self, chunk: &Self, width: usize, piece: &Piece, stride: usize, places: &[Option<usize>]) {
        fn paste<W: Word>(
            to: &mut [W],
            from: &[W],
            width: usize,
            piece: &Piece,
            stride: usize,
            places: &[Option<usize>],
        ) {
            let [rows, columns] = piece.size;
            for y in 0..rows {
                let begin = ((piece.from[0] + y) * width + piece.from[1]) * places.len();
                let source = &from[begin..begin + columns * places.len()];
                let begin = ((piece.to[0] + y) * piece.columns + piece.to[1]) * stride;
                place(source, places, &mut to[begin..begin + columns * stride], stride);
            }
        }
        match (self, chunk) {
            (Words::W8(to), Words::W8(from)) => paste(to, from, width, piece, stride, places),
            (Words::W16(to), Words::W16(from)) => paste(to, from, width, piece, stride, places),
            (Words::W32(to), Words::W32(from)) => paste(to, from, width, piece, stride, places),
            (Words::W64(to), Words::W64(from)) => paste(to, from, width, piece, stride, places),
            _ => {}
        }
    }

    /// Puts the samples of a page into every `stride`-th word: sample `s` of pixel `p` goes to `p * stride + places[s]`.
    /// Samples without a place are left out.
    pub(super) fn fill(
        &mut self,
        source: &Source<'_>,
        page: &Page,
        tables: &Tables,
        stride: usize,
        places: &[Option<usize>],
    ) -> Decoded<()> {
        match self {
            Words::W8(words) => fill(words, source, page, tables, stride, places),
            Words::W16(words) => fill(words, source, page, tables, stride, places),
            Words::W32(words) => fill(words, source, page, tables, stride, places),
            Words::W64(words) => fill(words, source, page, tables, stride, places),
        }
    }
}

impl Bytes for Words {
    fn bytes(&self) -> usize {
        match self {
            Words::W8(words) => words.len(),
            Words::W16(words) => 2 * words.len(),
            Words::W32(words) => 4 * words.len(),
            Words::W64(words) => 8 * words.len(),
        }
    }
}

/// All samples of one strip or tile in the order of its pixels, `chunk_width` of them in a row; `None` for a part that the
/// writer left out, which means zeros.
pub(super) fn decode_chunk(source: &Source<'_>, page: &Page, tables: &Tables, index: usize) -> Decoded<Option<Words>> {
    fn all<W: Word>(chunk: &Chunk<'_>, page: &Page, rows: usize) -> Decoded<Vec<W>> {
        let (mut words, mut row) = (Vec::new(), Vec::new());
        for y in 0..rows {
            chunk.row(page, y, &mut row)?;
            words.extend_from_slice(&row);
        }
        Ok(words)
    }
    let (down, across) = page.grid();
    let top = index % (down * across) / across * page.chunk_height;
    let rows = page.chunk_height.min(page.height - top);
    let Some(chunk) = Chunk::read(source, page, tables, index, rows)? else { return Ok(None) };
    Ok(Some(match page.bits {
        0..=8 => Words::W8(all(&chunk, page, rows)?),
        9..=16 => Words::W16(all(&chunk, page, rows)?),
        17..=32 => Words::W32(all(&chunk, page, rows)?),
        _ => Words::W64(all(&chunk, page, rows)?),
    }))
}

/// A rectangle of a strip or tile, and where it goes.
pub(super) struct Piece {
    /// First row and column in the strip or tile.
    pub(super) from: [usize; 2],
    /// First row and column in the target.
    pub(super) to: [usize; 2],
    /// Rows and columns.
    pub(super) size: [usize; 2],
    /// Columns of the target.
    pub(super) columns: usize,
}

/// Rows after which it is asked whether to stop.
const PATIENCE: usize = 64;

trait Word: Copy + Default {
    fn from_u64(value: u64) -> Self;
    fn add(self, other: Self, mask: u64) -> Self;
}

macro_rules! word {
    ($($kind:ty),*) => { $(
        impl Word for $kind {
            fn from_u64(value: u64) -> Self {
                value as $kind
            }
            fn add(self, other: Self, mask: u64) -> Self {
                self.wrapping_add(other) & mask as $kind
            }
        }
    )* };
}
word!(u8, u16, u32, u64);

fn fill<W: Word>(
    words: &mut [W],
    source: &Source<'_>,
    page: &Page,
    tables: &Tables,
    stride: usize,
    places: &[Option<usize>],
) -> Decoded<()> {
    let (down, across) = page.grid();
    let layers = if page.planar { page.samples } else { 1 };
    let mut row = Vec::new();
    for layer in 0..layers {
        let places = if page.planar { &places[layer..=layer] } else { places };
        if places.iter().all(Option::is_none) {
            continue;
        }
        for index in 0..down * across {
            let (top, left) = (index / across * page.chunk_height, index % across * page.chunk_width);
            let rows = page.chunk_height.min(page.height - top);
            let columns = page.chunk_width.min(page.width - left);
            let chunk = Chunk::read(source, page, tables, layer * down * across + index, rows)?;
            let Some(chunk) = chunk else { continue };
            for y in 0..rows {
                if y % PATIENCE == 0 {
                    source.check()?;
                }
                chunk.row(page, y, &mut row)?;
                let start = ((top + y) * page.width + left) * stride;
                let target = &mut words[start..start + columns * stride];
                place(&row, places, target, stride);
            }
        }
    }
    Ok(())
}

/// Copies the samples of a row to their places.
fn place<W: Word>(row: &[W], places: &[Option<usize>], target: &mut [W], stride: usize) {
    let samples = places.len();
    if samples == stride && places.iter().enumerate().all(|(at, place)| *place == Some(at)) {
        target.copy_from_slice(&row[..target.len()]);
        return;
    }
    for (sample, at) in places.iter().enumerate().filter_map(|(sample, place)| Some((sample, (*place)?))) {
        let values = row.iter().skip(sample).step_by(samples);
        for (word, value) in target.iter_mut().skip(at).step_by(stride).zip(values) {
            *word = *value;
        }
    }
}

/// A strip or tile, decompressed.
struct Chunk<'a> {
    bytes: std::borrow::Cow<'a, [u8]>,
    row_bytes: usize,
    /// Already plain interleaved bytes: nothing to undo.
    plain: bool,
}

impl<'a> Chunk<'a> {
    /// `None` for a part that the writer left out, which means zeros.
    fn read(source: &'a Source<'_>, page: &Page, tables: &Tables, index: usize, rows: usize) -> Decoded<Option<Self>> {
        let (offset, stored) = (page.offsets[index], page.sizes[index]);
        if offset == 0 && stored == 0 {
            return Ok(None);
        }
        // Tiles hold all their rows, also those beyond the image; of the last strip some writers store too many.
        let rows = if page.tiled { page.chunk_height } else { rows };
        let size = page.chunk_bytes(rows).ok_or_else(too_large)?;
        let row_bytes = page.row_bytes().ok_or_else(too_large)?;
        let uncompressed = page.compression == Compression::None;
        let wanted = if uncompressed { stored.min(size as u64) } else { stored };
        let data = source.read(offset, usize::try_from(wanted).map_err(|_| too_large())?)?.ok_or_else(cut_off)?;
        if page.compression == Compression::Jpeg {
            return Ok(Some(Self { bytes: from_jpeg(page, tables, &data, rows)?.into(), row_bytes, plain: true }));
        }
        let data = if page.bits_reversed { data.iter().map(|byte| byte.reverse_bits()).collect() } else { data };
        let bytes = if uncompressed { data } else { decompress(source, page, &data, rows, size)?.into() };
        if bytes.len() < size {
            let what = if page.tiled { "tile" } else { "strip" };
            return Err(Problem::unusable(format!(
                "{what} {} of the TIFF holds {} bytes where {rows} rows need {size}; the file was cut off or damaged: get \
                 it again",
                index + 1,
                bytes.len()
            )));
        }
        if page.color == Color::YCbCr {
            return Ok(Some(Self { bytes: from_ycbcr(page, tables, &bytes, rows).into(), row_bytes, plain: true }));
        }
        Ok(Some(Self { bytes, row_bytes, plain: false }))
    }

    /// The samples of row `y`, differences undone.
    fn row<W: Word>(&self, page: &Page, y: usize, row: &mut Vec<W>) -> Decoded<()> {
        let bytes = self.bytes.get(y * self.row_bytes..(y + 1) * self.row_bytes).ok_or_else(cut_off)?;
        let (samples, bits) = (page.chunk_samples(), page.bits as usize);
        let count = page.chunk_width * samples;
        row.clear();
        if self.plain {
            row.extend(bytes.iter().map(|&byte| W::from_u64(u64::from(byte))));
            return Ok(());
        }
        if page.predictor == 3 {
            let whole = undo_float_differences(bytes, count, samples, bits / 8);
            unpack(&whole, count, bits, true, row);
            return Ok(());
        }
        unpack(bytes, count, bits, page.big_endian, row);
        if page.predictor == 2 {
            let mask = u64::MAX >> (64 - bits);
            for at in samples..row.len() {
                row[at] = row[at].add(row[at - samples], mask);
            }
        }
        Ok(())
    }
}

fn too_large() -> Problem {
    Problem::Limit("a strip or tile of the TIFF needs more memory than there can be".into())
}

/// Samples out of their bits. Whole bytes are in the byte order of the file; others are a stream of bits, highest first.
fn unpack<W: Word>(bytes: &[u8], count: usize, bits: usize, big_endian: bool, row: &mut Vec<W>) {
    if bits.is_multiple_of(8) {
        let number = |value: &[u8]| {
            let add = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
            if big_endian { value.iter().fold(0, add) } else { value.iter().rev().fold(0, add) }
        };
        // Constant lengths let the compiler turn the loop into a swap or nothing.
        match bits / 8 {
            1 => row.extend(bytes.iter().map(|&byte| W::from_u64(u64::from(byte)))),
            2 => row.extend(bytes.as_chunks::<2>().0.iter().map(|value| W::from_u64(number(value)))),
            4 => row.extend(bytes.as_chunks::<4>().0.iter().map(|value| W::from_u64(number(value)))),
            8 => row.extend(bytes.as_chunks::<8>().0.iter().map(|value| W::from_u64(number(value)))),
            size => row.extend(bytes.chunks_exact(size).map(|value| W::from_u64(number(value)))),
        }
        row.truncate(count);
        return;
    }
    let (mut held, mut available, mut next) = (0u128, 0usize, bytes.iter());
    for _ in 0..count {
        while available < bits {
            held = held << 8 | u128::from(next.next().copied().unwrap_or(0));
            available += 8;
        }
        available -= bits;
        row.push(W::from_u64((held >> available) as u64 & (u64::MAX >> (64 - bits))));
        held &= (1 << available) - 1;
    }
}

/// Predictor 3 (Adobe's technical note 3): differences of bytes, the bytes of one significance together.
fn undo_float_differences(bytes: &[u8], count: usize, samples: usize, size: usize) -> Vec<u8> {
    let mut sums = bytes.to_vec();
    for at in samples..sums.len() {
        sums[at] = sums[at].wrapping_add(sums[at - samples]);
    }
    (0..count).flat_map(|at| (0..size).map(move |byte| (at, byte))).map(|(at, byte)| sums[byte * count + at]).collect()
}

/// A JPEG strip or tile as rows of `chunk_width` pixels.
fn from_jpeg(page: &Page, tables: &Tables, data: &[u8], rows: usize) -> Decoded<Vec<u8>> {
    let samples = page.chunk_samples();
    let stream = match &tables.jpeg {
        // Tables and data are streams of their own: the end of the first and the start of the second go.
        Some(shared) => {
            let shared = shared.strip_suffix(b"\xff\xd9").unwrap_or(shared);
            [shared, data.strip_prefix(b"\xff\xd8").unwrap_or(data)].concat()
        }
        None => data.to_vec(),
    };
    if !jpeg::is_complete(&stream) {
        return Err(Problem::unusable(
            "a JPEG part of the TIFF ends too early; it was cut off while being written or copied: get it again",
        ));
    }
    let limit = page.chunk_width.saturating_add(16).saturating_mul(rows.saturating_add(16));
    let decoded = jpeg::decode(&stream, page.color == Color::YCbCr, |height, width, channels| {
        if channels == samples
            && width >= page.chunk_width
            && height >= rows
            && height.saturating_mul(width) <= 4 * limit
        {
            return Ok(());
        }
        Err(Problem::unusable(format!(
            "has {height} rows, {width} columns and {channels} channels where {rows}, {} and {samples} belong; save it \
             with LZW or deflate",
            page.chunk_width
        )))
    })
    .map_err(|problem| problem.prefixed("a JPEG part of the TIFF"))?;
    let kept = page.chunk_width * samples;
    Ok(decoded.data.chunks_exact(decoded.width * samples).take(rows).flat_map(|row| row[..kept].to_vec()).collect())
}

/// Uncompressed YCbCr (TIFF 6.0, section 21) as rows of RGB.
fn from_ycbcr(page: &Page, tables: &Tables, bytes: &[u8], rows: usize) -> Vec<u8> {
    let (across, down) = page.subsampling;
    let unit = across * down + 2;
    let units_across = page.chunk_width.div_ceil(across);
    let [red, green, blue] = tables.ycbcr.luma;
    let reference = &tables.ycbcr.reference;
    let scale = |value: u8, component: usize, range: f64| {
        let (black, white) = (reference[2 * component], reference[2 * component + 1]);
        let span = if white == black { 1.0 } else { white - black };
        (f64::from(value) - black) * range / span
    };
    let mut out = Vec::with_capacity(page.chunk_width * rows * 3);
    for y in 0..rows {
        for x in 0..page.chunk_width {
            let block = (y / down * units_across + x / across) * unit;
            let places = [block + y % down * across + x % across, block + unit - 2, block + unit - 1];
            let [luma, cb, cr] = places.map(|at| bytes[at]);
            let luma = scale(luma, 0, 255.0);
            let (cb, cr) = (scale(cb, 1, 127.0), scale(cr, 2, 127.0));
            let r = luma + cr * (2.0 - 2.0 * red);
            let b = luma + cb * (2.0 - 2.0 * blue);
            let g = (luma - blue * b - red * r) / green;
            out.extend([r, g, b].map(|value| value.round().clamp(0.0, 255.0) as u8));
        }
    }
    out
}

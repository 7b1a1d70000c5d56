//! One page of a TIFF file: what its directory says about its pixels, checked before any of them is read.

use super::super::{Decoded, Problem, ReadLimits, sample_count};
use super::directory::{Directory, Tiff, cut_off, tags};

/// Most samples of one pixel that are read.
const MOST_SAMPLES: u64 = 1024;

/// What the bits of a sample mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Unsigned integer.
    Unsigned,
    /// Integer in two's complement.
    Signed,
    /// IEEE floating point of 16, 24, 32 or 64 bits.
    Float,
}

/// How samples make colours (PhotometricInterpretation).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Color {
    /// One sample, 0 is white.
    MinIsWhite,
    /// One sample, 0 is black.
    MinIsBlack,
    /// Red, green, blue.
    Rgb,
    /// One sample that counts entries of a colour table.
    Palette,
    /// Inks: cyan, magenta, yellow, black.
    Inks,
    /// Luminance and two colour differences.
    YCbCr,
}

/// How the bytes of a strip or tile are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    /// Modified Huffman rows without markers.
    CcittRows,
    /// T.4; two-dimensional rows where the flag is set.
    CcittFax3 {
        two_dimensional: bool,
    },
    /// T.6.
    CcittFax4,
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
    Zstd,
}

/// A page whose description makes sense and whose pixels can be decoded.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) height: usize,
    pub(super) width: usize,
    /// Samples of one pixel, transparency included.
    pub(super) samples: usize,
    /// Bits of one sample, 1 to 64.
    pub(super) bits: u32,
    pub(super) kind: Kind,
    pub(super) color: Color,
    pub(super) compression: Compression,
    /// Every sample has strips or tiles of its own.
    pub(super) planar: bool,
    /// 1 none, 2 differences of whole numbers, 3 differences of the bytes of floats.
    pub(super) predictor: u64,
    /// The first pixel stands in the lowest bit of a byte.
    pub(super) bits_reversed: bool,
    /// For every sample whether it is tagged as transparency.
    pub(super) transparent: Vec<bool>,
    pub(super) tiled: bool,
    /// Rows of a strip or tile.
    pub(super) chunk_height: usize,
    /// Columns of a strip or tile.
    pub(super) chunk_width: usize,
    pub(super) offsets: Vec<u64>,
    pub(super) sizes: Vec<u64>,
    /// Columns and rows that share one pair of colour differences.
    pub(super) subsampling: (usize, usize),
    pub(super) big_endian: bool,
}

impl Page {
    /// Reads the description of a page and refuses what cannot be decoded within `limits`.
    pub(super) fn read(tiff: &Tiff<'_>, directory: &Directory, limits: &ReadLimits) -> Decoded<Self> {
        let number = |tag: u16| tiff.number(directory, tag);
        let (Some(width), Some(height)) = (number(tags::IMAGE_WIDTH)?, number(tags::IMAGE_LENGTH)?) else {
            return Err(Problem::unusable("a page of the TIFF does not say how large it is; export it again"));
        };
        let samples = number(tags::SAMPLES_PER_PIXEL)?.unwrap_or(1);
        if samples == 0 || samples > MOST_SAMPLES {
            return Err(Problem::unusable(format!(
                "the TIFF says that a pixel has {samples} samples; 1 to {MOST_SAMPLES} are read"
            )));
        }
        let samples = samples as usize;
        let compression = compression(number(tags::COMPRESSION)?, number(tags::T4_OPTIONS)?)?;
        let color = color(number(tags::PHOTOMETRIC)?, samples)?;
        let bits = common(tiff.numbers(directory, tags::BITS_PER_SAMPLE)?, 1, samples, "bits per sample")?;
        let kind = kind(common(tiff.numbers(directory, tags::SAMPLE_FORMAT)?, 1, samples, "sample formats")?, bits)?;
        let predictor = number(tags::PREDICTOR)?.unwrap_or(1);
        if !matches!(predictor, 1..=3) || (predictor == 3 && (kind != Kind::Float || bits % 8 != 0)) {
            return Err(Problem::unusable(format!(
                "the TIFF stores differences of samples in a way that is not read (predictor {predictor}); save it again"
            )));
        }
        let base = match color {
            Color::MinIsBlack | Color::MinIsWhite | Color::Palette => 1,
            Color::Rgb | Color::YCbCr => 3,
            Color::Inks => 4,
        };
        let extra = tiff.numbers(directory, tags::EXTRA_SAMPLES)?.unwrap_or_default();
        // The tag describes the last samples, also where a writer counts fewer colours than the specification.
        let first_extra = base.max(samples.saturating_sub(extra.len()));
        // Writers of RGBA that leave the tag out mean transparency by a fourth sample.
        let untold = color == Color::Rgb && samples == 4 && !directory.has(tags::EXTRA_SAMPLES);
        let tagged = |at: usize| at >= first_extra && matches!(extra.get(at - first_extra), Some(1 | 2));
        let transparent = (0..samples).map(|at| tagged(at) || (untold && at == 3)).collect();
        let planar = samples > 1 && number(tags::PLANAR_CONFIGURATION)? == Some(2);
        let subsampling = match tiff.numbers(directory, tags::YCBCR_SUBSAMPLING)?.as_deref() {
            _ if color != Color::YCbCr => (1, 1),
            None => (2, 2),
            Some([x @ (1 | 2 | 4), y @ (1 | 2 | 4), ..]) => (*x as usize, *y as usize),
            Some(other) => {
                return Err(Problem::unusable(format!("the TIFF has colours subsampled by {other:?}; save it as RGB")));
            }
        };
        let (rows, columns) = (usize::try_from(height).unwrap_or(0), usize::try_from(width).unwrap_or(0));
        let mut page = Self {
            height: rows,
            width: columns,
            samples,
            bits,
            kind,
            color,
            compression,
            planar,
            predictor,
            bits_reversed: number(tags::FILL_ORDER)? == Some(2),
            transparent,
            tiled: false,
            chunk_height: 0,
            chunk_width: 0,
            offsets: Vec::new(),
            sizes: Vec::new(),
            subsampling,
            big_endian: tiff.big_endian,
        };
        page.check()?;
        sample_count(rows, columns, 1, page.bits.div_ceil(8) as usize, limits)?;
        page.find_chunks(tiff, directory, limits)?;
        Ok(page)
    }

    /// Bytes of one decompressed strip or tile with that many rows.
    pub(super) fn chunk_bytes(&self, rows: usize) -> Option<usize> {
        if self.is_subsampled() {
            let (x, y) = self.subsampling;
            let units = self.chunk_width.div_ceil(x).checked_mul(rows.div_ceil(y))?;
            return units.checked_mul(x * y + 2);
        }
        self.row_bytes()?.checked_mul(rows)
    }

    /// Bytes of one row of a decompressed strip or tile; rows start on whole bytes.
    pub(super) fn row_bytes(&self) -> Option<usize> {
        let bits = self.chunk_width.checked_mul(self.chunk_samples())?.checked_mul(self.bits as usize)?;
        Some(bits.div_ceil(8))
    }

    /// Samples of one pixel in a strip or tile.
    pub(super) fn chunk_samples(&self) -> usize {
        if self.planar { 1 } else { self.samples }
    }

    /// Whether strips hold several luminances for each pair of colour differences. JPEG does this inside itself.
    pub(super) fn is_subsampled(&self) -> bool {
        self.color == Color::YCbCr && self.compression != Compression::Jpeg && self.subsampling != (1, 1)
    }

    /// Strips or tiles beside and below each other.
    pub(super) fn grid(&self) -> (usize, usize) {
        (self.height.div_ceil(self.chunk_height.max(1)), self.width.div_ceil(self.chunk_width.max(1)))
    }

    /// Whether another page holds samples of the same kind for the same pixels.
    pub(super) fn fits(&self, other: &Self) -> bool {
        let key = |page: &Self| (page.height, page.width, page.samples, page.bits, page.kind, page.color);
        key(self) == key(other)
    }

    fn check(&self) -> Decoded<()> {
        let bits = self.bits;
        let fits = match self.compression {
            Compression::CcittRows | Compression::CcittFax3 { .. } | Compression::CcittFax4 => {
                bits == 1 && (self.samples == 1 || self.planar)
            }
            Compression::Jpeg => bits == 8 && self.kind != Kind::Float,
            _ => true,
        };
        if !fits {
            return Err(Problem::unusable(format!(
                "the TIFF holds {bits} bits per sample, {} samples per pixel, compressed as {:?}, which is not read; \
                 save it uncompressed, or with LZW or deflate",
                self.samples, self.compression
            )));
        }
        if self.color == Color::YCbCr {
            let plain = self.kind == Kind::Unsigned && bits == 8 && self.samples == 3 && !self.planar;
            if !plain || (self.predictor != 1 && self.compression != Compression::Jpeg) {
                return Err(Problem::unusable(
                    "the TIFF holds YCbCr colours of an unusual kind; 8 bit and 3 samples together are read: save it as RGB",
                ));
            }
        }
        if self.color == Color::Palette && (self.bits > 16 || self.kind != Kind::Unsigned) {
            return Err(Problem::unusable(format!(
                "the TIFF has a colour table with {bits} bits per index; 1 to 16 are read: save it as grey or RGB"
            )));
        }
        Ok(())
    }

    fn find_chunks(&mut self, tiff: &Tiff<'_>, directory: &Directory, limits: &ReadLimits) -> Decoded<()> {
        let number = |tag: u16| Ok(tiff.number(directory, tag)?.map(|n| usize::try_from(n).unwrap_or(usize::MAX)));
        let (mut offsets, mut sizes) = (tags::STRIP_OFFSETS, tags::STRIP_BYTE_COUNTS);
        if let (Some(width), Some(height)) = (number(tags::TILE_WIDTH)?, number(tags::TILE_LENGTH)?) {
            self.tiled = true;
            (self.chunk_width, self.chunk_height) = (width, height);
            // Some writers keep tiles under the tags of strips.
            if directory.has(tags::TILE_OFFSETS) {
                (offsets, sizes) = (tags::TILE_OFFSETS, tags::TILE_BYTE_COUNTS);
            }
        } else {
            self.chunk_width = self.width;
            self.chunk_height = number(tags::ROWS_PER_STRIP)?.filter(|rows| *rows > 0).unwrap_or(self.height);
            self.chunk_height = self.chunk_height.min(self.height);
        }
        if self.chunk_width == 0 || self.chunk_height == 0 {
            return Err(Problem::unusable("the TIFF has tiles without pixels; export it again"));
        }
        let bytes = self.chunk_bytes(self.chunk_height).filter(|bytes| *bytes <= limits.decoded_bytes);
        if bytes.is_none() {
            return Err(Problem::Limit(format!(
                "one strip or tile of the TIFF has {} rows of {} pixels with {} channels, which is more than the limit of \
                 {} bytes once decoded; cut the image into parts or reduce its resolution",
                self.chunk_height,
                self.chunk_width,
                self.chunk_samples(),
                limits.decoded_bytes
            )));
        }
        self.offsets = tiff.numbers(directory, offsets)?.unwrap_or_default();
        self.sizes = tiff.numbers(directory, sizes)?.unwrap_or_default();
        let (down, across) = self.grid();
        let needed = down.saturating_mul(across).saturating_mul(if self.planar { self.samples } else { 1 });
        if self.offsets.len() < needed {
            return Err(Problem::unusable(format!(
                "the TIFF names {} strips or tiles and its size needs {needed}; export it again",
                self.offsets.len()
            )));
        }
        self.offsets.truncate(needed);
        if self.sizes.len() < needed {
            self.guess_sizes(tiff.source.len());
        }
        self.sizes.truncate(needed);
        if self.compression == Compression::None {
            // Some writers count more than a strip holds, as the whole stack behind the first page.
            let most = self.chunk_bytes(self.chunk_height).unwrap_or(usize::MAX) as u64;
            self.sizes.iter_mut().for_each(|size| *size = (*size).min(most));
        }
        self.check_ends(tiff.source.len())?;
        self.cut_into_bands();
        Ok(())
    }

    /// Makes bands of a whole page in one uncompressed strip, as ImageJ and tifffile write it, so that only a part of it
    /// is in memory twice.
    fn cut_into_bands(&mut self) {
        const BAND_BYTES: usize = 4 << 20;
        let Some(row_bytes) = self.row_bytes().filter(|_| !self.tiled && !self.is_subsampled()) else { return };
        let rows = (BAND_BYTES / row_bytes.max(1)).max(1);
        if self.compression != Compression::None || self.chunk_height < self.height || rows >= self.height {
            return;
        }
        let starts = std::mem::take(&mut self.offsets).into_iter().zip(std::mem::take(&mut self.sizes));
        for (start, size) in starts {
            for top in (0..self.height).step_by(rows) {
                let from = (top as u64).saturating_mul(row_bytes as u64);
                let wanted = (rows.min(self.height - top) as u64).saturating_mul(row_bytes as u64);
                self.offsets.push(start.saturating_add(from));
                self.sizes.push(size.saturating_sub(from).min(wanted));
            }
        }
        self.chunk_height = rows;
    }

    /// The page whose pixels follow so many pages behind this one, for files that describe the first of a stack only.
    ///
    /// `None` for pages that are compressed, in tiles, or followed by too few bytes.
    pub(super) fn following(&self, index: usize, file_len: u64) -> Option<Self> {
        if self.compression != Compression::None || self.tiled {
            return None;
        }
        let layers = if self.planar { self.samples } else { 1 };
        let page_bytes = (self.row_bytes()? as u64).checked_mul(self.height as u64)?.checked_mul(layers as u64)?;
        let shift = page_bytes.checked_mul(index as u64)?;
        let mut page = self.clone();
        for (offset, size) in page.offsets.iter_mut().zip(&page.sizes) {
            *offset = offset.checked_add(shift)?;
            if offset.checked_add(*size)? > file_len {
                return None;
            }
        }
        Some(page)
    }

    /// Byte counts that the file does not name: up to the next strip or the end of the file.
    fn guess_sizes(&mut self, file_len: u64) {
        let mut starts = self.offsets.clone();
        starts.sort_unstable();
        let end = |offset: u64| {
            let next = starts.partition_point(|start| *start <= offset);
            starts.get(next).copied().unwrap_or(file_len)
        };
        self.sizes = self.offsets.iter().map(|&offset| end(offset).saturating_sub(offset)).collect();
    }

    /// Refuses a file that is shorter than its strips or tiles, before anything is decoded.
    fn check_ends(&self, file_len: u64) -> Decoded<()> {
        if self.offsets.iter().any(|&offset| offset > file_len) {
            return Err(cut_off());
        }
        let ends = self.offsets.iter().zip(&self.sizes).map(|(&offset, &size)| offset.saturating_add(size));
        let end = ends.max().unwrap_or(0);
        if end > file_len {
            return Err(Problem::unusable(format!(
                "the TIFF file ends too early ({file_len} bytes, its pixels reach to {end}); it was cut off while being \
                 written or copied: get it again"
            )));
        }
        Ok(())
    }
}

/// The one value that all samples share.
fn common(values: Option<Vec<u64>>, default: u64, samples: usize, what: &str) -> Decoded<u32> {
    let values = values.unwrap_or_default();
    let first = values.first().copied().unwrap_or(default);
    match values.iter().take(samples).find(|value| **value != first) {
        Some(other) => Err(Problem::unusable(format!(
            "the TIFF has samples with different {what} ({first} and {other}); save it with the same for all channels"
        ))),
        None => Ok(u32::try_from(first).unwrap_or(u32::MAX)),
    }
}

fn kind(format: u32, bits: u32) -> Decoded<Kind> {
    if bits == 0 || bits > 64 {
        return Err(Problem::unusable(format!("the TIFF has {bits} bits per sample; 1 to 64 are read")));
    }
    match format {
        // 4 is "undefined", which writers of plain data use.
        1 | 4 => Ok(Kind::Unsigned),
        2 => Ok(Kind::Signed),
        3 if matches!(bits, 16 | 24 | 32 | 64) => Ok(Kind::Float),
        3 => Err(Problem::unusable(format!("the TIFF has floats of {bits} bits; 16, 24, 32 and 64 are read"))),
        5 | 6 => Err(Problem::unusable("the TIFF has complex samples; save their magnitude or real part")),
        other => Err(Problem::unusable(format!("the TIFF has samples of the unknown format {other}; save it again"))),
    }
}

fn color(photometric: Option<u64>, samples: usize) -> Decoded<Color> {
    let name = match photometric {
        Some(0) => return Ok(Color::MinIsWhite),
        Some(3) if samples == 1 => return Ok(Color::Palette),
        Some(2) if samples >= 3 => return Ok(Color::Rgb),
        Some(5) if samples >= 4 => return Ok(Color::Inks),
        Some(6) => return Ok(Color::YCbCr),
        // Samples without a name, and colours with fewer samples than they need: channels as they are.
        None | Some(1..=5) => return Ok(Color::MinIsBlack),
        Some(8) => "CIE L*a*b*",
        Some(9) => "ICC L*a*b*",
        Some(10) => "ITU L*a*b*",
        Some(32_803 | 34_892) => "raw colours of a camera's filter mosaic",
        Some(32_844 | 32_845) => "logarithmic luminance",
        Some(other) => {
            return Err(Problem::unusable(format!(
                "the TIFF has pixels of kind {other} (PhotometricInterpretation), which is not read; save it as grey or \
                 RGB"
            )));
        }
    };
    Err(Problem::unusable(format!("the TIFF holds {name}, which is not read; save it as grey or RGB")))
}

fn compression(method: Option<u64>, t4_options: Option<u64>) -> Decoded<Compression> {
    let name = match method {
        None | Some(1) => return Ok(Compression::None),
        Some(2) => return Ok(Compression::CcittRows),
        Some(3) => {
            return Ok(Compression::CcittFax3 { two_dimensional: t4_options.is_some_and(|options| options & 1 == 1) });
        }
        Some(4) => return Ok(Compression::CcittFax4),
        Some(5) => return Ok(Compression::Lzw),
        Some(7) => return Ok(Compression::Jpeg),
        Some(8 | 32_946) => return Ok(Compression::Deflate),
        Some(32_773) => return Ok(Compression::PackBits),
        Some(34_926 | 50_000) => return Ok(Compression::Zstd),
        Some(6) => "JPEG in the form of TIFF 6.0, which was withdrawn in 1995",
        Some(32_809) => "ThunderScan",
        Some(34_676 | 34_677) => "SGI LogLuv",
        Some(33_003..=33_005 | 34_712) => "JPEG 2000",
        Some(34_887) => "LERC",
        Some(34_925) => "LZMA",
        Some(50_001 | 34_927) => "WebP",
        Some(50_002 | 52_546) => "JPEG XL",
        Some(48_124) => "Jetraw",
        Some(34_892) => "lossy JPEG of raw camera files",
        Some(other) => {
            return Err(Problem::unusable(format!("the TIFF is compressed by the unknown method {other}; {RESAVE}")));
        }
    };
    Err(Problem::unusable(format!("the TIFF is compressed as {name}, which is not read; {RESAVE}")))
}

const RESAVE: &str =
    "save it uncompressed, or with LZW, deflate or zstd (in QuPath: Export images > Original pixels, as TIFF)";

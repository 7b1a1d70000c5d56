//! PNG in.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};

use png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Transformations};

use super::source::Source;
use super::{
    Decoded, Picked, Problem, RawLabels, ReadLimits, ReadOptions, buffer, channels_last, converted, gathered, plane,
    sample_count,
};
use crate::raster::Image;

pub(super) fn image(source: &Source<'_>, options: &ReadOptions) -> Decoded<Picked> {
    let frame = Frame::decode(source, &options.limits, Transformations::EXPAND)?;
    options.only_one()?;
    let (channels, opaque) = match frame.color {
        ColorType::Grayscale => (1, 1),
        ColorType::GrayscaleAlpha => (2, 1),
        ColorType::Rgb => (3, 3),
        ColorType::Rgba => (4, 3),
        ColorType::Indexed => return Err(Problem::unusable("the PNG has a palette image without a palette")),
    };
    let image = if frame.depth == 16 {
        let samples = converted(source, &frame.data, 2, |pair| u16::from_be_bytes([pair[0], pair[1]]))?;
        Image::U16(channels_last(samples, frame.height, frame.width, channels)?)
    } else {
        Image::U8(channels_last(frame.data, frame.height, frame.width, channels)?)
    };
    Ok(Picked { image, transparent: (0..channels).map(|channel| channel >= opaque).collect(), picked: false })
}

pub(super) fn labels(source: &Source<'_>, options: &ReadOptions) -> Decoded<RawLabels> {
    let frame = Frame::decode(source, &options.limits, Transformations::IDENTITY)?;
    let stride = match frame.color {
        ColorType::Grayscale | ColorType::Indexed => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb | ColorType::Rgba => {
            return Err(Problem::unusable(
                "this PNG is a colour picture; a label file has one number per pixel: save it as 8 or 16 bit grey, or \
                 with a palette",
            ));
        }
    };
    let values: Vec<u32> = match frame.depth {
        16 => converted(source, &frame.data, 2 * stride, |pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))?,
        8 => converted(source, &frame.data, stride, |pixel| u32::from(pixel[0]))?,
        depth => frame.unpack(depth)?,
    };
    Ok(RawLabels::Unsigned(plane(values, frame.height, frame.width)?))
}

/// The signature and the first chunk, which holds size and type.
const HEADER_BYTES: usize = 33;

/// Refuses what would be too large once decoded, by the header alone.
fn measure(header: &[u8], limits: &ReadLimits) -> Decoded<()> {
    let mut decoder = Decoder::new(Cursor::new(header));
    let header = decoder.read_header_info().map_err(refuse)?;
    let (height, width) = (header.height as usize, header.width as usize);
    let channels = if header.color_type == ColorType::Indexed { 4 } else { 4.min(header.color_type.samples() + 1) };
    let sample_bytes = if header.bit_depth == BitDepth::Sixteen { 2 } else { 1 };
    // Transparency may add a channel, and labels are widened to 4 bytes: both fit this bound.
    sample_count(height, width, 1, (channels * sample_bytes).max(4), limits)?;
    Ok(())
}

/// A decoded PNG as the decoder hands it out: big-endian samples, rows packed to whole bytes.
struct Frame {
    data: Vec<u8>,
    height: usize,
    width: usize,
    line_size: usize,
    depth: usize,
    color: ColorType,
}

/// A file in memory that is handed to the decoder part by part, with an error once the reading is to stop.
struct Parts<'a> {
    bytes: Cursor<&'a [u8]>,
    source: &'a Source<'a>,
}

/// Bytes of a part: decompressed, a thousand times as many at most.
const PART: usize = 1 << 15;

impl BufRead for Parts<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.source.check().is_err() {
            return Err(io::Error::other("cancelled"));
        }
        let rest = self.bytes.fill_buf()?;
        Ok(&rest[..rest.len().min(PART)])
    }

    fn consume(&mut self, count: usize) {
        self.bytes.consume(count);
    }
}

impl Read for Parts<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(into)
    }
}

impl Seek for Parts<'_> {
    fn seek(&mut self, place: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(place)
    }
}

impl Frame {
    fn decode(source: &Source<'_>, limits: &ReadLimits, transformations: Transformations) -> Decoded<Self> {
        measure(&source.start(HEADER_BYTES)?, limits)?;
        let bytes = source.all()?;
        let bytes = bytes.as_ref();
        let refuse = |error| source.check().err().unwrap_or_else(|| refuse(error));
        // The decoder's own limit covers rows and metadata, which the pixel limit below does not.
        let own = Limits { bytes: limits.decoded_bytes.saturating_add(1 << 24) };
        let mut decoder = Decoder::new_with_limits(Parts { bytes: Cursor::new(bytes), source }, own);
        decoder.set_transformations(transformations);
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        let mut reader = decoder.read_info().map_err(refuse)?;
        if let Some(animation) = reader.info().animation_control().filter(|animation| animation.num_frames > 1) {
            return Err(Problem::unusable(format!(
                "the PNG is an animation of {} frames; save each frame as a file of its own",
                animation.num_frames
            )));
        }
        let size = reader.output_buffer_size().ok_or_else(|| Problem::Limit("the PNG is too large".into()))?;
        let mut data = buffer(size)?;
        let info = reader.next_frame(&mut data).map_err(refuse)?;
        reader.finish().map_err(refuse)?;
        if !ends_properly(bytes) {
            return Err(refuse_truncated());
        }
        data.truncate(info.buffer_size());
        source.check()?;
        Ok(Self {
            data,
            height: info.height as usize,
            width: info.width as usize,
            line_size: info.line_size,
            depth: info.bit_depth as usize,
            color: info.color_type,
        })
    }

    /// Values of less than 8 bit, most significant first, every row starting on a new byte.
    fn unpack(&self, depth: usize) -> Decoded<Vec<u32>> {
        let mask = (1u32 << depth) - 1;
        let per_byte = 8 / depth;
        let value = |row: &[u8], x: usize| {
            let shift = 8 - depth * (x % per_byte + 1);
            row.get(x / per_byte).map_or(0, |&byte| (u32::from(byte) >> shift) & mask)
        };
        let rows = self.data.chunks_exact(self.line_size);
        gathered(self.height * self.width, rows.flat_map(|row| (0..self.width).map(move |x| value(row, x))))
    }
}

/// Whether the closing chunk is there whole: the decoder tolerates files that stop before it.
fn ends_properly(bytes: &[u8]) -> bool {
    const END: &[u8] = b"\0\0\0\0IEND\xaeB`\x82";
    bytes.windows(END.len()).rev().any(|window| window == END)
}

fn refuse_truncated() -> Problem {
    Problem::unusable("the PNG file ends too early; it was cut off while being written or copied: get it again")
}

fn refuse(error: DecodingError) -> Problem {
    match error {
        DecodingError::IoError(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => refuse_truncated(),
        DecodingError::LimitsExceeded => Problem::Limit("the PNG needs more memory than the limit".into()),
        other => Problem::unusable(format!("the PNG file is damaged ({other}); export it again")),
    }
}

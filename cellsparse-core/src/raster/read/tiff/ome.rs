//! OME-XML in the description of a TIFF: how its pages are ordered and how large a pixel is.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::physical::micrometres;

/// What is used of the first image of the metadata.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Ome {
    /// Channels, planes and time points.
    pub(super) size: [usize; 3],
    /// Which of channels (0), planes (1) and time points (2) changes fastest, second and slowest.
    pub(super) order: [usize; 3],
    /// Samples that a page holds for each channel element, as far as told.
    pub(super) samples: Option<usize>,
    /// Micrometres per pixel, row and column.
    pub(super) pixel_size: Option<[f64; 2]>,
    /// Which pages hold what.
    pub(super) blocks: Vec<Block>,
    /// Number of images; only the first is read.
    pub(super) images: usize,
    /// The name by which `blocks` speak of the file itself.
    uuid: Option<String>,
}

/// A run of pages.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Block {
    /// The first page; `None` means the first of the file.
    pub(super) page: Option<usize>,
    /// Channel, plane and time point of that page.
    pub(super) first: [usize; 3],
    /// Number of pages; `None` is one when `page` is given, else all.
    pub(super) count: Option<usize>,
    /// Another file holds them.
    pub(super) elsewhere: bool,
}

/// Reads what is needed; `None` when the text is no OME-XML or its sizes make no sense.
pub(super) fn parse(text: &str) -> Option<Ome> {
    let mut reader = Reader::from_str(text);
    let mut ome = Ome { order: [0, 1, 2], ..Ome::default() };
    let mut in_uuid = false;
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) => {
                in_uuid = element.local_name().as_ref() == "UUID";
                ome.take(&element)?;
            }
            Event::Empty(element) => ome.take(&element)?,
            Event::Text(name) if in_uuid && ome.images == 1 => {
                let name = name.trim().to_owned();
                if let Some(block) = ome.blocks.last_mut()
                    && !name.is_empty()
                {
                    block.elsewhere = ome.uuid.as_ref() != Some(&name);
                }
            }
            Event::End(_) => in_uuid = false,
            Event::Eof => break,
            _ => {}
        }
    }
    (ome.images > 0 && ome.size.iter().all(|n| (1..=1 << 20).contains(n))).then_some(ome)
}

impl Ome {
    fn take(&mut self, element: &BytesStart<'_>) -> Option<()> {
        let text = |name: &str| {
            let attribute = element.try_get_attribute(name).ok().flatten()?;
            // Entities such as the micro sign's number are resolved.
            Some(attribute.normalized_value(XmlVersion::Implicit1_0).ok()?.trim().to_owned())
        };
        let number = |name: &str| text(name).and_then(|value| value.parse::<usize>().ok());
        match element.local_name().as_ref() {
            "OME" => self.uuid = text("UUID"),
            "Pixels" => {
                self.images += 1;
                if self.images > 1 {
                    return Some(());
                }
                self.size = [number("SizeC")?, number("SizeZ")?, number("SizeT")?];
                if let Some(order) = text("DimensionOrder").as_deref().and_then(dimension_order) {
                    self.order = order;
                }
                let size = |axis: &str| {
                    let value = text(&format!("PhysicalSize{axis}"))?.parse::<f64>().ok()?;
                    micrometres(value, text(&format!("PhysicalSize{axis}Unit")).as_deref().unwrap_or("µm"))
                };
                self.pixel_size = size("Y").or_else(|| size("X")).zip(size("X")).map(|(y, x)| [y, x]);
            }
            "Channel" if self.images == 1 && self.samples.is_none() => self.samples = number("SamplesPerPixel"),
            "TiffData" if self.images == 1 => self.blocks.push(Block {
                page: number("IFD"),
                first: ["FirstC", "FirstZ", "FirstT"].map(|name| number(name).unwrap_or(0)),
                count: number("PlaneCount"),
                elsewhere: false,
            }),
            _ => {}
        }
        Some(())
    }

    /// For every channel, plane and time point, channels fastest, the page of this file that holds it. A page holds
    /// `samples` channels. Pages are numbered along the main chain.
    pub(super) fn pages(&self, samples: usize, available: usize) -> Option<(usize, Vec<Option<usize>>)> {
        let samples = if self.size[0].is_multiple_of(samples.max(1)) { samples.max(1) } else { 1 };
        let size = [self.size[0] / samples, self.size[1], self.size[2]];
        let total = size[0].checked_mul(size[1])?.checked_mul(size[2]).filter(|total| *total <= 1 << 24)?;
        let mut pages = vec![None; total];
        let everything = [Block::default()];
        for block in if self.blocks.is_empty() { &everything[..] } else { &self.blocks } {
            if block.elsewhere {
                continue;
            }
            let mut place = block.first;
            place[0] /= samples;
            let count = block.count.unwrap_or(if block.page.is_some() { 1 } else { total });
            let start = block.page.unwrap_or(0);
            for page in start..start.saturating_add(count).min(available) {
                if (0..3).any(|axis| place[axis] >= size[axis]) {
                    break;
                }
                let at = (place[2] * size[1] + place[1]) * size[0] + place[0];
                pages[at].get_or_insert(page);
                for axis in self.order {
                    place[axis] += 1;
                    if place[axis] < size[axis] || axis == self.order[2] {
                        break;
                    }
                    place[axis] = 0;
                }
            }
        }
        Some((size[0], pages))
    }
}

fn dimension_order(text: &str) -> Option<[usize; 3]> {
    let axes: Vec<usize> = text.strip_prefix("XY")?.chars().map(|axis| "CZT".find(axis)).collect::<Option<_>>()?;
    let order: [usize; 3] = axes.try_into().ok()?;
    (0..3).all(|axis| order.contains(&axis)).then_some(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(pixels: &str, inside: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><!-- words --><OME UUID=\"urn:uuid:me\"><Image ID=\"Image:0\"><Pixels {pixels}>{inside}</Pixels></Image></OME>"
        )
    }

    #[test]
    fn sizes_order_and_pixel_size() {
        let text = document(
            "DimensionOrder=\"XYZCT\" SizeC=\"2\" SizeZ=\"3\" SizeT=\"1\" PhysicalSizeX=\"650\" PhysicalSizeXUnit=\"nm\"",
            "<Channel SamplesPerPixel=\"1\"/><TiffData/>",
        );
        let ome = parse(&text).unwrap();
        assert_eq!((ome.size, ome.order, ome.samples), ([2, 3, 1], [1, 0, 2], Some(1)));
        assert_eq!(ome.pixel_size, Some([0.65, 0.65]));
        let (channels, pages) = ome.pages(1, 6).unwrap();
        assert_eq!((channels, pages), (2, [0, 3, 1, 4, 2, 5].map(Some).to_vec()));
        assert_eq!(parse("<a"), None);
        assert_eq!(parse(&document("SizeC=\"0\" SizeZ=\"1\" SizeT=\"1\"", "")), None);
    }

    #[test]
    fn pages_that_are_named_one_by_one_or_lie_in_other_files() {
        let text = document(
            "DimensionOrder=\"XYCZT\" SizeC=\"2\" SizeZ=\"2\" SizeT=\"1\"",
            "<TiffData IFD=\"1\" FirstC=\"0\" FirstZ=\"0\" FirstT=\"0\"><UUID FileName=\"a\">urn:uuid:me</UUID></TiffData>\
             <TiffData IFD=\"0\" FirstC=\"1\"><UUID FileName=\"a\">urn:uuid:me</UUID></TiffData>\
             <TiffData IFD=\"0\" FirstC=\"0\" FirstZ=\"1\"><UUID FileName=\"b\">urn:uuid:other</UUID></TiffData>",
        );
        let (channels, pages) = parse(&text).unwrap().pages(1, 2).unwrap();
        assert_eq!((channels, pages), (2, vec![Some(1), Some(0), None, None]));
    }

    #[test]
    fn three_samples_are_one_page() {
        let text = document("DimensionOrder=\"XYCZT\" SizeC=\"3\" SizeZ=\"1\" SizeT=\"1\"", "<TiffData/>");
        assert_eq!(parse(&text).unwrap().pages(3, 1).unwrap(), (1, vec![Some(0)]));
    }
}

//! How large a pixel is, in micrometres.

use super::super::Decoded;
use super::directory::{Directory, Tiff, tags};

/// Resolutions of printers and screens, which programs write when they know nothing: no microscope's pixel is so large.
const LARGEST_FROM_RESOLUTION: f64 = 50.0;

/// A length in micrometres; `None` for units that are no length and for numbers that make no sense.
pub(in crate::raster::read) fn micrometres(value: f64, unit: &str) -> Option<f64> {
    let unit = unit.trim().trim_matches('"').to_lowercase().replace("\\u00b5", "µ").replace('μ', "µ");
    let factor = match unit.as_str() {
        "µm" | "um" | "micron" | "microns" | "micrometer" | "micrometre" | "micrometers" => 1.0,
        "nm" | "nanometer" | "nanometre" => 1e-3,
        "mm" | "millimeter" | "millimetre" => 1e3,
        "cm" | "centimeter" | "centimetre" => 1e4,
        "m" | "meter" | "metre" => 1e6,
        "in" | "inch" | "inches" => 25_400.0,
        "å" | "angstrom" => 1e-4,
        "pm" => 1e-6,
        _ => return None,
    };
    Some(value * factor).filter(|size| size.is_finite() && *size > 0.0)
}

/// From the resolution tags: `unit` is ImageJ's unit of length, where its description names one.
pub(super) fn from_resolution(tiff: &Tiff<'_>, directory: &Directory, unit: Option<&str>) -> Decoded<Option<[f64; 2]>> {
    let resolution = |tag: u16| Ok(tiff.fractions(directory, tag)?.and_then(|values| values.first().copied()));
    let (Some(x), Some(y)) = (resolution(tags::X_RESOLUTION)?, resolution(tags::Y_RESOLUTION)?) else {
        return Ok(None);
    };
    let sizes = |unit: &str| micrometres(1.0 / y, unit).zip(micrometres(1.0 / x, unit)).map(|(y, x)| [y, x]);
    if let Some(unit) = unit {
        return Ok(sizes(unit));
    }
    let unit = match tiff.number(directory, tags::RESOLUTION_UNIT)? {
        Some(3) => "cm",
        Some(1) => return Ok(None),
        _ => "inch",
    };
    Ok(sizes(unit).filter(|size| size.iter().all(|side| *side < LARGEST_FROM_RESOLUTION)))
}

#[cfg(test)]
mod tests {
    use super::micrometres;

    #[test]
    fn units() {
        let same = |value, unit| micrometres(value, unit).map(|size| (size * 1e9).round() / 1e9);
        for (value, unit) in [(0.5, "micron"), (0.5, "\\u00B5m"), (0.5, "μm"), (500.0, "nm"), (5e-5, "cm"), (0.5, "um")]
        {
            assert_eq!(same(value, unit), Some(0.5), "{unit}");
        }
        assert_eq!(micrometres(1.0, "pixel"), None);
        assert_eq!(micrometres(f64::INFINITY, "um"), None);
        assert_eq!(micrometres(0.0, "um"), None);
    }
}

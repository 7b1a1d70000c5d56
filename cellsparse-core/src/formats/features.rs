//! Measurements of objects as a table: the names of its columns, and the table as a CSV file.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::geojson::ObjectInfo;
use crate::error::{Error, Result};
use crate::geometry::measure::{Intensity, Measurements};
use crate::raster::write_atomically;

/// What is known of one object: its measurements, and what the prediction says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Of its pixels.
    pub measurements: Measurements,
    /// Probability and class.
    pub info: ObjectInfo,
}

/// One column of the table.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Column {
    /// Its name: as of scikit-image's `regionprops_table` where that has the property.
    pub name: String,
    /// One value for each object.
    pub values: Values,
}

/// The values of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Whole numbers.
    Whole(Vec<i64>),
    /// Other numbers; NaN where a value is not known.
    Real(Vec<f64>),
    /// Yes or no.
    Truth(Vec<bool>),
    /// Names; empty where there is none.
    Text(Vec<String>),
}

/// The table of objects: `label`, `centroid-0` (row), `centroid-1` (column), `area`, `area_um2` (when pixel sizes are
/// known), `intensity_mean-C`, `intensity_min-C`, `intensity_max-C` of channel C from 0 (when there was an image),
/// `eccentricity`, `perimeter`, `feret_diameter_max`, `axis_major_length`, `axis_minor_length`, `orientation`, `solidity`,
/// `touches_border`, `probability` and `class` (when they are known of any object).
///
/// `channels` are those of the image, so that the table of no objects has the same columns.
pub fn columns(features: &[Features], channels: usize, in_micrometres: bool) -> Vec<Column> {
    let mut table = Vec::new();
    let mut add = |name: &str, values: Values| table.push(Column { name: name.to_owned(), values });
    let real =
        |of: &dyn Fn(&Measurements) -> f64| Values::Real(features.iter().map(|one| of(&one.measurements)).collect());
    add("label", Values::Whole(features.iter().map(|one| i64::from(one.measurements.label)).collect()));
    add("centroid-0", real(&|one| one.centroid[0]));
    add("centroid-1", real(&|one| one.centroid[1]));
    add("area", Values::Whole(features.iter().map(|one| one.measurements.area as i64).collect()));
    if in_micrometres {
        add("area_um2", real(&|one| one.area_um2.unwrap_or(f64::NAN)));
    }
    type Kind = (&'static str, fn(&Intensity) -> f64);
    let kinds: [Kind; 3] = [("mean", |value| value.mean), ("min", |value| value.min), ("max", |value| value.max)];
    for (kind, of) in kinds {
        for channel in 0..channels {
            let values = real(&|one| one.intensity.get(channel).map_or(f64::NAN, of));
            add(&format!("intensity_{kind}-{channel}"), values);
        }
    }
    add("eccentricity", real(&|one| one.eccentricity));
    add("perimeter", real(&|one| one.perimeter));
    add("feret_diameter_max", real(&|one| one.feret_diameter_max));
    add("axis_major_length", real(&|one| one.axis_major_length));
    add("axis_minor_length", real(&|one| one.axis_minor_length));
    add("orientation", real(&|one| one.orientation));
    add("solidity", real(&|one| one.solidity));
    add("touches_border", Values::Truth(features.iter().map(|one| one.measurements.touches_border).collect()));
    // As decimals of the 32-bit number, so that 0.9 does not read 0.8999999761581421.
    let probability = |one: &Features| one.info.probability.map_or(f64::NAN, decimals);
    if features.is_empty() || features.iter().any(|one| one.info.probability.is_some()) {
        add("probability", Values::Real(features.iter().map(probability).collect()));
    }
    if features.iter().any(|one| one.info.class.is_some()) {
        let class = |one: &Features| one.info.class.clone().unwrap_or_default();
        add("class", Values::Text(features.iter().map(class).collect()));
    }
    table
}

/// The table as text: a line of names, a line for each object, commas between values, points in numbers, `true` and
/// `false`, nothing where a value is not known. Numbers are as short as brings them back.
pub fn csv_string(table: &[Column]) -> String {
    let mut text = String::new();
    for (place, column) in table.iter().enumerate() {
        separate(&mut text, place);
        quote(&mut text, &column.name);
    }
    text.push('\n');
    let rows = table.first().map_or(0, |column| column.values.len());
    for row in 0..rows {
        for (place, column) in table.iter().enumerate() {
            separate(&mut text, place);
            // Writing to a text does not fail.
            let _ = match &column.values {
                Values::Whole(values) => write!(text, "{}", values[row]),
                Values::Real(values) if values[row].is_nan() => Ok(()),
                Values::Real(values) => write!(text, "{}", values[row]),
                Values::Truth(values) => write!(text, "{}", values[row]),
                Values::Text(values) => {
                    quote(&mut text, &values[row]);
                    Ok(())
                }
            };
        }
        text.push('\n');
    }
    text
}

/// Writes the table as a CSV file, whole or not at all.
///
/// # Errors
/// [`Error::Io`] or [`Error::NotFound`] when the file cannot be written.
pub fn write_csv(path: impl AsRef<Path>, table: &[Column]) -> Result<()> {
    let path = path.as_ref();
    let text = csv_string(table);
    write_atomically(path, |writer| writer.write_all(text.as_bytes()).map_err(|source| Error::io(path, source)))
}

impl Values {
    /// Number of objects.
    pub fn len(&self) -> usize {
        match self {
            Values::Whole(values) => values.len(),
            Values::Real(values) => values.len(),
            Values::Truth(values) => values.len(),
            Values::Text(values) => values.len(),
        }
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn separate(text: &mut String, place: usize) {
    if place > 0 {
        text.push(',');
    }
}

/// Adds a text as RFC 4180 wants it.
fn quote(text: &mut String, value: &str) {
    if value.contains([',', '"', '\n', '\r']) {
        text.push('"');
        text.push_str(&value.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(value);
    }
}

/// The 64-bit number that is written as the 32-bit one is.
fn decimals(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;
    use crate::geometry::measure::{MeasureOptions, measure};
    use crate::raster::Image;

    #[test]
    fn the_table_has_what_is_known() {
        let labels = array![[0, 4, 4], [0, 0, 9]];
        let image = Image::from_gray(Array2::from_elem((2, 3), 7.5));
        let options = MeasureOptions { image: Some(&image), pixel_size: Some([0.5, 0.5]) };
        let measured = measure(&labels, &options).unwrap();
        let infos = [(Some(0.9), Some("a,\"b\"".to_owned())), (None, None)];
        let features: Vec<Features> = measured
            .into_iter()
            .zip(infos)
            .map(|(measurements, (probability, class))| Features {
                measurements,
                info: ObjectInfo { probability, class },
            })
            .collect();
        let text = csv_string(&columns(&features, 1, true));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "label,centroid-0,centroid-1,area,area_um2,intensity_mean-0,intensity_min-0,intensity_max-0,eccentricity,\
             perimeter,feret_diameter_max,axis_major_length,axis_minor_length,orientation,solidity,touches_border,\
             probability,class"
        );
        assert_eq!(lines[1], "4,0,1.5,2,0.5,7.5,7.5,7.5,1,0,2,2,0,1.5707963267948966,1,true,0.9,\"a,\"\"b\"\"\"");
        assert!(lines[2].starts_with("9,1,2,1,0.25,") && lines[2].ends_with(",true,,"), "{}", lines[2]);
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn the_table_of_no_objects_is_a_line_of_names() {
        let text = csv_string(&columns(&[], 2, false));
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("intensity_max-1") && text.contains("probability") && !text.contains("area_um2"));
    }
}

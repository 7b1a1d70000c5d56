//! Which axis of an array is which.

use serde_json::Value;

use super::super::{Decoded, Problem};

/// What an axis without a name may have to be taken for channels.
const FEW: usize = 8;

/// Places of the axes of an image in the shape of its array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axes {
    pub(super) time: Option<usize>,
    pub(super) channel: Option<usize>,
    pub(super) depth: Option<usize>,
    /// Rows and columns.
    pub(super) plane: [usize; 2],
}

impl Axes {
    /// From the `axes` of a multiscale image: objects with name and type since version 0.4, names in 0.3, none before, where there
    /// are five. An axis of another meaning may have one entry.
    pub(super) fn of_multiscale(axes: &Value, shape: &[usize]) -> Decoded<Self> {
        let told: Vec<(String, String)> = match axes.as_array() {
            None if shape.len() == 5 => "tczyx".chars().map(|name| (name.to_string(), String::new())).collect(),
            None => {
                return Err(Problem::unusable(format!(
                    "the multiscales metadata names no axes and the array has {}, not 5; write it again as OME-Zarr 0.4",
                    shape.len()
                )));
            }
            Some(axes) => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
                axes.iter()
                    .map(|axis| {
                        if axis.is_string() {
                            (text(axis), String::new())
                        } else {
                            (text(&axis["name"]), text(&axis["type"]))
                        }
                    })
                    .collect()
            }
        };
        if told.len() != shape.len() {
            return Err(Problem::unusable(format!(
                "the multiscales metadata names {} axes and the array has {}: {shape:?}",
                told.len(),
                shape.len()
            )));
        }
        Self::from_told(&told, shape).ok_or_else(|| {
            let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
            Problem::unusable(format!(
                "the axes {names:?} of {shape:?} cannot be told apart; axes t, c, z, y and x are read, others with one entry"
            ))
        })
    }

    /// From names of axes alone, if they tell rows and columns.
    pub(super) fn of_names(names: &[String], shape: &[usize]) -> Option<Self> {
        let told: Vec<(String, String)> = names.iter().map(|name| (name.to_lowercase(), String::new())).collect();
        if told.len() == shape.len() { Self::from_told(&told, shape) } else { None }
    }

    /// Of an array that tells nothing: two axes, or a third one before or behind them with few entries. With `is_stack`, a third
    /// one before them is planes, however many they are. Axes of one entry before are passed over.
    pub(super) fn guessed(shape: &[usize], is_stack: bool) -> Option<Self> {
        let skipped = shape.iter().take(shape.len().saturating_sub(3)).take_while(|side| **side == 1).count();
        let at = |place: usize| place + skipped;
        let none = Self { time: None, channel: None, depth: None, plane: [at(0), at(1)] };
        match &shape[skipped..] {
            [_, _] => Some(none),
            [first, _, _] if is_stack && *first > 0 => Some(Self { depth: Some(at(0)), plane: [at(1), at(2)], ..none }),
            [first, middle, last] if *last <= FEW && *first > FEW && *middle > FEW => {
                Some(Self { channel: Some(at(2)), ..none })
            }
            [first, middle, last] if *first <= FEW && *middle > FEW && *last > FEW => {
                Some(Self { channel: Some(at(0)), plane: [at(1), at(2)], ..none })
            }
            _ => None,
        }
    }

    fn from_told(told: &[(String, String)], shape: &[usize]) -> Option<Self> {
        let mut places = [None; 5];
        let mut space = Vec::new();
        for (at, (name, kind)) in told.iter().enumerate() {
            let role = match (name.as_str(), kind.as_str()) {
                ("t" | "time", _) | (_, "time") => 0,
                ("c" | "channel" | "channels" | "ch", _) | (_, "channel") => 1,
                ("z" | "depth" | "plane", _) => 2,
                ("y" | "row" | "rows" | "height", _) => 3,
                ("x" | "col" | "column" | "columns" | "cols" | "width", _) => 4,
                (_, "space") => {
                    space.push(at);
                    continue;
                }
                _ if shape[at] == 1 => continue,
                _ => return None,
            };
            if places[role].replace(at).is_some() {
                return None;
            }
        }
        // Axes in space of other names are in the order z, y, x.
        for role in [4, 3, 2] {
            if places[role].is_none()
                && let Some(at) = space.pop()
            {
                places[role] = Some(at);
            }
        }
        let [time, channel, depth, rows, columns] = places;
        space.is_empty().then_some(Self { time, channel, depth, plane: [rows?, columns?] })
    }

    /// Entries of an axis, 1 for one that is not there.
    pub(super) fn count(axis: Option<usize>, shape: &[usize]) -> usize {
        axis.and_then(|axis| shape.get(axis).copied()).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn axes_of_all_versions() {
        let shape = [2, 3, 4, 50, 60];
        let all = Axes { time: Some(0), channel: Some(1), depth: Some(2), plane: [3, 4] };
        let axis = |name: &str, kind: &str| json!({"name": name, "type": kind});
        for axes in [
            json!(null),
            json!(["t", "c", "z", "y", "x"]),
            json!([
                axis("t", "time"),
                axis("c", "channel"),
                axis("z", "space"),
                axis("y", "space"),
                axis("x", "space")
            ]),
            json!([
                axis("T", "time"),
                axis("marker", "channel"),
                axis("a", "space"),
                axis("b", "space"),
                axis("d", "space")
            ]),
        ] {
            assert_eq!(Axes::of_multiscale(&axes, &shape).unwrap(), all, "{axes}");
        }
        let last = json!([axis("y", "space"), axis("x", "space"), axis("c", "channel")]);
        let found = Axes::of_multiscale(&last, &[50, 60, 3]).unwrap();
        assert_eq!((found.channel, found.plane), (Some(2), [0, 1]));
        assert!(
            Axes::of_multiscale(&json!([axis("angle", ""), axis("y", "space"), axis("x", "space")]), &[1, 5, 6])
                .is_ok()
        );
        for (axes, shape) in [
            (json!(null), &[50, 60][..]),
            (json!(["y", "x"]), &shape[..]),
            (json!(["y", "y"]), &[5, 6][..]),
            (json!(["angle", "y", "x"]), &[2, 5, 6][..]),
            (json!(["c", "x"]), &[5, 6][..]),
            (json!([1, {}]), &[5, 6][..]),
        ] {
            assert!(Axes::of_multiscale(&axes, shape).is_err(), "{axes}");
        }
    }

    #[test]
    fn arrays_without_names() {
        let guess = |shape: &[usize], is_stack: bool| {
            let found = Axes::guessed(shape, is_stack)?;
            Some((found.channel, found.depth, found.plane))
        };
        assert_eq!(guess(&[5, 60], false), Some((None, None, [0, 1])));
        assert_eq!(guess(&[3, 50, 60], false), Some((Some(0), None, [1, 2])));
        assert_eq!(guess(&[50, 60, 3], false), Some((Some(2), None, [0, 1])));
        assert_eq!(guess(&[1, 1, 3, 50, 60], false), Some((Some(2), None, [3, 4])));
        assert_eq!(guess(&[30, 50, 60], true), Some((None, Some(0), [1, 2])));
        assert_eq!(
            [guess(&[30, 50, 60], false), guess(&[3, 4, 5], false), guess(&[2, 3, 50, 60], false), guess(&[9], false)],
            [None; 4]
        );
    }
}

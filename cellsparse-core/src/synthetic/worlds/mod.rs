//! Worlds: images of cells of many kinds under many microscopes, with complete labels, drawn at random.
//!
//! They teach a network what cells have in common before it sees a real image. A world is made in three steps: a scene
//! says where the cells are (`specimens.rs` from the outlines of `shapes.rs`, placed and grown by `scene.rs`), an
//! appearance says what light arrives (`appearance.rs` from the parts of `light.rs`), and the camera makes samples of
//! it (`camera.rs`). What is cheap follows physics: blur, absorption, halos as differences of blurs, interference
//! contrast as a derivative, noise of photons. The rest is varied far more than it varies in nature.

mod appearance;
mod camera;
mod light;
mod maps;
mod scene;
mod shapes;
mod specimens;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::random::Random;
use crate::raster::{Image, LabelImage};

use self::light::Picture;
use self::maps::{between, octaves};
use self::scene::Scene;

/// A drawn image and its complete labels.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct World {
    /// `[H, W, C]` with one to three channels of 8-bit, 16-bit or floating point samples.
    pub image: Image,
    /// `[H, W]`: 0 background, 1, 2, ... without gaps the cells, each one connected region of at least 14 pixels.
    pub labels: LabelImage,
    /// What was drawn.
    pub kind: WorldKind,
}

/// What worlds to draw.
///
/// ```
/// use cellsparse_core::synthetic::{WorldKind, WorldOptions, draw_world};
///
/// let mut options = WorldOptions::default();
/// options.kinds = vec![WorldKind::Yeast];
/// let world = draw_world(&options, 7)?;
/// assert_eq!(world.labels.dim(), (256, 256));
/// # Ok::<(), cellsparse_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WorldOptions {
    /// Rows and columns, each 32 to 8192. Default 256 x 256.
    pub size: [usize; 2],
    /// The kinds to choose from; one that is named twice is chosen twice as often. Default all.
    pub kinds: Vec<WorldKind>,
    /// Channels of the images. Default any.
    pub channels: WorldChannels,
    /// Smallest and largest typical diameter of the cells in pixels, within 6 to 200; every octave is as likely.
    /// Kinds that come in other sizes (bacteria, threads) use part of the range. Default 8 to 90.
    pub diameter: [f32; 2],
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self { size: [256, 256], kinds: WorldKind::ALL.to_vec(), channels: WorldChannels::Any, diameter: [8.0, 90.0] }
    }
}

/// How many channels drawn images have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WorldChannels {
    /// One.
    Grey,
    /// Three: red, green, blue.
    Colour,
    /// One, two or three, as the kind suggests.
    #[default]
    Any,
}

/// Kinds of cells and microscopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorldKind {
    /// Fluorescent nuclei: dim and bright, textured, dividing, touching.
    Nuclei,
    /// Cells with a fluorescent cytoplasm.
    Cytoplasm,
    /// Stained membranes or walls of cells of like or very different sizes.
    Membranes,
    /// Cells in phase contrast, with halos.
    PhaseContrast,
    /// Cells in brightfield.
    Brightfield,
    /// Differential interference contrast.
    Interference,
    /// Sections of tissue in absorbing stains; the nuclei are the cells.
    Tissue,
    /// Rods, single, in chains or colonies.
    Bacteria,
    /// Long winding threads.
    Filaments,
    /// Yeast, with buds.
    Yeast,
    /// Sheets of cells without gaps.
    Epithelium,
    /// Flat, lobed, pointed and branched cells.
    Spread,
    /// Round bodies of very different sizes.
    Blobs,
    /// Any arrangement in a random style.
    Restyled,
    /// No cells at all.
    Empty,
}

impl WorldKind {
    /// Every kind.
    pub const ALL: [WorldKind; 15] = [
        WorldKind::Nuclei,
        WorldKind::Cytoplasm,
        WorldKind::Membranes,
        WorldKind::PhaseContrast,
        WorldKind::Brightfield,
        WorldKind::Interference,
        WorldKind::Tissue,
        WorldKind::Bacteria,
        WorldKind::Filaments,
        WorldKind::Yeast,
        WorldKind::Epithelium,
        WorldKind::Spread,
        WorldKind::Blobs,
        WorldKind::Restyled,
        WorldKind::Empty,
    ];

    fn name(self) -> &'static str {
        match self {
            WorldKind::Nuclei => "nuclei",
            WorldKind::Cytoplasm => "cytoplasm",
            WorldKind::Membranes => "membranes",
            WorldKind::PhaseContrast => "phase-contrast",
            WorldKind::Brightfield => "brightfield",
            WorldKind::Interference => "interference",
            WorldKind::Tissue => "tissue",
            WorldKind::Bacteria => "bacteria",
            WorldKind::Filaments => "filaments",
            WorldKind::Yeast => "yeast",
            WorldKind::Epithelium => "epithelium",
            WorldKind::Spread => "spread",
            WorldKind::Blobs => "blobs",
            WorldKind::Restyled => "restyled",
            WorldKind::Empty => "empty",
        }
    }
}

impl fmt::Display for WorldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for WorldKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        WorldKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names: Vec<&str> = WorldKind::ALL.iter().map(|kind| kind.name()).collect();
            Error::Config(format!("\"{text}\" is no kind of drawn world; there are {}", names.join(", ")))
        })
    }
}

impl fmt::Display for WorldChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            WorldChannels::Grey => "grey",
            WorldChannels::Colour => "colour",
            WorldChannels::Any => "any",
        })
    }
}

impl FromStr for WorldChannels {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [WorldChannels::Grey, WorldChannels::Colour, WorldChannels::Any]
            .into_iter()
            .find(|channels| channels.to_string() == text)
            .ok_or_else(|| Error::Config(format!("channels of a drawn world are \"{text}\"; give grey, colour or any")))
    }
}

/// Draws a world; the same options and seed give the same samples.
///
/// One world of 256 x 256 pixels takes some hundredths of a second on one core. Nothing runs in parallel, so that a
/// caller can draw as many at a time as it has cores.
///
/// # Errors
/// [`Error::Config`] for an option outside its range or an empty list of kinds.
pub fn draw_world(options: &WorldOptions, seed: u64) -> Result<World> {
    options.check()?;
    let mut choice = Random::new(seed, 0);
    let kind = options.kinds[choice.below(options.kinds.len())];
    let diameter = octaves(&mut choice, options.diameter[0], options.diameter[1].max(options.diameter[0] * 1.001));
    let shape = (options.size[0], options.size[1]);
    let (scene, picture) = draw(kind, shape, diameter, &mut Random::new(seed, 1), &mut Random::new(seed, 2));
    let image = camera::expose(picture, options.channels, scene.diameter, &mut Random::new(seed, 3));
    Ok(World { image, labels: scene.labels, kind })
}

impl WorldOptions {
    fn check(&self) -> Result<()> {
        for (name, size) in ["rows", "columns"].iter().zip(self.size) {
            if !(32..=8192).contains(&size) {
                return Err(Error::Config(format!("a drawn world of {size} {name}; it must be 32 to 8192")));
            }
        }
        if self.kinds.is_empty() {
            return Err(Error::Config("no kind of drawn world was given; name at least one".to_owned()));
        }
        let [low, high] = self.diameter;
        if !(6.0..=200.0).contains(&low) || !(low..=200.0).contains(&high) {
            return Err(Error::Config(format!(
                "diameters of drawn cells are {low} to {high} pixels; they must rise and lie within 6 to 200"
            )));
        }
        Ok(())
    }
}

/// Arranges cells and lights them; places and looks have random numbers of their own.
fn draw(
    kind: WorldKind,
    shape: (usize, usize),
    diameter: f32,
    place: &mut Random,
    look: &mut Random,
) -> (Scene, Picture) {
    let rod = (0.35 * diameter).clamp(5.0, 22.0);
    let mut wall = if place.chance(0.4) { between(place, 1.8, 5.0).min(0.12 * diameter + 1.0) } else { 0.0 };
    let scene = match kind {
        WorldKind::Nuclei => specimens::ovals(shape, diameter, 0.35, place),
        WorldKind::Tissue => specimens::ovals(shape, diameter.min(50.0), 0.35, place),
        WorldKind::Membranes => {
            let mixed = place.chance(0.6);
            specimens::tissue_sheet(shape, diameter.max(11.0), mixed, wall, place)
        }
        WorldKind::Epithelium => {
            wall = 0.0;
            specimens::tissue_sheet(shape, diameter.max(11.0), false, wall, place)
        }
        WorldKind::Bacteria => specimens::rods(shape, rod, place),
        WorldKind::Filaments => specimens::threads(shape, (0.7 * rod).max(4.0), place),
        WorldKind::Yeast => specimens::yeast(shape, diameter.max(9.0), place),
        WorldKind::Spread => specimens::spread_cells(shape, diameter.max(16.0), place),
        WorldKind::Blobs => specimens::blobs(shape, diameter.max(9.0), place),
        WorldKind::Empty => Scene::empty(shape, diameter),
        WorldKind::Cytoplasm | WorldKind::PhaseContrast | WorldKind::Brightfield | WorldKind::Interference => {
            match place.below(6) {
                0 => specimens::spread_cells(shape, diameter.max(14.0), place),
                1 => specimens::tissue_sheet(shape, diameter.max(12.0), false, 0.0, place),
                _ => specimens::ovals(shape, diameter.max(10.0), 0.5, place),
            }
        }
        WorldKind::Restyled => match place.below(8) {
            0 => specimens::rods(shape, rod, place),
            1 => specimens::threads(shape, (0.7 * rod).max(4.0), place),
            2 => specimens::yeast(shape, diameter.max(9.0), place),
            3 => specimens::spread_cells(shape, diameter.max(16.0), place),
            4 => specimens::blobs(shape, diameter.max(9.0), place),
            5 => specimens::tissue_sheet(shape, diameter.max(11.0), true, between(place, 1.8, 3.5), place),
            _ => specimens::ovals(shape, diameter, 0.6, place),
        },
    };
    let picture = look_of(kind, &scene, wall, look);
    (scene, picture)
}

fn look_of(kind: WorldKind, scene: &Scene, wall: f32, look: &mut Random) -> Picture {
    match kind {
        WorldKind::Nuclei => appearance::fluorescent_nuclei(scene, look),
        WorldKind::Cytoplasm => appearance::fluorescent_cytoplasm(scene, look),
        WorldKind::Membranes => appearance::membranes(scene, wall, look),
        WorldKind::PhaseContrast => appearance::phase_contrast(scene, false, look),
        WorldKind::Brightfield => appearance::brightfield(scene, look),
        WorldKind::Interference => appearance::interference(scene, look),
        WorldKind::Tissue => appearance::stained_tissue(scene, look),
        WorldKind::Bacteria | WorldKind::Filaments => match look.below(10) {
            0..6 => appearance::phase_contrast(scene, true, look),
            6..8 => appearance::fluorescent_cytoplasm(scene, look),
            8 => appearance::interference(scene, look),
            _ => appearance::restyled(scene, look),
        },
        WorldKind::Yeast => match look.below(8) {
            0 => appearance::phase_contrast(scene, false, look),
            1 => appearance::interference(scene, look),
            2 => appearance::fluorescent_cytoplasm(scene, look),
            3 => appearance::brightfield(scene, look),
            _ => appearance::rimmed(scene, look),
        },
        WorldKind::Epithelium => match look.below(5) {
            0 => appearance::phase_contrast(scene, false, look),
            1 => appearance::fluorescent_cytoplasm(scene, look),
            2 => appearance::interference(scene, look),
            _ => appearance::membranes(scene, wall, look),
        },
        WorldKind::Spread => match look.below(5) {
            0 => appearance::phase_contrast(scene, false, look),
            1 => appearance::brightfield(scene, look),
            2 => appearance::interference(scene, look),
            _ => appearance::fluorescent_cytoplasm(scene, look),
        },
        WorldKind::Blobs | WorldKind::Restyled => appearance::restyled(scene, look),
        WorldKind::Empty => appearance::nothing(scene, look),
    }
}

#[cfg(test)]
mod tests {
    use crate::raster::{Connectivity, label_components};

    use super::*;

    fn of(kind: WorldKind, size: [usize; 2]) -> WorldOptions {
        WorldOptions { size, kinds: vec![kind], ..WorldOptions::default() }
    }

    #[test]
    fn a_seed_fixes_the_world_and_another_seed_changes_it() {
        let options = WorldOptions { size: [96, 80], ..WorldOptions::default() };
        for seed in [0, 3, u64::MAX] {
            let world = draw_world(&options, seed).unwrap();
            assert_eq!(world, draw_world(&options, seed).unwrap());
            assert_ne!(world.image, draw_world(&options, seed ^ 1).unwrap().image);
        }
    }

    #[test]
    fn every_kind_holds_connected_cells_of_sane_size() {
        for kind in WorldKind::ALL {
            let mut cells = 0;
            for seed in 0..4 {
                let world = draw_world(&of(kind, [128, 144]), seed).unwrap();
                assert_eq!((world.kind, world.labels.dim()), (kind, (128, 144)));
                let (height, width, channels) = world.image.shape();
                assert!((height, width) == (128, 144) && (1..=3).contains(&channels));
                world.image.check().unwrap();
                let count = world.labels.iter().copied().max().unwrap();
                cells += count;
                for id in 1..=count {
                    let mask = world.labels.mapv(|other| other == id);
                    let area = mask.iter().filter(|inside| **inside).count();
                    assert!((14..128 * 144 * 9 / 10).contains(&area), "{kind} {seed}: cell {id} has {area} pixels");
                    let (_, parts) = label_components(mask.view(), Connectivity::Four).unwrap();
                    assert_eq!(parts, 1, "{kind} {seed}: cell {id}");
                }
            }
            assert_eq!(cells > 0, kind != WorldKind::Empty, "{kind}: {cells} cells");
        }
    }

    #[test]
    fn empty_worlds_have_numbers_only() {
        // Some have light and no contrast at all, and some of these are stored as floats.
        for seed in 0..400 {
            let world = draw_world(&of(WorldKind::Empty, [32, 32]), seed).unwrap();
            world.image.check().unwrap();
        }
    }

    #[test]
    fn channels_are_those_asked_for() {
        for (channels, count) in [(WorldChannels::Grey, 1), (WorldChannels::Colour, 3)] {
            for seed in 0..8 {
                let options = WorldOptions { size: [48, 48], channels, ..WorldOptions::default() };
                assert_eq!(draw_world(&options, seed).unwrap().image.channels(), count);
            }
        }
    }

    #[test]
    fn cells_differ_from_their_surroundings() {
        for seed in 0..4 {
            let world =
                draw_world(&WorldOptions { channels: WorldChannels::Grey, ..of(WorldKind::Nuclei, [128, 128]) }, seed);
            let world = world.unwrap();
            let pixels = world.image.to_f32();
            let mean = |inside: bool| {
                let values = pixels.iter().zip(&world.labels).filter(|(_, id)| (**id > 0) == inside).map(|(v, _)| *v);
                let values: Vec<f32> = values.collect();
                values.iter().sum::<f32>() / values.len().max(1) as f32
            };
            let (low, high) = pixels.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
            assert!((mean(true) - mean(false)).abs() > 0.05 * (high - low), "seed {seed}");
        }
    }

    #[test]
    fn names_are_read_back_and_wrong_options_refused() {
        for kind in WorldKind::ALL {
            assert_eq!(kind.to_string().parse::<WorldKind>().unwrap(), kind);
        }
        assert_eq!("colour".parse::<WorldChannels>().unwrap(), WorldChannels::Colour);
        assert!("cell".parse::<WorldKind>().unwrap_err().to_string().contains("nuclei, "));
        let default = WorldOptions::default;
        for bad in [
            WorldOptions { size: [31, 64], ..default() },
            WorldOptions { size: [64, usize::MAX], ..default() },
            WorldOptions { kinds: Vec::new(), ..default() },
            WorldOptions { diameter: [20.0, 10.0], ..default() },
            WorldOptions { diameter: [f32::NAN, 10.0], ..default() },
        ] {
            assert!(matches!(draw_world(&bad, 0), Err(Error::Config(_))), "{bad:?}");
        }
    }
}

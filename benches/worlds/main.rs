//! Mosaics of drawn worlds for looking at: `cargo run --example worlds -- FOLDER [SEED] [KIND ...]` writes one PNG per kind,
//! images above the same images with the outlines of the labels, and prints how long drawing took.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use cellsparse_core::raster::write_rgb_png;
use cellsparse_core::synthetic::{World, WorldKind, WorldOptions, draw_world};
use ndarray::{Array3, s};

const COLUMNS: usize = 6;
const ROWS: usize = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "worlds".to_owned());
    let seed: u64 = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let kinds: Vec<WorldKind> = arguments.map(|text| text.parse()).collect::<Result<_, _>>()?;
    let kinds = if kinds.is_empty() { WorldKind::ALL.to_vec() } else { kinds };
    std::fs::create_dir_all(&folder)?;
    for kind in kinds {
        let mut options = WorldOptions::default();
        options.kinds = vec![kind];
        let start = Instant::now();
        let worlds: Vec<World> =
            (0..COLUMNS * ROWS).map(|i| draw_world(&options, seed + i as u64)).collect::<Result<_, _>>()?;
        let each = start.elapsed().as_secs_f64() / worlds.len() as f64;
        let cells: Vec<i32> = worlds.iter().map(|w| w.labels.iter().copied().max().unwrap_or(0)).collect();
        println!("{kind:>15}: {:.0} ms a world, cells {cells:?}", 1000.0 * each);
        write_rgb_png(Path::new(&folder).join(format!("{kind}.png")), mosaic(&worlds, options.size).view())?;
    }
    Ok(())
}

fn mosaic(worlds: &[World], [height, width]: [usize; 2]) -> Array3<u8> {
    let mut out = Array3::zeros((2 * ROWS * height, COLUMNS * width, 3));
    for (index, world) in worlds.iter().enumerate() {
        let (row, column) = (index / COLUMNS, index % COLUMNS);
        let plain = shown(world);
        let mut outlined = plain.clone();
        for y in 0..height - 1 {
            for x in 0..width - 1 {
                let id = world.labels[[y, x]];
                if id != world.labels[[y + 1, x]] || id != world.labels[[y, x + 1]] {
                    outlined.slice_mut(s![y, x, ..]).assign(&ndarray::arr1(&[255, 220, 0]));
                }
            }
        }
        let columns = column * width..(column + 1) * width;
        let top = 2 * row * height;
        out.slice_mut(s![top..top + height, columns.clone(), ..]).assign(&plain);
        out.slice_mut(s![top + height..top + 2 * height, columns, ..]).assign(&outlined);
    }
    out
}

/// The image as red, green and blue between its extremes; a second channel is shown as green, one alone as grey.
fn shown(world: &World) -> Array3<u8> {
    let pixels = world.image.to_f32();
    let (height, width, channels) = pixels.dim();
    let (low, high) = pixels.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let scale = 255.0 / (high - low).max(1e-6);
    Array3::from_shape_fn((height, width, 3), |(y, x, c)| {
        let value = if channels == 1 {
            pixels[[y, x, 0]]
        } else if c < channels {
            pixels[[y, x, c]]
        } else {
            low
        };
        ((value - low) * scale) as u8
    })
}

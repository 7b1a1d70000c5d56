//! Where the nuclei lie, and which pixels belong to which.

use std::f32::consts::TAU;

use ndarray::Array2;

use crate::random::Random;
use crate::raster::LabelImage;

use super::field::FieldOptions;
use super::nucleus::Nucleus;
use super::texture::Texture;

/// Nuclei with fewer visible pixels are left out of the field altogether: nobody could tell them from debris.
const SMALLEST_VISIBLE: usize = 20;

/// Places nuclei, some of them in touching groups, thinned by a smooth random density so that fields have empty ground.
pub(super) fn place(options: &FieldOptions, random: &mut Random) -> Vec<Nucleus> {
    let (height, width) = (options.height as f32, options.width as f32);
    let wanted =
        (f64::from(options.density) * options.height as f64 * options.width as f64 / 10_000.0).round() as usize;
    let crowding = Texture::new(height.max(width), 9.0 * options.radius, random);
    // Each nucleus placed alone gets a partner with the probability that makes `touching` the fraction in groups.
    let partner = f64::from(options.touching / (2.0 - options.touching));
    let mut nuclei: Vec<Nucleus> = Vec::new();
    for _ in 0..wanted.saturating_mul(40) {
        if nuclei.len() >= wanted {
            break;
        }
        let mut nucleus = Nucleus::random(options.radius, options.size_variation, random);
        let margin = 0.6 * options.radius;
        nucleus.y = random.uniform(f64::from(-margin), f64::from(height + margin)) as f32;
        nucleus.x = random.uniform(f64::from(-margin), f64::from(width + margin)) as f32;
        let share = 0.55 + 0.4 * crowding.at(nucleus.y, nucleus.x);
        let gap = random.uniform(1.5, 5.0) as f32;
        if !random.chance(f64::from(share)) || !is_free(&nucleus, &nuclei, gap) {
            continue;
        }
        nuclei.push(nucleus);
        let mut chance = partner;
        while random.chance(chance) && nuclei.len() < wanted && add_neighbour(&mut nuclei, options, random) {
            chance *= 0.45;
        }
    }
    nuclei
}

/// Puts one more nucleus against the last one placed. False when no place was found in a few tries.
fn add_neighbour(nuclei: &mut Vec<Nucleus>, options: &FieldOptions, random: &mut Random) -> bool {
    let Some(last) = nuclei.last() else { return false };
    let (last_y, last_x) = (last.y, last.x);
    for _ in 0..6 {
        let mut nucleus = Nucleus::random(options.radius, options.size_variation, random);
        let direction = random.uniform(0.0, f64::from(TAU)) as f32;
        let overlap = random.uniform(0.2, 2.0) as f32;
        let distance = nuclei.last().map_or(0.0, |last| last.radius(direction))
            + nucleus.radius(direction + std::f32::consts::PI)
            - overlap;
        nucleus.y = last_y + distance * direction.sin();
        nucleus.x = last_x + distance * direction.cos();
        let others = &nuclei[..nuclei.len() - 1];
        if is_free(&nucleus, others, 0.5) {
            nuclei.push(nucleus);
            return true;
        }
    }
    false
}

/// Whether at least `gap` pixels separate the nucleus from every other one, measured along the line of centres.
fn is_free(nucleus: &Nucleus, others: &[Nucleus], gap: f32) -> bool {
    others.iter().all(|other| {
        let (dy, dx) = (nucleus.y - other.y, nucleus.x - other.x);
        let distance = (dy * dy + dx * dx).sqrt();
        if distance > nucleus.reach() + other.reach() + gap {
            return true;
        }
        let direction = dy.atan2(dx);
        distance > other.radius(direction) + nucleus.radius(direction + std::f32::consts::PI) + gap
    })
}

/// The true label image: ids 1, 2, ... in the order of `nuclei`, each one connected region.
///
/// A pixel inside several outlines belongs to the nucleus in which it lies deepest, relative to its size. Nuclei with
/// too few visible pixels are removed from the list, so that image and truth agree.
pub(super) fn label(nuclei: &mut Vec<Nucleus>, shape: (usize, usize)) -> LabelImage {
    loop {
        let truth = assign(nuclei, shape);
        let mut areas = vec![0usize; nuclei.len()];
        for &id in truth.iter().filter(|&&id| id > 0) {
            areas[id as usize - 1] += 1;
        }
        if areas.iter().all(|&area| area >= SMALLEST_VISIBLE) {
            return truth;
        }
        let mut area = areas.into_iter();
        nuclei.retain(|_| area.next().is_some_and(|area| area >= SMALLEST_VISIBLE));
    }
}

fn assign(nuclei: &[Nucleus], shape: (usize, usize)) -> LabelImage {
    let mut truth = LabelImage::zeros(shape);
    let mut depth = Array2::<f32>::from_elem(shape, 1.0);
    for (index, nucleus) in nuclei.iter().enumerate() {
        let (rows, columns) = nucleus.window(shape);
        for y in rows[0]..rows[1] {
            for x in columns[0]..columns[1] {
                let (s, _) = nucleus.relative(y as f32, x as f32);
                if s < depth[[y, x]] {
                    depth[[y, x]] = s;
                    truth[[y, x]] = index as i32 + 1;
                }
            }
        }
    }
    keep_largest_parts(&mut truth, nuclei.len());
    truth
}

/// Clears all but the largest 4-connected part of every id.
pub(super) fn keep_largest_parts(truth: &mut LabelImage, count: usize) {
    let (height, width) = truth.dim();
    let mut part = Array2::<u32>::zeros((height, width));
    let mut sizes: Vec<(i32, usize)> = vec![(0, 0)];
    let mut stack = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let id = truth[[y, x]];
            if id == 0 || part[[y, x]] != 0 {
                continue;
            }
            let number = sizes.len() as u32;
            sizes.push((id, 0));
            part[[y, x]] = number;
            stack.push((y, x));
            while let Some((y, x)) = stack.pop() {
                sizes[number as usize].1 += 1;
                let neighbours = [(y.wrapping_sub(1), x), (y + 1, x), (y, x.wrapping_sub(1)), (y, x + 1)];
                for (y, x) in neighbours {
                    if y < height && x < width && truth[[y, x]] == id && part[[y, x]] == 0 {
                        part[[y, x]] = number;
                        stack.push((y, x));
                    }
                }
            }
        }
    }
    let mut best = vec![0usize; count + 1];
    for (number, &(id, size)) in sizes.iter().enumerate().skip(1) {
        let current = &mut best[id as usize];
        if *current == 0 || size > sizes[*current].1 {
            *current = number;
        }
    }
    for (id, &number) in truth.iter_mut().zip(&part) {
        if *id > 0 && best[*id as usize] != number as usize {
            *id = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_largest_part_of_an_id_is_kept() {
        let mut truth = LabelImage::zeros((4, 8));
        truth.row_mut(1).assign(&ndarray::arr1(&[1, 1, 0, 1, 1, 1, 0, 2]));
        keep_largest_parts(&mut truth, 2);
        assert_eq!(truth.row(1).to_vec(), [0, 0, 0, 1, 1, 1, 0, 2]);
    }

    #[test]
    fn the_touching_fraction_is_obeyed() {
        let touching = |fraction: f32| {
            let options = FieldOptions { touching: fraction, height: 512, width: 512, ..FieldOptions::default() };
            let nuclei = place(&options, &mut Random::new(5, 0));
            let pairs = nuclei
                .iter()
                .enumerate()
                .filter(|(i, nucleus)| {
                    let others: Vec<Nucleus> =
                        nuclei.iter().enumerate().filter(|(j, _)| j != i).map(|(_, other)| other.clone()).collect();
                    !is_free(nucleus, &others, 0.3)
                })
                .count();
            pairs as f32 / nuclei.len() as f32
        };
        assert_eq!(touching(0.0), 0.0);
        let measured = touching(0.5);
        assert!((0.3..0.7).contains(&measured), "{measured}");
    }
}

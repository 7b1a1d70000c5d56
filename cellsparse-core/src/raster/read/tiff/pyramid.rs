//! The smaller copies of a page: in directories of its own (SubIFD), or as pages behind it, as slide scanners write them.

use super::super::{Decoded, ReadLimits};
use super::directory::{Tiff, tags};
use super::page::Page;
use super::{Chosen, tables};
use crate::raster::read::tiff::chunks::Tables;

/// One page and what its decoder needs.
pub(super) struct Layer {
    pub(super) page: Page,
    pub(super) tables: Tables,
}

/// A copy has a side at most this share of that of the next larger one.
const SMALLER: f64 = 0.9;

/// Share of its height by which a copy may differ from the image made smaller, beyond what whole numbers of pixels explain.
const ROUNDING: f64 = 0.01;

/// The resolutions of the chosen pages from the largest on, each with one layer for every channel page.
pub(super) fn levels(tiff: &Tiff<'_>, chosen: &Chosen, limits: &ReadLimits) -> Decoded<Vec<Vec<Layer>>> {
    let mut base = Vec::new();
    for selected in &chosen.pages {
        let tables = tables(tiff, &tiff.directories[selected.slot.directory])?;
        base.push(Layer { page: selected.page.clone(), tables });
    }
    let mut copies = below(tiff, chosen, limits)?;
    if copies.is_empty() && base.len() == 1 {
        copies = beside(tiff, chosen, limits)?;
    }
    copies.sort_by_key(|layers| std::cmp::Reverse(layers.first().map_or(0, |layer| layer.page.width)));
    let mut levels = vec![base];
    for copy in copies {
        let side = |layers: &[Layer]| layers.first().map_or(0, |layer| layer.page.width) as f64;
        if levels.last().is_some_and(|larger| side(&copy) <= SMALLER * side(larger)) {
            levels.push(copy);
        }
    }
    Ok(levels)
}

/// Copies in the directories that the pages name.
fn below(tiff: &Tiff<'_>, chosen: &Chosen, limits: &ReadLimits) -> Decoded<Vec<Vec<Layer>>> {
    let mut places = Vec::new();
    for selected in &chosen.pages {
        let directory = &tiff.directories[selected.slot.directory];
        places.push(tiff.numbers(directory, tags::SUB_IFDS)?.unwrap_or_default());
    }
    let count = places.iter().map(Vec::len).min().unwrap_or(0);
    let mut copies = Vec::new();
    for index in 0..count {
        let mut layers = Vec::new();
        for (selected, places) in chosen.pages.iter().zip(&places) {
            // A copy that cannot be read is left out; the image itself does not need it.
            let Ok(directory) = tiff.directory_at(places[index]) else { break };
            let Ok(page) = Page::read(tiff, &directory, limits) else { break };
            if is_copy(&page, &selected.page) {
                layers.push(Layer { page, tables: tables(tiff, &directory)? });
            }
        }
        if layers.len() == chosen.pages.len() {
            copies.push(layers);
        }
    }
    Ok(copies)
}

/// Copies among the other pages. Labels and overviews of a slide have other sides, thumbnails are not in tiles.
fn beside(tiff: &Tiff<'_>, chosen: &Chosen, limits: &ReadLimits) -> Decoded<Vec<Vec<Layer>>> {
    let Some(selected) = chosen.pages.first() else { return Ok(Vec::new()) };
    let mut copies = Vec::new();
    for (index, directory) in tiff.directories.iter().enumerate() {
        if index == selected.slot.directory {
            continue;
        }
        let Ok(page) = Page::read(tiff, directory, limits) else { continue };
        if is_copy(&page, &selected.page) && page.tiled == selected.page.tiled {
            copies.push(vec![Layer { page, tables: tables(tiff, directory)? }]);
        }
    }
    Ok(copies)
}

/// Whether a page shows the same as another one, made smaller.
fn is_copy(page: &Page, of: &Page) -> bool {
    let kind = |page: &Page| (page.samples, page.bits, page.kind);
    if kind(page) != kind(of) || page.width as f64 > SMALLER * of.width as f64 {
        return false;
    }
    let ratio = of.height as f64 / of.width as f64;
    let height = ratio * page.width as f64;
    // The sides may be rounded up or down by a pixel.
    (page.height as f64 - height).abs() <= 1.0 + ratio.max(1.0) + ROUNDING * height
}

//! Segmentation by parts on an accelerator, or on the device that stands in for one.
#![cfg(feature = "candle")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::tests::{assert_alike, field, model};
use super::*;
use crate::error::Error;
use crate::model::{Algorithm, Device, Segmentation};
use crate::networks::passes;
use crate::raster::Image;
use crate::raster::regions::{Extent, ImageRegions, Region};

/// An image that two threads may not read at the same time.
struct Alone {
    image: ImageRegions,
    taken: AtomicBool,
}

impl RegionReader for Alone {
    fn levels(&self) -> &[Extent] {
        self.image.levels()
    }

    fn channels(&self) -> usize {
        self.image.channels()
    }

    fn read(&self, region: Region, level: usize) -> Result<Image> {
        assert!(!self.taken.swap(true, Ordering::SeqCst), "two threads read");
        let pixels = self.image.read(region, level);
        self.taken.store(false, Ordering::SeqCst);
        pixels
    }
}

/// Segments in blocks of 200 pixels, `watch` being called for every part that the network has seen and that is being worked on.
fn segmented(model: &Model, image: &Image, options: &LargeOptions, watch: &mut (dyn FnMut() + Send)) -> Segmentation {
    let reader = Alone { image: ImageRegions::new(image.clone(), None).unwrap(), taken: AtomicBool::new(false) };
    let mut memory = MemorySink::default();
    let mut observer = |event: &LargeProgress| {
        if event.phase == Phase::Network {
            watch();
        }
        Flow::Continue
    };
    let run = || run::run(None, model, &reader, options, 200, &mut [&mut memory], &mut observer);
    model.in_pool(options.predict.threads, run).unwrap();
    memory.into_segmentation()
}

fn on_device(algorithm: Algorithm, device: Device, threads: usize) -> LargeOptions {
    let mut options = LargeOptions { skip_empty: false, ..LargeOptions::default() };
    options.predict.device = device;
    options.predict.threads = Some(threads);
    options.predict.tile = match algorithm {
        Algorithm::Stardist => Some(376),
        Algorithm::Cellpose => None,
        Algorithm::Elephant => Some(256),
    };
    options
}

#[test]
fn the_network_looks_at_the_next_part_while_the_objects_of_one_are_searched() {
    // Of the larger tiles of ELEPHANT fewer are new for the next block.
    let cases = [
        (Algorithm::Stardist, usize::MAX - 1, 610),
        (Algorithm::Cellpose, usize::MAX - 2, 610),
        (Algorithm::Elephant, usize::MAX - 3, 810),
    ];
    for (algorithm, pixels, width) in cases {
        let (model, image) = (model(algorithm), field(430, width, 5).image);
        let begun = || passes::on(pixels);
        // One thread has no hands free for the next part before it is done with one.
        let (mut in_turn, first) = (Vec::new(), begun());
        let want = segmented(&model, &image, &on_device(algorithm, Device::StandIn(pixels), 1), &mut || {
            in_turn.push(begun() - first);
        });
        assert!(want.objects.len() > 40, "{algorithm}: {}", want.objects.len());
        let ahead: Vec<usize> = (1..in_turn.len()).filter(|at| in_turn[*at] > in_turn[at - 1]).collect();
        assert!(ahead.len() >= 2, "{algorithm}: {in_turn:?}");
        let (mut part, mut met, first) = (0, Vec::new(), begun());
        let found = segmented(&model, &image, &on_device(algorithm, Device::StandIn(pixels), 2), &mut || {
            part += 1;
            if !ahead.contains(&part) {
                return;
            }
            let wait = Instant::now();
            while begun() - first < in_turn[part] && wait.elapsed().as_secs() < 20 {
                std::thread::yield_now();
            }
            met.push((part, begun() - first >= in_turn[part]));
        });
        assert_eq!(met, ahead.iter().map(|part| (*part, true)).collect::<Vec<_>>(), "{algorithm}: {in_turn:?}");
        assert_eq!((&found.labels, &found.objects), (&want.labels, &want.objects), "{algorithm}");
        assert_alike(&found, &segmented(&model, &image, &on_device(algorithm, Device::Cpu, 2), &mut || ()), "the CPU");
    }
}

#[test]
fn tiles_get_smaller_when_a_device_has_no_memory_for_them() {
    let (model, image) = (model(Algorithm::Stardist), field(430, 610, 5).image);
    let segmented = |device: Device| {
        let mut options = on_device(Algorithm::Stardist, device, 2);
        options.predict.tile = None;
        segmented(&model, &image, &options, &mut || ())
    };
    assert_alike(&segmented(Device::StandIn(400 * 400)), &segmented(Device::StandIn(usize::MAX)), "smaller tiles");
}

#[test]
fn what_is_looked_at_meanwhile_counts_among_the_memory() {
    let image = field(430, 610, 5).image;
    let model = model(Algorithm::Cellpose);
    let reader = ImageRegions::new(image, None).unwrap();
    let run = |device: Device, memory: &str| {
        let mut options = on_device(Algorithm::Cellpose, device, 2);
        options.predict.memory = Some(memory.parse().unwrap());
        model.predict_large(&reader, &options, &mut [], &mut |_| Flow::Continue)
    };
    // 430 x 610 pixels of 160 bytes, or of 224 bytes.
    run(Device::StandIn(usize::MAX), "60M").unwrap();
    let refused = run(Device::StandIn(usize::MAX), "50M").unwrap_err();
    assert!(matches!(&refused, Error::Limit(text) if text.contains("a part of the image")), "{refused}");
}

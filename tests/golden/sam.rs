//! Masks of SAM against those that the original package found with a small network of the same parts.

use cellsparse_core::raster::Image;
use cellsparse_core::sam::{EncodeOptions, Kind, Mask, Outliner, Outputs, Point, Prompt, Sam};
use cellsparse_core::{Budget, CancelToken, Device, ErrorKind};
use cellsparse_tests::{Fixture, fixture, fixtures};
use ndarray::{Array3, ArrayD, Ix3, s};

fn network() -> Sam {
    Sam::load(fixtures().join("sam/small_weights.safetensors"), Device::Cpu).unwrap()
}

fn image(recorded: &Fixture) -> Image {
    let image: Array3<f32> = recorded.f32("image").into_dimensionality::<Ix3>().unwrap();
    Image::U8(image.mapv(|value| value as u8))
}

fn prompts(recorded: &Fixture) -> Vec<Prompt> {
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().map(|values| values.iter().map(|value| value.as_f64().unwrap()).collect()).unwrap_or_default()
    };
    let prompt = |value: &serde_json::Value| Prompt {
        points: value["points"]
            .as_array()
            .unwrap()
            .iter()
            .map(numbers)
            .map(|point| Point { x: point[0], y: point[1], inside: point[2] > 0.0 })
            .collect(),
        rectangle: numbers(&value["box"]).try_into().ok(),
    };
    recorded.info()["prompts"].as_array().unwrap().iter().map(prompt).collect()
}

/// The largest difference.
fn worst(found: &ArrayD<f32>, wanted: &ArrayD<f32>) -> f32 {
    assert_eq!(found.shape(), wanted.shape());
    (found - wanted).iter().fold(0.0, |worst, value| value.abs().max(worst))
}

#[test]
fn masks_are_those_of_the_original() {
    let recorded = fixture("sam/small_masks");
    let sam = network();
    assert_eq!(sam.kind(), Kind::Other);
    let embedding = sam.encode(&image(&recorded), &EncodeOptions::default()).unwrap();
    let prompts = prompts(&recorded);
    assert_eq!(prompts.len(), 4);
    let all = |outputs| sam.masks(&embedding, &prompts, outputs).unwrap();
    let (single, three, best) = (all(Outputs::Single), all(Outputs::Three), all(Outputs::Best));
    assert_eq!((single.len(), three.len(), best.len()), (4, 12, 4));
    for place in 0..prompts.len() {
        let masks: Vec<&Mask> = std::iter::once(&single[place]).chain(&three[3 * place..][..3]).collect();
        assert!(masks.iter().all(|mask| mask.object == place));
        let low = recorded.f32(&format!("{place}/low"));
        let scores = recorded.f32(&format!("{place}/scores"));
        for (mask, (low, score)) in masks.iter().zip(low.outer_iter().zip(&scores)) {
            let found = mask.low.slice(s![..;2, ..;2]).to_owned().into_dyn();
            let difference = worst(&found, &low.to_owned());
            assert!(difference < 1e-3 && (mask.score - score).abs() < 1e-3, "prompt {place}: {difference}");
        }
        let chosen = recorded.f32(&format!("{place}/best"))[[0]] as usize;
        assert_eq!((&best[place].low, best[place].score), (&masks[chosen].low, masks[chosen].score));
        let logits = best[place].logits().unwrap().into_dyn();
        let difference = worst(&logits, &recorded.f32(&format!("{place}/logits")));
        assert!(difference < 1e-3, "prompt {place}: {difference} at the pixels of the image");
        let inside = best[place].pixels().unwrap();
        assert!(inside.iter().zip(&logits).all(|(inside, logit)| *inside == (*logit > 0.0)));
    }
    assert_eq!(sam.masks(&embedding, &[], Outputs::Best).unwrap(), []);
}

#[test]
fn what_cannot_be_outlined_is_refused_by_what_is_wrong() {
    let sam = network();
    let grey = Image::from_gray(ndarray::Array2::from_shape_fn((40, 50), |(y, x)| (y * x) as f32));
    let embedding = sam.encode(&grey, &EncodeOptions::default()).unwrap();
    assert_eq!((embedding.image_size(), embedding.bytes()), ([40, 50], 12 * 12 * 32 * 4));
    let prompts = [Prompt::point(1.0, 2.0), Prompt::point(45.0, 45.0)];
    let error = sam.masks(&embedding, &prompts, Outputs::Best).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().starts_with("object 1: the point x 45"), "{error}");
    let error = network().masks(&embedding, &prompts[..1], Outputs::Best).unwrap_err();
    assert!(error.message().contains("of other weights"), "{error}");

    let little = EncodeOptions { memory: Some(Budget::new(10_000).unwrap()), ..EncodeOptions::default() };
    assert_eq!(sam.encode(&grey, &little).unwrap_err().kind(), ErrorKind::Limit);
    let stopped = EncodeOptions::default();
    stopped.cancel.cancel();
    assert_eq!(sam.encode(&grey, &stopped).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(
        sam.encode(&Image::U8(Array3::zeros((4, 4, 5))), &EncodeOptions::default()).unwrap_err().kind(),
        ErrorKind::Image
    );
}

#[test]
fn weights_of_other_networks_are_refused_with_where_right_ones_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let weights = fixture("sam/small_weights");
    let mut arrays: Vec<(String, Vec<usize>, Vec<f32>)> = weights
        .names()
        .into_iter()
        .map(|name| {
            let values = weights.f32(&name);
            (name, values.shape().to_vec(), values.iter().copied().collect())
        })
        .collect();
    let refused = |arrays: &[(String, Vec<usize>, Vec<f32>)]| {
        let plain = arrays.iter().map(|(name, shape, values)| (name.clone(), shape.as_slice(), values.as_slice()));
        cellsparse_core::formats::pytorch::write_state_dict(&path, plain).unwrap();
        Sam::load(&path, Device::Cpu).map(|sam| sam.kind()).map_err(|error| error.to_string())
    };
    // A PyTorch file of the same arrays, and one of a program that puts a word before all names.
    assert_eq!(refused(&arrays), Ok(Kind::Other));
    let mut prefixed = arrays.clone();
    prefixed.iter_mut().for_each(|(name, ..)| name.insert_str(0, "sam."));
    assert_eq!(refused(&prefixed), Ok(Kind::Other));

    let other = ("mask_decoder.hf_token.weight".to_string(), vec![1], vec![0.0]);
    type Change<'a> = &'a dyn Fn(&mut Vec<(String, Vec<usize>, Vec<f32>)>);
    let cases: [(&str, Change<'_>); 6] = [
        ("HQ-SAM", &|arrays| arrays.push(other.clone())),
        ("'mask_decoder.extra.weight' belongs to no part", &|arrays| {
            arrays.push(("mask_decoder.extra.weight".into(), vec![1], vec![0.0]));
        }),
        ("arrays like 'other.", &|arrays| arrays.iter_mut().for_each(|(name, ..)| name.insert_str(0, "other."))),
        ("'mask_decoder.iou_token.weight' is missing", &|arrays| {
            arrays.retain(|(name, ..)| name != "mask_decoder.iou_token.weight");
        }),
        ("holds NaN", &|arrays| arrays.iter_mut().for_each(|(.., values)| values[0] = f32::NAN)),
        ("has the shape [48, 32] where [32, 32]", &|arrays| {
            for (name, shape, values) in arrays {
                if name.ends_with("layers.0.self_attn.k_proj.weight") {
                    (*shape, *values) = (vec![48, 32], vec![0.0; 48 * 32]);
                }
            }
        }),
    ];
    for (word, change) in cases {
        let mut changed = arrays.clone();
        change(&mut changed);
        let message = refused(&changed).unwrap_err();
        let tells = message.contains("https://github.com/facebookresearch/segment-anything");
        assert!(message.contains(word) && tells && message.contains("mobile_sam.pt"), "{message}");
    }
    arrays.clear();
    std::fs::write(&path, "no weights").unwrap();
    assert_eq!(Sam::load(&path, Device::Cpu).unwrap_err().kind(), ErrorKind::File);
    let absent = Sam::load(folder.path().join("absent.pth"), Device::Cpu).unwrap_err().to_string();
    assert!(absent.contains("no such file") && absent.contains("mobile_sam.pt"), "{absent}");
    let of_folder = Sam::load(folder.path(), Device::Cpu).unwrap_err().to_string();
    assert!(of_folder.contains("is a folder") && of_folder.contains("mobile_sam.pt"), "{of_folder}");
}

#[test]
fn an_image_is_encoded_once_and_the_oldest_is_forgotten_first() {
    let recorded = fixture("sam/small_masks");
    let (image, prompts) = (image(&recorded), prompts(&recorded));
    let outliner = Outliner::new(network(), Some(2));
    let options = EncodeOptions::default();
    let part = outliner.part([image.height(), image.width()], None, &prompts[0]);
    assert_eq!((part.height, part.width), (image.height(), image.width()));
    for (place, prompt) in prompts.iter().enumerate() {
        let found = outliner.outline(&image, part, prompt, &options).unwrap();
        let best = recorded.f32(&format!("{place}/best"))[[0]] as usize;
        let score = recorded.f32(&format!("{place}/scores"))[[best]];
        assert!((found.score - score).abs() < 1e-3 && !found.pixels.is_empty(), "prompt {place}: {found:?}");
    }
    assert_eq!(outliner.encoded(), 1);
    let all = outliner.segment(&image, &prompts, &options).unwrap();
    assert_eq!((outliner.encoded(), all.labels.dim()), (1, (image.height(), image.width())));
    let first = outliner.outline(&image, part, &prompts[0], &options).unwrap();
    let area: u32 = first.pixels.iter().map(|[_, begin, end]| end - begin).sum();
    assert_eq!(all.labels.iter().filter(|label| **label == 1).count(), area as usize);
    assert_eq!(all.objects[0].probability, first.score.clamp(0.0, 1.0));

    // Another contrast is another image, and a memory of 256 MiB has room for all of these.
    let Image::U8(pixels) = &image else { panic!("8 bit") };
    for dimmer in 1..5 {
        outliner.embedding(&Image::U8(pixels.mapv(|value| value / 2 + dimmer)), &options).unwrap();
    }
    outliner.embedding(&image, &options).unwrap();
    assert_eq!(outliner.encoded(), 5);

    // Several threads at a time encode it once, and one of them stops waiting.
    let other = Image::U8(pixels.mapv(|value| 255 - value));
    let stopped = CancelToken::new();
    stopped.cancel();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| outliner.embedding(&other, &options).unwrap());
        }
        let given_up = EncodeOptions { cancel: stopped.clone(), ..options.clone() };
        assert_eq!(outliner.embedding(&other, &given_up).unwrap_err().kind(), ErrorKind::Cancelled);
    });
    assert_eq!(outliner.encoded(), 6);

    // An eighth of what a call may take has room for 14 embeddings.
    let little = EncodeOptions { memory: Some(Budget::new(8 * (14 * 12 * 12 * 32 * 4 + 1)).unwrap()), ..options };
    let dark = |dimmer| Image::U8(pixels.mapv(|value| value / 4 + dimmer));
    (0..14).for_each(|dimmer| drop(outliner.embedding(&dark(dimmer), &little).unwrap()));
    outliner.embedding(&dark(0), &little).unwrap();
    assert_eq!(outliner.encoded(), 20);
    outliner.embedding(&dark(14), &little).unwrap();
    outliner.embedding(&dark(0), &little).unwrap();
    assert_eq!(outliner.encoded(), 21, "that which was used last stays");
    outliner.embedding(&dark(1), &little).unwrap();
    assert_eq!(outliner.encoded(), 22, "and the one that was not used for longest is gone");
}

#[test]
fn a_part_of_a_large_image_is_outlined_where_it_lies() {
    let outliner = Outliner::new(network(), None);
    let size = outliner.sam().size();
    assert_eq!(size, 96);
    let shape = (5 * size, 7 * size, 1);
    let large = Image::U8(Array3::from_shape_fn(shape, |(y, x, _)| {
        let inside = (y as f64 - 300.0).hypot(x as f64 - 400.0) < 20.0;
        if inside { 200 } else { (x * 7 + y * 3) as u8 % 40 }
    }));
    let prompt = Prompt::point(400.0, 300.0);
    let view = cellsparse_core::raster::regions::Region { top: 270, left: 380, height: 60, width: 60 };
    let part = outliner.part([large.height(), large.width()], Some(view), &prompt);
    assert_eq!((part.height, part.width), (size, size));
    let pixels = cellsparse_core::raster::regions::cut(&large, part).unwrap();
    let found = outliner.outline(&pixels, part, &prompt, &EncodeOptions::default()).unwrap();
    let moved = Prompt::point(400.0 - part.left as f64, 300.0 - part.top as f64);
    let alone = outliner.segment(&pixels, &[moved], &EncodeOptions::default()).unwrap();
    assert_eq!(outliner.encoded(), 1);
    let mut count = 0;
    for [row, first, end] in found.pixels {
        for column in first..end {
            assert_eq!(alone.labels[[row as usize - part.top, column as usize - part.left]], 1);
            count += 1;
        }
    }
    assert_eq!(alone.labels.iter().filter(|label| **label == 1).count(), count);
    let beside = outliner.outline(&pixels, part, &Prompt::point(0.0, 0.0), &EncodeOptions::default());
    assert_eq!(beside.unwrap_err().kind(), ErrorKind::Config);
    assert!(
        outliner.outline(&large, part, &prompt, &EncodeOptions::default()).is_err(),
        "the pixels are not of the part"
    );
}

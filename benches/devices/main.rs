//! Training steps and predictions of the three reference networks on one device, as lines of JSON.
//!
//! ```sh
//! cargo run --release -p cellsparse-core --features cuda --example devices -- [DEVICE [STEPS [SIDE]]]
//! ```
//!
//! Defaults: the best device, 200 steps of 8 patches of 224 x 224 pixels, an image of 4096 x 4096. `first` are the seconds of all steps,
//! the start included, `step` the milliseconds of one in the second half, `predict` the seconds of the best of three predictions
//! of the image. `benches/devices/run.sh` does the same with PyTorch beside it.

use std::time::Instant;

use cellsparse_core::model::{Precision, Preset};
use cellsparse_core::networks::{CellposeConfig, ElephantConfig, StarDistConfig};
use cellsparse_core::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};
use cellsparse_core::{ControlFlow, Dataset, Device, Image, Model, PredictOptions, Result, SparseLabels, TrainOptions};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |index: usize, default: usize| arguments.get(index).and_then(|text| text.parse().ok()).unwrap_or(default);
    let device: Device = arguments.first().map_or(Ok(Device::Auto), |text| text.parse())?;
    let (steps, side) = (number(1, 200), number(2, 4096));
    let field = draw_field(&FieldOptions { height: 512, width: 512, ..FieldOptions::default() }, 1)?;
    let drawn = annotate(&field, &AnnotationOptions { cells: 40, ..AnnotationOptions::default() }, 1);
    let data = Dataset::new(vec![field.image], vec![SparseLabels::from_signed(drawn)?])?;
    let image = draw_field(&FieldOptions { height: side, width: side, ..FieldOptions::default() }, 2)?.image;
    let models = [
        ("stardist", Model::stardist(StarDistConfig::default(), 0)?),
        ("cellpose", Model::cellpose(CellposeConfig { n_channels: 1, ..CellposeConfig::reference() }, 0)?),
        ("elephant", Model::elephant(ElephantConfig::default(), 0)?),
    ];
    for (name, model) in models {
        for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
            match measured(model.clone(), &data, &image, device, precision, steps) {
                Ok(line) => println!(r#"{{"program": "cellsparse", "network": "{name}", {line}}}"#),
                Err(error) => println!(
                    r#"{{"program": "cellsparse", "network": "{name}", "precision": "{precision}", "error": "{}"}}"#,
                    error.message().replace(['"', '\n'], " ")
                ),
            }
        }
    }
    Ok(())
}

fn measured(
    mut model: Model,
    data: &Dataset,
    image: &Image,
    device: Device,
    precision: Precision,
    steps: usize,
) -> Result<String> {
    // The reference preset takes 32 bits only; sizes and optimiser are the same here.
    let options = TrainOptions {
        steps: Some(steps),
        batch_size: Some(8),
        patch_size: Some(224),
        keep_thresholds: true,
        preset: if precision == Precision::F32 { Preset::Reference } else { Preset::Default },
        device,
        precision,
        ..TrainOptions::default()
    };
    let begin = Instant::now();
    let mut halfway = begin;
    let mut end = begin;
    let summary = model.train(data, None, &options, &mut |event| {
        if event.step == steps / 2 {
            halfway = Instant::now();
        }
        if event.step == steps {
            end = Instant::now();
        }
        ControlFlow::Continue
    })?;
    let step = 1e3 * (end - halfway).as_secs_f64() / (steps - steps / 2) as f64;
    let options = PredictOptions { device, precision, ..PredictOptions::default() };
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let begin = Instant::now();
        model.predict(image, &options)?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    Ok(format!(
        r#""device": "{}", "precision": "{precision}", "first": {:.3}, "step": {step:.2}, "predict": {best:.3}"#,
        summary.device,
        (end - begin).as_secs_f64()
    ))
}

//! Trains on one image with a few drawn cells, then segments another one.
//!
//! The files are those that `make demo` leaves behind: run that first, then, in the same folder,
//! `cargo run --release -p cellsparse-core --example train_and_predict`.

use cellsparse_core::annotations::LabelEncoding;
use cellsparse_core::raster::{read_image, read_label_file, write_labels};
use cellsparse_core::{
    ControlFlow, Dataset, Model, PredictOptions, Result, SparseLabels, StarDistConfig, TrainOptions,
};

fn main() -> Result<()> {
    let image = read_image("demo-out/images/annotated_1.png")?;
    let labels = SparseLabels::parse(read_label_file("demo-out/sparse/annotated_1.png")?, LabelEncoding::Wire)?;
    let data = Dataset::new(vec![image], vec![labels])?;

    let config = StarDistConfig { n_channels: data.channels(), ..StarDistConfig::default() };
    let mut model = Model::stardist(config, 0)?;
    let options = TrainOptions { steps: Some(200), ..TrainOptions::default() };
    let summary = model.train(&data, None, &options, &mut |progress| {
        println!("step {} of {}: loss {:.4}", progress.step, progress.total_steps, progress.loss);
        ControlFlow::Continue // ControlFlow::Stop ends the training here and keeps the weights
    })?;
    println!("{} steps in {:.0} s on {}", summary.steps, summary.seconds, summary.device);
    model.save("nuclei.safetensors")?;

    let model = Model::load("nuclei.safetensors")?;
    let found = model.predict(&read_image("demo-out/images/unseen_1.png")?, &PredictOptions::default())?;
    for object in &found.objects {
        println!("object {}: probability {:.2}, {} vertices", object.id, object.probability, object.polygon.len());
    }
    let file = write_labels("demo-out", "unseen_1", &found.labels)?;
    println!("{}", file.display());
    Ok(())
}

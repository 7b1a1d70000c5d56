//! The part of the benchmark against the peers that runs this crate; `run.py` calls it beside the peers.
//!
//! `peer data|cellpose-data|elephant-data FOLDER` draws the images and writes everything that both sides read. The other
//! tasks measure one thing and print one line of JSON.

mod cellpose;
mod common;
mod elephant;
mod stardist;

use std::time::Instant;

use cellsparse_core::{Error, Result};
use cellsparse_kernels::Level;
use serde_json::json;

use common::{Options, USAGE, peak_mb};

fn main() {
    if let Err(error) = run() {
        eprintln!("peer: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let begin = Instant::now();
    let options = Options::parse()?;
    let mut result = match options.task.as_str() {
        "data" => return stardist::data(&options),
        "cellpose-data" => return cellpose::data(&options),
        "elephant-data" => return elephant::data(&options),
        "step" => stardist::step(&options)?,
        "predict" => stardist::predict(&options)?,
        "train200" => stardist::train(&options)?,
        "cold" => stardist::cold(&options, begin)?,
        "cellpose-step" => cellpose::step(&options)?,
        "cellpose-narrow" => cellpose::narrow_step(&options)?,
        "cellpose-predict" => cellpose::predict(&options)?,
        "cellpose-masks" => cellpose::masks(&options)?,
        "elephant-step" => elephant::step(&options)?,
        other => return Err(Error::Config(format!("unknown task '{other}'\n{USAGE}"))),
    };
    if let Some(fields) = result.as_object_mut() {
        fields.insert("peer".into(), json!("cellsparse"));
        fields.insert("task".into(), json!(options.task));
        fields.insert("threads".into(), json!(options.threads));
        fields.insert("precision".into(), json!(options.precision));
        fields.insert("instructions".into(), json!(Level::detect().name()));
        fields.insert("peak_mb".into(), json!(peak_mb()));
        fields.insert(
            "versions".into(),
            json!({ "cellsparse": env!("CARGO_PKG_VERSION"), "checked": cfg!(debug_assertions) }),
        );
    }
    println!("{result}");
    Ok(())
}

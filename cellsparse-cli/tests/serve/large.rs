//! Images that the server may not hold whole with what a prediction makes of them.

use std::collections::HashSet;
use std::fs;

use cellsparse_core::raster::{Image, write_gray_png8};
use cellsparse_core::synthetic::{FieldOptions, draw_field};
use ndarray::{Axis, concatenate};
use serde_json::json;

use crate::server::{Reply, Server, base64, body, draw, write_tiny_models};

/// Side of the image. Of a whole image, StarDist takes 12 bytes a pixel at least: 108 MB.
const SIDE: usize = 3000;

/// A field of nuclei beside itself, again and again, each time a little darker so that no two nuclei are equally probable, as a file in
/// base64.
fn large() -> String {
    let root = tempfile::tempdir().expect("a temporary folder");
    let side = SIDE / 12;
    let options = FieldOptions { height: side, width: side, debris: 0.0, touching: 0.1, ..FieldOptions::default() };
    let Image::U8(field) = draw_field(&options, 3).expect("a field").image else { panic!("fields are 8 bit") };
    let faded = |place: usize| field.mapv(|value| (f32::from(value) * (1.0 - 0.003 * place as f32)) as u8);
    let row = |row: usize| {
        let copies: Vec<_> = (0..12).map(|column| faded(row * 12 + column)).collect();
        concatenate(Axis(1), &copies.iter().map(|one| one.view()).collect::<Vec<_>>()).expect("fields of one size")
    };
    let rows: Vec<_> = (0..12).map(row).collect();
    let all = concatenate(Axis(0), &rows.iter().map(|row| row.view()).collect::<Vec<_>>()).expect("rows of one size");
    let path = root.path().join("large.png");
    write_gray_png8(&path, all.index_axis(Axis(2), 0)).expect("an image");
    base64(&fs::read(path).expect("a file"))
}

#[test]
fn an_image_that_the_memory_does_not_suffice_for_is_answered_as_by_a_generous_server() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let folder = root.path().join("models");
    write_tiny_models(&folder.join("pretrained"));
    let field = draw(160, 1);
    let training = json!({ "train": true, "eval": true, "trainpatch": 96, "batchsize": 4, "steps": 40 });
    let request = json!({ "modelname": "default", "b64img": large(), "eval": true });

    let mut generous = Server::start_in(&folder, &[]);
    generous.use_tiny("stardist", "default");
    generous.post("/stardist/", &body(&field, training)).features();
    let usual = generous.post("/stardist/", &body(&field, json!({ "eval": true })));
    let whole = generous.post("/stardist/", &request);
    assert!(whole.features().len() > 200, "{} objects", whole.features().len());
    assert!(whole.header("x-cellsparse-note").is_none_or(|note| !note.contains("by parts")));
    generous.kill();

    let mut scarce = Server::start_in(&folder, &["--memory", "100M"]);
    let same = scarce.post("/stardist/", &body(&field, json!({ "eval": true })));
    assert_eq!((&same.text, same.header("x-cellsparse-note")), (&usual.text, usual.header("x-cellsparse-note")));
    let parts = scarce.post("/stardist/", &request);
    assert!(parts.header("x-cellsparse-note").is_some_and(|note| note.contains("by parts")), "{:?}", parts.headers);
    // Sums of other tiles are rounded in another order, by which an outline here and there differs by a pixel.
    let outlines = |answer: &Reply| -> HashSet<String> {
        answer.features().iter().map(|feature| feature["geometry"].to_string()).collect()
    };
    let (found, expected) = (outlines(&parts), outlines(&whole));
    let same = found.intersection(&expected).count();
    assert!(found.len() == expected.len() && same * 50 >= expected.len() * 49, "{same} of {} outlines", expected.len());
    scarce.kill();

    // Not even the labels fit.
    let tiny = Server::start_in(&folder, &["--memory", "30M"]);
    let refused = tiny.post("/stardist/", &request);
    assert_eq!(refused.status, 413);
    assert!(refused.text.contains("the labels of an image of 3000 x 3000 pixels"), "{}", refused.text);
}

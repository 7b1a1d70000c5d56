//! What the page is told of a project, its images and the objects in them.

use cellsparse_core::geometry::label_runs::LabelRuns;
use cellsparse_core::model::Algorithm;
use cellsparse_core::session::{Answer, Origin, Picture, Suggestion, Why};
use serde_json::{Value, json};

use super::lock;
use super::pixels::runs;
use super::talk::{Found, Talk};

/// An open project: images, settings, learning, model.
pub fn project(talk: &Talk) -> Value {
    let model = lock(&talk.learner).as_ref().map(|learner| {
        let info = learner.model().info();
        json!({ "algorithm": learner.model().algorithm(), "steps": info.steps, "cell_diameter": info.cell_diameter })
    });
    let losses = lock(&talk.status).losses.clone();
    let status = talk.status_json();
    let project = lock(&talk.project);
    json!({
        "name": talk.name.as_str(),
        "images": project.pictures().map(picture).collect::<Vec<_>>(),
        "settings": project.settings(),
        "algorithms": Algorithm::ALL.iter().map(|one| json!({ "name": one, "title": one.title() })).collect::<Vec<_>>(),
        "status": status,
        "losses": losses,
        "model": model,
        "notes": project.notes(),
    })
}

/// An image of a project.
pub fn picture(picture: &Picture) -> Value {
    let [cells, background] = picture.canvas.counts();
    let [rows, columns, channels] = picture.shape;
    json!({
        "id": picture.id, "name": picture.name, "rows": rows, "columns": columns, "channels": channels,
        "pixel_size": picture.pixel_size, "cells": cells, "background": background,
    })
}

/// What is drawn in a box of an image, `[row, column, row end, column end]`.
pub fn drawn(picture: &Picture, bounds: Option<[usize; 4]>) -> Value {
    let [cells, background] = picture.canvas.counts();
    let [undo, redo] = picture.canvas.can_undo_redo();
    let bounds = bounds.unwrap_or([0; 4]);
    json!({
        "box": bounds, "runs": runs(picture.canvas.labels(), bounds),
        "cells": cells, "background": background, "undo": undo, "redo": redo, "version": picture.canvas.version(),
    })
}

/// The objects of an image as they stand.
///
/// # Errors
/// [`Error::Limit`](cellsparse_core::Error::Limit) where there is no memory for them.
pub fn answer(answer: &Answer, found: &Found) -> cellsparse_core::Result<Value> {
    let labels = &answer.segmentation.labels;
    let (rows, columns) = labels.dim();
    let round = |value: f64| (value * 1e3).round() / 1e3;
    let lines = LabelRuns::new(labels.view())?;
    let objects = lines.iter().map(|object| {
        let [top, left, bottom, right] = object.bounds;
        let area = object.area();
        let (mut x, mut y) = (0.0, 0.0);
        for run in object.runs {
            let count = run.len() as f64;
            x += count * (run.begin + run.end) as f64 / 2.0;
            y += count * (run.row as f64 + 0.5);
        }
        let probability = answer.segmentation.object(object.label).map_or(0.0, |object| object.probability);
        let drawn = matches!(answer.origin(object.label), Some(Origin::Drawn(_)));
        json!({
            "id": object.label, "area": area, "probability": round(f64::from(probability)), "drawn": drawn,
            "x": round(x / area as f64), "y": round(y / area as f64), "box": [top, left, bottom + 1, right + 1],
        })
    });
    let objects: Vec<Value> = objects.collect();
    Ok(json!({
        "version": found.version,
        "window": [found.window.rows[0], found.window.columns[0], found.window.rows[1], found.window.columns[1]],
        "notes": answer.segmentation.notes,
        "objects": objects,
        "runs": runs(labels, [0, 0, rows, columns]),
    }))
}

/// Where to draw next.
pub fn suggestions(told: &[Suggestion]) -> Value {
    let round = |value: f64| (value * 1e3).round() / 1e3;
    let one = |one: &Suggestion| {
        let why = if one.why == Why::Missed { "missed" } else { "object" };
        json!({ "why": why, "x": one.centre[0], "y": one.centre[1], "box": one.bounds, "doubt": round(one.doubt) })
    };
    told.iter().map(one).collect()
}

//! Tests of projects.

use super::*;
use crate::session::{Ink, Shape};
use crate::synthetic::{FieldOptions, draw_field};

fn limits() -> ReadLimits {
    ReadLimits::default()
}

/// A drawn field of 64 x 48 pixels as a file in `folder`.
fn image_file(folder: &Path) -> PathBuf {
    let field = draw_field(&FieldOptions { height: 64, width: 48, ..FieldOptions::default() }, 3).unwrap();
    let grey = field.image.to_f32().index_axis_move(ndarray::Axis(2), 0).mapv(|value| value as u16);
    let path = folder.join("a field.png");
    crate::raster::write_gray_png16(&path, grey.view()).unwrap();
    path
}

fn dot(x: f64, y: f64, ink: Ink) -> Edit {
    Edit::Paint { shape: Shape::Stroke { points: vec![[x, y]], radius: 5.0 }, ink }
}

const NEW: Ink = Ink::Cell { id: None };

fn drawn(project: &Project) -> Vec<LabelImage> {
    project.pictures().map(|picture| picture.canvas.labels().clone()).collect()
}

#[test]
fn what_was_drawn_is_there_again_whatever_ended_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let file = image_file(folder.path());
    let place = folder.path().join("project");
    let mut project = Project::open(&place).unwrap();
    let first = project.add_image("../../x/a field.png", &fs::read(&file).unwrap(), &limits()).unwrap();
    let second = project.add_file(&file, &limits()).unwrap();
    assert_eq!((first, second, project.picture(first).unwrap().shape), (1, 2, [64, 48, 1]));
    assert_eq!(project.image(first, &limits(), true).unwrap(), project.image(second, &limits(), false).unwrap());
    project.choose(Settings { seconds: 30.0, algorithm: None, ..Settings::default() }).unwrap();
    let mut states = vec![drawn(&project)];
    for step in 0..12 {
        match step {
            5 => drop(project.undo(first, false).unwrap()),
            6 => drop(project.undo(first, true).unwrap()),
            7 => drop(project.edit(second, dot(20.0, 20.0, Ink::Background)).unwrap()),
            _ => drop(project.edit(first, dot(4.0 * f64::from(step), 30.0, NEW)).unwrap()),
        }
        states.push(drawn(&project));
    }
    let journal = fs::read(place.join("journal")).unwrap();
    // The program is killed at any time: the file ends anywhere.
    drop(project);
    let mut seen = 0;
    for end in (journal.len() / 2..=journal.len()).rev() {
        fs::write(place.join("journal"), &journal[..end]).unwrap();
        let project = Project::open(&place).unwrap();
        let state = drawn(&project);
        let at = states.iter().rposition(|known| *known == state);
        assert!(at.is_some(), "cut at {end}: a state that never was");
        seen = seen.max(at.unwrap_or(0));
        if end == journal.len() {
            assert_eq!(at, Some(12));
            assert_eq!(project.settings().seconds, 30.0);
            assert!(project.notes().is_empty());
        }
    }
    assert_eq!(seen, 12);
}

#[test]
fn a_long_journal_is_written_anew_and_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = image_file(folder.path());
    let place = folder.path().join("project");
    let mut project = Project::open(&place).unwrap();
    let id = project.add_file(&file, &limits()).unwrap();
    project.edit(id, dot(10.0, 10.0, NEW)).unwrap();
    project.edit(id, dot(30.0, 30.0, NEW)).unwrap();
    project.undo(id, false).unwrap();
    let before = drawn(&project);
    for _ in 0..2 {
        project.compact().unwrap();
        drop(project);
        project = Project::open(&place).unwrap();
        assert_eq!((drawn(&project), project.notes()), (before.clone(), &[] as &[String]));
        assert_eq!(fs::read_dir(place.join("labels")).unwrap().count(), 1);
    }
    assert_eq!(project.edit(id, dot(30.0, 30.0, NEW)).unwrap().cell, Some(3), "numbers are not used again");
    let read = |id| project.image(id, &limits(), true).map(Pixels::Whole);
    let drawn = project.dataset(Normalization::default(), None, read).unwrap().unwrap();
    assert_eq!((drawn.data.len(), drawn.data.labels()[0].object_count(), drawn.normalized), (1, 2, false));
}

/// A zarr of 4200 x 4200 pixels of which a drawn field of 600 x 600 is stored, and `elsewhere` the rest.
fn slide(folder: &Path, elsewhere: u8) -> PathBuf {
    let field = draw_field(&FieldOptions { height: 600, width: 600, ..FieldOptions::default() }, 3).unwrap();
    let Image::U8(pixels) = field.image else { panic!("fields are 8 bit") };
    let slide = folder.join("slide.zarr");
    fs::create_dir_all(slide.join("0")).unwrap();
    let array = serde_json::json!({
        "zarr_format": 2, "shape": [4200, 4200], "chunks": [600, 600], "dtype": "|u1", "compressor": null,
        "fill_value": elsewhere, "filters": null, "order": "C", "dimension_separator": ".",
    });
    fs::write(slide.join("0/.zarray"), array.to_string()).unwrap();
    fs::write(slide.join("0/2.3"), pixels.iter().copied().collect::<Vec<u8>>()).unwrap();
    let axis = |name: &str| serde_json::json!({"name": name, "type": "space", "unit": "micrometer"});
    let scale = serde_json::json!([{"type": "scale", "scale": [0.5, 0.5]}]);
    let multiscales = serde_json::json!([{
        "version": "0.4", "axes": [axis("y"), axis("x")],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }]);
    fs::write(slide.join(".zattrs"), serde_json::json!({ "multiscales": multiscales }).to_string()).unwrap();
    fs::write(slide.join(".zgroup"), r#"{"zarr_format": 2}"#).unwrap();
    slide
}

#[test]
fn a_slide_is_drawn_on_learned_from_and_looked_at_by_parts() {
    let folder = tempfile::tempdir().unwrap();
    let file = slide(folder.path(), 12);
    let place = folder.path().join("project");
    let mut project = Project::open(&place).unwrap();
    let scarce = ReadLimits { decoded_bytes: 1 << 24, ..limits() };
    let refused = project.add_file(&file, &scarce).unwrap_err().to_string();
    assert!(refused.contains("4200 x 4200") && refused.contains("annotations as GeoJSON"), "{refused}");
    let (id, small) = (project.add_file(&file, &limits()).unwrap(), image_file(folder.path()));
    let small = project.add_file(small, &limits()).unwrap();
    let picture = project.picture(id).unwrap();
    assert_eq!((picture.shape, picture.pixel_size), ([4200, 4200, 1], Some([0.5, 0.5])));
    assert!(project.slide(small, &limits(), true).unwrap().is_none(), "it is read whole");
    for (x, ink) in [(2000.0, NEW), (2040.0, NEW), (2080.0, Ink::Background)] {
        project.edit(id, dot(x, 1400.0, ink)).unwrap();
    }
    project.edit(small, dot(20.0, 20.0, NEW)).unwrap();
    let opened = Arc::new(project.slide(id, &limits(), true).unwrap().unwrap());
    let pixels = |of| match of {
        of if of == id => Ok(Pixels::Slide(Arc::clone(&opened))),
        of => project.image(of, &limits(), true).map(Pixels::Whole),
    };
    let drawn = project.dataset(Normalization::default(), None, pixels).unwrap().unwrap();
    assert!(drawn.normalized);
    let shapes: Vec<_> = drawn.data.images().iter().map(Image::shape).collect();
    assert_eq!(shapes.len(), 2);
    assert!(shapes.contains(&(64, 48, 1)) && shapes.iter().all(|shape| shape.0 < 400 && shape.1 < 500), "{shapes:?}");
    let cells: Vec<usize> = drawn.data.labels().iter().map(SparseLabels::object_count).collect();
    assert_eq!(cells.iter().sum::<usize>(), 3);
    // Parts are scaled by the whole image.
    let how = Normalization::default();
    let whole = how.measure(opened.as_ref(), 0, &CancelToken::new()).unwrap();
    assert_eq!(opened.percentiles(how, &CancelToken::new()).unwrap(), whole);

    let mut learner = super::super::Learner::new(Algorithm::Elephant, 1).unwrap();
    let options = super::super::RoundOptions {
        time: std::time::Duration::from_millis(1),
        normalized: drawn.normalized,
        ..super::super::RoundOptions::default()
    };
    learner.round(&drawn.data, &options, &mut |_| crate::ControlFlow::Continue).unwrap();
    let view = super::super::Window { rows: [1300, 1700], columns: [1900, 2300] };
    let options = crate::PredictOptions::default();
    let (found, window) = learner.preview_part(&opened, Some(view), &options).unwrap();
    assert_eq!((found.labels.dim(), window.rows[1] - window.rows[0]), ((4200, 4200), 1448));
    assert!(found.objects.len() > 10, "{} objects", found.objects.len());
    let far = super::super::Window { rows: [3000, 3300], columns: [0, 300] };
    assert!(learner.preview_part(&opened, Some(far), &options).unwrap().0.objects.is_empty());
    let canvas = project.picture(id).unwrap().canvas.labels();
    let told = learner.suggest_part(&opened, window, &found.labels, canvas, &options).unwrap();
    let inside = |at: usize, [first, end]: [usize; 2]| (first..=end).contains(&at);
    assert!(told.iter().all(|one| inside(one.bounds[0], window.rows) && inside(one.bounds[3], window.columns)));

    // It is another one now.
    let text = fs::read_to_string(file.join("0/.zarray")).unwrap();
    fs::write(file.join("0/.zarray"), text.replace("[4200,4200]", "[4300,4200]")).unwrap();
    let refused = project.slide(id, &limits(), true).unwrap_err().to_string();
    assert!(refused.contains("another image"), "{refused}");
}

#[test]
fn what_cannot_be_used_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("project");
    let mut project = Project::open(&place).unwrap();
    assert!(project.add_image("x.png", b"no image", &limits()).is_err());
    assert_eq!(fs::read_dir(place.join("images")).unwrap().count(), 0);
    assert!(matches!(project.edit(7, Edit::Clear), Err(Error::Config(_))));
    assert!(project.choose(Settings { seconds: f64::NAN, ..Settings::default() }).is_err());
    let nothing = project.dataset(Normalization::default(), None, |_| unreachable!("nothing is drawn"));
    assert!(nothing.unwrap().is_none());
    assert!(matches!(Project::open(&place), Err(Error::File { .. })), "it is open already");
    let colour = folder.path().join("rgb.png");
    crate::raster::write_rgb_png(&colour, ndarray::Array3::zeros((5, 6, 3)).view()).unwrap();
    project.add_file(image_file(folder.path()), &limits()).unwrap();
    let refused = project.add_file(&colour, &limits()).unwrap_err().to_string();
    assert!(refused.contains("3 channels") && refused.contains("another project"), "{refused}");
}

#[test]
fn channels_that_no_image_has_are_not_learned_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = image_file(folder.path());
    let choice = |channels: &[usize]| Settings { channels: Some(channels.to_vec()), ..Settings::default() };
    let mut project = Project::open(folder.path().join("project")).unwrap();
    // Before there are images, nobody knows; then an image has to have them.
    project.choose(choice(&[1])).unwrap();
    let refused = project.add_file(&file, &limits()).unwrap_err().to_string();
    assert!(refused.contains("1 channel, counted from 0, and channel 1"), "{refused}");
    project.choose(choice(&[0])).unwrap();
    project.add_file(&file, &limits()).unwrap();
    let refused = project.choose(choice(&[0, 1])).unwrap_err().to_string();
    assert!(refused.contains("channel 1 is chosen to learn from, and the images have 1 channel"), "{refused}");
    assert_eq!(project.settings().channels, Some(vec![0]));
}

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
    let data = project.dataset(|id| project.image(id, &limits(), true)).unwrap().unwrap();
    assert_eq!((data.len(), data.labels()[0].object_count()), (1, 2));
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
    assert!(project.dataset(|_| unreachable!("nothing is drawn")).unwrap().is_none());
    assert!(matches!(Project::open(&place), Err(Error::File { .. })), "it is open already");
    let colour = folder.path().join("rgb.png");
    crate::raster::write_rgb_png(&colour, ndarray::Array3::zeros((5, 6, 3)).view()).unwrap();
    project.add_file(image_file(folder.path()), &limits()).unwrap();
    let refused = project.add_file(&colour, &limits()).unwrap_err().to_string();
    assert!(refused.contains("3 channels") && refused.contains("another project"), "{refused}");
}

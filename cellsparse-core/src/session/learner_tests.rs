//! Tests of rounds and previews.

use super::*;
use crate::annotations::SparseLabels;
use crate::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};

fn field(side: usize) -> (Image, LabelImage, LabelImage) {
    let field = draw_field(&FieldOptions { height: side, width: side, ..FieldOptions::default() }, 5).unwrap();
    let drawn = annotate(&field, &AnnotationOptions::default(), 5);
    (field.image, drawn, field.truth)
}

fn data(image: &Image, drawn: &LabelImage) -> Dataset {
    Dataset::new(vec![image.clone()], vec![SparseLabels::from_signed(drawn.clone()).unwrap()]).unwrap()
}

fn quick() -> RoundOptions {
    RoundOptions { time: Duration::from_millis(1), ..RoundOptions::default() }
}

#[test]
fn rounds_go_on_from_each_other_and_never_get_worse() {
    let (image, drawn, truth) = field(192);
    let data = data(&image, &drawn);
    let mut learner = Learner::new(Algorithm::Elephant, 1).unwrap();
    let (mut steps, mut last, mut thresholds) = (0, 0.0, Vec::new());
    for number in 1..=3 {
        let mut losses = Vec::new();
        let round = learner
            .round(&data, &quick(), &mut |progress| {
                losses.push(progress.loss);
                ControlFlow::Continue
            })
            .unwrap();
        steps += round.steps as u64;
        assert_eq!((round.number, round.total_steps, round.steps), (number, steps, losses.len()));
        let found = learner.preview(&image, None, &PredictOptions::default()).unwrap().0;
        let [recall, overlap] = agreement(&found.labels, &drawn).unwrap();
        assert!(recall > last - 1e-9, "round {number}: {recall} of the drawn cells, {last} before it");
        assert!(overlap > 0.5);
        last = recall;
        thresholds.push(learner.model().thresholds());
        let score = matching_dataset(&[(&truth, &found.labels)], &[0.5], Criterion::Iou, false).unwrap();
        assert!(score[0].accuracy > 0.3, "round {number}: {}", score[0].accuracy);
    }
    assert!(thresholds.windows(2).all(|pair| pair[0] == pair[1]), "thresholds are chosen at the end");
    let settled =
        learner.round(&data, &RoundOptions { settle: true, ..quick() }, &mut |_| ControlFlow::Continue).unwrap();
    assert_eq!((settled.number, settled.steps), (4, FIRST / 2));
}

#[test]
fn a_round_that_is_cancelled_leaves_a_model_that_works() {
    let (image, drawn, _) = field(128);
    let data = data(&image, &drawn);
    let mut learner = Learner::new(Algorithm::Elephant, 1).unwrap();
    let options = RoundOptions::default();
    options.cancel.cancel();
    let ended = learner.round(&data, &options, &mut |_| ControlFlow::Continue);
    assert!(matches!(ended, Err(Error::Cancelled)));
    let round = learner.round(&data, &quick(), &mut |_| ControlFlow::Stop).unwrap();
    assert_eq!((round.number, round.steps), (1, 1));
    let options = PredictOptions::default();
    let (found, _) = learner.preview(&image, None, &options).unwrap();
    let told = learner.suggest(&image, &found.labels, &drawn, &options).unwrap();
    assert!(told.len() <= PLACES && told.iter().all(|one| one.doubt > 0.0));
    options.cancel.cancel();
    assert!(matches!(learner.preview(&image, None, &options), Err(Error::Cancelled)));
}

#[test]
fn what_the_borders_of_a_part_cut_is_left_out() {
    let view = Window { rows: [900, 1100], columns: [0, 100] };
    let window = view.around(400, [1050, 300]);
    assert_eq!(window, Window { rows: [650, 1050], columns: [0, 300] });
    let mut labels = LabelImage::zeros((400, 300));
    for (id, row, column) in [(1, 0, 50), (2, 399, 50), (3, 200, 0), (4, 200, 299)] {
        labels[[row, column]] = id;
    }
    let found = placed(&Segmentation::new(labels, Vec::new()), window, [1050, 300]);
    let left: Vec<i32> = found.labels.iter().copied().filter(|id| *id > 0).collect();
    assert_eq!(left, [3, 4, 2], "the first one may go on above");
    assert_eq!(found.labels[[1049, 50]], 2);
}

#[test]
fn steps_of_a_round_fit_into_its_time() {
    let mut learner = Learner::new(Algorithm::Elephant, 1).unwrap();
    assert_eq!(learner.steps(Duration::from_secs(9)), FIRST);
    learner.pace = Some([0.1, 0.3]);
    assert_eq!(learner.steps(Duration::from_millis(1310)), 10);
    assert_eq!(learner.steps(Duration::from_millis(100)), FIRST / 2);
    assert_eq!(learner.steps(Duration::from_secs(900)), MOST);
}

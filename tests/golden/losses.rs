//! StarDist losses and their gradients against recorded values of stardist 0.9.2.

use cellsparse_tests as common;

use cellsparse_core::training::loss_stardist::{
    DistanceLoss, Head, StarGradients, StarLoss, StarLossConfig, StarOutputs, StarTruth, stardist_loss,
};
use common::{Fixture, fixture};

const RAYS: usize = 8;

fn values(fixture: &Fixture, name: &str) -> Vec<f32> {
    fixture.f32(name).into_iter().collect()
}

struct Case {
    prob: Vec<f32>,
    dist: Vec<f32>,
    class: Vec<f32>,
    true_prob: Vec<f32>,
    true_dist: Vec<f32>,
    mask: Vec<f32>,
    true_class: Vec<f32>,
}

impl Case {
    fn read(fixture: &Fixture) -> Self {
        let both = values(fixture, "dist_true_mask");
        Self {
            prob: values(fixture, "prob_pred"),
            dist: values(fixture, "dist_pred"),
            class: values(fixture, "class_pred"),
            true_prob: values(fixture, "prob_true"),
            true_dist: both.chunks(RAYS + 1).flat_map(|pixel| &pixel[..RAYS]).copied().collect(),
            mask: both.chunks(RAYS + 1).map(|pixel| pixel[RAYS]).collect(),
            true_class: values(fixture, "class_true"),
        }
    }

    /// Loss and gradients with respect to probability, distance and class.
    fn run(&self, config: &StarLossConfig, classes: bool) -> (StarLoss, [Vec<f32>; 3]) {
        let mut gradients = [vec![9.0; self.prob.len()], vec![9.0; self.dist.len()], vec![9.0; self.class.len()]];
        let [prob, dist, class] = &mut gradients;
        let outputs = StarOutputs { prob: &self.prob, dist: &self.dist, class: classes.then_some(&self.class[..]) };
        let truth = StarTruth {
            prob: &self.true_prob,
            dist: &self.true_dist,
            mask: &self.mask,
            class: classes.then_some(&self.true_class[..]),
        };
        let out = StarGradients { prob, dist, class: classes.then_some(&mut class[..]) };
        let loss = stardist_loss(config, Head::Probabilities, outputs, truth, Some(out)).unwrap();
        assert_eq!(loss, stardist_loss(config, Head::Probabilities, outputs, truth, None).unwrap());
        (loss, gradients)
    }
}

fn assert_close(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-5 * largest, "{name}[{i}]: {a}, expected {b}, largest {largest}");
    }
}

fn assert_value(name: &str, found: f64, expected: f32) {
    assert!((found - f64::from(expected)).abs() <= 1e-5 * f64::from(expected.abs()), "{name}: {found}, not {expected}");
}

fn config(distance: DistanceLoss) -> StarLossConfig {
    StarLossConfig { distance, ..StarLossConfig::default() }
}

#[test]
fn every_mode_has_the_recorded_value_and_gradient() {
    let fixture = fixture("stardist/losses");
    let case = Case::read(&fixture);
    let modes = [
        ("mae", config(DistanceLoss::Mae)),
        ("mse", config(DistanceLoss::Mse)),
        ("iou", config(DistanceLoss::Iou)),
        ("mae_noreg", StarLossConfig { background_reg: 0.0, ..StarLossConfig::default() }),
    ];
    for (mode, config) in modes {
        let (loss, [prob, dist, _]) = case.run(&config, false);
        let expected = values(&fixture, &format!("{mode}.losses_weighted_sum_last"));
        assert_value(mode, loss.prob, expected[0]);
        assert_value(mode, loss.dist, expected[1]);
        assert_value(mode, loss.total, expected[2]);
        assert_eq!(loss.class, None);
        assert_close(mode, &prob, &values(&fixture, &format!("{mode}.grad_prob")));
        assert_close(mode, &dist, &values(&fixture, &format!("{mode}.grad_dist")));
    }
}

#[test]
fn classes_have_the_recorded_value_and_gradient() {
    let fixture = fixture("stardist/losses");
    let config = StarLossConfig { class_weights: vec![1.0, 2.0, 0.5], ..StarLossConfig::default() };
    let (loss, [prob, dist, class]) = Case::read(&fixture).run(&config, true);
    let expected = values(&fixture, "multiclass.losses_weighted_sum_last");
    for (found, expected) in [loss.prob, loss.dist, loss.class.unwrap(), loss.total].into_iter().zip(&expected) {
        assert_value("multiclass", found, *expected);
    }
    assert_close("prob", &prob, &values(&fixture, "multiclass.grad_prob"));
    assert_close("dist", &dist, &values(&fixture, "multiclass.grad_dist"));
    assert_close("class", &class, &values(&fixture, "multiclass.grad_class"));
}

#[test]
fn batches_of_background_and_of_nothing() {
    let fixture = fixture("stardist/losses");
    for (mode, value) in [("all_background", 0.0), ("all_ignored", -1.0)] {
        let mut case = Case::read(&fixture);
        case.true_prob.fill(value);
        case.true_dist.fill(0.0);
        case.mask.fill(0.0);
        let (loss, [prob, dist, _]) = case.run(&StarLossConfig::default(), false);
        let expected = values(&fixture, &format!("{mode}.losses_weighted_sum_last"));
        assert_value(mode, loss.dist, expected[1]);
        assert_close(mode, &dist, &values(&fixture, &format!("{mode}.grad_dist")));
        if value == 0.0 {
            assert_value(mode, loss.prob, expected[0]);
            assert_value(mode, loss.total, expected[2]);
            assert_close(mode, &prob, &values(&fixture, &format!("{mode}.grad_prob")));
        } else {
            // The reference reports NaN here.
            assert!(expected[0].is_nan() && loss.prob == 0.0 && loss.total.is_finite());
            assert!(prob.iter().all(|&slope| slope == 0.0));
            let config = StarLossConfig { regularize_ignored: false, ..StarLossConfig::default() };
            let (loss, gradients) = case.run(&config, false);
            assert_eq!(loss.total, 0.0);
            assert!(gradients[..2].iter().flatten().all(|&slope| slope == 0.0));
        }
    }
}

#[test]
fn the_sparse_fork_has_the_same_probability_loss() {
    let fixture = fixture("stardist/losses");
    let (loss, [prob, ..]) = Case::read(&fixture).run(&StarLossConfig::default(), false);
    assert_value("fork", loss.prob, values(&fixture, "fork_prob_loss")[0]);
    assert_close("fork", &prob, &values(&fixture, "fork_grad_prob"));
}

#[test]
fn the_metrics_shown_during_training() {
    let fixture = fixture("stardist/losses");
    let (loss, _) = Case::read(&fixture).run(&StarLossConfig::default(), false);
    let expected = values(&fixture, "metrics_kld_mae_mse_iou");
    assert_value("kld", loss.prob_kld, expected[0]);
    assert_value("mae", loss.dist_mae, expected[1]);
}

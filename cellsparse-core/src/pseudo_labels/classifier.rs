//! A linear classifier of pixels: cell or background.

use crate::control::CancelToken;
use crate::error::Result;

/// Labelled pixels with their features.
#[derive(Default)]
pub struct Samples {
    /// Features, one row after the other.
    pub features: Vec<f32>,
    /// Whether the pixel lies in a cell.
    pub cell: Vec<bool>,
    /// Pixels of one group are left out together when the classifier is tried on what it has not seen.
    pub group: Vec<usize>,
}

/// Logistic regression on standardised features; both classes weigh the same.
pub struct Classifier {
    /// One weight a feature, and the constant.
    weights: Vec<f64>,
}

/// Strength of the penalty on the squares of the weights of standardised features.
const PENALTY: f64 = 1e-2;

/// Steps of Newton's method at most, and the change of a weight below which it has arrived.
const STEPS: usize = 25;
const ARRIVED: f64 = 1e-4;

/// Groups that are left out in turn, at most.
const FOLDS: usize = 4;

impl Classifier {
    /// Learns from the samples that `used` admits by their group; `None` when a class is missing among them.
    pub fn fit(samples: &Samples, used: impl Fn(usize) -> bool) -> Option<Self> {
        let size = samples.features.len() / samples.cell.len().max(1);
        let rows: Vec<usize> = (0..samples.cell.len()).filter(|row| used(samples.group[*row])).collect();
        let cells = rows.iter().filter(|row| samples.cell[**row]).count();
        if cells == 0 || cells == rows.len() {
            return None;
        }
        let share = [0.5 / (rows.len() - cells) as f64, 0.5 / cells as f64];
        let (means, deviations) = moments(samples, &rows, size);
        let row_of = |row: usize, out: &mut Vec<f64>| {
            out.clear();
            let features = &samples.features[row * size..(row + 1) * size];
            out.extend(
                features.iter().zip(&means).zip(&deviations).map(|((f, mean), dev)| (f64::from(*f) - mean) / dev),
            );
            out.push(1.0);
        };
        let unknowns = size + 1;
        let mut weights = vec![0.0; unknowns];
        let mut features = Vec::with_capacity(unknowns);
        for _ in 0..STEPS {
            let mut hessian = vec![0.0; unknowns * unknowns];
            let mut gradient = vec![0.0; unknowns];
            for row in &rows {
                row_of(*row, &mut features);
                let cell = samples.cell[*row];
                let p = sigmoid(dot(&weights, &features));
                let share = share[usize::from(cell)];
                let error = share * (f64::from(u8::from(cell)) - p);
                let curvature = share * p * (1.0 - p) + 1e-9 * share;
                for (i, value) in features.iter().enumerate() {
                    gradient[i] += error * value;
                    for (entry, other) in hessian[i * unknowns..].iter_mut().zip(&features[..=i]) {
                        *entry += curvature * value * other;
                    }
                }
            }
            for i in 0..size {
                gradient[i] -= PENALTY * weights[i];
                hessian[i * unknowns + i] += PENALTY;
            }
            let step = solve(&mut hessian, gradient)?;
            weights.iter_mut().zip(&step).for_each(|(weight, step)| *weight += step);
            if step.iter().all(|step| step.abs() < ARRIVED) {
                break;
            }
        }
        // The same function of features that are not standardised.
        for i in 0..size {
            weights[i] /= deviations[i];
            weights[size] -= weights[i] * means[i];
        }
        weights.iter().all(|weight| weight.is_finite()).then_some(Self { weights })
    }

    /// The probability that a pixel with these features lies in a cell.
    pub fn probability(&self, features: &[f32]) -> f32 {
        let (constant, weights) = self.weights.split_last().map_or((0.0, &[][..]), |(last, rest)| (*last, rest));
        let sum: f64 = weights.iter().zip(features).map(|(weight, value)| weight * f64::from(*value)).sum();
        sigmoid(sum + constant) as f32
    }
}

/// The mean fraction of cells and of background that a classifier gets right in groups that it has not seen; in what it has
/// seen when there is only one group. `None` when a class is missing.
pub fn accuracy(samples: &Samples) -> Option<f64> {
    // A token that nobody can raise.
    accuracy_until(samples, &CancelToken::new()).unwrap_or_default()
}

/// As [`accuracy`], and ends early when `cancel` is raised.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled).
pub fn accuracy_until(samples: &Samples, cancel: &CancelToken) -> Result<Option<f64>> {
    let size = samples.features.len() / samples.cell.len().max(1);
    let groups = samples.group.iter().max().map_or(0, |last| last + 1);
    let folds = groups.min(FOLDS);
    let (mut right, mut of) = ([0usize; 2], [0usize; 2]);
    for fold in 0..folds {
        cancel.check()?;
        let left_out = |group: usize| folds > 1 && group % folds == fold;
        let Some(classifier) = Classifier::fit(samples, |group| !left_out(group)) else { continue };
        for (row, features) in samples.features.chunks_exact(size.max(1)).enumerate() {
            if folds == 1 || left_out(samples.group[row]) {
                let cell = samples.cell[row];
                of[usize::from(cell)] += 1;
                right[usize::from(cell)] += usize::from((classifier.probability(features) > 0.5) == cell);
            }
        }
    }
    Ok((!of.contains(&0)).then(|| 0.5 * (right[0] as f64 / of[0] as f64 + right[1] as f64 / of[1] as f64)))
}

fn moments(samples: &Samples, rows: &[usize], size: usize) -> (Vec<f64>, Vec<f64>) {
    let count = rows.len() as f64;
    let (mut means, mut squares) = (vec![0.0; size], vec![0.0; size]);
    let row = |row: usize| samples.features[row * size..(row + 1) * size].iter();
    for at in rows {
        means.iter_mut().zip(row(*at)).for_each(|(mean, value)| *mean += f64::from(*value) / count);
    }
    for at in rows {
        for ((square, value), mean) in squares.iter_mut().zip(row(*at)).zip(&means) {
            *square += (f64::from(*value) - mean).powi(2) / count;
        }
    }
    // A feature that is the same everywhere says nothing and must not be divided by 0.
    let deviations = squares.into_iter().map(|square| if square > 1e-24 { square.sqrt() } else { 1.0 }).collect();
    (means, deviations)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Solves `matrix x = right` by Cholesky decomposition; of the symmetric matrix only the lower half is read.
fn solve(matrix: &mut [f64], mut right: Vec<f64>) -> Option<Vec<f64>> {
    let size = right.len();
    for row in 0..size {
        for column in 0..=row {
            let sum: f64 = (0..column).map(|k| matrix[row * size + k] * matrix[column * size + k]).sum();
            let rest = matrix[row * size + column] - sum;
            if row == column && (rest.is_nan() || rest <= 0.0) {
                return None;
            }
            matrix[row * size + column] =
                if row == column { rest.sqrt() } else { rest / matrix[column * size + column] };
        }
    }
    for row in 0..size {
        let sum: f64 = (0..row).map(|k| matrix[row * size + k] * right[k]).sum();
        right[row] = (right[row] - sum) / matrix[row * size + row];
    }
    for row in (0..size).rev() {
        let sum: f64 = (row + 1..size).map(|k| matrix[k * size + row] * right[k]).sum();
        right[row] = (right[row] - sum) / matrix[row * size + row];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Two features; cells lie around `gap` on the first, background around 0. The second is noise.
    fn samples(gap: f64) -> Samples {
        let mut random = Random::new(3, 0);
        let mut samples = Samples::default();
        for row in 0..400 {
            let cell = row % 4 == 0;
            samples.features.push((f64::from(u8::from(cell)) * gap + random.normal()) as f32);
            samples.features.push((100.0 + 5.0 * random.normal()) as f32);
            samples.cell.push(cell);
            samples.group.push(row / 50);
        }
        samples
    }

    #[test]
    fn the_border_of_balanced_classes_lies_in_the_middle() {
        let classifier = Classifier::fit(&samples(4.0), |_| true).unwrap();
        assert!(classifier.probability(&[0.0, 100.0]) < 0.15);
        assert!(classifier.probability(&[4.0, 100.0]) > 0.85);
        assert!((classifier.probability(&[2.0, 100.0]) - 0.5).abs() < 0.15);
        assert!((classifier.probability(&[4.0, 110.0]) - classifier.probability(&[4.0, 90.0])).abs() < 0.1);
    }

    #[test]
    fn the_accuracy_is_that_of_unseen_groups() {
        let clear = accuracy(&samples(6.0)).unwrap();
        let doubtful = accuracy(&samples(0.0)).unwrap();
        assert!(clear > 0.97, "{clear}");
        assert!((0.35..0.65).contains(&doubtful), "{doubtful}");
    }

    #[test]
    fn one_class_alone_teaches_nothing() {
        let mut one = samples(4.0);
        one.cell.fill(true);
        assert!(Classifier::fit(&one, |_| true).is_none());
        assert!(accuracy(&one).is_none());
        assert!(accuracy(&Samples::default()).is_none());
        // Equal features everywhere leave the constant alone.
        let flat = Samples { features: vec![7.0; 20], cell: (0..20).map(|i| i < 10).collect(), group: vec![0; 20] };
        assert!((Classifier::fit(&flat, |_| true).unwrap().probability(&[7.0]) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn the_solver_solves() {
        let mut matrix = vec![4.0, 0.0, 0.0, 2.0, 5.0, 0.0, 1.0, -1.0, 6.0];
        let x = solve(&mut matrix, vec![4.0 + 4.0 + 3.0, 2.0 + 10.0 - 3.0, 1.0 - 2.0 + 18.0]).unwrap();
        for (found, want) in x.iter().zip([1.0, 2.0, 3.0]) {
            assert!((found - want).abs() < 1e-12);
        }
        assert!(solve(&mut [0.0], vec![1.0]).is_none());
    }
}

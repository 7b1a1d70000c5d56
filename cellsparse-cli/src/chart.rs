//! The loss curve as an inline SVG picture.

use std::fmt::Write as _;

use crate::progress::Point;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;

/// An SVG element with the loss of every step, its running mean, and the validation loss where there is one. Colours
/// come from the style sheet of the page. Empty when there is nothing to draw.
pub fn loss_curve(history: &[Point]) -> String {
    let points: Vec<Point> = history.iter().copied().filter(|point| point.loss.is_finite()).collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let (x0, x1) = (first.step as f64 - 1.0, (last.step as f64).max(first.step as f64));
    let top = ceiling(&points);
    let step = tick(top, 5);
    let top = (top / step).ceil() * step;
    let x = |value: f64| LEFT + (value - x0) / (x1 - x0).max(1.0) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + (1.0 - (value / top).clamp(0.0, 1.0)) * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg class=\"curve\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Training loss by step\">"
    );
    for i in 0..=(top / step).round() as usize {
        let value = i as f64 * step;
        let (height, label) = (y(value), format!("{value:.*}", decimals(step)));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{height:.1}\" y2=\"{height:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            height + 4.0,
        );
    }
    let every = tick(x1 - x0, 8).max(1.0);
    let mut value = (x0 / every).ceil() * every;
    while value <= x1 {
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.0}</text>",
            x(value),
            HEIGHT - BOTTOM + 18.0
        );
        value += every;
    }
    let _ = write!(
        svg,
        "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">optimiser steps</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 4.0
    );
    let line = |class: &str, values: Vec<(f64, f64)>| {
        let path: Vec<String> = values.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        format!("<polyline class=\"{class}\" points=\"{}\"/>", path.join(" "))
    };
    svg += &line("raw", points.iter().map(|point| (point.step as f64, f64::from(point.loss))).collect());
    svg += &line("mean", running_mean(&points));
    let validation: Vec<(f64, f64)> = points
        .iter()
        .filter_map(|point| {
            point.validation.filter(|loss| loss.is_finite()).map(|loss| (point.step as f64, f64::from(loss)))
        })
        .collect();
    if !validation.is_empty() {
        for (step, loss) in &validation {
            let _ = write!(svg, "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>", x(*step), y(*loss));
        }
        svg += &line("validation", validation);
    }
    svg + "</svg>"
}

/// The value that the picture must show: the largest but for the first few outliers.
fn ceiling(points: &[Point]) -> f64 {
    let mut losses: Vec<f64> = points
        .iter()
        .flat_map(|point| [Some(point.loss), point.validation])
        .flatten()
        .map(f64::from)
        .filter(|loss| loss.is_finite())
        .collect();
    losses.sort_by(f64::total_cmp);
    let index = (losses.len() * 98 / 100).min(losses.len().saturating_sub(1));
    losses.get(index).copied().unwrap_or(1.0).max(1e-6)
}

/// Mean over a window of a twentieth of the training.
fn running_mean(points: &[Point]) -> Vec<(f64, f64)> {
    let half = points.len() / 40;
    (0..points.len())
        .map(|i| {
            let window = &points[i.saturating_sub(half)..(i + half + 1).min(points.len())];
            let sum: f64 = window.iter().map(|point| f64::from(point.loss)).sum();
            (points[i].step as f64, sum / window.len() as f64)
        })
        .collect()
}

/// A round distance (1, 2 or 5 times a power of ten) that divides `range` into about `count` parts.
fn tick(range: f64, count: usize) -> f64 {
    let raw = (range / count as f64).max(1e-9);
    let power = 10f64.powf(raw.log10().floor());
    let scaled = raw / power;
    power
        * if scaled <= 1.0 {
            1.0
        } else if scaled <= 2.0 {
            2.0
        } else if scaled <= 5.0 {
            5.0
        } else {
            10.0
        }
}

fn decimals(step: f64) -> usize {
    (-step.log10().floor()).clamp(0.0, 6.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(losses: &[f32]) -> Vec<Point> {
        losses.iter().enumerate().map(|(i, &loss)| Point { step: i + 1, loss, validation: None }).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!([tick(200.0, 8), tick(1.3, 5), tick(0.9, 5)], [50.0, 0.5, 0.2]);
    }

    #[test]
    fn any_history_gives_a_finite_picture() {
        assert_eq!(loss_curve(&[]), "");
        for losses in [vec![1.0], vec![0.0, 0.0], vec![3.0, f32::NAN, 1.0], (1..300).map(|i| 5.0 / i as f32).collect()]
        {
            let mut points = history(&losses);
            points[0].validation = Some(2.0);
            let svg = loss_curve(&points);
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}

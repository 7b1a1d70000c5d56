//! Experiments that others have published, run as they ran them.

use std::fmt::Write as _;
use std::path::Path;

use cellsparse_core::annotations::{LabelEncoding, SparsifyMode};
use cellsparse_core::metrics::Matching;
use cellsparse_core::random::Random;

use super::{Case, HEADER, Keys, Outcome, complete, scored, stem, trained};

/// One whole image with all its cells to train on, the test images to score on (CellSeg1, arXiv 2412.01410, figure 3).
pub fn one_image(data: &Path, keys: &Keys) -> Outcome<()> {
    let (mut all, test) = (complete(data, "train")?, complete(data, "test")?);
    let images: usize = keys.get("images").map_or(Ok(20), |value| value.parse())?;
    let seed: u64 = keys.get("seed").map_or(Ok(0), |value| value.parse())?;
    let mut random = Random::new(seed, 0);
    println!("{HEADER}");
    let mut scores = Vec::new();
    for _ in 0..images.min(all.len()) {
        let one = all.swap_remove(random.below(all.len()));
        let name = stem(&one.0).chars().take(8).collect::<String>();
        let case = Case { train: vec![one], test: test.clone(), encoding: LabelEncoding::Dense, sparse: None };
        let scored = scored(&case, &name, seed, &trained(&case, &name, seed, &without_images(keys))?, keys)?;
        scores.extend(scored.into_iter().map(|(_, score)| score[0].accuracy));
    }
    scores.sort_by(f64::total_cmp);
    let at = |share: f64| scores.get((share * (scores.len() - 1) as f64).round() as usize).copied().unwrap_or(0.0);
    let [median, tenth, least] = [at(0.5), at(0.1), at(0.0)];
    println!(
        "one image, {} of them: median AP {median:.3}, tenth percentile {tenth:.3}, least {least:.3}",
        scores.len()
    );
    Ok(())
}

/// A few cells of every image (the paper of cellsparse): AP for each number of cells, a line for each way of choosing them.
pub fn paper(data: &Path, keys: &Keys) -> Outcome<()> {
    let (train, test) = (complete(data, "train")?, complete(data, "test")?);
    let list = |key: &str, usual: &str| -> Vec<String> {
        keys.get(key).map_or(usual, String::as_str).split(',').map(str::to_owned).collect()
    };
    let numbers = list("k", "1,4,16,64,256").iter().map(|k| k.parse()).collect::<Result<Vec<usize>, _>>()?;
    let seed: u64 = keys.get("seed").map_or(Ok(0), |value| value.parse())?;
    println!("{HEADER}");
    let mut lines: Vec<(String, Vec<(usize, f64)>)> = Vec::new();
    for algorithm in list("algorithms", "stardist,cellpose,elephant") {
        for init in list("inits", "starter,none") {
            for mode in list("modes", "min,max,minmax") {
                for background in list("background", "with,without") {
                    let mut keys = keys.clone();
                    keys.insert("algorithm".into(), algorithm.clone());
                    keys.insert("init".into(), init.clone());
                    let mut line = Vec::new();
                    for &k in &numbers {
                        let sparse = Some((k, mode.parse::<SparsifyMode>()?, background == "with"));
                        let (train, test) = (train.clone(), test.clone());
                        let case = Case { train, test, encoding: LabelEncoding::Dense, sparse };
                        let name = format!("k{k}-{mode}-{background}");
                        let scored = scored(&case, &name, seed, &trained(&case, &name, seed, &keys)?, &keys)?;
                        line.extend(scored.first().map(|(_, score): &(_, [Matching; 2])| (k, score[0].accuracy)));
                    }
                    lines.push((format!("{algorithm}, {init}, {mode}, {background} background"), line));
                }
            }
        }
    }
    if let Some(path) = keys.get("svg") {
        std::fs::write(path, picture(&lines, &numbers))?;
    }
    Ok(())
}

fn without_images(keys: &Keys) -> Keys {
    keys.iter().filter(|(key, _)| *key != "images").map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// AP against the number of cells (as a logarithm), a line each.
fn picture(lines: &[(String, Vec<(usize, f64)>)], numbers: &[usize]) -> String {
    const COLOURS: [&str; 8] = ["#0f766e", "#d97706", "#7c3aed", "#dc2626", "#2563eb", "#65a30d", "#db2777", "#475569"];
    let (width, height, left, bottom, top) = (640.0, 360.0, 48.0, 40.0, 12.0);
    let most = numbers.iter().copied().max().unwrap_or(2).max(2) as f64;
    let x = |k: usize| left + (k as f64).log2() / most.log2() * (width - left - 16.0);
    let y = |score: f64| top + (1.0 - score) * (height - top - bottom);
    let all = height + 18.0 * lines.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {all}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{width}\" height=\"{all}\" fill=\"white\"/>\n"
    );
    for tenth in 0..=10 {
        let (score, level) = (f64::from(tenth) / 10.0, y(f64::from(tenth) / 10.0));
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{:.1}\" y1=\"{level:.1}\" y2=\"{level:.1}\" stroke=\"#e2e6eb\"/><text x=\"{:.1}\" \
             y=\"{:.1}\" text-anchor=\"end\">{score:.1}</text>",
            width - 16.0,
            left - 6.0,
            level + 4.0
        );
    }
    for &k in numbers {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{k}</text>",
            x(k),
            height - bottom + 18.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">k: cells of each image (AP at IoU 0.5)</text>",
        width / 2.0,
        height - 4.0
    );
    for (index, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let path: Vec<String> = points.iter().map(|(k, score)| format!("{:.1},{:.1}", x(*k), y(*score))).collect();
        let below = height + 18.0 * index as f64 + 10.0;
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/><line x1=\"{left}\" x2=\"{}\" \
             y1=\"{below}\" y2=\"{below}\" stroke=\"{colour}\" stroke-width=\"3\"/><text x=\"{}\" y=\"{}\">{name}</text>",
            path.join(" "),
            left + 24.0,
            left + 32.0,
            below + 4.0
        );
    }
    svg + "</svg>\n"
}

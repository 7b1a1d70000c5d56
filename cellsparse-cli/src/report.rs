//! The demo's report: one HTML page that needs nothing but the pictures beside it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use cellsparse_core::error::counted;
use cellsparse_core::model::{Algorithm, TrainingSummary};
use cellsparse_core::raster::write_atomically;
use cellsparse_core::{Error, Result};
use serde_json::Value;

use crate::chart;
use crate::demo_data::DemoData;
use crate::info;
use crate::pictures::{self, Colour};
use crate::progress::{Point, clock};
use crate::scores::{HEADER, Scores};

/// What a training of some length is worth.
pub struct Answer {
    /// Optimiser steps.
    pub steps: usize,
    /// Time of the training.
    pub seconds: f64,
    /// AP at an intersection over union of 0.5, the mean over the segmented images.
    pub accuracy: f64,
}

/// Pictures of another kind of cells.
pub struct KindFigure {
    /// Its heading.
    pub title: &'static str,
    /// What was trained.
    pub algorithm: Algorithm,
    /// Optimiser steps.
    pub steps: usize,
    /// Time of the training.
    pub seconds: f64,
    /// AP at an intersection over union of 0.5, where the truth is known.
    pub accuracy: Option<f64>,
    /// The annotated images.
    pub annotated: Vec<Figure>,
    /// The segmented images.
    pub results: Vec<ResultFigure>,
}

/// A picture of an annotated image.
#[derive(Clone)]
pub struct Figure {
    /// Name of the image.
    pub name: String,
    /// File of the image alone, relative to the report.
    pub plain: String,
    /// File of the image with its annotations, relative to the report.
    pub annotated: String,
    /// Annotated cells in it.
    pub cells: usize,
}

/// Pictures of a segmented image.
#[derive(Clone)]
pub struct ResultFigure {
    /// Name of the image.
    pub name: String,
    /// File of the image alone, relative to the report.
    pub plain: String,
    /// File of the image with outlines, relative to the report.
    pub outlined: String,
    /// Objects found.
    pub objects: usize,
    /// Right, wrong and missed objects, where the truth is known.
    pub counts: Option<[usize; 3]>,
}

/// Everything that the report tells.
pub struct Report<'a> {
    /// What was trained.
    pub algorithm: Algorithm,
    /// What it was trained on.
    pub data: &'a DemoData,
    /// How the training went.
    pub summary: &'a TrainingSummary,
    /// Loss of every step.
    pub history: &'a [Point],
    /// Scores after trainings of several lengths, the shortest first.
    pub answers: &'a [Answer],
    /// The annotated images.
    pub annotated: &'a [Figure],
    /// The segmented images.
    pub results: Vec<ResultFigure>,
    /// Scores, where the truth is known.
    pub scores: Option<&'a Scores>,
    /// Other kinds of cells.
    pub kinds: Vec<KindFigure>,
    /// Time of the whole demo so far.
    pub total_seconds: f64,
    /// The seed.
    pub seed: u64,
    /// What the model says of itself.
    pub model_facts: Value,
}

impl Report<'_> {
    /// Writes the page.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let page = self.page();
        write_atomically(path, |file| file.write_all(page.as_bytes()).map_err(|source| Error::io(path, source)))
    }

    fn page(&self) -> String {
        let sections = [
            self.head(),
            self.annotation(),
            self.results(),
            self.table(),
            self.answers(),
            self.kinds(),
            self.curve(),
            self.settings(),
            self.next_steps(),
        ];
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\">\n<title>cellsparse demo</title>\n<style>\n{}</style>\n</head>\
             \n<body>\n<main>\n{}\n<footer>cellsparse {} &middot; everything was computed on this machine</footer>\n</main>\
             \n</body>\n</html>\n",
            include_str!("report.css"),
            sections.join("\n"),
            env!("CARGO_PKG_VERSION"),
        )
    }

    fn head(&self) -> String {
        let cells = self.data.cells();
        let images = counted(self.data.annotated.len(), "image");
        let pixels = format!("{:.1} % of the pixels", 100.0 * self.data.labelled());
        let origin =
            if self.data.source.is_some() { "your own images" } else { "microscope fields drawn for this demo" };
        let mut out = format!(
            "<h1>From {} to a segmentation</h1>\n<p class=\"lead\">{} network was trained on {images} with \
             {} and a few background strokes ({pixels} labelled), then applied to {}. The data are {origin}.</p>\n",
            counted(cells, "drawn cell"),
            article_and_name(self.algorithm),
            counted(cells, "drawn cell"),
            if self.data.same_images {
                "the same images, for lack of others".to_owned()
            } else {
                format!("{} that it had never seen", counted(self.data.unseen.len(), "image"))
            },
        );
        let mut facts = vec![
            (self.summary.steps.to_string(), "training steps (batches)".to_owned()),
            (clock(seconds(self.summary.seconds)), format!("training time, on {}", self.summary.device)),
            (clock(seconds(self.total_seconds)), "for the whole demo".to_owned()),
        ];
        if let Some(scores) = self.scores {
            let mean = &scores.mean;
            facts.insert(0, (format!("{:.2}", mean.accuracy), "AP at IoU 0.5, mean".to_owned()));
            facts.insert(1, (format!("{:.2}", mean.f1), "F1 at IoU 0.5, mean".to_owned()));
            facts.insert(2, (format!("{:.2}", mean.panoptic_quality), "panoptic quality, mean".to_owned()));
        }
        out += "<div class=\"facts\">";
        for (value, what) in facts {
            let _ = write!(out, "<div class=\"fact\"><b>{}</b><span>{}</span></div>", escape(&value), escape(&what));
        }
        out + "</div>"
    }

    fn annotation(&self) -> String {
        let mut out = "<h2>What was annotated</h2>\n<div class=\"key\"><span><i class=\"fill\" style=\"background:#ff9600\"></i>\
                       cell, drawn whole</span><span><i class=\"fill\" style=\"background:#286eff\"></i>background stroke\
                       </span><span>Everything else is left unlabelled and is ignored by the training.</span></div>\n"
            .to_owned();
        for figure in self.annotated.iter().take(SHOWN) {
            out += &annotated_row(figure);
        }
        out + &more(self.annotated.len(), "annotated image")
    }

    fn results(&self) -> String {
        let mut out = "<h2>What was found</h2>\n<div class=\"key\">".to_owned();
        let key: &[(Colour, &str)] = if self.scores.is_some() {
            &[
                (pictures::RIGHT, "found, and right (IoU at least 0.5)"),
                (pictures::WRONG, "found, but not there or badly outlined"),
                (pictures::MISSED, "missed (true outline)"),
            ]
        } else {
            &[(pictures::FOUND, "found")]
        };
        for ([red, green, blue], what) in key {
            let _ = write!(out, "<span><i style=\"border-color:rgb({red},{green},{blue})\"></i>{what}</span>");
        }
        out += "</div>\n";
        for figure in self.results.iter().take(SHOWN) {
            out += &result_row(figure);
        }
        out + &more(self.results.len(), "segmented image")
    }

    fn table(&self) -> String {
        let Some(scores) = self.scores else {
            return "<h2>Scores</h2>\n<p>No true labels were given (a folder <code>truth/</code> or <code>masks/</code> \
                    beside the images), so there are no scores. Judge by the pictures above.</p>"
                .to_owned();
        };
        let mut out = "<h2>Scores</h2>\n<div class=\"card\"><table><thead><tr>".to_owned();
        for title in HEADER {
            let _ = write!(out, "<th>{title}</th>");
        }
        out += "</tr></thead><tbody>";
        let rows = scores.rows();
        for (index, row) in rows.iter().enumerate() {
            out += if index + 1 == rows.len() { "<tr class=\"mean\">" } else { "<tr>" };
            for cell in row {
                let _ = write!(out, "<td>{}</td>", escape(cell));
            }
            out += "</tr>";
        }
        out += "</tbody></table></div>\n";
        out + "<p>An object is right when it overlaps a true one by at least half (intersection over union, IoU 0.5). AP is \
               right / (right + wrong + missed), F1 weighs precision and recall alike, PQ also counts how well right objects \
               are outlined. 1 is perfect.</p>"
    }

    fn answers(&self) -> String {
        if self.answers.len() < 2 {
            return String::new();
        }
        let mut out = "<h2>What waiting is worth</h2>\n<div class=\"facts\">".to_owned();
        for answer in self.answers {
            let what = format!("AP after {} ({:.1} s)", counted(answer.steps, "step"), answer.seconds);
            let _ =
                write!(out, "<div class=\"fact\"><b>{:.2}</b><span>{}</span></div>", answer.accuracy, escape(&what));
        }
        out + "</div>\n<p>Each is a training of its own, from the weights that come with the library.</p>"
    }

    fn kinds(&self) -> String {
        let mut out = String::new();
        for kind in &self.kinds {
            let score =
                kind.accuracy.map_or(String::new(), |score| format!(": AP {score:.2} on the half it never saw"));
            let _ = write!(
                out,
                "<h2>{}</h2>\n<p>{} network, {} in {}{score}.</p>\n",
                escape(kind.title),
                article_and_name(kind.algorithm),
                counted(kind.steps, "step"),
                clock(seconds(kind.seconds)),
            );
            out.extend(kind.annotated.iter().map(annotated_row));
            out.extend(kind.results.iter().map(result_row));
        }
        out
    }

    fn curve(&self) -> String {
        let curve = chart::loss_curve(self.history);
        if curve.is_empty() {
            return String::new();
        }
        format!(
            "<h2>How the training went</h2>\n<div class=\"card\">{curve}</div>\n<p>Loss of every batch (thin) and its running \
             mean (bold). A curve that still falls at the end says that more steps would help.</p>"
        )
    }

    fn settings(&self) -> String {
        let mut rows = vec![
            ("algorithm".to_owned(), self.algorithm.to_string()),
            ("seed".to_owned(), self.seed.to_string()),
            ("steps".to_owned(), self.summary.steps.to_string()),
            ("seconds per step".to_owned(), format!("{:.3}", self.summary.seconds_per_step)),
            ("final loss".to_owned(), format!("{:.4}", self.summary.loss)),
            ("device".to_owned(), self.summary.device.clone()),
            ("precision".to_owned(), self.summary.precision.to_string()),
        ];
        if let Some(source) = &self.data.source {
            rows.push(("images".to_owned(), source.display().to_string()));
        }
        let told = ["algorithm", "steps", "loss"];
        rows.extend(info::lines(&self.model_facts).into_iter().filter(|(name, _)| !told.contains(&name.as_str())));
        let mut out = "<h2>Settings</h2>\n<div class=\"card\"><table class=\"settings\"><tbody>".to_owned();
        for (what, value) in rows {
            let _ = write!(out, "<tr><td>{}</td><td>{}</td></tr>", escape(&what), escape(&value));
        }
        out + "</tbody></table></div>"
    }

    fn next_steps(&self) -> String {
        let mut out = "<h2>How to go on</h2>\n<ol>\n\
            <li>Draw a handful of whole cells in your own images (small and large, dark and bright, one of a touching pair) and \
            a few background strokes, some of them right beside cells. Save them as label images with the names of your \
            images: 0 unlabelled, 1 background, 2 and up one number for each cell.</li>\n\
            <li>Look at this report again with your images: a folder with <code>images/</code> and <code>sparse/</code>.</li>\n\
            <li>Train, segment, look, correct what is wrong, and go on from the model you have.</li>\n</ol>\n"
            .to_owned();
        let algorithm = self.algorithm;
        let commands = format!(
            "cellsparse demo --algorithm {algorithm} --data my-folder --out my-report\n\n\
            cellsparse train --algorithm {algorithm} --images images/ --labels sparse/ --model cells.safetensors\n\
            cellsparse predict --model cells.safetensors --images new/ --out results/ --format labels,geojson,overlay\n\
            cellsparse train --algorithm {algorithm} --images images/ --labels sparse/ --model cells.safetensors --resume\n\
            cellsparse evaluate --pred results/ --truth masks/"
        );
        let _ = writeln!(out, "<pre>{}</pre>", escape(&commands));
        out + "<p>What helps most: false objects in the background vanish with a stroke of background there; cells that run \
               together part when one of such a pair is drawn with background beside it; missed dim cells appear when one of \
               them is drawn.</p>"
    }
}

/// Pictures shown on the page; the rest lie in the folder.
const SHOWN: usize = 12;

/// An annotated image, without and with its annotations.
fn annotated_row(figure: &Figure) -> String {
    let caption = format!("{} and background strokes", counted(figure.cells, "cell"));
    row(&image(&figure.plain, &figure.name), &image(&figure.annotated, &caption))
}

/// A segmented image, without and with what was found.
fn result_row(figure: &ResultFigure) -> String {
    let caption = match figure.counts {
        Some([right, wrong, missed]) => {
            format!("{} found: {right} right, {wrong} wrong, {missed} missed", counted(figure.objects, "object"))
        }
        None => format!("{} found", counted(figure.objects, "object")),
    };
    row(&image(&figure.plain, &figure.name), &image(&figure.outlined, &caption))
}

fn row(left: &str, right: &str) -> String {
    format!("<div class=\"row\">{left}{right}</div>\n")
}

fn more(count: usize, what: &str) -> String {
    if count <= SHOWN {
        return String::new();
    }
    format!("<p>{} more are in the folder <code>overlays</code>.</p>", counted(count - SHOWN, what))
}

fn image(file: &str, caption: &str) -> String {
    let address: String = file.split('/').map(encode).collect::<Vec<_>>().join("/");
    format!(
        "<figure><a href=\"{address}\"><img src=\"{address}\" alt=\"{0}\" loading=\"lazy\"></a><figcaption>{0}</figcaption></figure>",
        escape(caption)
    )
}

/// Percent encoding of one part of a relative address.
fn encode(part: &str) -> String {
    let mut out = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn article_and_name(algorithm: Algorithm) -> String {
    let name = algorithm.title();
    let article = if name.starts_with(['A', 'E', 'I', 'O', 'U']) { "An" } else { "A" };
    format!("{article} {name}")
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_page() {
        let html = image("overlays/a b\"<i>.png", "<b>\"x\"&");
        assert!(html.contains("overlays/a%20b%22%3Ci%3E.png"));
        assert!(html.contains("&lt;b&gt;&quot;x&quot;&amp;"));
    }
}

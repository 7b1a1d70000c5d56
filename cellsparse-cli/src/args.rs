//! What the user can type: commands and their options.

mod values;

use std::path::PathBuf;
use std::str::FromStr;

use cellsparse_core::Budget;
use cellsparse_core::model::{Device, Postprocess, Precision, Preset};
use cellsparse_core::raster::ReadOptions;
use cellsparse_core::raster::regions::Level;
use clap::{Args, Parser, Subcommand};

pub use self::values::{AlgorithmChoice, Encoding, Format, ModeChoice, OutlineChoice};
use self::values::{finite, fraction, not_negative, positive, positive_float, threshold};
use crate::large::LargeArgs;
use crate::planes::Numbers;

/// Train cell segmentation from a few drawn cells and background strokes; predict; evaluate.
#[derive(Debug, Parser)]
#[command(name = "cellsparse", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cellsparse demo
  cellsparse demo --algorithm cellpose
  cellsparse train --algorithm stardist --images images/ --labels sparse/ --model nuclei.safetensors
  cellsparse predict --model nuclei.safetensors --images new/ --out results/ --format labels,overlay
  cellsparse evaluate --pred results/ --truth masks/
  cellsparse convert --from cyto.pth --to cyto.safetensors
  cellsparse serve --port 8000

Algorithms: stardist (roundish cells), cellpose (cells of any shape, one typical size), elephant (cells of any shape
and size, parted by their borders).

A PATH is a file or a folder. Files are paired by their name without the ending. PNG, TIFF and JPEG are read.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See it work: draw microscope fields, annotate a handful of nuclei, train, segment unseen fields, report
    Demo(DemoArgs),
    /// Train a model from images and sparse labels
    Train(TrainArgs),
    /// Segment images with a trained model
    Predict(PredictArgs),
    /// Score predicted label images against true ones
    Evaluate(EvaluateArgs),
    /// Make sparse labels from complete ones, to try out how few suffice
    Sparsify(SparsifyArgs),
    /// Show what a model file holds
    Info(InfoArgs),
    /// Turn models of StarDist, Cellpose and ELEPHANT into models of cellsparse, and back, and into ONNX
    Convert(ConvertArgs),
    /// Answer the requests of QuPath and other clients of cellsparse-api over HTTP
    Serve(ServeArgs),
}

/// `cellsparse demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Which network: stardist, cellpose or elephant; auto takes the one that fits the drawn cells best
    #[arg(long, default_value = "auto", value_name = "A")]
    pub algorithm: AlgorithmChoice,
    /// Folder for everything that the demo writes
    #[arg(long, default_value = "demo-out", value_name = "DIR")]
    pub out: PathBuf,
    /// Use your own images: a folder with images/ and sparse/ (wire labels), optionally truth/ or masks/ for scores
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Optimiser steps (batches)
    #[arg(long, default_value_t = 100, value_parser = positive, value_name = "N")]
    pub steps: usize,
    /// Seed of the fields, the annotation and the training
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto", value_parser = Device::from_str, value_name = "D")]
    pub device: Device,
    /// Print one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// `cellsparse train`
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Which network: stardist, cellpose or elephant; auto takes the one that fits the drawn cells best
    #[arg(long, value_name = "A")]
    pub algorithm: AlgorithmChoice,
    /// Training images: PNG, TIFF, JPEG or a .zarr folder, or a folder of them
    #[arg(long, value_name = "PATH")]
    pub images: PathBuf,
    /// Their annotations: label images (PNG, TIFF, .npy), QuPath GeoJSON, ImageJ .roi or RoiSet.zip, Cellpose _seg.npy or
    /// _masks, COCO or LabelMe JSON; a file, or a folder of files named as the images
    #[arg(long, value_name = "PATH")]
    pub labels: PathBuf,
    /// Model file to write (NAME.safetensors)
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// How the values of label images are meant: auto (decided from them and said), wire (0 unlabelled, 1 background, 2 and
    /// up cells), cells (0 unlabelled, 1 and up cells, no background), dense (0 background, 1 and up cells) or signed
    /// (negative unlabelled, 0 background, 1 and up cells)
    #[arg(long, value_enum, default_value_t = Encoding::Auto, value_name = "E")]
    pub label_encoding: Encoding,
    /// Class of the cells among drawn shapes [default: Foreground in GeoJSON, all but background in others]
    #[arg(long, value_name = "NAME")]
    pub foreground_class: Option<String>,
    /// Class of the background among drawn shapes [default: Background]
    #[arg(long, value_name = "NAME")]
    pub background_class: Option<String>,
    /// Which part of the files is read
    #[command(flatten)]
    pub read: ReadArgs,
    /// Resolution of pyramids: a level, 0 for the largest, or micrometres per pixel, like 0.5um. Shapes are in pixels of level 0.
    /// Of such images, as of large ones, only what was drawn is read, with its surroundings [default: 0]
    #[arg(long, value_parser = Level::from_str, value_name = "N|UMum")]
    pub level: Option<Level>,
    /// Physical size of the pixels
    #[command(flatten)]
    pub size: PixelSizeArgs,
    /// Images to validate on
    #[arg(long, requires = "val_labels", value_name = "PATH")]
    pub val_images: Option<PathBuf>,
    /// Labels of the validation images
    #[arg(long, requires = "val_images", value_name = "PATH")]
    pub val_labels: Option<PathBuf>,
    /// Optimiser steps (batches) [default: 800 small ones, or as many as fit into the time budget]
    #[arg(long, value_parser = positive, value_name = "N")]
    pub steps: Option<usize>,
    /// Patches in a batch [default: 8 with --steps or the reference preset, else 4]
    #[arg(long, value_parser = positive, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Side of the square training patches in pixels [default: 224 with --steps or the reference preset, else 128]
    #[arg(long, value_parser = positive, value_name = "N")]
    pub patch_size: Option<usize>,
    /// Learning rate; without it the preset's
    #[arg(long, value_parser = positive_float, value_name = "F")]
    pub lr: Option<f32>,
    /// Channels of the images; without it those of the first image
    #[arg(long, value_parser = positive, value_name = "N")]
    pub channels: Option<usize>,
    /// Weights to begin with: starter for those in this program, learned on drawn fields, none for random ones, or a model
    /// file. --preset reference takes random ones [default: starter]
    #[arg(long, conflicts_with = "resume", value_name = "starter|none|FILE")]
    pub init: Option<PathBuf>,
    /// Go on with the model of --model: weights, optimiser state and step count
    #[arg(long)]
    pub resume: bool,
    /// default, or reference for the settings of the original implementation
    #[arg(long, default_value = "default", value_parser = Preset::from_str, value_name = "P")]
    pub preset: Preset,
    /// Take about this many seconds in all, less when the loss falls no more
    #[arg(long, value_parser = positive_float, value_name = "SECONDS")]
    pub time_budget: Option<f32>,
    /// Seed of the first weights, the sampling and the augmentation
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto", value_parser = Device::from_str, value_name = "D")]
    pub device: Device,
    /// Numbers to compute with: auto, f32, tf32 (on CUDA) or bf16 (16 bits, taken by auto where the CPU is quicker with them)
    #[arg(long, default_value = "auto", value_parser = Precision::from_str, value_name = "P")]
    pub precision: Precision,
    /// Compute threads; without it one per core. The result does not depend on it
    #[arg(long, value_parser = positive, value_name = "N")]
    pub threads: Option<usize>,
    /// Memory to take, like 4G or 1500M; without it half of what is free
    #[arg(long, value_parser = Budget::from_str, value_name = "BYTES")]
    pub memory: Option<Budget>,
    /// Print one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// `cellsparse predict`
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// Model file
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Images to segment: PNG, TIFF, JPEG or a .zarr folder, or a folder of them
    #[arg(long, value_name = "PATH")]
    pub images: PathBuf,
    /// Which part of the files is read
    #[command(flatten)]
    pub select: SelectArgs,
    /// Physical size of the pixels
    #[command(flatten)]
    pub size: PixelSizeArgs,
    /// Large images and parts of images
    #[command(flatten)]
    pub large: LargeArgs,
    /// Folder for the results
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What to write, separated by commas: labels (label image: 16-bit PNG, above
    /// 65,535 objects 32-bit TIFF), geojson (outlines for QuPath), overlay (picture), csv
    /// (measurements), rois (outlines for Fiji), ometiff (label image as OME-TIFF), omezarr (as OME-Zarr)
    #[arg(long, value_enum, value_delimiter = ',', default_value = "labels", value_name = "F,...")]
    pub format: Vec<Format>,
    /// Remove objects with fewer pixels, beyond those much smaller than any annotated cell
    #[arg(long, default_value_t = 0.0, value_parser = not_negative, value_name = "F")]
    pub min_area: f32,
    /// Simplify outlines (GeoJSON and ImageJ regions) by this tolerance in pixels
    #[arg(long, value_parser = not_negative, value_name = "F")]
    pub simplify: Option<f32>,
    /// GeoJSON outlines: exact (along the pixel edges) or literal (the rule of the original server)
    #[arg(long, value_enum, default_value_t = OutlineChoice::Exact, value_name = "O")]
    pub outline: OutlineChoice,
    /// StarDist: smallest object probability; ELEPHANT: smallest centre probability; 0 to 1; without it what the model chose
    #[arg(long, value_parser = fraction, value_name = "F")]
    pub prob_thresh: Option<f32>,
    /// StarDist: largest overlap of two objects, 0 to 1; without it what the model chose
    #[arg(long, value_parser = fraction, value_name = "F")]
    pub nms_thresh: Option<f32>,
    /// Cellpose: largest flow error of a cell, 0 keeps all; without it what the model chose
    #[arg(long, value_parser = finite, value_name = "F", allow_negative_numbers = true)]
    pub flow_threshold: Option<f32>,
    /// Cellpose: smallest cell-probability logit of a pixel; without it what the model chose
    #[arg(long, value_parser = finite, value_name = "F", allow_negative_numbers = true)]
    pub cellprob_threshold: Option<f32>,
    /// Cellpose: cell diameter in pixels; without it that of the annotated cells
    #[arg(long, value_parser = positive_float, value_name = "F")]
    pub diameter: Option<f32>,
    /// Cellpose: average the answers to overlapping, mirrored tiles; about three times the work
    #[arg(long)]
    pub augment: bool,
    /// ELEPHANT: watershed (cells of any shape) or ellipse (as the original) [default: watershed]
    #[arg(long, value_parser = Postprocess::from_str, value_name = "M")]
    pub postprocess: Option<Postprocess>,
    /// Side of the tiles in pixels; without it one is chosen
    #[arg(long, value_parser = positive, value_name = "N")]
    pub tile: Option<usize>,
    /// auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto", value_parser = Device::from_str, value_name = "D")]
    pub device: Device,
    /// Numbers to compute with: auto (32 bits), f32, tf32 (on CUDA) or bf16 (16 bits, quicker on some CPUs)
    #[arg(long, default_value = "auto", value_parser = Precision::from_str, value_name = "P")]
    pub precision: Precision,
    /// Compute threads; without it one per core
    #[arg(long, value_parser = positive, value_name = "N")]
    pub threads: Option<usize>,
    /// Memory to take, like 4G or 1500M; without it half of what is free
    #[arg(long, value_parser = Budget::from_str, value_name = "BYTES")]
    pub memory: Option<Budget>,
    /// Print one JSON list on standard output
    #[arg(long)]
    pub json: bool,
}

/// Which part of image files is read.
#[derive(Debug, Default, Args)]
pub struct ReadArgs {
    /// Channels of the images in the order wanted, counted from 1, separated by commas; without it all but transparency. In
    /// a TIFF that does not tell what its pages are, pages
    #[arg(long, value_delimiter = ',', value_parser = positive, value_name = "N,...")]
    pub select_channels: Option<Vec<usize>>,
    /// Plane (Z) of stacks, counted from 1; files of one plane are taken as they are. In a TIFF that does not tell what its
    /// pages are, a page
    #[arg(long, value_parser = positive, value_name = "N")]
    pub plane: Option<usize>,
    /// Time point (T) of series, counted from 1; files of one time point are taken as they are
    #[arg(long, value_parser = positive, value_name = "N")]
    pub frame: Option<usize>,
}

impl ReadArgs {
    /// For the readers of the library.
    pub fn options(&self) -> ReadOptions {
        ReadOptions {
            channels: self.select_channels.clone(),
            plane: self.plane,
            frame: self.frame,
            ..ReadOptions::default()
        }
    }
}

/// Which parts of image files are read, each as an image of its own.
#[derive(Debug, Default, Args)]
pub struct SelectArgs {
    /// Channels of the images in the order wanted, counted from 1, separated by commas; without it all but transparency. In
    /// a TIFF that does not tell what its pages are, pages
    #[arg(long, value_delimiter = ',', value_parser = positive, value_name = "N,...")]
    pub select_channels: Option<Vec<usize>>,
    /// Planes (Z) of stacks, counted from 1: 3, 2-5, 1,4,7 or all; each of several is segmented and written on its own, as
    /// NAME_z001. In a TIFF that does not tell what its pages are, pages
    #[arg(long, value_parser = Numbers::from_str, value_name = "N|N-N|all")]
    pub plane: Option<Numbers>,
    /// Time points (T) of series, as --plane; NAME_t001
    #[arg(long, value_parser = Numbers::from_str, value_name = "N|N-N|all")]
    pub frame: Option<Numbers>,
}

/// Physical size of the pixels of images.
#[derive(Debug, Default, Args)]
pub struct PixelSizeArgs {
    /// Micrometres per pixel of all images, whatever their files tell
    #[arg(long, value_parser = positive_float, value_name = "UM")]
    pub pixel_size: Option<f32>,
    /// Take images as they are, also when their pixels, or for Cellpose their cells, have another size than those that the model
    /// was trained on
    #[arg(long)]
    pub no_rescale: bool,
}

impl PixelSizeArgs {
    /// Height and width of a pixel in micrometres, when given.
    pub fn given(&self) -> Option<[f64; 2]> {
        // The number that was typed, not its nearest 32-bit one.
        self.pixel_size
            .map(|side| side.to_string().parse().unwrap_or_else(|_| f64::from(side)))
            .map(|side| [side, side])
    }
}

/// `cellsparse evaluate`
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Predicted label images (0 background, 1 and up objects)
    #[arg(long, value_name = "DIR")]
    pub pred: PathBuf,
    /// True label images of the same names
    #[arg(long, value_name = "DIR")]
    pub truth: PathBuf,
    /// Intersection over union from which an object counts as found, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "0.5", value_parser = threshold, value_name = "F,...")]
    pub thresholds: Vec<f64>,
    /// Print one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// `cellsparse sparsify`
#[derive(Debug, Args)]
pub struct SparsifyArgs {
    /// Images
    #[arg(long, value_name = "PATH")]
    pub images: PathBuf,
    /// Their complete labels (0 background, 1 and up cells)
    #[arg(long, value_name = "PATH")]
    pub labels: PathBuf,
    /// Folder for the sparse labels (wire encoding: 0 unlabelled, 1 background, 2 and up cells)
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Keep N dark and N bright cells of each image (2N dark or 2N bright ones with --mode min or max)
    #[arg(long, value_parser = positive, value_name = "N")]
    pub k: usize,
    /// Which cells are kept, by mean intensity
    #[arg(long, value_enum, default_value_t = ModeChoice::Minmax, value_name = "M")]
    pub mode: ModeChoice,
    /// Also label background: copies of the kept cells shifted by 10 pixels up and left
    #[arg(long)]
    pub background: bool,
}

/// `cellsparse info`
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Model file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// `cellsparse convert`
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// Model of StarDist (folder, .zip, .h5 beside its config.json, bioimage.io package, TF_SavedModel.zip or frozen .pb of
    /// TensorFlow), weights of Cellpose 2 or 3 or elephant-core (PyTorch, or their arrays as .safetensors), or a model of cellsparse
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// What to write; its ending says it: .safetensors (a model of cellsparse), .pth (PyTorch), .onnx, .zip (bioimage.io
    /// package); of networks of StarDist also NAME/ (folder of its package), SavedModel.zip (Fiji) or .pb (QuPath, OpenCV)
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// JSON file with what --from does not tell: config.json of StarDist, normalization {"pmin", "pmax"}, diameter,
    /// pixel_size; for a package package {"name", "description", "authors", "license", "training_data"}; for .onnx onnx
    /// {"normalization": "inside"}, which has the network scale intensities itself
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `cellsparse serve`
#[derive(Debug, Args)]
#[command(after_help = SERVE_NOTES)]
pub struct ServeArgs {
    /// Address or host name to listen on. Anything but this computer's own address should have a token
    #[arg(long, default_value = "127.0.0.1", value_name = "HOST")]
    pub host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8000, value_name = "N")]
    pub port: u16,
    /// Folder of the models [default: $CELLSPARSE_MODEL_DIR, or .cellsparse/models in the home folder]
    #[arg(long, value_name = "DIR")]
    pub model_dir: Option<PathBuf>,
    /// Folder of the files that a reset may name as pretrained [default: pretrained in the folder of the models]
    #[arg(long, value_name = "DIR")]
    pub pretrained_dir: Option<PathBuf>,
    /// Folder of images that the page at /app offers to draw on, with the folders in it
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Weights of SAM or MobileSAM (.pth, .pt, .safetensors) for outlines by click on the page at /app; docs/interactive.md tells
    /// where they are from
    #[arg(long, value_name = "FILE")]
    pub sam: Option<PathBuf>,
    /// auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto", value_parser = Device::from_str, value_name = "D")]
    pub device: Device,
    /// Compute threads of each training and prediction; without it one per core
    #[arg(long, value_parser = positive, value_name = "N")]
    pub threads: Option<usize>,
    /// Memory that each training and prediction may take, like 4G or 1500M; without it half of what is free when it begins
    #[arg(long, value_parser = Budget::from_str, value_name = "BYTES")]
    pub memory: Option<Budget>,
    /// Answer only requests with the header "Authorization: Bearer TEXT" [default: $CELLSPARSE_TOKEN, or none]
    #[arg(long, value_name = "TEXT")]
    pub token: Option<String>,
    /// Refuse requests that the original server answered although it could do nothing useful
    #[arg(long)]
    pub strict: bool,
    /// Largest body of a request in MiB
    #[arg(long, default_value_t = 256, value_parser = positive, value_name = "MIB")]
    pub max_body: usize,
    /// Most pixels of an image
    #[arg(long, default_value_t = 100_000_000, value_parser = positive, value_name = "N")]
    pub max_pixels: usize,
    /// Most images in a request
    #[arg(long, default_value_t = 64, value_parser = positive, value_name = "N")]
    pub max_images: usize,
    /// Most models in the folder
    #[arg(long, default_value_t = 64, value_parser = positive, value_name = "N")]
    pub max_models: usize,
    /// Most optimiser steps of a training
    #[arg(long, default_value_t = 100_000, value_parser = positive, value_name = "N")]
    pub max_steps: usize,
    /// Most seconds of a training, which then ends with what it has learned; the learning rate falls in time for it
    #[arg(long, value_parser = positive_float, value_name = "SECONDS")]
    pub max_seconds: Option<f32>,
    /// Most trainings, and most predictions, that wait for their turn
    #[arg(long, default_value_t = 16, value_parser = positive, value_name = "N")]
    pub max_queue: usize,
    /// Predictions at a time
    #[arg(long, default_value_t = 2, value_parser = positive, value_name = "N")]
    pub predictions: usize,
    /// Trainings at a time; of one model always one
    #[arg(long, default_value_t = 1, value_parser = positive, value_name = "N")]
    pub trainings: usize,
}

const SERVE_NOTES: &str = "\
Prints 'listening on http://HOST:PORT' when it is ready. The page to draw, see and correct is http://HOST:PORT/app. Ctrl-C stops running trainings after their step and keeps what was
learned. The requests and answers are described at /openapi.json and in docs/server.md.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let line = "cellsparse train --algorithm stardist --images i --labels l --model m";
        let Command::Train(train) = Cli::parse_from(line.split(' ')).command else { panic!("not train") };
        assert_eq!((train.steps, train.batch_size, train.patch_size, train.seed), (None, None, None, 0));
        assert_eq!((train.label_encoding, train.preset, train.device), (Encoding::Auto, Preset::Default, Device::Auto));
        assert_eq!((train.lr, train.channels, train.time_budget, train.threads), (None, None, None, None));
        let line =
            "cellsparse predict --model m --images i --out o --format labels,geojson,overlay,csv,rois,ometiff,omezarr";
        let Command::Predict(predict) = Cli::parse_from(line.split(' ')).command else { panic!("not predict") };
        let all = [
            Format::Labels,
            Format::Geojson,
            Format::Overlay,
            Format::Csv,
            Format::Rois,
            Format::Ometiff,
            Format::Omezarr,
        ];
        assert_eq!(predict.format, all);
        assert_eq!(predict.outline, OutlineChoice::Exact);
        assert_eq!((predict.select.plane, predict.select.frame, predict.select.select_channels), (None, None, None));
        assert_eq!((predict.size.given(), predict.size.no_rescale), (None, false));
        let line = "cellsparse train --algorithm auto --images i --labels l --model m --plane 2 --pixel-size 0.65 --no-rescale";
        let Command::Train(train) = Cli::parse_from(line.split(' ')).command else { panic!("not train") };
        assert_eq!(train.read.options(), ReadOptions { plane: Some(2), ..ReadOptions::default() });
        assert_eq!((train.size.given(), train.size.no_rescale), (Some([0.65, 0.65]), true));
        let line = "cellsparse predict --model m --images i --out o --select-channels 3,1 --plane 2 --frame 4";
        let Command::Predict(predict) = Cli::parse_from(line.split(' ')).command else { panic!("not predict") };
        let select = predict.select;
        assert_eq!(select.select_channels, Some(vec![3, 1]));
        assert_eq!((select.plane, select.frame), (Some(Numbers::One(2)), Some(Numbers::One(4))));
        let Command::Demo(demo) = Cli::parse_from(["cellsparse", "demo"]).command else { panic!("not demo") };
        assert_eq!((demo.algorithm, demo.steps, demo.seed), (AlgorithmChoice::Auto, 100, 0));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "cellsparse train --algorithm stardist --images i --labels l --model m --steps 0",
            "cellsparse train --algorithm stardist --images i --labels l --model m --lr -1",
            "cellsparse train --algorithm stardist --images i --labels l --model m --val-images v",
            "cellsparse train --algorithm stardist --images i --labels l --model m --init a --resume",
            "cellsparse train --algorithm unet --images i --labels l --model m",
            "cellsparse evaluate --pred p --truth t --thresholds 0.5,2",
            "cellsparse predict --model m --images i --out o --format png",
            "cellsparse predict --model m --images i --out o --plane 0",
            "cellsparse predict --model m --images i --out o --pixel-size 0",
            "cellsparse train --algorithm stardist --images i --labels l --model m --plane all",
            "cellsparse predict --model m --images i --out o --select-channels 0,1",
            "cellsparse demo --device tpu",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}

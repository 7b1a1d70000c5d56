//! cellsparse against recorded results of StarDist, Cellpose, elephant-core, PyTorch, scikit-image and cellsparse-api.

mod cellpose;
mod cellpose_masks;
mod cellsparse;
mod elephant;
mod keras;
mod losses;
mod matching;
mod network;
mod network_torch;
mod nms;
mod pytorch;
mod sam;
mod targets;
mod tensorflow;
mod training;
mod watershed;

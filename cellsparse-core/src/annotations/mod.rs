//! Sparse labels: parsed once, explained when wrong, and simulated from dense ones.

mod advice;
mod cut;
mod dataset;
mod encoding;
mod encoding_check;
mod encoding_choice;
mod label_source;
mod rim;
mod sparse_labels;
mod sparsify;

pub use self::advice::advice;
pub use self::cut::forget_cut_objects;
pub use self::dataset::Dataset;
pub use self::encoding::LabelEncoding;
pub use self::encoding_check::refuse_mask;
pub use self::encoding_choice::{EncodingChoice, choose_encoding};
pub use self::label_source::LabelSource;
pub use self::rim::background_rim;
pub use self::sparse_labels::SparseLabels;
pub use self::sparsify::{SparsifyMode, sparsify};

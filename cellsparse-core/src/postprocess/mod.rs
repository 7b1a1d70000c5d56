//! From network maps to objects: no tensors here.

mod candidates;
mod circles;
pub mod clean;
pub mod elephant;
mod flood_queue;
pub mod flow_following;
mod grey_levels;
mod level_table;
mod marker_heap;
pub mod mask_cleaning;
pub mod masks;
mod neighbours;
pub mod nms;
pub mod patches;
mod spans;
pub mod spots;
pub mod stars;
pub mod strips;
pub mod thresholds;
pub mod watershed;

pub use self::candidates::{BORDER, MAX_CANDIDATES, MAX_RAYS, StarCandidates, candidates};

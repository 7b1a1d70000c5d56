//! What a network is trained to answer: pure functions from label images to arrays.

pub mod stardist;

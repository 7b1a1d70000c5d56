//! The rules of the house: rooms import each other as the picture says, and the documents say what the code does.

mod documentation;
mod growth;
mod layering;
mod metal;
mod set_up;
mod surface;

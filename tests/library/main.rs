//! The library as its users call it: every algorithm through the facade, bad input, and whole ways from pixels to objects.

mod bad_input;
mod end_to_end;
mod facade;
mod limits;
mod mixed_sizes;
mod model_files;
mod pixel_sizes;
mod zarr;

//! Microscope fields that the library draws itself: with ground truth, and annotated sparsely as a careful person would.

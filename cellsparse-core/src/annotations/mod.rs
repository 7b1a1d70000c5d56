//! Sparse labels: parsed once, explained when wrong, and simulated from dense ones.

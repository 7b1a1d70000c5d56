//! From network maps to objects: no tensors here.

//! StarDist targets: object probability and radial distances.

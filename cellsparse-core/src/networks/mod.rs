//! Networks described once as graphs, and the executors that run them.

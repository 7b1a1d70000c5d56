//! CPU kernels of the networks. The only room that may use `unsafe`.

//! Empty: everything is in `examples/` and `tests/`.

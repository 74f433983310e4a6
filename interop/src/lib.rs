//! Empty: this package consists of its `examples/` and `tests/`.

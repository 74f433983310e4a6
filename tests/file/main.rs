//! The file store: the conformance suite, several processes, and what can go wrong. Feature `file`.

mod conformance;
mod support;

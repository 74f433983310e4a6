//! stub
/// stub
#[derive(Default)]
pub struct MemoryStore;

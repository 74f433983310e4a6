//! What is below an error of a driver.

use std::{error::Error, io, iter::successors, sync::Arc};

/// The error and everything below it. Unlike [`Error::source`], this finds what an I/O error or an `Arc` holds.
pub(super) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |error| below(*error))
}

fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return Some(&**shared);
    }
    match error.downcast_ref().and_then(io::Error::get_ref) {
        Some(held) => Some(held),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Below(Arc<dyn Error + Send + Sync>);

    impl fmt::Display for Below {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("below")
        }
    }

    impl Error for Below {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn what_io_errors_and_shared_errors_hold_is_found() {
        let held = io::Error::other(fmt::Error);
        let error = io::Error::other(Below(Arc::new(held)));
        assert!(causes(&error).any(|cause| cause.is::<fmt::Error>()));
        assert!(!causes(&error).any(|cause| cause.is::<std::num::ParseIntError>()));
        assert_eq!(causes(&fmt::Error).count(), 1);
    }
}

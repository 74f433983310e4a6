//! What a request's head can be taken from.

use http::{Request, request::Parts};

/// A request, or its head. The body is dropped unread. Sealed.
pub trait IntoParts: sealed::Sealed {
    /// The head.
    fn into_parts(self) -> Parts;
}

impl<B> IntoParts for Request<B> {
    fn into_parts(self) -> Parts {
        Request::into_parts(self).0
    }
}

impl IntoParts for Parts {
    fn into_parts(self) -> Parts {
        self
    }
}

impl IntoParts for &Parts {
    fn into_parts(self) -> Parts {
        self.clone()
    }
}

mod sealed {
    pub trait Sealed {}
    impl<B> Sealed for http::Request<B> {}
    impl Sealed for http::request::Parts {}
    impl Sealed for &http::request::Parts {}
}

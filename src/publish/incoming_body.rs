//! Reads a request's body up to a limit. Knows nothing of its content.

use std::{error::Error, pin::Pin, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError};

use super::body_memory::{Reserved, UNCOUNTED};
use crate::{problem::Problem, request::BadParameter, retry::Retry};

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request, and how much of it was read.
pub(super) struct IncomingBody<'a, B> {
    body: Pin<&'a mut B>,
    progress: ReadProgress,
}

/// How much of a body was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadProgress {
    Unread,
    Started,
    Complete,
    /// Reading failed; nothing more will come.
    Failed,
}

impl<'a, B> IncomingBody<'a, B>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(body: Pin<&'a mut B>) -> Self {
        let progress = if body.is_end_stream() { ReadProgress::Complete } else { ReadProgress::Unread };
        Self { body, progress }
    }

    pub(super) fn progress(&self) -> ReadProgress {
        self.progress
    }

    /// The number of bytes that are still to come, at least.
    pub(super) fn min_remaining(&self) -> u64 {
        self.body.size_hint().lower()
    }

    /// The next chunk of data.
    pub(super) async fn next_chunk(&mut self) -> Option<Result<B::Data, BoxError>> {
        loop {
            self.progress = ReadProgress::Started;
            match self.body.frame().await {
                None => {
                    self.progress = ReadProgress::Complete;
                    return None;
                }
                Some(Err(error)) => {
                    self.progress = ReadProgress::Failed;
                    return Some(Err(error.into()));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
            }
        }
    }

    /// The whole body, up to `max_bytes`, in the memory that is `reserved` for it. Stops reading at the first error.
    pub(super) async fn collect(&mut self, max_bytes: usize, reserved: &mut Reserved<'_>) -> Result<Bytes, Problem> {
        let length = self.min_remaining();
        let longest = self.body.size_hint().upper().map_or(max_bytes, |upper| max_bytes.min(upper as usize));
        if length > max_bytes as u64 {
            return Err(too_large(max_bytes));
        }
        // Copied into one buffer: a chunk keeps the buffer alive that it was read into, which for a chunk of one byte is many
        // times its size.
        let mut whole = Vec::with_capacity(UNCOUNTED.min(length as usize));
        while let Some(data) = self.next_chunk().await {
            let data = data.map_err(|error| read_failed(error.as_ref(), max_bytes))?;
            if data.remaining() > max_bytes - whole.len() {
                return Err(too_large(max_bytes));
            }
            let (needed, doubled) = (whole.len() + data.remaining(), longest.min(2 * whole.capacity()));
            if needed > whole.capacity() {
                let capacity = needed.max(doubled);
                reserved.grow_to(capacity)?;
                whole.reserve_exact(capacity - whole.len());
            }
            whole.put(data);
        }
        Ok(whole.into())
    }

    /// Gives up a body that takes too long to arrive: what is left of it will not be read.
    pub(super) fn give_up(&mut self, after: Duration) -> Problem {
        self.progress = ReadProgress::Failed;
        Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {after:?}"))
            .kind("body-timeout")
            .temporary(Retry::SOON)
    }
}

fn read_failed(error: &(dyn Error + 'static), max_bytes: usize) -> Problem {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    // The limit of a layer in front of the service counts as well.
    if causes.any(|cause| cause.is::<LengthLimitError>()) {
        return too_large(max_bytes);
    }
    tracing::debug!(%error, "reading the body of a publish failed");
    BadParameter::new("body", "could not be read completely").into()
}

fn too_large(max_bytes: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is too large: at most {max_bytes} bytes are accepted"),
    )
    .kind("too-large")
    .parameter("body")
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, pin::pin, task};

    use http_body::Frame;
    use http_body_util::{Full, Limited};

    use super::{super::body_memory::BodyMemory, *};

    /// Frames of one byte, then an error.
    struct Bytewise {
        left: usize,
    }

    impl http_body::Body for Bytewise {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
        ) -> task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            if self.left == 0 {
                return task::Poll::Ready(Some(Err("reset".into())));
            }
            self.left -= 1;
            task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    async fn collect<B>(body: B, max_bytes: usize) -> Result<Bytes, Problem>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let body = pin!(body);
        IncomingBody::new(body).collect(max_bytes, &mut BodyMemory::new(0).reserve()).await
    }

    fn status<T>(read: Result<T, Problem>) -> u16 {
        read.map_or_else(|problem| problem.status().as_u16(), |_| 200)
    }

    #[tokio::test]
    async fn a_body_is_bounded_while_it_is_read() {
        let full = |bytes: &'static str| Full::new(Bytes::from_static(bytes.as_bytes()));
        assert_eq!(collect(full("abc"), 3).await.unwrap(), "abc");
        assert_eq!(status(collect(full("abcd"), 3).await), 413);
        assert_eq!(status(collect(Bytewise { left: 10 }, 3).await), 413);
        assert_eq!(status(collect(Bytewise { left: 3 }, 3).await), 400);
        assert_eq!(status(collect(Limited::new(Bytewise { left: 10 }, 2), 5).await), 413);
        assert_eq!(
            collect(http_body_util::Empty::<Bytes>::new().map_err(|never: Infallible| match never {}), 0)
                .await
                .unwrap(),
            ""
        );
    }
}

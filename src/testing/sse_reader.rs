//! Reads an event stream in a test, as a page's `EventSource` would. The only file of `testing` that knows bodies; it shares
//! no code with the services that write streams.

mod error;
mod event;
mod parser;

use std::{error::Error, fmt, future::poll_fn, pin::Pin, time::Duration};

use http_body::Body;

use self::parser::Parser;
pub use self::{error::SseReadError, event::SseEvent};

/// Reads the events of a body of `text/event-stream`, by the rules of the WHATWG HTML standard (section 9.2.6), for tests of
/// handlers: no server and no socket are needed.
///
/// The body may be of any kind: [`SseBody`](crate::SseBody), [`Body`](crate::Body), that of a web framework, or that of an HTTP
/// client. Blocks without data are no events: comments, and what only sets the [id](Self::last_event_id) or the
/// [delay](Self::retry).
///
/// ```
/// use http::Request;
/// use tower_events::{Channel, Event, EventService, Hub, MemoryStore, testing::SseReader};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::new(MemoryStore::default());
/// let news = Channel::new("news")?;
/// hub.publish(&news, Event::text("hello").named("greeting")?).await?;
///
/// // A handler, or a whole `Router`, through `tower::ServiceExt::oneshot`.
/// let events = EventService::fixed(hub.clone(), news.clone());
/// let request = Request::get("/events?after=beginning").header("accept", "text/event-stream").body(())?;
/// let response = events.respond(request, news.clone()).await;
///
/// let mut reader = SseReader::new(response.into_body());
/// let hello = reader.next().await?.expect("an event");
/// assert_eq!((hello.name.as_str(), hello.data.as_str()), ("greeting", "hello"));
/// assert_eq!(reader.next().await?.expect("the end of the history").name, "stream-live");
///
/// hub.close(&news).await?;
/// assert_eq!(reader.next().await?.expect("the end of the channel").name, "stream-end");
/// assert_eq!(reader.next().await?, None);
/// # Ok(())
/// # }
/// ```
///
/// A stream that is expected to stay silent, and a smaller bound:
///
/// ```
/// use std::time::Duration;
/// use tower_events::{Channel, Hub, MemoryStore, Subscription, testing::SseReader};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::new(MemoryStore::default());
/// let body = hub.sse(Subscription::new(Channel::new("news")?)).await?;
/// let mut reader = SseReader::new(body).max_block_bytes(64 << 10);
/// assert_eq!(reader.next().await?.expect("a mark").name, "stream-live");
/// # tokio::time::pause();
/// assert!(tokio::time::timeout(Duration::from_secs(1), reader.next()).await.is_err());
/// # Ok(())
/// # }
/// ```
pub struct SseReader<B: Body> {
    /// `None` when it has ended.
    body: Option<Pin<Box<B>>>,
    /// What has not been parsed yet of the last frame.
    chunk: Option<B::Data>,
    parser: Parser,
}

impl<B: Body> SseReader<B> {
    /// A reader of this body.
    pub fn new(body: B) -> Self {
        Self { body: Some(Box::pin(body)), chunk: None, parser: Parser::new(MAX_BLOCK_BYTES) }
    }

    /// Sets the most bytes that a block may have, so that a stream that never ends a block fails the test. Default 16 MiB.
    #[must_use]
    pub fn max_block_bytes(mut self, bytes: usize) -> Self {
        self.parser.max_block_bytes = bytes;
        self
    }

    /// The id from which an `EventSource` would resume now (`Last-Event-ID`); empty before the first.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        self.parser.last_event_id()
    }

    /// How long an `EventSource` would wait now before it reconnects, if the stream has set that.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.parser.retry()
    }
}

impl<B: Body<Error: Into<Box<dyn Error + Send + Sync>>>> SseReader<B> {
    /// The next event; `None` when the stream has ended. Of a block that the end of the stream cuts off nothing is used.
    ///
    /// # Errors
    /// [`SseReadError`]. Afterwards the reader is at its end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the next call continues.
    pub async fn next(&mut self) -> Result<Option<SseEvent>, SseReadError> {
        loop {
            match self.parse() {
                Ok(None) => {}
                done => return done,
            }
            let Some(body) = &mut self.body else { return Ok(None) };
            match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                None => self.body = None,
                Some(Ok(frame)) => self.chunk = frame.into_data().ok(),
                Some(Err(error)) => {
                    self.body = None;
                    return Err(SseReadError::Body(error.into()));
                }
            }
        }
    }

    fn parse(&mut self) -> Result<Option<SseEvent>, SseReadError> {
        let Some(chunk) = &mut self.chunk else { return Ok(None) };
        let event = self.parser.read(chunk);
        if !matches!(event, Ok(Some(_))) {
            self.chunk = None;
        }
        event.inspect_err(|_| self.body = None)
    }
}

impl<B: Body> fmt::Debug for SseReader<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseReader").field("last_event_id", &self.last_event_id()).finish_non_exhaustive()
    }
}

/// As large as the largest append of most stores.
const MAX_BLOCK_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, io, task::Context};

    use bytes::Bytes;
    use http_body::Frame;

    use super::*;

    /// A body of these frames.
    struct Frames(VecDeque<Result<Frame<Bytes>, io::Error>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            self.0.pop_front().into()
        }
    }

    fn data(text: &str) -> Result<Frame<Bytes>, io::Error> {
        Ok(Frame::data(Bytes::from(text.to_owned())))
    }

    fn reader(frames: impl IntoIterator<Item = Result<Frame<Bytes>, io::Error>>) -> SseReader<Frames> {
        SseReader::new(Frames(frames.into_iter().collect()))
    }

    async fn next(reader: &mut SseReader<Frames>) -> Option<String> {
        reader.next().await.unwrap().map(|event| event.data)
    }

    #[tokio::test]
    async fn all_events_of_a_frame_are_returned_one_by_one_and_then_the_end() {
        let trailers = Ok(Frame::trailers(http::HeaderMap::new()));
        let mut reader =
            reader([data("data: 1\n\nda"), data(""), data("ta: 2\n\ndata: 3\n\ndata: cut off\n"), trailers]);
        for expected in [Some("1"), Some("2"), Some("3"), None, None] {
            assert_eq!(next(&mut reader).await.as_deref(), expected);
        }
    }

    #[tokio::test]
    async fn the_state_of_the_stream_is_that_after_the_last_block() {
        let mut reader = reader([data("id: 1\nretry: 20\ndata: a\n\nid: 2\nretry: 30\n\ndata: b\n\n")]);
        assert_eq!((reader.last_event_id(), reader.retry()), ("", None));
        let first = reader.next().await.unwrap().unwrap();
        assert_eq!((first.id.as_str(), first.retry), ("1", Some(Duration::from_millis(20))));
        assert_eq!((reader.last_event_id(), reader.retry()), ("1", Some(Duration::from_millis(20))));
        let second = reader.next().await.unwrap().unwrap();
        assert_eq!((second.id.as_str(), second.retry), ("2", None));
        assert_eq!((reader.last_event_id(), reader.retry()), ("2", Some(Duration::from_millis(30))));
    }

    #[tokio::test]
    async fn an_error_of_the_body_comes_after_the_events_before_it_and_ends_the_stream() {
        let mut reader = reader([data("data: 1\n\ndata: 2\n"), Err(io::Error::other("reset")), data("data: 3\n\n")]);
        assert_eq!(next(&mut reader).await.as_deref(), Some("1"));
        let error = reader.next().await.unwrap_err();
        assert!(matches!(error, SseReadError::Body(_)), "{error:?}");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("reset"));
        assert_eq!(next(&mut reader).await, None);
    }

    #[tokio::test]
    async fn a_block_that_is_too_large_is_an_error_and_ends_the_stream() {
        let endless = (0..100).map(|_| data("data: 123456789\n"));
        let mut reader = reader([data("data: 1\n\n")].into_iter().chain(endless)).max_block_bytes(64);
        assert_eq!(next(&mut reader).await.as_deref(), Some("1"));
        let error = reader.next().await.unwrap_err();
        assert!(matches!(error, SseReadError::BlockTooLarge { max: 64 }), "{error:?}");
        assert_eq!(next(&mut reader).await, None);
    }
}

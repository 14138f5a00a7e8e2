//! A connection to a Redis server of which no more is read than was asked for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::{Framing, FramingError};
use crate::limits::SHARED_REPLY_BYTES;

/// Fails reading at the first octet of a reply that is longer than [`SHARED_REPLY_BYTES`], or says that it will be, and
/// of one that nobody asked for. What decodes replies behind it never holds more than that of one.
pub(super) struct Guarded<S> {
    stream: S,
    asked: Framing,
    answered: Framing,
    /// Questions without a whole answer.
    open: u64,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, asked: Framing::new(usize::MAX), answered: Framing::new(SHARED_REPLY_BYTES), open: 0 }
    }

    fn heard(&mut self, octets: &[u8]) -> Result<(), FramingError> {
        let ended = self.answered.follow(octets)?;
        self.open = self.open.checked_sub(ended).ok_or(FramingError::Unasked)?;
        Ok(())
    }

    fn said(&mut self, octets: &[u8]) -> Result<(), FramingError> {
        self.open = self.open.saturating_add(self.asked.follow(octets)?);
        Ok(())
    }
}

fn refused(error: FramingError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let heard = this.heard(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(heard.map_err(|error| {
            buffer.set_filled(before);
            refused(error)
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, octets))?;
        this.said(octets.get(..written).unwrap_or_default()).map_err(refused)?;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const QUESTION: &[u8] = b"*1\r\n$4\r\nPING\r\n";

    /// What is read after so many questions, where this is sent.
    async fn read(questions: usize, sent: &[u8]) -> io::Result<usize> {
        let (near, mut far) = duplex(8 << 20);
        let mut guarded = Guarded::new(near);
        guarded.write_all(&QUESTION.repeat(questions)).await?;
        far.write_all(sent).await?;
        drop(far);
        let (mut octets, mut all) = ([0; 65_536], 0);
        loop {
            match guarded.read(&mut octets).await? {
                0 => return Ok(all),
                count => all += count,
            }
        }
    }

    #[tokio::test]
    async fn one_answer_for_each_question_and_none_too_long() {
        let longest = format!("${0}\r\n{1}\r\n", SHARED_REPLY_BYTES - 12, "x".repeat(SHARED_REPLY_BYTES - 12));
        assert_eq!(longest.len(), SHARED_REPLY_BYTES);
        assert_eq!(read(2, longest.repeat(2).as_bytes()).await.ok(), Some(2 * SHARED_REPLY_BYTES));
        for (questions, sent) in [(0, "+OK\r\n"), (1, "+OK\r\n+OK\r\n"), (1, "$2000000\r\n"), (1, "HTTP/1.1 400\r\n")] {
            let refused = read(questions, sent.as_bytes()).await.map_err(|error| error.kind());
            assert_eq!(refused, Err(io::ErrorKind::InvalidData), "{sent}");
        }
    }
}

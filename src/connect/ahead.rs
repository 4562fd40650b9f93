//! Reading ahead where much comes: the driver asks for 8 KiB at a time, which is a system call for a few dozen rows.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes that are asked for at once while they keep coming.
const AHEAD: usize = 64 << 10;

/// What was read ahead. It takes memory only while much comes.
#[derive(Default)]
pub(super) struct Ahead {
    /// Room, made when it is needed; what is in it and not handed on yet lies between the two.
    room: Vec<u8>,
    at: usize,
    end: usize,
    /// The last answer took all the room that it was given.
    much: bool,
}

impl Ahead {
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        source: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at == self.end {
            if !self.much {
                ready!(Pin::new(source).poll_read(cx, buf))?;
                self.much = buf.remaining() == 0;
                return Poll::Ready(Ok(()));
            }
            self.room.resize(AHEAD, 0);
            let mut read = ReadBuf::new(&mut self.room);
            ready!(Pin::new(source).poll_read(cx, &mut read))?;
            (self.at, self.end) = (0, read.filled().len());
        }
        let length = buf.remaining().min(self.end - self.at);
        buf.put_slice(&self.room[self.at..self.at + length]);
        self.at += length;
        if self.at == self.end && buf.remaining() > 0 {
            // No more is there for the moment.
            *self = Self::default();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// Gives so many bytes each time that it is asked, or nothing for the moment.
    struct Source {
        bytes: VecDeque<u8>,
        portions: VecDeque<usize>,
    }

    impl AsyncRead for Source {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let portion = self.portions.pop_front().unwrap_or(usize::MAX);
            if portion == 0 {
                return Poll::Pending;
            }
            let length = portion.min(buf.remaining()).min(self.bytes.len());
            buf.put_slice(&self.bytes.drain(..length).collect::<Vec<_>>());
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn the_same_bytes_come_whatever_portions_they_come_in(
            length in 0usize..400_000,
            portions in proptest::collection::vec(prop_oneof![Just(0usize), 1usize..100, 8_000usize..70_000, Just(usize::MAX)], 0..60),
            asked in 1usize..20_000,
        ) {
            let sent: Vec<u8> = (0..length).map(|n| (n * 31 % 251) as u8).collect();
            let mut source = Source { bytes: sent.clone().into(), portions: portions.into() };
            let (mut ahead, mut came) = (Ahead::default(), Vec::new());
            loop {
                let mut bytes = vec![0; asked];
                let mut buf = ReadBuf::new(&mut bytes);
                match ahead.poll_read(&mut source, &mut Context::from_waker(Waker::noop()), &mut buf) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) if buf.filled().is_empty() => break,
                    Poll::Ready(answer) => {
                        answer.unwrap();
                        came.extend_from_slice(buf.filled());
                    }
                }
            }
            prop_assert!(came == sent);
            prop_assert_eq!(ahead.room.len(), 0, "nothing is kept once nothing comes");
        }
    }
}

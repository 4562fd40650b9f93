//! What the driver reads from and writes to: the socket, and, before a pooler, the rewriting of its messages.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready as until_ready};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::ahead::Ahead;
use super::frames::Frames;
use super::socket::Socket;
use super::unnamed::Unnamed;

/// Bytes that wait to be sent, at most, before more are taken.
const FULL: usize = 64 << 10;

/// Seen by whoever opens a connection, while the driver has the stream.
pub(super) struct Link {
    /// The process number that was told at login, above [`TOLD`].
    process_id: AtomicU64,
    mode: AtomicU8,
}

const TOLD: u64 = 1 << 32;
const UNDECIDED: u8 = 0;
const DIRECT: u8 = 1;
const POOLED: u8 = 2;

impl Link {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { process_id: AtomicU64::new(0), mode: AtomicU8::new(UNDECIDED) })
    }

    /// The server's process, as it was told at login.
    pub(super) fn process_id(&self) -> Option<u32> {
        let told = self.process_id.load(Relaxed);
        (told >= TOLD).then_some(told as u32)
    }

    /// How messages go from now on. Nothing may be under way.
    pub(super) fn decide(&self, pooled: bool) {
        self.mode.store(if pooled { POOLED } else { DIRECT }, Relaxed);
    }
}

pub(super) struct Stream {
    socket: Socket,
    link: Arc<Link>,
    way: Way,
}

enum Way {
    /// It is not known yet what is at the other end; its messages are looked at and passed on.
    Undecided(Frames),
    Direct(Ahead),
    Pooled(Box<Unnamed>),
}

impl Stream {
    pub(super) fn new(socket: Socket, link: Arc<Link>) -> Self {
        Self { socket, link, way: Way::Undecided(Frames::default()) }
    }

    fn decided(&mut self) -> io::Result<()> {
        let Way::Undecided(frames) = &self.way else { return Ok(()) };
        match self.link.mode.load(Relaxed) {
            DIRECT => self.way = Way::Direct(Ahead::default()),
            POOLED if !frames.at_boundary() => return Err(io::Error::other("the server spoke out of turn; connect again")),
            POOLED => self.way = Way::Pooled(Box::default()),
            _ => {}
        }
        Ok(())
    }

    /// Sends what was rewritten and waits.
    fn poll_drain(&mut self, cx: &mut Context<'_>, down_to: usize) -> Poll<io::Result<()>> {
        let Way::Pooled(unnamed) = &mut self.way else { return Poll::Ready(Ok(())) };
        while unnamed.to_server.len() > down_to {
            let sent = until_ready!(Pin::new(&mut self.socket).poll_write(cx, &unnamed.to_server))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            unnamed.to_server.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.decided()?;
        match &mut this.way {
            Way::Direct(ahead) => ahead.poll_read(&mut this.socket, cx, buf),
            Way::Undecided(frames) => {
                let before = buf.filled().len();
                until_ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
                if let Some(process_id) = frames.look(&buf.filled()[before..]) {
                    this.link.process_id.store(TOLD | u64::from(process_id), Relaxed);
                }
                Poll::Ready(Ok(()))
            }
            Way::Pooled(unnamed) => loop {
                if !unnamed.to_client.is_empty() {
                    let n = unnamed.to_client.len().min(buf.remaining());
                    buf.put_slice(&unnamed.to_client[..n]);
                    unnamed.to_client.advance(n);
                    return Poll::Ready(Ok(()));
                }
                let mut bytes = [0; 16 << 10];
                let mut read = ReadBuf::new(&mut bytes);
                until_ready!(Pin::new(&mut this.socket).poll_read(cx, &mut read))?;
                if read.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
                unnamed.answered(read.filled())?;
            },
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.decided()?;
        if !matches!(this.way, Way::Pooled(_)) {
            return Pin::new(&mut this.socket).poll_write(cx, buf);
        }
        until_ready!(this.poll_drain(cx, FULL))?;
        if let Way::Pooled(unnamed) = &mut this.way {
            unnamed.rewrite(buf)?;
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        until_ready!(this.poll_drain(cx, 0))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        until_ready!(this.poll_drain(cx, 0))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        self.socket.end_point().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// Tells the driver that the stream is as it should be.
pub(super) struct Hello;

impl<S: TlsStream + Unpin> TlsConnect<S> for Hello {
    type Stream = S;
    type Error = io::Error;
    type Future = Ready<io::Result<S>>;

    fn connect(self, stream: S) -> Self::Future {
        ready(Ok(stream))
    }
}

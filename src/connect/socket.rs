//! The bare way to a server: TCP, a Unix socket, and either with TLS around it.

use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use crate::config::Server;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Place {
    /// Nothing can listen in between: as in libpq, nothing is encrypted.
    #[cfg(feature = "tls")]
    pub(super) fn is_local(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }
}

pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<super::tls::Encrypted>),
}

impl Socket {
    pub(super) async fn connect(server: &Server, place: &Place) -> io::Result<Self> {
        match place {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let socket = SockRef::from(&stream);
                if let Some(keepalive) = &server.keepalive {
                    socket.set_tcp_keepalive(keepalive)?;
                }
                #[cfg(target_os = "linux")]
                if server.tcp_user_timeout.is_some() {
                    socket.set_tcp_user_timeout(server.tcp_user_timeout)?;
                }
                Ok(Self::Tcp(stream))
            }
            #[cfg(unix)]
            Place::Unix(path) => {
                UnixStream::connect(path).await.map(Self::Unix).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
            }
        }
    }

    pub(super) fn is_encrypted(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
            _ => false,
        }
    }

    /// What SCRAM binds the login to: the server's certificate (`tls-server-end-point`).
    pub(super) fn end_point(&self) -> Option<Vec<u8>> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(encrypted) => encrypted.end_point.clone(),
            _ => None,
        }
    }
}

/// The same call on whatever is inside.
macro_rules! inside {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Tcp($stream) => $call,
            #[cfg(unix)]
            Socket::Unix($stream) => $call,
            #[cfg(feature = "tls")]
            Socket::Tls(encrypted) => {
                let $stream = &mut encrypted.stream;
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        inside!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        inside!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

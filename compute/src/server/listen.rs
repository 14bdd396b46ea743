//! The socket: connections within bounds, and an end that lets requests finish.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

/// What connections may do.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many may be open; fewer than the files that a process may have open by default.
    pub n_connections: usize,
    /// How long a client may take for the head of a request, and be silent between two.
    pub head_time: Duration,
    /// How long a client may take nothing of an answer.
    pub stalled_time: Duration,
    /// How long requests may go on when the server stops.
    pub grace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            n_connections: 768,
            head_time: Duration::from_secs(15),
            stalled_time: Duration::from_secs(60),
            grace: Duration::from_secs(5),
        }
    }
}

/// What a client is told when there are too many of them.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n\
    Content-Length: 0\r\n\r\n";

/// Serves until `stop` turns true, and then until what is under way is done, but not for long.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(bounds.n_connections));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => match permits.clone().try_acquire_owned() {
                Ok(permit) => connect(stream, peer, app.clone(), bounds, &graceful, permit),
                Err(_) => {
                    tokio::spawn(async move {
                        let mut stream = stream;
                        let _ = stream.write_all(BUSY).await;
                    });
                }
            },
            Err(error) => {
                // Too many open files, or a connection that ended before it began: others go on.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(bounds.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections were cut off");
    }
}

fn connect(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    bounds: Bounds,
    graceful: &GracefulShutdown,
    permit: OwnedSemaphorePermit,
) {
    // Events are small, and wanted at once.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(bounds.stalled_time));
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        app.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_time)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        // Clients come and go in all ways; none of them is the server's failure.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(permit);
    });
}

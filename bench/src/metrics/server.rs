//! The HTTP server: `GET /metrics`, and nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, body};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use crate::failure::Failure;
use crate::output;

/// What an OpenMetrics page calls itself.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Connections that are open at a time; others wait to be accepted.
const CONNECTIONS_MAX: usize = 16;
/// Who has not said what it wants by then is hung up on.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes a page, or says why there is none.
type MakePage = dyn Fn() -> anyhow::Result<String> + Send + Sync;

/// Serves pages from a thread of its own until the process ends. Port 0 takes a free one; where it listens is said on
/// stderr.
///
/// # Errors
/// If the address can not be had.
pub(crate) fn serve(
    address: SocketAddr,
    page: impl Fn() -> anyhow::Result<String> + Send + Sync + 'static,
) -> Result<SocketAddr, Failure> {
    let refused = |error| Failure::value("metrics", address, format!("an address that is free here ({error})"));
    let listener = std::net::TcpListener::bind(address).map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let page: Arc<MakePage> = Arc::new(page);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
    let spawned = std::thread::Builder::new().name("metrics".into()).spawn(move || {
        runtime.block_on(accept(listener, page));
    });
    spawned.map_err(refused)?;
    output::tell(&format!("metrics at http://{bound}/metrics"));
    Ok(bound)
}

async fn accept(listener: std::net::TcpListener, page: Arc<MakePage>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return output::tell(&format!("metrics: {error}")),
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: do not spin on it.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let page = Arc::clone(&page);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&page)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            // A broken connection concerns only whoever was at its other end.
            let _ = connection.await;
            drop(permit);
        });
    }
}

async fn answer(request: Request<body::Incoming>, page: Arc<MakePage>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => made(page).await,
        (&Method::GET | &Method::HEAD, path) => plain(StatusCode::NOT_FOUND, format!("{path}: allowed: /metrics\n")),
        (method, _) => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, format!("{method}: allowed: GET, HEAD\n"));
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
    };
    if request.method() == Method::HEAD {
        *response.body_mut() = Full::default();
    }
    Ok(response)
}

/// A page takes an answer of the replica, which is waited for elsewhere: other connections go on meanwhile.
async fn made(page: Arc<MakePage>) -> Response<Full<Bytes>> {
    match tokio::task::spawn_blocking(move || page()).await {
        Ok(Ok(text)) => {
            let mut response = Response::new(Full::from(text));
            response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
            response
        }
        Ok(Err(error)) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PLAIN);
    response
}

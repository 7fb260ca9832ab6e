//! What operators ask a running detector over HTTP: `/metrics`, `/livez`, `/readyz`, and `POST /reload`.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::{get, post};

use crate::detector::Handle;
use crate::error::{Error, Result};
use crate::exposition;

/// Loads the model again and offers it to the detector; what became of it, in words.
pub type Reload = dyn Fn() -> std::result::Result<String, String> + Send + Sync;

/// Answers at `address` from a thread of its own, until the process ends; the address, whose port 0 has become
/// another.
///
/// # Errors
/// [`Error::Config`] where it cannot listen there.
pub fn serve(address: SocketAddr, handle: Handle, reload: Arc<Reload>) -> Result<SocketAddr> {
    let unusable = |error: std::io::Error| Error::Config(format!("cannot listen at {address}: {error}"));
    let listener = TcpListener::bind(address).map_err(unusable)?;
    listener.set_nonblocking(true).map_err(unusable)?;
    let bound = listener.local_addr().map_err(unusable)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unusable)?;
    let routes = routes(handle, reload);
    let answer = move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, routes).await
        })
    };
    let report = move || {
        if let Err(error) = answer() {
            tracing::error!(%error, "metrics and health are no longer served");
        }
    };
    std::thread::Builder::new().name("admin".into()).spawn(report).map_err(unusable)?;
    Ok(bound)
}

fn routes(handle: Handle, reload: Arc<Reload>) -> Router {
    let judged = |verdict: std::result::Result<(), String>| match verdict {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
    };
    let (live, ready) = (handle.clone(), handle.clone());
    let metrics = move || {
        let text = exposition::text(handle.metrics());
        std::future::ready(([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text))
    };
    // Off this thread: a large model takes a while to load, and health is asked meanwhile.
    let reload = move || async move {
        let outcome = tokio::task::spawn_blocking(move || reload()).await;
        match outcome.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(text) => (StatusCode::OK, text + "\n"),
            Err(reason) => (StatusCode::UNPROCESSABLE_ENTITY, reason + "\n"),
        }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(move || std::future::ready(judged(live.is_live()))))
        .route("/readyz", get(move || std::future::ready(judged(ready.is_ready()))))
        .route("/reload", post(reload))
}

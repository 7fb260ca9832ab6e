//! What operators ask a running program over HTTP: `/metrics`, `/livez`, `/readyz`, and of a detector `POST /reload`.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};

use crate::detector::Handle;
use crate::error::{Error, Result};
use crate::exposition;
use crate::replay_metrics::ReplayMetrics;

/// Loads the model again and offers it to the detector; what became of it, in words.
pub type Reload = dyn Fn() -> std::result::Result<String, String> + Send + Sync;

/// A running program as operators see it.
pub trait Observed: Send + Sync + 'static {
    /// Its metrics now, as OpenMetrics text.
    fn open_metrics(&self) -> String;

    /// # Errors
    /// Why it should be started again.
    fn is_live(&self) -> std::result::Result<(), String>;

    /// # Errors
    /// Why it does no work.
    fn is_ready(&self) -> std::result::Result<(), String>;
}

impl Observed for Handle {
    fn open_metrics(&self) -> String {
        exposition::text(self.metrics())
    }

    fn is_live(&self) -> std::result::Result<(), String> {
        self.is_live()
    }

    fn is_ready(&self) -> std::result::Result<(), String> {
        self.is_ready()
    }
}

impl Observed for Arc<ReplayMetrics> {
    fn open_metrics(&self) -> String {
        exposition::replay_text(self)
    }

    fn is_live(&self) -> std::result::Result<(), String> {
        (**self).is_live()
    }

    fn is_ready(&self) -> std::result::Result<(), String> {
        (**self).is_ready()
    }
}

/// Answers for a detector at `address` from a thread of its own, until the process ends; the address, whose port 0
/// has become another.
///
/// # Errors
/// [`Error::Config`] where it cannot listen there.
pub fn serve(address: SocketAddr, handle: Handle, reload: Arc<Reload>) -> Result<SocketAddr> {
    // Off this thread: a large model takes a while to load, and health is asked meanwhile.
    let reload = move || async move {
        let outcome = tokio::task::spawn_blocking(move || reload()).await;
        match outcome.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(text) => (StatusCode::OK, text + "\n"),
            Err(reason) => (StatusCode::UNPROCESSABLE_ENTITY, reason + "\n"),
        }
    };
    listen(address, routes(handle).route("/reload", post(reload)))
}

/// Answers for a program without a model: as [`serve`], without `/reload`.
///
/// # Errors
/// As [`serve`].
pub fn serve_health(address: SocketAddr, observed: impl Observed) -> Result<SocketAddr> {
    listen(address, routes(observed))
}

fn listen(address: SocketAddr, routes: Router) -> Result<SocketAddr> {
    let unusable = |error: std::io::Error| Error::Config(format!("cannot listen at {address}: {error}"));
    let listener = TcpListener::bind(address).map_err(unusable)?;
    listener.set_nonblocking(true).map_err(unusable)?;
    let bound = listener.local_addr().map_err(unusable)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unusable)?;
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

fn routes(observed: impl Observed) -> Router {
    let judged = |verdict: std::result::Result<(), String>| match verdict {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
    };
    let observed = Arc::new(observed);
    let (live, ready) = (Arc::clone(&observed), Arc::clone(&observed));
    // OpenMetrics for those that ask for it, as Prometheus does; else the older format, which everything reads.
    let metrics = move |asked: HeaderMap| {
        let accepted = asked.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let is_open = accepted.into_iter().any(|value| value.contains("application/openmetrics-text"));
        let text = observed.open_metrics();
        let (content_type, text) = if is_open {
            (exposition::CONTENT_TYPE, text)
        } else {
            (exposition::CLASSIC_CONTENT_TYPE, exposition::classic(&text))
        };
        std::future::ready(([(header::CONTENT_TYPE, content_type)], text))
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(move || std::future::ready(judged(live.is_live()))))
        .route("/readyz", get(move || std::future::ready(judged(ready.is_ready()))))
}

//! Owns the refusal of requests that a web page of another site makes in the user's browser.
//!
//! The doors listen on loopback without accounts, but a browser on the same machine reaches loopback too, and sends
//! some kinds of POST for any page. Browsers name the page's site in `Origin`; programs do not send it. So a request
//! with an `Origin` that is not on loopback is refused, also when a foreign name was made to resolve to loopback.

use axum::extract::Request;
use axum::http::header::ORIGIN;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use millstream_catalog::fault::Code;
use millstream_problem::Problem;

/// Passes a request on unless a foreign page made it.
pub async fn refuse_foreign_pages(request: Request, next: Next) -> Response {
    let foreign = request.headers().get(ORIGIN).is_some_and(|origin| !origin.to_str().is_ok_and(is_loopback));
    if foreign {
        let detail = "requests from web pages of other sites are refused, since this node has no accounts yet";
        return Problem::new(Code::Denied, detail).into_response();
    }
    next.run(request).await
}

/// Whether an origin, `http://host:port`, lies on this machine.
fn is_loopback(origin: &str) -> bool {
    let Some((_, authority)) = origin.split_once("://") else { return false };
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_machine_may_call() {
        for own in ["http://localhost:7400", "http://127.0.0.1", "https://127.8.9.1:1", "http://[::1]:7400"] {
            assert!(is_loopback(own), "{own}");
        }
        for foreign in ["https://example.com", "http://localhost.example.com", "null", "", "http://10.0.0.1:7400"] {
            assert!(!is_loopback(foreign), "{foreign}");
        }
    }
}

//! Who may do what: no foreign hosts or origins, and changes only for those who may.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use shared::wire::listing::Access;
use subtle::ConstantTimeEq;

use super::App;
use super::problem::ApiError;

/// The fewest characters of a token.
pub const MIN_TOKEN_LEN: usize = 20;

/// A bearer token, of which only a hash is kept: it cannot be printed.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// A token that is not safe.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Too short.
    #[error(
        "the token has {0} characters, and needs at least {MIN_TOKEN_LEN}: make one with \
         `openssl rand -hex 24`"
    )]
    Short(usize),
    /// Something that does not go into a header.
    #[error(
        "the token has a space or a character beyond ASCII: make one with `openssl rand -hex 24`"
    )]
    Characters,
}

impl Token {
    /// The token in a file's text; white space around it does not count.
    ///
    /// # Errors
    /// A token that is too short or cannot be sent.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Characters);
        }
        match text.len() {
            0..MIN_TOKEN_LEN => Err(TokenError::Short(text.len())),
            _ => Ok(Self(Sha256::digest(text).into())),
        }
    }

    /// Whether a request bears the token. Takes as long for any other.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let Some((scheme, found)) = value.and_then(|value| value.split_at_checked(7)) else {
            return false;
        };
        let digest: [u8; 32] = Sha256::digest(found.trim_ascii()).into();
        scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(digest.ct_eq(&self.0))
    }
}

/// Who may show the server's pages within their own.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Frames(Vec<String>);

/// A page that is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected the origin of a page that may show this server's, as in `https://notes.example.org`, \
     or `*` for all, found {0:?}"
)]
pub struct BadFrame(String);

impl Frames {
    /// Pages of these origins; `*` is any.
    ///
    /// # Errors
    /// A text that is no origin.
    pub fn new(origins: &[String]) -> Result<Self, BadFrame> {
        let is_origin = |text: &str| {
            let authority = text.strip_prefix("https://").or(text.strip_prefix("http://"));
            // It becomes a part of a header, in which some signs have a meaning.
            let is_plain = |text: &str| !text.contains(['@', ';', ',', '\'', '*', '/', '?', '#']);
            authority.is_some_and(|text| is_plain(text) && text.parse::<Authority>().is_ok())
        };
        match origins.iter().find(|text| *text != "*" && !is_origin(text)) {
            Some(odd) => Err(BadFrame(odd.chars().take(64).collect())),
            None => Ok(Self(origins.to_vec())),
        }
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Frames {
    /// As a content security policy has them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_empty() { f.write_str("'none'") } else { f.write_str(&self.0.join(" ")) }
    }
}

/// What is let through.
#[derive(Clone, Default)]
pub struct Guard {
    /// Whether nothing can be changed by anybody.
    pub read_only: bool,
    /// What those who change something must bear.
    pub token: Option<Token>,
    /// Host names by which the server may be called, in lower case, beside `localhost` and
    /// addresses.
    pub allowed_hosts: Vec<String>,
    /// Who may show the pages within their own. A page in a sandboxed frame has no origin; where any
    /// may show them, those may read as well.
    pub frames: Frames,
}

impl Guard {
    /// What visitors may do.
    pub fn access(&self) -> Access {
        match (self.read_only, &self.token) {
            (true, _) => Access::ReadOnly,
            (false, Some(_)) => Access::Token,
            (false, None) => Access::Open,
        }
    }

    /// Whether a request is let through.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = self.check_host(headers)?;
        let is_reading = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let is_sandboxed = headers.get(header::ORIGIN).is_some_and(|origin| origin == "null");
        if is_reading && is_sandboxed && !self.frames.is_empty() {
            return Ok(());
        }
        self.check_origin(headers, &host)?;
        if is_reading {
            return Ok(());
        }
        // Browsers say where a request comes from even where they send no origin.
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        if site.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
            return Err(foreign_origin("another site"));
        }
        if self.read_only {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "read-only",
                "This server only shows results",
                "this server is read-only: nothing can be computed or changed here; take the \
                 document and run it on a server of your own",
            ));
        }
        match &self.token {
            Some(token) if !token.is_in(headers) => Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "token",
                "A token is needed",
                "this needs the server's token, as `Authorization: Bearer TOKEN`: ask whoever \
                 runs the server for it",
            )),
            _ => Ok(()),
        }
    }

    /// A page elsewhere can make a browser call any address by a name of its own (DNS rebinding),
    /// so only names that are known are answered.
    fn check_host(&self, headers: &HeaderMap) -> Result<Authority, ApiError> {
        let refuse = |found: &str| {
            let found: String = found.chars().take(64).collect();
            ApiError::new(
                StatusCode::MISDIRECTED_REQUEST,
                "foreign-host",
                "This server has another name",
                format!(
                    "the request is for the host {found:?}, which is not this server's: use its \
                     address, or have it started with `--allow-host`"
                ),
            )
        };
        let mut hosts = headers.get_all(header::HOST).iter();
        let (host, None) = (hosts.next(), hosts.next()) else { return Err(refuse("several")) };
        let text = host.and_then(|host| host.to_str().ok()).ok_or_else(|| refuse(""))?;
        let host: Authority = text.parse().map_err(|_| refuse(text))?;
        match !text.contains('@') && self.is_known(host.host()) {
            true => Ok(host),
            false => Err(refuse(text)),
        }
    }

    /// Whether a host is an address, this machine, or a name that was allowed.
    fn is_known(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        host == "localhost" || host.parse::<IpAddr>().is_ok() || self.allowed_hosts.contains(&host)
    }

    /// A page elsewhere may send requests, but not as one of the server's own.
    fn check_origin(&self, headers: &HeaderMap, host: &Authority) -> Result<(), ApiError> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (None, _) => return Ok(()),
            (Some(origin), None) => origin.to_str().unwrap_or_default(),
            (Some(_), Some(_)) => return Err(foreign_origin("several origins")),
        };
        let parts = origin.split_once("://").and_then(|(scheme, authority)| {
            let default = match scheme {
                "http" => 80,
                "https" => 443,
                _ => return None,
            };
            Some((default, authority.parse::<Authority>().ok()?))
        });
        let Some((default, authority)) = parts else { return Err(foreign_origin(origin)) };
        let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
        let is_same =
            authority.host().eq_ignore_ascii_case(host.host()) && port(&authority) == port(host);
        // A proxy may give the server another host than the page's.
        let is_allowed = self.allowed_hosts.contains(&authority.host().to_ascii_lowercase());
        match is_same || is_allowed {
            true => Ok(()),
            false => Err(foreign_origin(origin)),
        }
    }
}

fn foreign_origin(found: &str) -> ApiError {
    let found: String = found.chars().take(64).collect();
    ApiError::new(
        StatusCode::FORBIDDEN,
        "foreign-origin",
        "A page of another site",
        format!(
            "the request comes from a page of {found:?}, and only the server's own pages may send \
             requests: open the viewer at the server's address"
        ),
    )
}

/// Lets a request through, or refuses it.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.guard.check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Headers that tell the browser what the pages may do.
pub async fn headers(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, app.viewer.policy.clone());
    for (name, value) in FIXED_HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if !app.guard.frames.is_empty() {
        // Pages in sandboxed frames have the origin `null`.
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("null"));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        let policy = HeaderName::from_static("cross-origin-resource-policy");
        headers.insert(policy, HeaderValue::from_static("cross-origin"));
    }
    response
}

const FIXED_HEADERS: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];

/// What pages may load and run: their own files, and scripts with one of these hashes. Styles in
/// attributes are how the viewer places its marks. `frames` may show them within their own.
pub fn policy(script_hashes: &[String], frames: &Frames) -> String {
    let hashes: String = script_hashes.iter().map(|hash| format!(" 'sha256-{hash}'")).collect();
    format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'{hashes}; style-src 'self'; \
         style-src-attr 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {frames}"
    )
}

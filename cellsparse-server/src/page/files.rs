//! The files of the page, which are a part of the program.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::errors::Refusal;

/// Path below `/app/`, type, content.
type StaticFile = (&'static str, &'static str, &'static str);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

const FILES: &[StaticFile] = &[
    ("", HTML, include_str!("static/index.html")),
    ("app.css", CSS, include_str!("static/app.css")),
    ("icon.svg", PICTURE, include_str!("static/icon.svg")),
    ("js/main.js", SCRIPT, include_str!("static/js/main.js")),
    ("js/api.js", SCRIPT, include_str!("static/js/api.js")),
    ("js/store.js", SCRIPT, include_str!("static/js/store.js")),
    ("js/view.js", SCRIPT, include_str!("static/js/view.js")),
    ("js/tiles.js", SCRIPT, include_str!("static/js/tiles.js")),
    ("js/layers.js", SCRIPT, include_str!("static/js/layers.js")),
    ("js/clicks.js", SCRIPT, include_str!("static/js/clicks.js")),
    ("js/tools.js", SCRIPT, include_str!("static/js/tools.js")),
    ("js/contrast.js", SCRIPT, include_str!("static/js/contrast.js")),
    ("js/images.js", SCRIPT, include_str!("static/js/images.js")),
    ("js/learning.js", SCRIPT, include_str!("static/js/learning.js")),
    ("js/objects.js", SCRIPT, include_str!("static/js/objects.js")),
    ("js/keys.js", SCRIPT, include_str!("static/js/keys.js")),
    ("js/dialogs.js", SCRIPT, include_str!("static/js/dialogs.js")),
];

/// What the page may do: only what comes from this server, and in no frame of another page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether a path is one of a file of the page. They are the same for everybody and tell nothing of the server's data.
pub fn is_file(path: &str) -> bool {
    path == "/app" || path.strip_prefix("/app/").is_some_and(|rest| find(rest).is_some())
}

fn find(path: &str) -> Option<&'static StaticFile> {
    FILES.iter().find(|file| file.0 == path)
}

/// A file of the page.
///
/// # Errors
/// 404 for another path.
pub fn file(path: &str) -> Result<Response, Refusal> {
    let Some((_, kind, text)) = find(path) else { return Err(Refusal::new(StatusCode::NOT_FOUND, "Not Found")) };
    let mut response = (*text).into_response();
    let headers = [
        (header::CONTENT_TYPE, *kind),
        // A newer program has other files at the same paths.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_that_is_imported_is_there() {
        assert!(is_file("/app") && is_file("/app/") && is_file("/app/js/main.js"));
        assert!(!is_file("/app/api/state") && !is_file("/app/../x") && !is_file("/apps"));
        let mut imports = 0;
        for (path, _, text) in FILES {
            assert!(text.lines().count() < 600, "{path} has {} lines; one file, one subject", text.lines().count());
            for line in text.lines().filter(|line| line.starts_with("import ") || line.starts_with("} from ")) {
                let name = line.split('"').nth(1).and_then(|name| name.strip_prefix("./")).expect("a relative import");
                assert!(find(&format!("js/{name}")).is_some(), "{path} imports {name}");
                imports += 1;
            }
            assert!(!text.contains("http://") || text.contains("www.w3.org"), "{path} needs no network");
            assert!(!text.contains("https://"), "{path} needs no network");
        }
        assert!(imports > 10);
    }
}

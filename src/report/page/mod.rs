//! One self-contained page: what a person sees first when a run failed, or when protocols were compared.
//!
//! A page is one HTML file. It asks for nothing from anywhere, so it opens from a mail attachment. The data is plain
//! JSON inside it (compressed where it is large), and a small script draws it. Scenarios and histories may name anything:
//! whatever they name is data to the script, which puts it into the page as text and never as markup.
//!
//! | file | what |
//! |---|---|
//! | `model` | a run as data |
//! | `names` | names for ids |
//! | `story` | the sentences |
//! | `anomaly` | the cycle of what isolation broke |
//! | `comparison` | a comparison as data |
//! | `explain` | what made it fail |
//! | `sweep.js` | a sweep, whose data is what its results file holds |
//! | `page.html`, `page.css`, `*.js` | the page itself |

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use crate::campaign::sweep::{MEASURES, Sweep};
use crate::report::text;

pub mod anomaly;
pub mod comparison;
pub mod explain;
pub mod model;
pub mod names;
pub mod story;

/// Data up to this size stays readable in the file; more is compressed.
const PLAIN_BYTES_MAX: usize = 300_000;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPTS: [&str; 6] = [
    include_str!("base.js"),
    include_str!("charts.js"),
    include_str!("timeline.js"),
    include_str!("run.js"),
    include_str!("compare.js"),
    include_str!("sweep.js"),
];

/// Text as HTML shows it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// JSON that may stand inside a script element: nothing in it can end the element or begin a comment.
fn inert(json: &str) -> String {
    json.replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            match at <= chunk.len() {
                true => out.push(char::from(DIGITS[(word >> (18 - 6 * at) & 63) as usize])),
                false => out.push('='),
            }
        }
    }
    out
}

/// The data element of a page.
fn data(json: &str) -> String {
    if json.len() <= PLAIN_BYTES_MAX {
        let json = inert(json);
        return format!("<script id=\"data\" type=\"application/json\">{json}</script>");
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder
        .write_all(json.as_bytes())
        .expect("memory takes every write");
    let packed = base64(&encoder.finish().expect("memory takes every write"));
    format!("<script id=\"data\" type=\"application/gzip+base64\">{packed}</script>")
}

/// A page with this title, text for readers without scripts, and data.
fn page(title: &str, text: &str, data_of: &impl Serialize) -> String {
    let json = serde_json::to_string(data_of).expect("pages are plain data");
    // In one pass, so that nothing that is put in is looked at again.
    let mut out = String::with_capacity(PAGE.len() + STYLE.len() + json.len());
    let mut rest = PAGE;
    while let Some(at) = rest.find("{{") {
        out.push_str(&rest[..at]);
        let end = rest.find("}}").expect("the page's holes are closed");
        match &rest[at + 2..end] {
            "title" => out.push_str(&escaped(title)),
            "style" => out.push_str(STYLE),
            "text" => out.push_str(&escaped(text)),
            "data" => out.push_str(&data(&json)),
            "script" => SCRIPTS.iter().for_each(|script| out.push_str(script)),
            hole => unreachable!("the page has no hole `{hole}`"),
        }
        rest = &rest[end + 2..];
    }
    out.push_str(rest);
    out
}

/// The page of a run. `text` is its report as text, for readers without scripts.
pub fn run(data: &model::RunPage, text: &str) -> String {
    let title = format!("{} · {} · seed {}", data.scenario, data.protocol, data.seed);
    page(&title, text, data)
}

/// The page of a comparison. `text` is its report as text.
pub fn comparison(data: &comparison::ComparisonPage, text: &str) -> String {
    let title = format!("{} · comparison", data.scenario);
    page(&title, text, data)
}

/// A sweep's page as data.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SweepPage<'a> {
    /// `sweep`.
    pub page: &'static str,
    /// The command that repeats it.
    pub command: String,
    /// How to read the pictures.
    pub reading: &'static str,
    /// Names of the measurements, with their units.
    pub measures: Vec<&'static str>,
    /// The points.
    pub sweep: &'a Sweep,
}

/// The page of a sweep. `command` repeats it.
pub fn sweep(of: &Sweep, command: String) -> String {
    let data = SweepPage {
        page: "sweep",
        command,
        reading: text::SWEEP_READING,
        measures: MEASURES.iter().map(|(name, _)| *name).collect(),
        sweep: of,
    };
    let title = format!("{} · sweep", of.scenario);
    page(&title, &text::sweep(of), &data)
}

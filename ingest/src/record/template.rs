//! Where segments lie: `%path/%Y-%m-%d_%H-%M-%S-%f`, written for a stream and a time, and read back
//! from a file's name.
//!
//! What comes out never leads out of the folder that it is put below: a template has no root and no
//! `..`, and a stream's name has neither by its own rules ([`StreamName`]).

use std::fmt::Write as _;

use regex::{Captures, Regex};

use super::moment::{Date, Moment};
use crate::name::StreamName;

/// The ending of every segment.
pub const EXTENSION: &str = "mp4";

/// The longest template in bytes.
const TEMPLATE_BYTES_MAX: usize = 1024;

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Longer than [`TEMPLATE_BYTES_MAX`].
    #[error("the path has more than {TEMPLATE_BYTES_MAX} bytes")]
    Long,
    /// It would lead out of the folder.
    #[error("the path must be relative and without empty parts, `.` and `..`")]
    Outside,
    /// A `%` with something else behind it.
    #[error("%{0} is not known; known are %path %Y %m %d %H %M %S %f %s %z")]
    Unknown(String),
    /// The same twice.
    #[error("%{0} may come once only")]
    Twice(&'static str),
    /// Segments could not be told apart or found again.
    #[error("the path needs %path, %f, and either %s or all of %Y %m %d %H %M %S")]
    Incomplete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Path,
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Micros,
    Unix,
    Zone,
}

/// Name behind `%`, field, expression. The first that fits counts, so `path` and not a letter of it.
const FIELDS: [(&str, Field, &str); 10] = [
    ("path", Field::Path, "(?P<path>[A-Za-z0-9._~/-]+?)"),
    ("Y", Field::Year, r"(?P<Y>\d{4})"),
    ("m", Field::Month, r"(?P<m>\d{2})"),
    ("d", Field::Day, r"(?P<d>\d{2})"),
    ("H", Field::Hour, r"(?P<H>\d{2})"),
    ("M", Field::Minute, r"(?P<M>\d{2})"),
    ("S", Field::Second, r"(?P<S>\d{2})"),
    ("f", Field::Micros, r"(?P<f>\d{6})"),
    ("s", Field::Unix, r"(?P<s>\d{1,12})"),
    ("z", Field::Zone, r"\+0000"),
];

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Field(Field),
}

/// A path with places for the stream's name and the time of a segment's beginning, in UTC.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
    expression: Regex,
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Template {
    /// What settings have that say nothing else.
    pub const DEFAULT: &'static str = "%path/%Y-%m-%d_%H-%M-%S-%f";

    /// Reads a template, without the ending of the files.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::Long);
        }
        let outside = |part: &str| matches!(part, "" | "." | "..");
        if text.contains(['\\', '\0']) || text.split('/').any(outside) {
            return Err(TemplateError::Outside);
        }
        let mut pieces = Vec::new();
        let mut expression = String::from("^");
        let mut found = Vec::new();
        let mut parts = text.split('%');
        let plain = |text: &str, pieces: &mut Vec<Piece>, expression: &mut String| {
            if !text.is_empty() {
                expression.push_str(&regex::escape(text));
                pieces.push(Piece::Text(text.to_owned()));
            }
        };
        plain(parts.next().unwrap_or_default(), &mut pieces, &mut expression);
        for part in parts {
            let known = FIELDS.iter().find(|(name, ..)| part.starts_with(name));
            let Some((name, field, pattern)) = known else {
                return Err(TemplateError::Unknown(part.chars().take(1).collect()));
            };
            if found.contains(field) {
                return Err(TemplateError::Twice(name));
            }
            found.push(*field);
            pieces.push(Piece::Field(*field));
            expression.push_str(pattern);
            plain(&part[name.len()..], &mut pieces, &mut expression);
        }
        let has = |fields: &[Field]| fields.iter().all(|field| found.contains(field));
        let dated = has(&[Field::Year, Field::Month, Field::Day])
            && has(&[Field::Hour, Field::Minute, Field::Second]);
        if !has(&[Field::Path, Field::Micros]) || !(dated || has(&[Field::Unix])) {
            return Err(TemplateError::Incomplete);
        }
        let _ = write!(expression, r"\.{EXTENSION}$");
        let expression = Regex::new(&expression).map_err(|_| TemplateError::Long)?;
        Ok(Self { text: text.to_owned(), pieces, expression })
    }

    /// The text that it was made of.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A segment's path below the folder of recordings, with `/` between its parts.
    pub fn path(&self, name: &StreamName, start: Moment) -> String {
        let date = start.date();
        let mut path = String::new();
        for piece in &self.pieces {
            let field = match piece {
                Piece::Text(text) => {
                    path.push_str(text);
                    continue;
                }
                Piece::Field(field) => field,
            };
            let _ = match field {
                Field::Path => write!(path, "{}", name.base()),
                Field::Year => write!(path, "{:04}", date.year),
                Field::Month => write!(path, "{:02}", date.month),
                Field::Day => write!(path, "{:02}", date.day),
                Field::Hour => write!(path, "{:02}", date.hour),
                Field::Minute => write!(path, "{:02}", date.minute),
                Field::Second => write!(path, "{:02}", date.second),
                Field::Micros => write!(path, "{:06}", date.micros),
                Field::Unix => write!(path, "{}", start.seconds()),
                Field::Zone => write!(path, "+0000"),
            };
        }
        path.push('.');
        path.push_str(EXTENSION);
        path
    }

    /// The folder below which all segments of a stream lie; empty for the folder of recordings.
    pub fn folder(&self, name: &StreamName) -> String {
        let mut folder = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => folder.push_str(text),
                Piece::Field(Field::Path) => folder.push_str(name.base()),
                Piece::Field(_) => break,
            }
        }
        folder.truncate(folder.rfind('/').unwrap_or(0));
        folder
    }

    /// Whose segment a path below the folder of recordings is, and when it begins.
    pub fn read(&self, path: &str) -> Option<(StreamName, Moment)> {
        let found = self.expression.captures(path)?;
        let name = StreamName::parse(found.name("path")?.as_str()).ok()?;
        let moment = moment(&found)?;
        // What this template would not write is not its own.
        (self.path(&name, moment) == path).then_some((name, moment))
    }
}

fn moment(found: &Captures<'_>) -> Option<Moment> {
    let number = |name: &str| found.name(name).and_then(|text| text.as_str().parse::<i64>().ok());
    let micros = number("f")?;
    if let Some(seconds) = number("s") {
        return Some(Moment(seconds.checked_mul(1_000_000)?.checked_add(micros)?));
    }
    let date = Date {
        year: number("Y")?,
        month: number("m")?,
        day: number("d")?,
        hour: number("H")?,
        minute: number("M")?,
        second: number("S")?,
        micros,
    };
    date.moment()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let at = Moment::parse("2026-11-21T16:05:09.000250Z").unwrap();
        let check = |template: &str, stream: &str, path: &str, folder: &str| {
            let template = Template::parse(template).unwrap();
            assert_eq!(template.path(&name(stream), at), path);
            assert_eq!(template.folder(&name(stream)), folder);
            assert_eq!(template.read(path), Some((name(stream), at)), "{path}");
        };
        let file = "2026-11-21_16-05-09-000250.mp4";
        check(Template::DEFAULT, "cam", &format!("cam/{file}"), "cam");
        check(Template::DEFAULT, "a/b-2_x", &format!("a/b-2_x/{file}"), "a/b-2_x");
        check("rec/%path-%s.%f", "cam", "rec/cam-1795277109.000250.mp4", "rec");
        check("%Y/%m%d/%path_%H%M%S%f%z", "c", "2026/1121/c_160509000250+0000.mp4", "");
    }

    #[test]
    fn what_is_no_segment_of_the_template_is_not_read() {
        let template = Template::parse(Template::DEFAULT).unwrap();
        for path in [
            "cam/2026-11-21_16-05-09-000250.mp4.part",
            "cam/2026-11-31_16-05-09-000250.mp4",
            "cam/2026-11-21_16-05-09-25.mp4",
            "../2026-11-21_16-05-09-000250.mp4",
            "v3/2026-11-21_16-05-09-000250.mp4",
            "notes.txt",
        ] {
            assert_eq!(template.read(path), None, "{path}");
        }
    }

    #[test]
    fn templates_that_leave_the_folder_or_lose_segments_are_refused() {
        let refused = |text: &str| Template::parse(text).unwrap_err();
        for text in ["/%path-%s-%f", "a/../%path-%s-%f", "%path//%s-%f", "%path/%s-%f/", ""] {
            assert_eq!(refused(text), TemplateError::Outside, "{text}");
        }
        assert_eq!(refused("%path/%s"), TemplateError::Incomplete);
        assert_eq!(refused("%path/%Y-%m-%d_%H-%M-%f"), TemplateError::Incomplete);
        assert_eq!(refused("%path/%q-%s-%f"), TemplateError::Unknown("q".into()));
        assert_eq!(refused("%path/%s-%f-%s"), TemplateError::Twice("s"));
        assert_eq!(refused(&"x".repeat(2000)), TemplateError::Long);
    }

    proptest! {
        #[test]
        fn no_path_leads_out_of_the_folder(
            template in "[a%/.YmdHMSfspath-]{0,40}", stream in "[a-z./~-]{1,20}", at in any::<i64>(),
        ) {
            let (Ok(template), Ok(stream)) = (Template::parse(&template), StreamName::parse(&stream))
            else { return Ok(()) };
            let path = template.path(&stream, Moment(at / 1000));
            prop_assert!(!path.starts_with('/'));
            prop_assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{}", path);
            prop_assert!(path.starts_with(&template.folder(&stream)));
        }

        #[test]
        fn no_file_name_makes_it_panic(path in ".{0,60}") {
            let _ = Template::parse(Template::DEFAULT).unwrap().read(&path);
            let _ = Template::parse(&path);
        }
    }
}

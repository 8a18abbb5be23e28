//! The directory through which a test controls the scripted processors of a worker.
//!
//! ```text
//! hold-<point>-<phase>     while this file exists, processors of the phase wait at the point
//! fail-<point>-<phase>     contains "<class> <CODE>": the next processor answers with this error
//! log                      a line for each point that a processor has reached
//! ```

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use sealbus_schema::Phase;

/// A point in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The request has been read, and nothing has been written.
    Before,
    /// Half of the output has been written.
    Inside,
    /// The whole output is in place, but has not been reported.
    After,
    /// The answer has been sent.
    Told,
}

impl Point {
    /// The points at which a processor can be held.
    pub const HOLDS: [Point; 3] = [Point::Before, Point::Inside, Point::After];

    /// The name in file names and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Point::Before => "before",
            Point::Inside => "inside",
            Point::After => "after",
            Point::Told => "told",
        }
    }

    fn parse(text: &str) -> Option<Point> {
        [Point::Before, Point::Inside, Point::After, Point::Told].into_iter().find(|point| point.name() == text)
    }
}

/// A record that a processor reached a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// This host's wall clock, in microseconds since 1970.
    pub unix_micros: u128,
    /// The point.
    pub point: Point,
    /// The phase.
    pub phase: Phase,
    /// The name of the sector's working directory.
    pub work: String,
    /// The processor's process id.
    pub pid: i32,
}

/// A control directory.
#[derive(Clone, Debug)]
pub struct Control {
    dir: PathBuf,
}

impl Control {
    /// An existing control directory.
    pub fn new(dir: impl Into<PathBuf>) -> Control {
        Control { dir: dir.into() }
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes the processors of a phase wait at a point from now on.
    pub fn hold(&self, point: Point, phase: Phase) -> io::Result<()> {
        fs::write(self.file("hold", point, phase), "")
    }

    /// Lets the waiting processors continue.
    pub fn release(&self, point: Point, phase: Phase) -> io::Result<()> {
        fs::remove_file(self.file("hold", point, phase))
    }

    /// Whether processors of the phase must wait at the point.
    pub fn is_held(&self, point: Point, phase: Phase) -> bool {
        self.file("hold", point, phase).exists()
    }

    /// Makes the next processor of a phase that reaches a point answer with an error.
    pub fn fail(&self, point: Point, phase: Phase, class: &str, code: &str) -> io::Result<()> {
        fs::write(self.file("fail", point, phase), format!("{class} {code}"))
    }

    /// Takes the error to answer with at a point, as class and code. It is returned only once.
    pub fn take_failure(&self, point: Point, phase: Phase) -> Option<(String, String)> {
        let path = self.file("fail", point, phase);
        let text = fs::read_to_string(&path).ok()?;
        fs::remove_file(&path).ok()?;
        let (class, code) = text.split_once(' ')?;
        Some((class.to_owned(), code.to_owned()))
    }

    /// Records that this process has reached a point.
    pub fn mark(&self, point: Point, phase: Phase, work: &str) -> io::Result<()> {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros());
        let line = format!("{micros} {} {phase} {work} {}\n", point.name(), std::process::id());
        let mut log = File::options().create(true).append(true).open(self.dir.join("log"))?;
        // A single write, so that lines of several processes do not mix.
        log.write_all(line.as_bytes())
    }

    /// All marks, in the order in which they were written.
    pub fn marks(&self) -> Vec<Mark> {
        let text = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        text.lines().filter_map(parse_mark).collect()
    }

    /// The marks of one point.
    pub fn marks_at(&self, point: Point, phase: Phase) -> Vec<Mark> {
        self.marks().into_iter().filter(|mark| mark.point == point && mark.phase == phase).collect()
    }

    fn file(&self, what: &str, point: Point, phase: Phase) -> PathBuf {
        self.dir.join(format!("{what}-{}-{phase}", point.name()))
    }
}

fn parse_mark(line: &str) -> Option<Mark> {
    let mut words = line.split(' ');
    let mut next = || words.next();
    Some(Mark {
        unix_micros: next()?.parse().ok()?,
        point: Point::parse(next()?)?,
        phase: next()?.parse().ok()?,
        work: next()?.to_owned(),
        pid: next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_as_it_was_written_and_a_failure_is_told_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let control = Control::new(dir.path());
        control.mark(Point::Inside, Phase::Pc1, "s-t01000-1.5").expect("writes");
        let marks = control.marks_at(Point::Inside, Phase::Pc1);
        assert_eq!((marks.len(), marks[0].work.as_str()), (1, "s-t01000-1.5"));
        assert_eq!(marks[0].pid, std::process::id().cast_signed());
        control.fail(Point::After, Phase::C2, "perm", "PROOF_INVALID").expect("writes");
        assert_eq!(control.take_failure(Point::Before, Phase::C2), None);
        let told = control.take_failure(Point::After, Phase::C2).expect("a failure");
        assert_eq!(told, ("perm".to_owned(), "PROOF_INVALID".to_owned()));
        assert_eq!(control.take_failure(Point::After, Phase::C2), None);
    }
}

//! The resource use of a group.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{CgroupError, interface};

/// What a group, with its subgroups, uses now and has used since it was created. A value is `None` if the kernel does
/// not count it here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, in microseconds.
    pub cpu_micros: Option<u64>,
    /// The part of the CPU time spent in the kernel, in microseconds.
    pub cpu_system_micros: Option<u64>,
    /// Memory in use now, with page cache, without huge pages of `hugetlb`.
    pub memory_bytes: Option<u64>,
    /// The highest memory use, in bytes.
    pub memory_peak_bytes: Option<u64>,
    /// Huge pages of `hugetlb` in use now, in bytes, summed over all page sizes.
    pub huge_bytes: Option<u64>,
    /// How often the group was slowed down at `memory.high`.
    pub memory_high_events: Option<u64>,
    /// How many of its processes were killed because memory ran out.
    pub oom_kills: Option<u64>,
    /// The number of processes and threads now.
    pub pids: Option<u64>,
}

/// Processes of a processor were killed because memory ran out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "killed by the kernel because memory ran out: {kills} processes, at most {peak} in use, {limit}; give the processor more \
     (memory_max), or run fewer at a time"
)]
pub struct OutOfMemory {
    kills: u64,
    peak: String,
    limit: String,
}

impl Usage {
    /// Reads the usage of the group at `path`.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn read(path: &Path) -> Result<Self, CgroupError> {
        let cpu = interface::read(path, "cpu.stat")?.unwrap_or_default();
        let events = interface::read(path, "memory.events")?.unwrap_or_default();
        Ok(Self {
            cpu_micros: interface::keyed(&cpu, "usage_usec"),
            cpu_system_micros: interface::keyed(&cpu, "system_usec"),
            memory_bytes: interface::number(path, "memory.current")?,
            memory_peak_bytes: interface::number(path, "memory.peak")?,
            huge_bytes: huge_bytes(path)?,
            memory_high_events: interface::keyed(&events, "high"),
            oom_kills: interface::keyed(&events, "oom_kill"),
            pids: interface::number(path, "pids.current")?,
        })
    }
}

fn huge_bytes(path: &Path) -> Result<Option<u64>, CgroupError> {
    let mut sum = None;
    for size in ["2MB", "1GB"] {
        if let Some(bytes) = interface::number(path, &format!("hugetlb.{size}.current"))? {
            sum = Some(sum.unwrap_or(0) + bytes);
        }
    }
    Ok(sum)
}

/// Measures a single request to a processor whose group existed before.
#[derive(Debug)]
pub struct Meter {
    path: PathBuf,
    begin: Usage,
    /// The peak since the start of the request, if the kernel can count that (6.12 and later).
    peak: Option<File>,
}

impl Meter {
    /// Begins to measure.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub(super) fn start(path: &Path) -> Result<Self, CgroupError> {
        let peak = File::options().read(true).write(true).open(path.join("memory.peak")).ok();
        let peak = peak.and_then(|mut file| file.write_all(b"reset").ok().map(|()| file));
        Ok(Self { path: path.to_owned(), begin: Usage::read(path)?, peak })
    }

    /// The usage since the start; values such as memory in use are current ones. If the kernel cannot count the peak of
    /// a request, the group's peak is given if it has risen since the start, otherwise `None`.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn read(&self) -> Result<Usage, CgroupError> {
        let now = Usage::read(&self.path)?;
        let since = |now: Option<u64>, begin: Option<u64>| now.map(|now| now.saturating_sub(begin.unwrap_or(0)));
        let memory_peak_bytes = match &self.peak {
            Some(file) => number_in(file),
            None => now.memory_peak_bytes.filter(|_| now.memory_peak_bytes > self.begin.memory_peak_bytes),
        };
        Ok(Usage {
            cpu_micros: since(now.cpu_micros, self.begin.cpu_micros),
            cpu_system_micros: since(now.cpu_system_micros, self.begin.cpu_system_micros),
            memory_peak_bytes,
            memory_high_events: since(now.memory_high_events, self.begin.memory_high_events),
            oom_kills: since(now.oom_kills, self.begin.oom_kills),
            ..now
        })
    }

    /// Whether memory ran out since the start. Ask this after a processor has died, while its group still exists.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn out_of_memory(&self) -> Result<Option<OutOfMemory>, CgroupError> {
        let Usage { oom_kills: Some(kills @ 1..), memory_peak_bytes, .. } = self.read()? else { return Ok(None) };
        let peak = memory_peak_bytes.map_or("an unknown amount".to_owned(), |bytes| format!("{bytes} bytes"));
        let limit = match interface::read(&self.path, "memory.max")?.as_deref().map(str::trim) {
            None | Some("max") => "without a limit of its own, so the machine was full".to_owned(),
            Some(limit) => format!("memory.max is {limit}"),
        };
        Ok(Some(OutOfMemory { kills, peak, limit }))
    }
}

fn number_in(file: &File) -> Option<u64> {
    let mut text = [0; 32];
    let length = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("directory");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("write");
        }
        dir
    }

    #[test]
    fn what_the_kernel_counts_is_read_and_what_it_does_not_count_is_left_open() {
        let dir = group(&[
            ("cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n"),
            ("memory.current", "4096\n"),
            ("memory.events", "low 0\nhigh 2\nmax 0\noom 1\noom_kill 3\noom_group_kill 1\n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.1GB.current", "1073741824\n"),
        ]);
        let usage = Usage::read(dir.path()).expect("read");
        let expected = Usage {
            cpu_micros: Some(1500),
            cpu_system_micros: Some(500),
            memory_bytes: Some(4096),
            memory_high_events: Some(2),
            oom_kills: Some(3),
            huge_bytes: Some(1_075_838_976),
            ..Usage::default()
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn a_request_is_charged_for_what_was_used_since_its_beginning() {
        let dir = group(&[("cpu.stat", "usage_usec 1000\n"), ("memory.events", "oom_kill 1\n")]);
        let meter = Meter::start(dir.path()).expect("start");
        assert_eq!(meter.out_of_memory().expect("read"), None, "that was another request");
        std::fs::write(dir.path().join("cpu.stat"), "usage_usec 1700\n").expect("write");
        std::fs::write(dir.path().join("memory.events"), "oom_kill 2\n").expect("write");
        std::fs::write(dir.path().join("memory.max"), "8192\n").expect("write");
        let usage = meter.read().expect("read");
        assert_eq!((usage.cpu_micros, usage.oom_kills), (Some(700), Some(1)));
        let text = meter.out_of_memory().expect("read").expect("it did").to_string();
        assert!(text.contains("memory.max is 8192") && text.contains("1 processes"), "{text}");
    }

    #[test]
    fn a_peak_that_cannot_be_told_from_an_earlier_ones_is_left_open() {
        let dir = group(&[]);
        let before = Usage { memory_peak_bytes: Some(100), ..Usage::default() };
        let meter = Meter { path: dir.path().to_owned(), begin: before, peak: None };
        for (now, told) in [("100", None), ("150", Some(150))] {
            std::fs::write(dir.path().join("memory.peak"), now).expect("write");
            assert_eq!(meter.read().expect("read").memory_peak_bytes, told);
        }
    }
}

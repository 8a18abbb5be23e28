//! The process itself, under the names that every Prometheus client uses.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::Samples;

crate::metrics! {
    /// The memory that the process occupies.
    RESIDENT: Gauge "process_resident_memory_bytes" [];
    /// The files and sockets that it has open.
    OPEN_FDS: Gauge "process_open_fds" [];
    /// How many it may have open.
    MAX_FDS: Gauge "process_max_fds" [];
    /// The processor time that it has used, without its child processes.
    CPU: Counter "process_cpu_seconds_total" [];
    /// When it was started, in seconds since 1970.
    STARTED: Gauge "process_start_time_seconds" [];
}

/// The kernel's `USER_HZ`, in which it tells processes of times: 100 on all machines that we know.
const TICKS: f64 = 100.0;

/// Reads what Linux tells of this process. What it does not tell is left out.
pub fn read(samples: &mut Samples) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kib) = status.lines().find_map(|line| field(line.strip_prefix("VmRSS:")?, 0)) {
        samples.set(&RESIDENT, &[], kib * 1024.0);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        samples.set(&OPEN_FDS, &[], open.count().saturating_sub(1) as f64);
    }
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        samples.set(&MAX_FDS, &[], limit as f64);
    }
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return };
    // The second field is the program's name in parentheses, which may contain spaces. See proc_pid_stat(5).
    let Some((_, rest)) = stat.rsplit_once(") ") else { return };
    if let (Some(user), Some(system)) = (field(rest, 11), field(rest, 12)) {
        samples.set(&CPU, &[], (user + system) / TICKS);
    }
    if let (Some(started), Some(booted)) = (field(rest, 19), booted()) {
        samples.set(&STARTED, &[], booted + started / TICKS);
    }
}

/// When the machine was started, in seconds since 1970.
fn booted() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")).and_then(|secs| secs.trim().parse().ok())
}

fn field(text: &str, index: usize) -> Option<f64> {
    text.split_whitespace().nth(index)?.parse().ok()
}

/// The time of day of this host since 1970.
pub fn time_of_day() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_tells_of_itself() {
        let mut samples = Samples::default();
        read(&mut samples);
        let value = |name: &str| samples.found[name].1[0].value;
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") > value("process_open_fds"));
        let age = time_of_day().as_secs_f64() - value("process_start_time_seconds");
        assert!((-5.0..3600.0).contains(&age), "{age}");
    }
}

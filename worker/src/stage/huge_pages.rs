//! Huge pages for the labels of PC1.
//!
//! PC1 reads at random in two layers of labels, each as large as the sector, so with small pages it suffers TLB misses.
//! The library allocates this memory itself, in one of two ways. With multicore labelling ([`MULTICORE`]) it makes
//! anonymous mappings and locks them; these use huge pages only if the machine's setting is `always`. With single-core
//! labelling it uses the C library's allocator, which can be told by [`TUNABLES`] to use huge pages, also reserved
//! ones. `docs/huge-pages.md` has the measurements, and what an operator must set.

use std::{
    collections::BTreeMap,
    env, fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use sealbus_schema::SectorSize;

/// The variable that tells the C library's allocator about huge pages (glibc 2.35 and later).
pub const TUNABLES: &str = "GLIBC_TUNABLES";
/// The library's setting: multicore labelling if it is `1` or `true`.
pub const MULTICORE: &str = "FIL_PROOFS_USE_MULTICORE_SDR";
/// The reserved memory that PC1 needs beside two layers, because the allocator puts other large blocks there too.
const SPARE_BYTES: u64 = 64 << 20;
/// The value of [`TUNABLES`] that makes the allocator ask the kernel for transparent huge pages.
const ASK: &str = "glibc.malloc.hugetlb=1";
/// The variable that counts how often this processor was restarted because the allocator had not asked.
const STARTS: &str = "SEALBUS_HUGE_PAGES_STARTS";
/// Measured: the allocator failed to ask in up to two of three starts, at random. So a few restarts usually suffice.
const MAX_STARTS: u32 = 32;

/// The kind of pages for the labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Whatever the machine's setting gives.
    #[default]
    Any,
    /// Transparent huge pages, which the kernel assembles on demand.
    Transparent,
    /// Reserved huge pages (`vm.nr_hugepages`).
    Reserved,
}

impl Wish {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Wish::Any => "any",
            Wish::Transparent => "transparent",
            Wish::Reserved => "reserved",
        }
    }
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Wish::Any, Wish::Transparent, Wish::Reserved];
        known.into_iter().find(|wish| wish.name() == text).ok_or_else(|| {
            let names = known.map(Wish::name).join(", ");
            format!("{text:?} is none of {names}")
        })
    }
}

/// When the kernel uses transparent huge pages of 2 MiB for anonymous memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transparent {
    /// Wherever it can.
    Always,
    /// Where a program asks for it by `madvise`.
    Madvise,
    /// Never, or the kernel does not support it.
    Never,
}

/// Reserved pages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The size of a page in bytes.
    pub page_bytes: u64,
    /// The number of reserved pages.
    pub total: u64,
    /// How many of them are unused.
    pub free: u64,
}

/// The huge pages of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugePages {
    /// The setting of transparent huge pages.
    pub transparent: Transparent,
    /// The reserved pages, by increasing page size. Sizes with no reserved pages are listed too.
    pub reserved: Vec<Reserved>,
}

/// Why a wish cannot be fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// Multicore labelling makes its own mappings, and no `madvise` can be issued for them from outside.
    #[error(
        "the labelling of several cores lies on huge pages only if \
         /sys/kernel/mm/transparent_hugepage/enabled is \"always\": set that, or {MULTICORE}=0 (slower)"
    )]
    NotAlways,
    /// The kernel is set to give no transparent huge pages.
    #[error("/sys/kernel/mm/transparent_hugepage/enabled is \"never\": set \"always\" or \"madvise\"")]
    Never,
    /// Multicore labelling makes its own mappings, which cannot be moved to reserved pages from outside.
    #[error(
        "the labelling of several cores cannot use reserved pages, because the library maps its memory itself: wish for \
         \"transparent\", or set {MULTICORE}=0 (slower)"
    )]
    MapsItself,
    /// There are too few reserved pages.
    #[error(
        "PC1 of a {size} sector needs {needed_pages} reserved pages of 2 MiB, {free_pages} of {total_pages} are free: set \
         vm.nr_hugepages"
    )]
    TooFew {
        /// The sector size.
        size: SectorSize,
        /// The pages that one processor needs.
        needed_pages: u64,
        /// The pages that are free.
        free_pages: u64,
        /// The pages that are reserved.
        total_pages: u64,
    },
}

/// The huge pages that a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// Bytes on transparent huge pages (`AnonHugePages`).
    pub transparent_bytes: u64,
    /// Bytes on reserved huge pages (`Private_Hugetlb`, `Shared_Hugetlb`).
    pub reserved_bytes: u64,
    /// Bytes locked in memory (`Locked`). The library locks the labels if its limits permit.
    pub locked_bytes: u64,
}

impl HugePages {
    /// Reads the machine's huge pages below `sys_root` (`/sys`). What cannot be read counts as absent.
    #[must_use]
    pub fn read(sys_root: &Path) -> Self {
        let memory = sys_root.join("kernel/mm");
        let mut reserved: Vec<Reserved> = fs::read_dir(memory.join("hugepages"))
            .into_iter()
            .flatten()
            .filter_map(|entry| reserved_in(&entry.ok()?.path()))
            .collect();
        reserved.sort_by_key(|pages| pages.page_bytes);
        Self { transparent: transparent(&memory.join("transparent_hugepage")), reserved }
    }

    /// The variables that put the labels of a sector of `size` on the wished pages. They are added to a processor's
    /// `environment`.
    ///
    /// # Errors
    /// [`Impossible`], which says what to change.
    pub fn variables(
        &self,
        wish: Wish,
        size: SectorSize,
        environment: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, Impossible> {
        // Parsed as the library does; off if it is not set.
        let on = |value: &String| ["1", "true", "on", "yes"].contains(&value.to_lowercase().as_str());
        let multicore = environment.get(MULTICORE).is_some_and(on);
        let tunable = match (wish, multicore) {
            (Wish::Any, _) => return Ok(BTreeMap::new()),
            (Wish::Reserved, true) => return Err(Impossible::MapsItself),
            (Wish::Reserved, false) => {
                self.require_reserved(size)?;
                "glibc.malloc.hugetlb=2"
            }
            (Wish::Transparent, _) if self.transparent == Transparent::Never => return Err(Impossible::Never),
            (Wish::Transparent, true) if self.transparent != Transparent::Always => return Err(Impossible::NotAlways),
            (Wish::Transparent, true) => return Ok(BTreeMap::new()),
            (Wish::Transparent, false) => ASK,
        };
        let value = match environment.get(TUNABLES).filter(|set| !set.is_empty()) {
            Some(set) => format!("{set}:{tunable}"),
            None => tunable.to_owned(),
        };
        Ok(BTreeMap::from([(TUNABLES.to_owned(), value)]))
    }

    fn require_reserved(&self, size: SectorSize) -> Result<(), Impossible> {
        const PAGE: u64 = 2 << 20;
        let needed_pages = needed_bytes(size).div_ceil(PAGE);
        let pages = self.reserved.iter().find(|pages| pages.page_bytes == PAGE);
        let (free_pages, total_pages) = pages.map_or((0, 0), |pages| (pages.free, pages.total));
        if free_pages < needed_pages {
            return Err(Impossible::TooFew { size, needed_pages, free_pages, total_pages });
        }
        Ok(())
    }
}

/// The memory that the labels of one sector need: two layers, and some spare.
#[must_use]
pub fn needed_bytes(size: SectorSize) -> u64 {
    2 * size.bytes() + SPARE_BYTES
}

impl InUse {
    /// Reads the huge pages of process `pid` from `proc_root` (`/proc`). The kernel walks through all of the process's
    /// memory for this, so for large processes call it about once a minute.
    ///
    /// # Errors
    /// [`io::Error`] if the process is gone or belongs to another user.
    pub fn of(proc_root: &Path, pid: u32) -> io::Result<Self> {
        fs::read_to_string(proc_root.join(pid.to_string()).join("smaps_rollup")).map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let kib = |key: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
        };
        Self {
            transparent_bytes: kib("AnonHugePages") * 1024,
            reserved_bytes: (kib("Private_Hugetlb") + kib("Shared_Hugetlb")) * 1024,
            locked_bytes: kib("Locked") * 1024,
        }
    }

    /// Bytes on huge pages of any kind.
    #[must_use]
    pub fn huge_bytes(&self) -> u64 {
        self.transparent_bytes + self.reserved_bytes
    }
}

/// Restarts this program with the same arguments if the C library was told to ask for huge pages and does not. Call
/// this before anything else.
///
/// The reason is a bug in glibc 2.36: it reads the machine's setting into a buffer without a terminating zero and
/// compares it as a string. Depending on what was on the stack, it does not recognise `madvise`, and silently gives up.
/// Whether it asks can be seen at the heap, which then grows by huge pages. Each start has another stack, so a restart
/// may help.
///
/// # Errors
/// [`io::Error`] if the allocator does not ask after all restarts, or if the program cannot be restarted. PC1 works
/// without huge pages, but more slowly.
pub fn start_again_until_asked_for() -> io::Result<()> {
    let told = env::var(TUNABLES).is_ok_and(|tunables| tunables.split(':').any(|tunable| tunable == ASK));
    if !told || HugePages::read(Path::new("/sys")).transparent != Transparent::Madvise {
        return Ok(());
    }
    if asked_for_on_heap(&fs::read_to_string("/proc/self/smaps")?) {
        return Ok(());
    }
    let starts: u32 = env::var(STARTS).ok().and_then(|starts| starts.parse().ok()).unwrap_or(0);
    if starts >= MAX_STARTS {
        return Err(io::Error::other(format!("the C library does not ask for huge pages after {starts} more starts")));
    }
    // The value's length changes with each restart, so the stack moves even without address space randomisation.
    let next = format!("{:0width$}", starts + 1, width = starts as usize + 1);
    Err(Command::new(env::current_exe()?).args(env::args_os().skip(1)).env(STARTS, next).exec())
}

/// Whether the heap has the huge page flag (`hg`), from the text of `smaps`.
fn asked_for_on_heap(smaps: &str) -> bool {
    let heap = smaps.lines().skip_while(|line| !line.ends_with("[heap]"));
    let mut flags = heap.filter_map(|line| line.strip_prefix("VmFlags:"));
    flags.next().is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hg"))
}

/// The setting for pages of 2 MiB. If that defers to the general setting, the general one.
fn transparent(dir: &Path) -> Transparent {
    let chosen = |path: PathBuf| -> Option<String> {
        let text = fs::read_to_string(path).ok()?;
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    };
    let of_size = chosen(dir.join("hugepages-2048kB/enabled")).filter(|chosen| chosen != "inherit");
    match of_size.or_else(|| chosen(dir.join("enabled"))).as_deref() {
        Some("always") => Transparent::Always,
        Some("madvise") => Transparent::Madvise,
        _ => Transparent::Never,
    }
}

fn reserved_in(dir: &Path) -> Option<Reserved> {
    let name = dir.file_name()?.to_str()?;
    let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let count = |file: &str| -> Option<u64> { fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok() };
    Some(Reserved { page_bytes: kib * 1024, total: count("nr_hugepages")?, free: count("free_hugepages")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: SectorSize = SectorSize::GiB32;

    fn machine(transparent: Transparent, pages: u64) -> HugePages {
        HugePages { transparent, reserved: vec![Reserved { page_bytes: 2 << 20, total: pages, free: pages }] }
    }

    fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_allocator_of_one_core_is_told_and_the_mappings_of_several_depend_on_the_machine() {
        use Transparent::{Always, Madvise, Never};
        let tunable = |value: &str| Ok(environment(&[(TUNABLES, value)]));
        let too_few = Impossible::TooFew { size: SIZE, needed_pages: 32_800, free_pages: 5, total_pages: 5 };
        for (wish, multicore, transparent, pages, expected) in [
            (Wish::Any, "1", Never, 0, Ok(BTreeMap::new())),
            (Wish::Transparent, "1", Always, 0, Ok(BTreeMap::new())),
            (Wish::Transparent, "1", Madvise, 0, Err(Impossible::NotAlways)),
            (Wish::Transparent, "0", Madvise, 0, tunable("glibc.malloc.hugetlb=1")),
            (Wish::Transparent, "0", Never, 0, Err(Impossible::Never)),
            (Wish::Reserved, "1", Always, 1 << 20, Err(Impossible::MapsItself)),
            (Wish::Reserved, "0", Never, 1 << 20, tunable("glibc.malloc.hugetlb=2")),
            (Wish::Reserved, "0", Never, 5, Err(too_few)),
        ] {
            let found = machine(transparent, pages).variables(wish, SIZE, &environment(&[(MULTICORE, multicore)]));
            assert_eq!(found, expected, "{wish:?} {multicore} {transparent:?}");
        }
    }

    #[test]
    fn tunables_that_are_set_already_are_kept() {
        let set = environment(&[(TUNABLES, "glibc.malloc.arena_max=2")]);
        let variables = machine(Transparent::Madvise, 0).variables(Wish::Transparent, SIZE, &set).expect("possible");
        assert_eq!(variables[TUNABLES], "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1");
    }

    #[test]
    fn the_setting_of_the_page_size_goes_before_the_general_one() {
        let dir = tempfile::tempdir().expect("directory");
        let at = dir.path().join("kernel/mm/transparent_hugepage");
        fs::create_dir_all(at.join("hugepages-2048kB")).expect("directory");
        assert_eq!(HugePages::read(dir.path()).transparent, Transparent::Never, "nothing there");
        fs::write(at.join("enabled"), "always [madvise] never\n").expect("write");
        for (of_size, expected) in [
            ("always [inherit] madvise never\n", Transparent::Madvise),
            ("[always] inherit madvise never\n", Transparent::Always),
            ("always inherit madvise [never]\n", Transparent::Never),
        ] {
            fs::write(at.join("hugepages-2048kB/enabled"), of_size).expect("write");
            assert_eq!(HugePages::read(dir.path()).transparent, expected);
        }
    }

    #[test]
    fn reserved_pages_are_counted_by_size() {
        let dir = tempfile::tempdir().expect("directory");
        for (name, total, free) in [("hugepages-1048576kB", "2\n", "1\n"), ("hugepages-2048kB", "9\n", "8\n")] {
            let at = dir.path().join("kernel/mm/hugepages").join(name);
            fs::create_dir_all(&at).expect("directory");
            fs::write(at.join("nr_hugepages"), total).expect("write");
            fs::write(at.join("free_hugepages"), free).expect("write");
        }
        let expected =
            [Reserved { page_bytes: 2 << 20, total: 9, free: 8 }, Reserved { page_bytes: 1 << 30, total: 2, free: 1 }];
        assert_eq!(HugePages::read(dir.path()).reserved, expected);
    }

    #[test]
    fn what_a_process_has_is_read_from_the_kernels_sums() {
        let text = "5583-7ffd ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nAnonHugePages:     16384 kB\n\
                    Shared_Hugetlb:        0 kB\nPrivate_Hugetlb:    2048 kB\nLocked:            16384 kB\n";
        let expected = InUse { transparent_bytes: 16 << 20, reserved_bytes: 2 << 20, locked_bytes: 16 << 20 };
        assert_eq!(InUse::parse(text), expected);
    }

    #[test]
    fn what_was_asked_for_is_read_from_the_flags_of_the_heap_alone() {
        let smaps = |heap: &str, other: &str| {
            format!(
                "55-56 r-xp 00 00:00 1 /bin/x\nVmFlags: rd ex {other}\n57-58 rw-p 00 00:00 0      [heap]\nRss: 8 kB\n\
                 VmFlags: rd wr {heap}\n7f-80 rw-p 00 00:00 0 \nVmFlags: rd wr {other}\n"
            )
        };
        assert!(asked_for_on_heap(&smaps("ac hg", "ac")));
        assert!(!asked_for_on_heap(&smaps("ac", "ac hg")));
        assert!(!asked_for_on_heap("57-58 rw-p 00 00:00 0\nVmFlags: hg\n"), "no heap");
    }

    #[test]
    fn wishes_have_the_names_of_the_configuration() {
        for wish in [Wish::Any, Wish::Transparent, Wish::Reserved] {
            assert_eq!(wish.name().parse(), Ok(wish));
        }
        assert!("huge".parse::<Wish>().expect_err("unknown").contains("any, transparent, reserved"));
    }
}

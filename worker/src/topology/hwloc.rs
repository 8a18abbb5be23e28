//! hwloc: the only file in the workspace with `unsafe`.
//!
//! The proofs library links libhwloc through the crate `hwloc2`, and Cargo allows only one crate to link it. That
//! crate's Rust interface lacks memory binding, XML and synthetic descriptions, and newer object types. So the
//! functions we need are declared here and use the same linked library. The library's objects are copied to plain
//! [`Object`]s at once: no pointer leaves this file.
#![allow(unsafe_code, reason = "libhwloc is a C library")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_uint, c_ulong},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::{self, NonNull},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::process::Pid;

// Only its build script is needed: it finds and links the library.
use hwloc2 as _;

use super::{
    CpuSet,
    object::{Kind, Object, Pci},
    sight::{Level, Sight},
};

mod layout;

/// The largest accepted index of a processing unit or node.
const INDEX_MAX: u32 = 65_535;
/// More objects than any machine has.
const OBJECTS_MAX: usize = 1_000_000;
/// Deeper than any machine's tree.
const DEPTH_MAX: usize = 128;

/// Held during calls in which the library takes its own locks. So a forked process never inherits such a lock in a
/// locked state.
static LIBRARY: Mutex<()> = Mutex::new(());

/// Why hwloc failed.
#[derive(Debug, thiserror::Error)]
pub enum HwlocError {
    /// The library has another interface version than the one declared here.
    #[error("libhwloc has interface version {0:#x}; version 2 is needed: install libhwloc15")]
    Version(c_uint),
    /// A call failed.
    #[error("hwloc cannot {operation}")]
    Failed {
        /// The operation, as a verb.
        operation: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The description has more of something than any machine.
    #[error("the description has {0}")]
    TooLarge(&'static str),
    /// The environment makes hwloc describe another machine, so nothing can be bound.
    #[error("hwloc describes another machine than this one: unset HWLOC_XMLFILE, HWLOC_SYNTHETIC and HWLOC_FSROOT")]
    NotThisMachine,
}

/// Where a process takes memory from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryPolicy {
    /// Only from the given nodes.
    Bind,
    /// From the given nodes as long as they have free memory.
    Prefer,
}

/// How much of a machine hwloc inspects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// All of it, also what this process may not use.
    Everything,
    /// The same without devices. To find devices, hwloc may start GPU drivers.
    WithoutDevices,
    /// hwloc's defaults, as the proofs library uses them.
    Plain,
}

/// A loaded hwloc topology.
#[derive(Debug)]
pub struct Topology(NonNull<layout::Topology>);

impl Topology {
    /// This machine, including what this process may not use.
    pub fn this_machine() -> Result<Self, HwlocError> {
        Self::of_this_machine(View::Everything)
    }

    /// This machine without devices, for binding processes.
    pub fn this_machine_to_bind() -> Result<Self, HwlocError> {
        Self::of_this_machine(View::WithoutDevices)
    }

    pub(super) fn of_this_machine(view: View) -> Result<Self, HwlocError> {
        let topology = Self::configured(view)?;
        topology.load("look at this machine")?;
        // SAFETY: a loaded topology.
        if unsafe { ffi::hwloc_topology_is_thissystem(topology.0.as_ptr()) } != 1 {
            return Err(HwlocError::NotThisMachine);
        }
        Ok(topology)
    }

    /// The machine in an XML document, which must have passed [`super::xml`] and [`super::trial`].
    pub(super) fn from_xml(xml: &str, view: View) -> Result<Self, HwlocError> {
        let topology = Self::configured(view)?;
        let text = CString::new(xml).map_err(|error| failed("read XML", error))?;
        let length = c_int::try_from(text.as_bytes_with_nul().len()).map_err(|error| failed("read XML", error))?;
        // SAFETY: a topology that is not loaded yet, and a text of that length with its final NUL; the library copies it.
        alone(|| {
            check("read XML", unsafe { ffi::hwloc_topology_set_xmlbuffer(topology.0.as_ptr(), text.as_ptr(), length) })
        })?;
        topology.load("understand XML")?;
        Ok(topology)
    }

    /// The machine of a synthetic description, which must have passed [`super::synthetic`].
    pub(super) fn from_synthetic(description: &str, view: View) -> Result<Self, HwlocError> {
        let topology = Self::configured(view)?;
        let text = CString::new(description).map_err(|error| failed("read a synthetic description", error))?;
        // SAFETY: a topology that is not loaded yet, and a text with its final NUL; the library copies it.
        alone(|| {
            check("read a synthetic description", unsafe {
                ffi::hwloc_topology_set_synthetic(topology.0.as_ptr(), text.as_ptr())
            })
        })?;
        topology.load("understand a synthetic description")?;
        Ok(topology)
    }

    /// An XML document from which this topology can be loaded again.
    pub fn to_xml(&self) -> Result<String, HwlocError> {
        let (mut buffer, mut length) = (ptr::null_mut(), 0);
        // SAFETY: a loaded topology, and two places for results.
        alone(|| {
            check("write XML", unsafe {
                ffi::hwloc_topology_export_xmlbuffer(self.0.as_ptr(), &raw mut buffer, &raw mut length, 0)
            })
        })?;
        // SAFETY: the library has just given a text with its final NUL.
        let xml = unsafe { copied(buffer) };
        // SAFETY: the buffer came from the function above, and is not used any more.
        unsafe { ffi::hwloc_free_xmlbuffer(self.0.as_ptr(), buffer) };
        Ok(xml)
    }

    /// The machine, with everything in it.
    pub fn root(&self) -> Result<Object, HwlocError> {
        // SAFETY: a loaded topology, which has an object at depth 0.
        let root = unsafe { ffi::hwloc_get_obj_by_depth(self.0.as_ptr(), 0, 0) };
        // SAFETY: an object of a loaded topology, which lives as long as `self`.
        let root = unsafe { root.as_ref() }.ok_or(HwlocError::TooLarge("no machine in it"))?;
        // SAFETY: the same.
        unsafe { copy_object(root, 0, &mut 0) }
    }

    /// The cores, and the levels above them, in the order in which the proofs library walks them. On a [`View::Plain`]
    /// topology this is what the library sees.
    pub(super) fn sight(&self) -> Result<Sight, HwlocError> {
        // SAFETY: a loaded topology; the type is one of the library's.
        let depth = unsafe { ffi::hwloc_get_type_depth(self.0.as_ptr(), layout::OBJ_CORE) };
        if depth < 0 {
            return Ok(Sight::default());
        }
        let level = |depth| {
            // SAFETY: a loaded topology, in which that depth is.
            let kind = unsafe { ffi::hwloc_get_depth_type(self.0.as_ptr(), depth) };
            Ok(Level { name: layout::plural(kind).to_owned(), parts: self.sets_at(depth)? })
        };
        Ok(Sight {
            cores: self.sets_at(depth)?,
            levels: (1..depth).rev().map(level).collect::<Result<_, HwlocError>>()?,
        })
    }

    /// The processing units of each object at a depth of the tree.
    fn sets_at(&self, depth: c_int) -> Result<Vec<CpuSet>, HwlocError> {
        // SAFETY: a loaded topology.
        let count = unsafe { ffi::hwloc_get_nbobjs_by_depth(self.0.as_ptr(), depth) };
        if count as usize > OBJECTS_MAX {
            return Err(HwlocError::TooLarge("more objects than any machine"));
        }
        let set = |index| {
            // SAFETY: the same; there are more objects at that depth.
            let object = unsafe { ffi::hwloc_get_obj_by_depth(self.0.as_ptr(), depth, index) };
            // SAFETY: an object of a loaded topology, and its set, live as long as `self`.
            unsafe { object.as_ref().map_or_else(|| Ok(CpuSet::new()), |object| set_of(object.cpuset)) }
        };
        (0..count).map(set).collect()
    }

    /// The processing units that cgroups allow.
    pub fn allowed_units(&self) -> Result<CpuSet, HwlocError> {
        // SAFETY: a loaded topology, which owns the set.
        unsafe { set_of(ffi::hwloc_topology_get_allowed_cpuset(self.0.as_ptr())) }
    }

    /// The nodes that cgroups allow.
    pub fn allowed_nodes(&self) -> Result<CpuSet, HwlocError> {
        // SAFETY: a loaded topology, which owns the set.
        unsafe { set_of(ffi::hwloc_topology_get_allowed_nodeset(self.0.as_ptr())) }
    }

    /// Binds all threads of this process to processing units.
    pub fn bind_units(&self, units: &CpuSet) -> Result<(), HwlocError> {
        let set = Bitmap::of(units)?;
        // SAFETY: a loaded topology and a set.
        check("bind this process to processing units", unsafe {
            ffi::hwloc_set_cpubind(self.0.as_ptr(), set.0.as_ptr(), layout::CPUBIND_PROCESS)
        })
    }

    /// The processing units that the threads of this process are bound to.
    pub fn bound_units(&self) -> Result<CpuSet, HwlocError> {
        let set = Bitmap::empty()?;
        // SAFETY: a loaded topology and a set to fill.
        check("read the processing units that this process is bound to", unsafe {
            ffi::hwloc_get_cpubind(self.0.as_ptr(), set.0.as_ptr(), layout::CPUBIND_PROCESS)
        })?;
        set.to_set()
    }

    /// Sets the memory policy of this thread and of what it starts or becomes by `exec`.
    ///
    /// Linux has no memory policy for a whole process. The thread that calls `exec` passes its own on.
    pub fn bind_memory(&self, nodes: &CpuSet, policy: MemoryPolicy) -> Result<(), HwlocError> {
        let set = Bitmap::of(nodes)?;
        let strict = match policy {
            MemoryPolicy::Bind => layout::MEMBIND_STRICT,
            MemoryPolicy::Prefer => 0,
        };
        let flags = layout::MEMBIND_THREAD | layout::MEMBIND_BYNODESET | strict;
        // SAFETY: a loaded topology and a set.
        check("bind this process to memory", unsafe {
            ffi::hwloc_set_membind(self.0.as_ptr(), set.0.as_ptr(), layout::MEMBIND_BIND, flags)
        })
    }

    /// The nodes that this thread is bound to; `None` if it has no such policy.
    pub fn bound_memory(&self) -> Result<Option<CpuSet>, HwlocError> {
        let (set, mut policy) = (Bitmap::empty()?, 0);
        let flags = layout::MEMBIND_THREAD | layout::MEMBIND_BYNODESET;
        // SAFETY: a loaded topology, a set to fill and a place for the policy.
        check("read the memory that this process is bound to", unsafe {
            ffi::hwloc_get_membind(self.0.as_ptr(), set.0.as_ptr(), &raw mut policy, flags)
        })?;
        if policy == layout::MEMBIND_BIND { set.to_set().map(Some) } else { Ok(None) }
    }

    /// A topology that is configured but not loaded.
    fn configured(view: View) -> Result<Self, HwlocError> {
        // SAFETY: takes nothing.
        let version = unsafe { ffi::hwloc_get_api_version() };
        if version >> 16 != 2 {
            return Err(HwlocError::Version(version));
        }
        let mut topology = ptr::null_mut();
        // SAFETY: a place for the result.
        alone(|| check("start", unsafe { ffi::hwloc_topology_init(&raw mut topology) }))?;
        let topology = NonNull::new(topology).map(Self).ok_or_else(|| failed("start", "no topology"))?;
        if view != View::Plain {
            // SAFETY: a topology that is not loaded yet.
            check("include what may not be used", unsafe {
                ffi::hwloc_topology_set_flags(topology.0.as_ptr(), layout::INCLUDE_DISALLOWED)
            })?;
        }
        if view == View::Everything {
            // SAFETY: the same.
            check("include devices", unsafe {
                ffi::hwloc_topology_set_io_types_filter(topology.0.as_ptr(), layout::KEEP_IMPORTANT)
            })?;
        }
        Ok(topology)
    }

    fn load(&self, operation: &'static str) -> Result<(), HwlocError> {
        // SAFETY: a topology that is not loaded yet; after a failure it is only destroyed.
        alone(|| check(operation, unsafe { ffi::hwloc_topology_load(self.0.as_ptr()) }))
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        // SAFETY: made by `hwloc_topology_init`, destroyed once.
        alone(|| unsafe { ffi::hwloc_topology_destroy(self.0.as_ptr()) });
    }
}

/// A bitmap of the library.
struct Bitmap(NonNull<layout::Bitmap>);

impl Bitmap {
    fn empty() -> Result<Self, HwlocError> {
        // SAFETY: takes nothing.
        let set = unsafe { ffi::hwloc_bitmap_alloc() };
        NonNull::new(set).map(Self).ok_or_else(|| failed("make a set", io::Error::last_os_error()))
    }

    fn of(set: &CpuSet) -> Result<Self, HwlocError> {
        let bitmap = Self::empty()?;
        for index in set.iter() {
            if index > INDEX_MAX {
                return Err(HwlocError::TooLarge("an index above 65535"));
            }
            // SAFETY: a set of ours; the index is small.
            check("fill a set", unsafe { ffi::hwloc_bitmap_set(bitmap.0.as_ptr(), index) })?;
        }
        Ok(bitmap)
    }

    fn to_set(&self) -> Result<CpuSet, HwlocError> {
        // SAFETY: a set of ours.
        unsafe { set_of(self.0.as_ptr()) }
    }
}

impl Drop for Bitmap {
    fn drop(&mut self) {
        // SAFETY: made by `hwloc_bitmap_alloc`, freed once.
        unsafe { ffi::hwloc_bitmap_free(self.0.as_ptr()) }
    }
}

/// # Safety
/// `bitmap` is null or a set that lives during the call.
unsafe fn set_of(bitmap: *const layout::Bitmap) -> Result<CpuSet, HwlocError> {
    let mut set = CpuSet::new();
    if bitmap.is_null() {
        return Ok(set);
    }
    let mut index = -1;
    loop {
        // SAFETY: a set that lives; -1 asks for the first index.
        index = unsafe { ffi::hwloc_bitmap_next(bitmap, index) };
        match u32::try_from(index) {
            Err(_) => return Ok(set),
            // Infinite bitmaps stop here too.
            Ok(index) if index > INDEX_MAX => return Err(HwlocError::TooLarge("an index above 65535")),
            Ok(index) => set.insert(index),
        }
    }
}

/// # Safety
/// `object` belongs to a loaded topology that lives during the call.
unsafe fn copy_object(object: &layout::Object, depth: usize, copied_before: &mut usize) -> Result<Object, HwlocError> {
    *copied_before += 1;
    if depth > DEPTH_MAX || *copied_before > OBJECTS_MAX {
        return Err(HwlocError::TooLarge("more objects than any machine"));
    }
    let mut list = |first: *const layout::Object| {
        let (mut copies, mut next) = (Vec::new(), first);
        // SAFETY: each child belongs to the same topology, and leads to its next sibling or to null.
        while let Some(child) = unsafe { next.as_ref() } {
            // SAFETY: the same.
            copies.push(unsafe { copy_object(child, depth + 1, copied_before) }?);
            next = child.next_sibling;
        }
        Ok::<_, HwlocError>(copies)
    };
    let (children, memory, devices) =
        (list(object.first_child)?, list(object.memory_first_child)?, list(object.io_first_child)?);
    // SAFETY: texts, sets and attributes of an object are null or live as long as the topology.
    unsafe {
        Ok(Object {
            kind: kind_of(object),
            os_index: (object.os_index != c_uint::MAX).then_some(object.os_index),
            name: copied(object.name),
            subtype: copied(object.subtype),
            infos: infos_of(object),
            units: set_of(object.cpuset)?,
            nodes: set_of(object.nodeset)?,
            children,
            memory,
            devices,
        })
    }
}

/// # Safety
/// As for [`copy_object`].
unsafe fn kind_of(object: &layout::Object) -> Kind {
    // SAFETY: which member of the union is there is what the object's type says.
    unsafe {
        match (object.kind, object.attributes.as_ref()) {
            (layout::OBJ_PACKAGE, _) => Kind::Package,
            (layout::OBJ_CORE, _) => Kind::Core,
            (layout::OBJ_PU, _) => Kind::Unit,
            (layout::OBJ_L3CACHE, attributes) => Kind::L3 { bytes: attributes.map_or(0, |it| it.cache.size) },
            (layout::OBJ_NUMANODE, Some(attributes)) => Kind::Node {
                memory_bytes: attributes.node.local_memory,
                pages: match attributes.node.page_types.is_null() {
                    true => Vec::new(),
                    false => {
                        std::slice::from_raw_parts(attributes.node.page_types, attributes.node.page_types_len as usize)
                            .iter()
                            .map(|pages| (pages.size, pages.count))
                            .collect()
                    }
                },
            },
            (layout::OBJ_NUMANODE, None) => Kind::Node { memory_bytes: 0, pages: Vec::new() },
            (layout::OBJ_PCI_DEVICE, Some(attributes)) => Kind::Pci(Pci {
                address: attributes.pci.address(),
                class: attributes.pci.class,
                vendor: attributes.pci.vendor,
                device: attributes.pci.device,
            }),
            (layout::OBJ_OS_DEVICE, Some(attributes)) => match attributes.os_device.kind {
                layout::OSDEV_BLOCK => Kind::Block,
                layout::OSDEV_GPU | layout::OSDEV_COPROC => Kind::Accelerator,
                _ => Kind::Other,
            },
            _ => Kind::Other,
        }
    }
}

/// # Safety
/// As for [`copy_object`].
unsafe fn infos_of(object: &layout::Object) -> Vec<(String, String)> {
    if object.infos.is_null() {
        return Vec::new();
    }
    // SAFETY: an array of that length; its texts live as long.
    unsafe {
        std::slice::from_raw_parts(object.infos, object.infos_count as usize)
            .iter()
            .map(|info| (copied(info.name), copied(info.value)))
            .collect()
    }
}

/// # Safety
/// `text` is null or has a final NUL, and lives during the call.
unsafe fn copied(text: *const c_char) -> String {
    match text.is_null() {
        true => String::new(),
        // SAFETY: as demanded.
        false => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
    }
}

/// Forks a process that has only the calling thread. Its exit status is what `work` returns, or another one if `work`
/// panics. The caller must reap it.
///
/// `work` must not need locks that other threads may have held at the fork. The locks of the library and of the
/// allocator are taken care of.
pub(super) fn forked(work: impl FnOnce() -> u8) -> io::Result<Pid> {
    // SAFETY: glibc makes its allocator usable in the child, and `LIBRARY` keeps other threads out of the library. The
    // child leaves by `_exit` in any case, so nothing of its parent's is run twice.
    let child = alone(|| unsafe { ffi::fork() });
    if child == 0 {
        let status = catch_unwind(AssertUnwindSafe(work)).unwrap_or(u8::MAX);
        // SAFETY: takes a number, and does not come back.
        unsafe { ffi::_exit(status.into()) }
    }
    Pid::from_raw(child).filter(|_| child > 0).ok_or_else(io::Error::last_os_error)
}

/// Calls `work` while no other thread uses the library.
fn alone<T>(work: impl FnOnce() -> T) -> T {
    let _others_wait: MutexGuard<'_, ()> = LIBRARY.lock().unwrap_or_else(PoisonError::into_inner);
    work()
}

fn check(operation: &'static str, status: c_int) -> Result<(), HwlocError> {
    if status == 0 { Ok(()) } else { Err(failed(operation, io::Error::last_os_error())) }
}

fn failed(operation: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HwlocError {
    let source = source.into();
    let source = match source.downcast::<io::Error>() {
        Ok(error) => *error,
        Err(other) => io::Error::other(other),
    };
    HwlocError::Failed { operation, source }
}

/// The library functions we use, and two of the C library.
mod ffi {
    use super::{
        c_char, c_int, c_uint, c_ulong,
        layout::{Bitmap, Object, Topology},
    };

    unsafe extern "C" {
        pub fn hwloc_get_api_version() -> c_uint;
        pub fn hwloc_topology_init(topology: *mut *mut Topology) -> c_int;
        pub fn hwloc_topology_set_flags(topology: *mut Topology, flags: c_ulong) -> c_int;
        pub fn hwloc_topology_set_io_types_filter(topology: *mut Topology, filter: c_uint) -> c_int;
        pub fn hwloc_topology_set_xmlbuffer(topology: *mut Topology, buffer: *const c_char, size: c_int) -> c_int;
        pub fn hwloc_topology_set_synthetic(topology: *mut Topology, description: *const c_char) -> c_int;
        pub fn hwloc_topology_load(topology: *mut Topology) -> c_int;
        pub fn hwloc_topology_destroy(topology: *mut Topology);
        pub fn hwloc_topology_is_thissystem(topology: *mut Topology) -> c_int;
        pub fn hwloc_get_type_depth(topology: *mut Topology, kind: c_uint) -> c_int;
        pub fn hwloc_get_depth_type(topology: *mut Topology, depth: c_int) -> c_uint;
        pub fn hwloc_get_nbobjs_by_depth(topology: *mut Topology, depth: c_int) -> c_uint;
        pub fn hwloc_get_obj_by_depth(topology: *mut Topology, depth: c_int, index: c_uint) -> *const Object;
        pub fn hwloc_topology_get_allowed_cpuset(topology: *mut Topology) -> *const Bitmap;
        pub fn hwloc_topology_get_allowed_nodeset(topology: *mut Topology) -> *const Bitmap;
        pub fn hwloc_topology_export_xmlbuffer(
            topology: *mut Topology,
            buffer: *mut *mut c_char,
            length: *mut c_int,
            flags: c_ulong,
        ) -> c_int;
        pub fn hwloc_free_xmlbuffer(topology: *mut Topology, buffer: *mut c_char);
        pub fn hwloc_set_cpubind(topology: *mut Topology, set: *const Bitmap, flags: c_int) -> c_int;
        pub fn hwloc_get_cpubind(topology: *mut Topology, set: *mut Bitmap, flags: c_int) -> c_int;
        pub fn hwloc_set_membind(topology: *mut Topology, set: *const Bitmap, policy: c_int, flags: c_int) -> c_int;
        pub fn hwloc_get_membind(topology: *mut Topology, set: *mut Bitmap, policy: *mut c_int, flags: c_int) -> c_int;
        pub fn hwloc_bitmap_alloc() -> *mut Bitmap;
        pub fn hwloc_bitmap_free(set: *mut Bitmap);
        pub fn hwloc_bitmap_set(set: *mut Bitmap, index: c_uint) -> c_int;
        pub fn hwloc_bitmap_next(set: *const Bitmap, previous: c_int) -> c_int;
        // These belong to the C library.
        pub fn fork() -> c_int;
        pub fn _exit(status: c_int) -> !;
    }
}

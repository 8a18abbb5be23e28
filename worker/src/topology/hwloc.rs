//! hwloc: the only file with `unsafe` in the workspace.
//!
//! The proofs library links libhwloc through the crate `hwloc2`, and Cargo allows one crate that does. Its Rust
//! interface lacks memory binding, XML and synthetic descriptions, and object types of today; so the functions needed
//! are declared here, on the library that it links. The library's objects are copied into plain [`Object`]s at once:
//! no pointer leaves this file.
#![allow(unsafe_code, reason = "libhwloc is a C library")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_uint, c_ulong, c_void},
    io,
    ptr::{self, NonNull},
};

// For its build script, which finds and links the library.
use hwloc2 as _;

use super::{
    CpuSet,
    object::{Kind, Object, Pci},
};

/// The largest index of a processing unit or node that is accepted.
const INDEX_MAX: u32 = 65_535;
/// More objects than any machine has.
const OBJECTS_MAX: usize = 1_000_000;
/// Deeper than any machine is.
const DEPTH_MAX: usize = 128;

/// Why hwloc could not do something.
#[derive(Debug, thiserror::Error)]
pub enum HwlocError {
    /// The library's interface is another one than that declared here.
    #[error("libhwloc has interface version {0:#x}; version 2 is needed: install libhwloc15")]
    Version(c_uint),
    /// A function failed.
    #[error("hwloc cannot {operation}")]
    Failed {
        /// What it was to do.
        operation: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// More of something than any machine has.
    #[error("the description has {0}")]
    TooLarge(&'static str),
    /// The environment makes hwloc describe another machine, on which nothing can be bound.
    #[error("hwloc describes another machine than this one: unset HWLOC_XMLFILE, HWLOC_SYNTHETIC and HWLOC_FSROOT")]
    NotThisMachine,
}

/// How a process takes its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryPolicy {
    /// From the nodes given, and from nowhere else.
    Bind,
    /// From the nodes given while they have some.
    Prefer,
}

/// A machine that hwloc has looked at.
#[derive(Debug)]
pub struct Topology(NonNull<ffi::Topology>);

impl Topology {
    /// This machine, also what this process may not use.
    pub fn this_machine() -> Result<Self, HwlocError> {
        let topology = Self::configured()?;
        topology.load("look at this machine")?;
        // SAFETY: a loaded topology.
        if unsafe { ffi::hwloc_topology_is_thissystem(topology.0.as_ptr()) } != 1 {
            return Err(HwlocError::NotThisMachine);
        }
        Ok(topology)
    }

    /// The machine of an XML document. The document must have been looked at by [`super::xml`].
    pub(super) fn from_xml(xml: &str) -> Result<Self, HwlocError> {
        let topology = Self::configured()?;
        let text = CString::new(xml).map_err(|error| failed("read XML", error))?;
        let length = c_int::try_from(text.as_bytes_with_nul().len()).map_err(|error| failed("read XML", error))?;
        // SAFETY: a topology that is not loaded yet, and a text of that length with its final NUL; the library copies it.
        check("read XML", unsafe { ffi::hwloc_topology_set_xmlbuffer(topology.0.as_ptr(), text.as_ptr(), length) })?;
        topology.load("understand XML")?;
        Ok(topology)
    }

    /// The machine of a synthetic description. Its size must have been looked at by [`super::synthetic`].
    pub(super) fn from_synthetic(description: &str) -> Result<Self, HwlocError> {
        let topology = Self::configured()?;
        let text = CString::new(description).map_err(|error| failed("read a synthetic description", error))?;
        // SAFETY: a topology that is not loaded yet, and a text with its final NUL; the library copies it.
        check("read a synthetic description", unsafe {
            ffi::hwloc_topology_set_synthetic(topology.0.as_ptr(), text.as_ptr())
        })?;
        topology.load("understand a synthetic description")?;
        Ok(topology)
    }

    /// An XML document from which the same topology can be read again.
    pub fn to_xml(&self) -> Result<String, HwlocError> {
        let (mut buffer, mut length) = (ptr::null_mut(), 0);
        // SAFETY: a loaded topology, and two places for results.
        check("write XML", unsafe {
            ffi::hwloc_topology_export_xmlbuffer(self.0.as_ptr(), &raw mut buffer, &raw mut length, 0)
        })?;
        // SAFETY: the library has just given a text with its final NUL.
        let xml = unsafe { copied(buffer) };
        // SAFETY: the buffer came from the function above, and is not used any more.
        unsafe { ffi::hwloc_free_xmlbuffer(self.0.as_ptr(), buffer) };
        Ok(xml)
    }

    /// The machine with all that is in it.
    pub fn root(&self) -> Result<Object, HwlocError> {
        // SAFETY: a loaded topology, which has an object at depth 0.
        let root = unsafe { ffi::hwloc_get_obj_by_depth(self.0.as_ptr(), 0, 0) };
        // SAFETY: an object of a loaded topology, which lives as long as `self`.
        let root = unsafe { root.as_ref() }.ok_or(HwlocError::TooLarge("no machine in it"))?;
        // SAFETY: the same.
        unsafe { copy_object(root, 0, &mut 0) }
    }

    /// The processing units that the machine's cgroups allow.
    pub fn allowed_units(&self) -> Result<CpuSet, HwlocError> {
        // SAFETY: a loaded topology, which owns the set.
        unsafe { set_of(ffi::hwloc_topology_get_allowed_cpuset(self.0.as_ptr())) }
    }

    /// The nodes that the machine's cgroups allow.
    pub fn allowed_nodes(&self) -> Result<CpuSet, HwlocError> {
        // SAFETY: a loaded topology, which owns the set.
        unsafe { set_of(ffi::hwloc_topology_get_allowed_nodeset(self.0.as_ptr())) }
    }

    /// Binds this process, with all its threads, to processing units.
    pub fn bind_units(&self, units: &CpuSet) -> Result<(), HwlocError> {
        let set = Bitmap::of(units)?;
        // SAFETY: a loaded topology and a set.
        check("bind this process to processing units", unsafe {
            ffi::hwloc_set_cpubind(self.0.as_ptr(), set.0.as_ptr(), ffi::CPUBIND_PROCESS)
        })
    }

    /// What this process, with all its threads, is bound to.
    pub fn bound_units(&self) -> Result<CpuSet, HwlocError> {
        let set = Bitmap::empty()?;
        // SAFETY: a loaded topology and a set to fill.
        check("read the processing units that this process is bound to", unsafe {
            ffi::hwloc_get_cpubind(self.0.as_ptr(), set.0.as_ptr(), ffi::CPUBIND_PROCESS)
        })?;
        set.to_set()
    }

    /// Says where this thread takes its memory, and what it starts or becomes after.
    ///
    /// Linux has no such policy for a whole process; the thread that calls `exec` passes its own on.
    pub fn bind_memory(&self, nodes: &CpuSet, policy: MemoryPolicy) -> Result<(), HwlocError> {
        let set = Bitmap::of(nodes)?;
        let strict = match policy {
            MemoryPolicy::Bind => ffi::MEMBIND_STRICT,
            MemoryPolicy::Prefer => 0,
        };
        let flags = ffi::MEMBIND_THREAD | ffi::MEMBIND_BYNODESET | strict;
        // SAFETY: a loaded topology and a set.
        check("bind this process to memory", unsafe {
            ffi::hwloc_set_membind(self.0.as_ptr(), set.0.as_ptr(), ffi::MEMBIND_BIND, flags)
        })
    }

    /// The nodes that this thread is bound to; nothing where it has no policy of that kind.
    pub fn bound_memory(&self) -> Result<Option<CpuSet>, HwlocError> {
        let (set, mut policy) = (Bitmap::empty()?, 0);
        let flags = ffi::MEMBIND_THREAD | ffi::MEMBIND_BYNODESET;
        // SAFETY: a loaded topology, a set to fill and a place for the policy.
        check("read the memory that this process is bound to", unsafe {
            ffi::hwloc_get_membind(self.0.as_ptr(), set.0.as_ptr(), &raw mut policy, flags)
        })?;
        if policy == ffi::MEMBIND_BIND { set.to_set().map(Some) } else { Ok(None) }
    }

    /// A topology to be loaded, with devices and with what this process may not use.
    fn configured() -> Result<Self, HwlocError> {
        // SAFETY: takes nothing.
        let version = unsafe { ffi::hwloc_get_api_version() };
        if version >> 16 != 2 {
            return Err(HwlocError::Version(version));
        }
        let mut topology = ptr::null_mut();
        // SAFETY: a place for the result.
        check("start", unsafe { ffi::hwloc_topology_init(&raw mut topology) })?;
        let topology = NonNull::new(topology).map(Self).ok_or_else(|| failed("start", "no topology"))?;
        // SAFETY: a topology that is not loaded yet.
        check("include what may not be used", unsafe {
            ffi::hwloc_topology_set_flags(topology.0.as_ptr(), ffi::INCLUDE_DISALLOWED)
        })?;
        // SAFETY: the same.
        check("include devices", unsafe {
            ffi::hwloc_topology_set_io_types_filter(topology.0.as_ptr(), ffi::KEEP_IMPORTANT)
        })?;
        Ok(topology)
    }

    fn load(&self, operation: &'static str) -> Result<(), HwlocError> {
        // SAFETY: a topology that is not loaded yet; after a failure it is only destroyed.
        check(operation, unsafe { ffi::hwloc_topology_load(self.0.as_ptr()) })
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        // SAFETY: made by `hwloc_topology_init`, destroyed once.
        unsafe { ffi::hwloc_topology_destroy(self.0.as_ptr()) }
    }
}

/// A set as the library has it.
struct Bitmap(NonNull<ffi::Bitmap>);

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
unsafe fn set_of(bitmap: *const ffi::Bitmap) -> Result<CpuSet, HwlocError> {
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
            // Sets without an end end here as well.
            Ok(index) if index > INDEX_MAX => return Err(HwlocError::TooLarge("an index above 65535")),
            Ok(index) => set.insert(index),
        }
    }
}

/// # Safety
/// `object` belongs to a loaded topology that lives during the call.
unsafe fn copy_object(object: &ffi::Object, depth: usize, copied_before: &mut usize) -> Result<Object, HwlocError> {
    *copied_before += 1;
    if depth > DEPTH_MAX || *copied_before > OBJECTS_MAX {
        return Err(HwlocError::TooLarge("more objects than any machine"));
    }
    let mut list = |first: *const ffi::Object| {
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
unsafe fn kind_of(object: &ffi::Object) -> Kind {
    // SAFETY: which member of the union is there is what the object's type says.
    unsafe {
        match (object.kind, object.attributes.as_ref()) {
            (ffi::OBJ_PACKAGE, _) => Kind::Package,
            (ffi::OBJ_CORE, _) => Kind::Core,
            (ffi::OBJ_PU, _) => Kind::Unit,
            (ffi::OBJ_L3CACHE, attributes) => Kind::L3 { bytes: attributes.map_or(0, |it| it.cache.size) },
            (ffi::OBJ_NUMANODE, Some(attributes)) => Kind::Node {
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
            (ffi::OBJ_NUMANODE, None) => Kind::Node { memory_bytes: 0, pages: Vec::new() },
            (ffi::OBJ_PCI_DEVICE, Some(attributes)) => Kind::Pci(Pci {
                address: attributes.pci.address(),
                class: attributes.pci.class,
                vendor: attributes.pci.vendor,
                device: attributes.pci.device,
            }),
            (ffi::OBJ_OS_DEVICE, Some(attributes)) => match attributes.os_device.kind {
                ffi::OSDEV_BLOCK => Kind::Block,
                ffi::OSDEV_GPU | ffi::OSDEV_COPROC => Kind::Accelerator,
                _ => Kind::Other,
            },
            _ => Kind::Other,
        }
    }
}

/// # Safety
/// As for [`copy_object`].
unsafe fn infos_of(object: &ffi::Object) -> Vec<(String, String)> {
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

/// What of `hwloc.h` 2.x is used. The layouts are part of the binary interface of all 2.x versions.
mod ffi {
    use super::{c_char, c_int, c_uint, c_ulong, c_void};

    pub const OBJ_PACKAGE: c_uint = 1;
    pub const OBJ_CORE: c_uint = 2;
    pub const OBJ_PU: c_uint = 3;
    pub const OBJ_L3CACHE: c_uint = 6;
    pub const OBJ_NUMANODE: c_uint = 13;
    pub const OBJ_PCI_DEVICE: c_uint = 15;
    pub const OBJ_OS_DEVICE: c_uint = 16;
    pub const OSDEV_BLOCK: c_uint = 0;
    pub const OSDEV_GPU: c_uint = 1;
    pub const OSDEV_COPROC: c_uint = 5;
    pub const INCLUDE_DISALLOWED: c_ulong = 1;
    pub const KEEP_IMPORTANT: c_uint = 3;
    pub const CPUBIND_PROCESS: c_int = 1;
    pub const MEMBIND_BIND: c_int = 2;
    pub const MEMBIND_THREAD: c_int = 1 << 1;
    pub const MEMBIND_STRICT: c_int = 1 << 2;
    pub const MEMBIND_BYNODESET: c_int = 1 << 5;

    #[repr(C)]
    pub struct Topology {
        _private: [u8; 0],
    }

    #[repr(C)]
    pub struct Bitmap {
        _private: [u8; 0],
    }

    /// `struct hwloc_obj`.
    #[repr(C)]
    pub struct Object {
        pub kind: c_uint,
        pub subtype: *mut c_char,
        pub os_index: c_uint,
        pub name: *mut c_char,
        total_memory: u64,
        pub attributes: *mut Attributes,
        depth: c_int,
        logical_index: c_uint,
        next_cousin: *mut Object,
        prev_cousin: *mut Object,
        parent: *mut Object,
        sibling_rank: c_uint,
        pub next_sibling: *mut Object,
        prev_sibling: *mut Object,
        arity: c_uint,
        children: *mut *mut Object,
        pub first_child: *mut Object,
        last_child: *mut Object,
        symmetric_subtree: c_int,
        memory_arity: c_uint,
        pub memory_first_child: *mut Object,
        io_arity: c_uint,
        pub io_first_child: *mut Object,
        misc_arity: c_uint,
        misc_first_child: *mut Object,
        pub cpuset: *mut Bitmap,
        complete_cpuset: *mut Bitmap,
        pub nodeset: *mut Bitmap,
        complete_nodeset: *mut Bitmap,
        pub infos: *mut Info,
        pub infos_count: c_uint,
        userdata: *mut c_void,
        gp_index: u64,
    }

    /// `union hwloc_obj_attr_u`.
    #[repr(C)]
    pub union Attributes {
        pub node: NodeAttributes,
        pub cache: CacheAttributes,
        pub pci: PciAttributes,
        pub os_device: OsDeviceAttributes,
    }

    #[derive(Clone, Copy)]
    #[repr(C)]
    pub struct NodeAttributes {
        pub local_memory: u64,
        pub page_types_len: c_uint,
        pub page_types: *mut PageType,
    }

    #[repr(C)]
    pub struct PageType {
        pub size: u64,
        pub count: u64,
    }

    /// The beginning of `struct hwloc_cache_attr_s`.
    #[derive(Clone, Copy)]
    #[repr(C)]
    pub struct CacheAttributes {
        pub size: u64,
    }

    /// The beginning of `struct hwloc_pcidev_attr_s`, as it is where the library was built without 32-bit domains.
    #[derive(Clone, Copy)]
    #[repr(C)]
    pub struct PciAttributes {
        domain: u16,
        bus: u8,
        slot: u8,
        function: u8,
        pub class: u16,
        pub vendor: u16,
        pub device: u16,
    }

    impl PciAttributes {
        pub fn address(&self) -> String {
            let Self { domain, bus, slot, function, .. } = self;
            format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")
        }
    }

    #[derive(Clone, Copy)]
    #[repr(C)]
    pub struct OsDeviceAttributes {
        pub kind: c_uint,
    }

    #[repr(C)]
    pub struct Info {
        pub name: *mut c_char,
        pub value: *mut c_char,
    }

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
    }
}

//! NVIDIA GPUs, from PCI and from the driver. hwloc shows them only as PCI devices, unless it was built with NVML.

use super::{System, names, numa_node, text};
use crate::topology::devices::{DISPLAY, NVIDIA};

/// The drivers that hold a GPU for a virtual machine.
const GIVING_AWAY: [&str; 2] = ["vfio-pci", "pci-stub"];

/// A GPU as the system describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemCard {
    /// The PCI address.
    pub pci: String,
    /// The PCI device id; 0 if unknown.
    pub device: u16,
    /// The UUID, by which CUDA selects the GPU.
    pub uuid: Option<String>,
    /// The product name.
    pub name: Option<String>,
    /// The OS index of the nearest node.
    pub numa_node: Option<u32>,
    /// Whether the worker cannot use it: a virtual machine has it, or this container lacks its device file.
    pub given_away: bool,
}

/// What the driver tells about a GPU.
#[derive(Default)]
struct Information {
    uuid: Option<String>,
    name: Option<String>,
    minor: Option<String>,
}

impl System {
    /// The NVIDIA GPUs.
    #[must_use]
    pub fn cards(&self) -> Vec<SystemCard> {
        let driver = self.path("proc/driver/nvidia/gpus");
        let mut addresses: Vec<String> = names(&self.path("sys/bus/pci/devices"));
        addresses.retain(|address| self.is_card(address));
        addresses.extend(names(&driver).into_iter().map(|address| address.to_ascii_lowercase()));
        addresses.sort();
        addresses.dedup();
        let device_files: Vec<String> = names(&self.path("dev"));
        // The device files do not exist before CUDA is first used.
        let any = device_files.iter().any(|name| is_device_file(name));
        let card = |pci: String| {
            let device = self.path("sys/bus/pci/devices").join(&pci);
            let told = self.information(&pci);
            let holder = device.join("driver").read_link().ok();
            let holder = holder.as_deref().and_then(|path| path.file_name()?.to_str());
            let lacks = told.minor.is_some_and(|minor| any && !device_files.contains(&format!("nvidia{minor}")));
            SystemCard {
                device: hexadecimal(text(&device.join("device"))).unwrap_or(0) as u16,
                uuid: told.uuid,
                name: told.name,
                numa_node: numa_node(&device),
                given_away: lacks || holder.is_some_and(|holder| GIVING_AWAY.contains(&holder)),
                pci,
            }
        };
        addresses.into_iter().map(card).collect()
    }

    fn is_card(&self, address: &str) -> bool {
        let device = self.path("sys/bus/pci/devices").join(address);
        let vendor = hexadecimal(text(&device.join("vendor")));
        let class = hexadecimal(text(&device.join("class")));
        vendor == Some(u32::from(NVIDIA)) && class.is_some_and(|class| class >> 16 == u32::from(DISPLAY))
    }

    fn information(&self, address: &str) -> Information {
        let file = self.path("proc/driver/nvidia/gpus").join(address).join("information");
        let Some(text) = text(&file) else { return Information::default() };
        let value = |field: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?.trim();
            // The driver shows question marks until it has read the UUID.
            (!value.is_empty() && !value.contains('?')).then(|| value.to_owned())
        };
        Information { uuid: value("GPU UUID"), name: value("Model"), minor: value("Device Minor") }
    }
}

/// Whether a name is that of a GPU's device file, such as `nvidia0`.
fn is_device_file(name: &str) -> bool {
    name.strip_prefix("nvidia").is_some_and(|number| !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit()))
}

fn hexadecimal(text: Option<String>) -> Option<u32> {
    u32::from_str_radix(text?.strip_prefix("0x")?, 16).ok()
}

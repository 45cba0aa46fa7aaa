//! Reads what there is of an interface (`Documentation/ABI/testing/sysfs-class-net` of the kernel), its settings
//! (`Documentation/networking/ip-sysctl.rst`) and who configures it.

use super::Root;
use crate::facts::{Interface, Ipv4Settings, Ipv6Settings, Kind, Link, Manager};
use domain::InterfaceName;
use std::path::PathBuf;

impl Root {
    /// An interface.
    pub(crate) fn interface(&self, name: &InterfaceName) -> Interface {
        Interface {
            name: name.clone(),
            link: self.link(name),
            ipv4: self.ipv4(name),
            ipv6: self.ipv6(name),
            managers: self.managers(name),
        }
    }

    fn link(&self, name: &InterfaceName) -> Option<Link> {
        let directory = format!("/sys/class/net/{name}");
        let read = |file: &str| self.text(&format!("{directory}/{file}"));
        let flags = read("flags")?;
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
        let has = |file: &str| self.path(&format!("{directory}/{file}")).exists();
        let uevent = read("uevent").unwrap_or_default();
        let device = uevent.lines().find_map(|line| line.strip_prefix("DEVTYPE=")).unwrap_or_default();
        let kind = if has("wireless") || has("phy80211") {
            Kind::Wireless
        } else if has("bonding") {
            // "active-backup 1"
            let mode = read("bonding/mode").unwrap_or_default();
            Kind::Bond(mode.split_ascii_whitespace().next().unwrap_or_default().to_owned())
        } else if has("bridge") {
            Kind::Bridge { spanning_tree: read("bridge/stp_state").is_some_and(|state| state != "0") }
        } else if device == "vlan" {
            Kind::Vlan
        } else {
            Kind::Plain
        };
        let master = std::fs::read_link(self.path(&format!("{directory}/master"))).ok();
        Some(Link {
            up: flags & libc::IFF_UP as u32 != 0,
            // Unreadable while the interface is down.
            carrier: read("carrier").is_some_and(|carrier| carrier == "1"),
            link_type: self.number(&format!("{directory}/type"))?,
            kind,
            master: master.and_then(|path| Some(path.file_name()?.to_str()?.to_owned())),
        })
    }

    fn ipv4(&self, name: &InterfaceName) -> Ipv4Settings {
        let greatest = |setting: &str| {
            let read = |place: &str| self.number(&format!("/proc/sys/net/ipv4/conf/{place}/{setting}"));
            read("all").max(read(name.as_str())).unwrap_or(0)
        };
        Ipv4Settings {
            rp_filter: greatest("rp_filter"),
            arp_ignore: greatest("arp_ignore"),
            arp_announce: greatest("arp_announce"),
            arp_notify: greatest("arp_notify") != 0,
            proxy_arp: greatest("proxy_arp") != 0,
        }
    }

    fn ipv6(&self, name: &InterfaceName) -> Option<Ipv6Settings> {
        let read = |setting: &str| self.number::<u8>(&format!("/proc/sys/net/ipv6/conf/{name}/{setting}"));
        let all: u8 = self.number("/proc/sys/net/ipv6/conf/all/accept_dad").unwrap_or(0);
        Some(Ipv6Settings {
            disabled: read("disable_ipv6")? != 0,
            accept_dad: read("accept_dad").unwrap_or(0).max(all),
        })
    }

    fn managers(&self, name: &InterfaceName) -> Vec<Manager> {
        let Some(index) = self.number::<u32>(&format!("/sys/class/net/{name}/ifindex")) else {
            return Vec::new();
        };
        let mut managers = Vec::new();
        // What the two daemons write for others about each link; not documented to stay so, but long unchanged.
        if let Some(link) = self.text(&format!("/run/systemd/netif/links/{index}")) {
            let value = |key: &str| link.lines().find_map(|line| line.strip_prefix(key));
            if value("ADMIN_STATE=").is_some_and(|state| state != "unmanaged") {
                let file = value("NETWORK_FILE=").map(PathBuf::from);
                managers.push(Manager::Networkd { keeps: self.networkd_keeps(file.as_ref()), file });
            }
        }
        if let Some(device) = self.text(&format!("/run/NetworkManager/devices/{index}"))
            && device.lines().any(|line| matches!(line, "managed=1" | "managed=true"))
        {
            managers.push(Manager::NetworkManager);
        }
        managers
    }

    /// Whether the `.network` file, or a drop-in of it, says `KeepConfiguration=yes` or `static` (systemd.network(5)).
    fn networkd_keeps(&self, file: Option<&PathBuf>) -> bool {
        let Some(name) = file.and_then(|file| file.file_name()?.to_str()) else { return false };
        let directories = ["/usr/lib/systemd/network", "/run/systemd/network", "/etc/systemd/network"];
        let drop_ins = directories.iter().flat_map(|directory| {
            let directory = format!("{directory}/{name}.d");
            self.names(&directory).into_iter().map(move |part| format!("{directory}/{part}"))
        });
        let own = file.and_then(|file| file.to_str()).map(str::to_owned);
        let files: Vec<String> = own.into_iter().chain(drop_ins).collect();
        files.iter().filter_map(|file| self.text(file)).any(|text| {
            text.lines()
                .filter_map(|line| line.trim().strip_prefix("KeepConfiguration="))
                .any(|value| matches!(value.trim(), "yes" | "true" | "static"))
        })
    }
}

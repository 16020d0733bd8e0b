//! What the tests ask with: hints as applications build them, a host made up for the tests, and answers that can be looked at.

use core::ffi::CStr;
use core::net::{IpAddr, SocketAddr};
use std::ffi::CString;
use std::io;

use rdgram_host::interfaces::Interface;
use rdgram_sys as sys;
use rdgram_sys::abi::{DomainAttr, EpAttr};

use super::super::hints::{Hints, zeroed};
use super::super::list::List;
use super::super::place::Network;
use super::super::place::tests::interface;
use super::super::{Query, infos};
use crate::address;
use crate::errno::Errno;

/// A host with two networks, a container bridge and loopback.
pub(super) struct TestHost {
    pub(super) interfaces: Vec<Interface>,
}

impl TestHost {
    pub(super) fn usual() -> Self {
        let interfaces = vec![
            interface("lo", "127.0.0.1", 8),
            interface("lo", "::1", 128),
            interface("docker0", "172.17.0.1", 16),
            interface("eth0", "10.1.0.5", 24),
            interface("eth0", "10.1.0.6", 24),
            interface("eth0", "2001:db8::5", 64),
            interface("eth0", "fe80::5", 64),
            Interface { speed_mbps: Some(25_000), ..interface("eth1", "10.2.0.5", 24) },
        ];
        Self { interfaces }
    }

    pub(super) fn loopback_only() -> Self {
        Self { interfaces: vec![interface("lo", "127.0.0.1", 8)] }
    }
}

impl Network for TestHost {
    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        Ok(self.interfaces.clone())
    }

    /// 10.2.0.0/16 is behind eth1, 127.0.0.0/8 and ::1 are this host, 203.0.113.0/24 has no route, the rest is behind eth0.
    fn source_for(&self, destination: SocketAddr) -> io::Result<IpAddr> {
        let address = match destination.ip() {
            IpAddr::V4(address) => match address.octets() {
                [10, 2, ..] => "10.2.0.5",
                [127, ..] => "127.0.0.1",
                [203, 0, 113, _] => return Err(io::Error::from_raw_os_error(libc::ENETUNREACH)),
                _ => "10.1.0.5",
            },
            IpAddr::V6(address) if address.is_loopback() => "::1",
            IpAddr::V6(_) => "2001:db8::5",
        };
        Ok(address.parse().expect("an address"))
    }
}

/// Hints as an application builds them, with everything they point to.
pub(super) struct Asked {
    pub(super) version: u32,
    pub(super) node: Option<&'static CStr>,
    pub(super) service: Option<&'static CStr>,
    pub(super) flags: u64,
    pub(super) info: Box<sys::fi_info>,
    pub(super) tx: Box<sys::fi_tx_attr>,
    pub(super) rx: Box<sys::fi_rx_attr>,
    pub(super) ep: Box<EpAttr>,
    pub(super) domain: Box<DomainAttr>,
    pub(super) fabric: Box<sys::fi_fabric_attr>,
    pub(super) names: Vec<CString>,
    pub(super) addresses: Vec<address::Encoded>,
}

impl Asked {
    /// Hints that ask for nothing.
    pub(super) fn nothing(version: u32) -> Self {
        let mut asked = Self {
            version,
            node: None,
            service: None,
            flags: 0,
            info: Box::new(zeroed()),
            tx: Box::new(zeroed()),
            rx: Box::new(zeroed()),
            ep: Box::new(EpAttr { base: zeroed(), reserved: 0 }),
            domain: Box::new(DomainAttr {
                base: zeroed(),
                max_ep_auth_key: 0,
                max_group_id: 0,
                max_cntr_value: 0,
                max_err_cntr_value: 0,
                max_xpu_ctx_cnt: 0,
            }),
            fabric: Box::new(zeroed()),
            names: Vec::new(),
            addresses: Vec::new(),
        };
        asked.info.tx_attr = &mut *asked.tx;
        asked.info.rx_attr = &mut *asked.rx;
        asked.info.ep_attr = (&raw mut *asked.ep).cast();
        asked.info.domain_attr = (&raw mut *asked.domain).cast();
        asked.info.fabric_attr = &mut *asked.fabric;
        asked
    }

    /// Sets one thing more.
    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn at(self, node: &'static CStr, flags: u64) -> Self {
        self.with(|asked| (asked.node, asked.flags) = (Some(node), flags | sys::FI_NUMERICHOST))
    }

    pub(super) fn name(&mut self, text: &str) -> *mut core::ffi::c_char {
        self.names.push(CString::new(text).expect("a name"));
        self.names.last().map_or(core::ptr::null_mut(), |name| name.as_ptr().cast_mut())
    }

    pub(super) fn source(mut self, text: &str) -> Self {
        self.addresses.reserve(2);
        self.addresses.push(address::encode(text.parse().expect("an address")));
        let encoded = self.addresses.last().expect("the one just added");
        self.info.src_addr = encoded.bytes().as_ptr().cast_mut().cast();
        self.info.src_addrlen = encoded.bytes().len();
        self
    }

    pub(super) fn domain_name(self, text: &str) -> Self {
        self.with(|asked| asked.domain.base.name = asked.name(text))
    }

    pub(super) fn fabric_name(self, text: &str) -> Self {
        self.with(|asked| asked.fabric.name = asked.name(text))
    }

    pub(super) fn on(&self, host: &TestHost, forced: Option<&str>) -> Result<Answer, Errno> {
        // SAFETY: every pointer of the hints is null or leads into `self`.
        let hints = unsafe { Hints::read(&*self.info, self.version) }?;
        let (version, node, service, flags) = (self.version, self.node, self.service, self.flags);
        infos(&Query { version, node, service, flags, hints }, host, forced).map(Answer::read)
    }

    pub(super) fn answer(&self) -> Result<Answer, Errno> {
        self.on(&TestHost::usual(), None)
    }
}

/// The list, still owned, and copies of what tests look at.
pub(super) struct Answer {
    pub(super) infos: Vec<One>,
    _list: List,
}

pub(super) struct One {
    pub(super) info: sys::fi_info,
    pub(super) tx: sys::fi_tx_attr,
    pub(super) rx: sys::fi_rx_attr,
    pub(super) ep: sys::fi_ep_attr,
    pub(super) domain: sys::fi_domain_attr,
    pub(super) place: String,
}

/// # Safety
/// A C string.
unsafe fn text(pointer: *const core::ffi::c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// # Safety
/// Null, or valid for `length` bytes.
unsafe fn socket_address(pointer: *const core::ffi::c_void, length: usize) -> Option<SocketAddr> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    address::decode(unsafe { core::slice::from_raw_parts(pointer.cast::<u8>(), length) })
}

impl Answer {
    pub(super) fn read(list: List) -> Self {
        let mut infos = Vec::new();
        let mut next = list.head();
        // SAFETY: a list of ours, alive in `list`.
        while let Some(info) = unsafe { next.as_ref() } {
            // SAFETY: always set.
            let domain = unsafe { *info.domain_attr };
            // SAFETY: always set.
            let fabric = unsafe { *info.fabric_attr };
            // SAFETY: always set.
            let names = (unsafe { text(fabric.name) }, unsafe { text(domain.name) });
            // SAFETY: always set.
            let source = unsafe { socket_address(info.src_addr, info.src_addrlen) }.expect("always set");
            // SAFETY: null or set.
            let destination = unsafe { socket_address(info.dest_addr, info.dest_addrlen) };
            let destination = destination.map_or(String::new(), |address| format!(" > {address}"));
            assert!(info.nic.is_null() && fabric.prov_name.is_null());
            infos.push(One {
                info: *info,
                // SAFETY: always set.
                tx: unsafe { *info.tx_attr },
                // SAFETY: always set.
                rx: unsafe { *info.rx_attr },
                // SAFETY: always set.
                ep: unsafe { *info.ep_attr },
                domain,
                place: format!("{} {} {source}{destination}", names.0, names.1),
            });
            next = info.next;
        }
        Self { infos, _list: list }
    }

    pub(super) fn places(&self) -> Vec<&str> {
        self.infos.iter().map(|one| one.place.as_str()).collect()
    }

    pub(super) fn first(&self) -> &One {
        self.infos.first().expect("never an empty list")
    }
}

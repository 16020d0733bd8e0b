//! What the tests of the C face share: libfabric's objects opened through the provider's tables, as the core and an application do it, without libfabric.
//!
//! Every test drives endpoints of this process over the loopback interface.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "this file does what a C program does: it calls through pointers that the provider gave it"
)]

use core::ffi::{CStr, c_int, c_void};
use core::ptr::null_mut;

use rdgram_sys as sys;

/// The API version of the applications played here, unless a test plays another.
pub(crate) const API: u32 = sys::fi_version(1, 20);

/// Calls a slot of an object's table: `call!(object.table.slot(arguments))`.
macro_rules! call {
    ($object:expr, $table:ident . $slot:ident ( $($argument:expr),* $(,)? )) => {{
        let object = $object;
        #[allow(unused_unsafe, reason = "used inside and outside of unsafe functions")]
        unsafe { ((*(*object).$table).$slot.expect("the slot is filled"))(object, $($argument),*) }
    }};
}
pub(crate) use call;

/// Calls a slot of the `fi_ops` of an object.
macro_rules! fid_call {
    ($object:expr, $slot:ident ( $($argument:expr),* $(,)? )) => {{
        let fid = $object.cast::<rdgram_sys::fid>();
        #[allow(unused_unsafe, reason = "used inside and outside of unsafe functions")]
        unsafe { ((*(*fid).ops).$slot.expect("the slot is filled"))(fid, $($argument),*) }
    }};
}
pub(crate) use fid_call;

/// `fi_close`.
pub(crate) fn close<T>(object: *mut T) -> c_int {
    fid_call!(object, close())
}

/// A number's place as the argument of a call.
pub(crate) fn context(number: usize) -> *mut c_void {
    core::ptr::without_provenance_mut(number)
}

/// An info for endpoints on a loopback address.
pub(crate) fn info(version: u32, node: &CStr, caps: u64, threading: sys::fi_threading) -> *mut sys::fi_info {
    unsafe {
        let provider = rdgram_ops::initialize();
        assert!(!provider.is_null());
        let mut hints: sys::fi_info = core::mem::zeroed();
        let mut domain: sys::abi::DomainAttr = core::mem::zeroed();
        domain.base.threading = threading;
        let mut endpoint: sys::abi::EpAttr = core::mem::zeroed();
        endpoint.base.type_ = sys::FI_EP_RDM;
        hints.caps = caps;
        hints.domain_attr = &raw mut domain.base;
        hints.ep_attr = &raw mut endpoint.base;
        let mut list = null_mut();
        let getinfo = (*provider).getinfo.expect("filled");
        let result = getinfo(version, node.as_ptr(), core::ptr::null(), sys::FI_SOURCE, &hints, &mut list);
        assert_eq!(result, 0, "getinfo");
        list
    }
}

/// A fabric and a domain on it.
pub(crate) struct World {
    pub(crate) info: *mut sys::fi_info,
    pub(crate) fabric: *mut sys::fid_fabric,
    pub(crate) domain: *mut sys::fid_domain,
}

unsafe impl Send for World {}
unsafe impl Sync for World {}

impl World {
    pub(crate) fn new(threading: sys::fi_threading) -> Self {
        Self::with(
            API,
            c"127.0.0.1",
            sys::FI_MSG | sys::FI_TAGGED | sys::FI_DIRECTED_RECV | sys::FI_SOURCE,
            threading,
        )
    }

    /// As [`Self::new`], with FI_PROGRESS_AUTO.
    pub(crate) fn automatic(threading: sys::fi_threading) -> Self {
        let caps = sys::FI_MSG | sys::FI_TAGGED | sys::FI_DIRECTED_RECV | sys::FI_SOURCE;
        let info = info(API, c"127.0.0.1", caps, threading);
        unsafe { (*(*info).domain_attr).data_progress = sys::FI_PROGRESS_AUTO };
        Self::of(API, info)
    }

    pub(crate) fn with(version: u32, node: &CStr, caps: u64, threading: sys::fi_threading) -> Self {
        Self::of(version, info(version, node, caps, threading))
    }

    /// A fabric and a domain as an info says.
    fn of(version: u32, info: *mut sys::fi_info) -> Self {
        unsafe {
            let mut fabric = null_mut();
            let open = (*rdgram_ops::initialize()).fabric.expect("filled");
            assert_eq!(open((*info).fabric_attr, &mut fabric, null_mut()), 0, "fabric");
            // The core stores it after the provider returned.
            (*fabric).api_version = version;
            let mut domain = null_mut();
            assert_eq!(call!(fabric, ops.domain(info, &mut domain, null_mut())), 0, "domain");
            Self { info, fabric, domain }
        }
    }

    pub(crate) fn cq(&self, format: sys::fi_cq_format, wait: sys::fi_wait_obj) -> *mut sys::fid_cq {
        let mut attr: sys::abi::CqAttr = unsafe { core::mem::zeroed() };
        attr.base.format = format;
        attr.base.wait_obj = wait;
        let mut cq = null_mut();
        assert_eq!(call!(self.domain, ops.cq_open(&mut attr.base, &mut cq, null_mut())), 0, "cq_open");
        cq
    }

    pub(crate) fn cntr(&self) -> *mut sys::fid_cntr {
        let mut cntr = null_mut();
        assert_eq!(call!(self.domain, ops.cntr_open(null_mut(), &mut cntr, null_mut())), 0, "cntr_open");
        cntr
    }

    pub(crate) fn av(&self) -> *mut sys::fid_av {
        let mut attr: sys::fi_av_attr = unsafe { core::mem::zeroed() };
        attr.type_ = sys::FI_AV_TABLE;
        let mut av = null_mut();
        assert_eq!(call!(self.domain, ops.av_open(&mut attr, &mut av, null_mut())), 0, "av_open");
        av
    }

    pub(crate) fn ep(&self) -> *mut sys::fid_ep {
        let mut ep = null_mut();
        assert_eq!(call!(self.domain, ops.endpoint(self.info, &mut ep, null_mut())), 0, "endpoint");
        ep
    }

    /// An enabled endpoint with a queue of its own for both directions.
    pub(crate) fn node(&self, av: *mut sys::fid_av, cq_flags: u64, wait: sys::fi_wait_obj) -> Node {
        let cq = self.cq(sys::FI_CQ_FORMAT_TAGGED, wait);
        let ep = self.ep();
        let ways = sys::FI_TRANSMIT | sys::FI_RECV;
        assert_eq!(fid_call!(ep, bind(cq.cast(), ways | cq_flags)), 0, "bind cq");
        assert_eq!(fid_call!(ep, bind(av.cast(), 0)), 0, "bind av");
        assert_eq!(enable(ep), 0, "enable");
        let address = av_insert(av, &name(ep));
        Node { ep, cq, address }
    }

    pub(crate) fn close(self) {
        assert_eq!(close(self.domain), 0, "close domain");
        assert_eq!(close(self.fabric), 0, "close fabric");
    }
}

/// `fi_enable`.
pub(crate) fn enable(ep: *mut sys::fid_ep) -> c_int {
    fid_call!(ep, control(sys::FI_ENABLE as c_int, null_mut()))
}

/// `fi_getname`.
pub(crate) fn name(ep: *mut sys::fid_ep) -> Vec<u8> {
    let mut bytes = vec![0_u8; 64];
    let mut length = bytes.len();
    let getname = unsafe { (*(*ep).cm).getname.expect("filled") };
    assert_eq!(unsafe { getname(ep.cast(), bytes.as_mut_ptr().cast(), &mut length) }, 0, "getname");
    bytes.truncate(length);
    bytes
}

/// `fi_av_insert` of one address.
pub(crate) fn av_insert(av: *mut sys::fid_av, name: &[u8]) -> u64 {
    let mut address = u64::MAX;
    assert_eq!(call!(av, ops.insert(name.as_ptr().cast(), 1, &mut address, 0, null_mut())), 1, "av_insert");
    address
}

/// An endpoint, its queue, and its own address in the vector it is bound to.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    pub(crate) ep: *mut sys::fid_ep,
    pub(crate) cq: *mut sys::fid_cq,
    pub(crate) address: u64,
}

unsafe impl Send for Node {}
unsafe impl Sync for Node {}

impl Node {
    /// One read of the queue: an entry, nothing yet, or what `fi_cq_read` returned.
    pub(crate) fn read(&self) -> Result<Option<(sys::fi_cq_tagged_entry, u64)>, isize> {
        let mut entry: sys::fi_cq_tagged_entry = unsafe { core::mem::zeroed() };
        let mut source = 0;
        match call!(self.cq, ops.readfrom((&raw mut entry).cast(), 1, &mut source)) {
            1 => Ok(Some((entry, source))),
            result if result == -(sys::FI_EAGAIN as isize) => Ok(None),
            result => Err(result),
        }
    }

    /// Waits for an entry by reading; `others` are read too, so that they make progress, and must stay empty.
    pub(crate) fn wait(&self, others: &[Node]) -> (sys::fi_cq_tagged_entry, u64) {
        loop {
            match self.read() {
                Ok(Some(entry)) => return entry,
                Ok(None) => {}
                Err(error) => panic!("cq_read: {error}"),
            }
            for other in others {
                progress(other.cq);
            }
        }
    }

    /// Waits for an error entry.
    pub(crate) fn wait_error(&self, others: &[Node]) -> sys::abi::CqErrEntry {
        loop {
            match self.read() {
                Err(error) if error == -(sys::FI_EAVAIL as isize) => return self.read_error(),
                Ok(None) => {}
                other => panic!("cq_read: {:?}", other.map(|entry| entry.map(|(entry, _)| entry))),
            }
            for other in others {
                progress(other.cq);
            }
        }
    }

    /// `fi_cq_readerr`, when there is one.
    pub(crate) fn read_error(&self) -> sys::abi::CqErrEntry {
        let mut entry: sys::abi::CqErrEntry = unsafe { core::mem::zeroed() };
        assert_eq!(call!(self.cq, ops.readerr(&mut entry.base, 0)), 1, "readerr");
        entry
    }

    pub(crate) fn send(&self, buffer: &[u8], to: u64, number: usize) -> isize {
        call!(self.ep, msg.send(buffer.as_ptr().cast(), buffer.len(), null_mut(), to, context(number)))
    }

    pub(crate) fn recv(&self, buffer: &mut [u8], from: u64, number: usize) -> isize {
        call!(self.ep, msg.recv(buffer.as_mut_ptr().cast(), buffer.len(), null_mut(), from, context(number)))
    }

    pub(crate) fn tsend(&self, buffer: &[u8], to: u64, tag: u64, number: usize) -> isize {
        call!(
            self.ep,
            tagged.send(buffer.as_ptr().cast(), buffer.len(), null_mut(), to, tag, context(number))
        )
    }

    pub(crate) fn trecv(&self, buffer: &mut [u8], from: u64, tag: u64, ignore: u64, number: usize) -> isize {
        let (start, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        call!(self.ep, tagged.recv(start, length, null_mut(), from, tag, ignore, context(number)))
    }

    /// A tagged receive call without a buffer, for FI_PEEK and its kin.
    pub(crate) fn trecv_flags(&self, buffer: &mut [u8], tag: u64, number: usize, flags: u64) -> isize {
        let iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let msg = sys::fi_msg_tagged {
            msg_iov: if buffer.is_empty() { core::ptr::null() } else { &iov },
            desc: null_mut(),
            iov_count: usize::from(!buffer.is_empty()),
            addr: u64::MAX,
            tag,
            ignore: 0,
            context: context(number),
            data: 0,
        };
        call!(self.ep, tagged.recvmsg(&msg, flags))
    }

    pub(crate) fn close(self) {
        assert_eq!(close(self.ep), 0, "close ep");
        assert_eq!(close(self.cq), 0, "close cq");
    }
}

/// Makes progress without taking anything.
pub(crate) fn progress(cq: *mut sys::fid_cq) {
    let result = call!(cq, ops.read(null_mut(), 0));
    assert!(result == 0 || result == -(sys::FI_EAGAIN as isize), "progress: {result}");
}

/// Recognisable bytes.
pub(crate) fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + seed * 7 + index / 251).to_le_bytes()[0]).collect()
}

//! `fi_getinfo` as a table: what the applications that matter ask for, and what must not match. The host is one made up for the test.

mod asking;

use rdgram_sys as sys;

use self::asking::{Answer, Asked, TestHost};
use super::{Query, infos, offer};
use crate::errno::Errno;

const V1_5: u32 = sys::fi_version(1, 5);
const V1_22: u32 = sys::fi_version(1, 22);
const V2_5: u32 = sys::fi_version(2, 5);

fn without_hints(version: u32) -> Answer {
    let query = Query { version, node: None, service: None, flags: 0, hints: None };
    infos(&query, &TestHost::usual(), None).map(Answer::read).expect("without hints all is well")
}

const NULL_HINTS_CAPS: u64 = sys::FI_MSG
    | sys::FI_TAGGED
    | sys::FI_RMA
    | sys::FI_ATOMIC
    | sys::FI_SEND
    | sys::FI_RECV
    | ONE_SIDED
    | sys::FI_FENCE
    | sys::FI_MULTI_RECV
    | sys::FI_RMA_EVENT
    | sys::FI_DIRECTED_RECV
    | sys::FI_SOURCE
    | sys::FI_LOCAL_COMM
    | sys::FI_REMOTE_COMM;

/// The directions of one-sided operations.
const ONE_SIDED: u64 = sys::FI_READ | sys::FI_WRITE | sys::FI_REMOTE_READ | sys::FI_REMOTE_WRITE;

/// MPICH: the capabilities of its first query come back as hints of the second.
fn mpich(version: u32, rx_order: u64, mr_mode: core::ffi::c_int, domain_mode: u64) -> Asked {
    Asked::nothing(version).with(|asked| {
        asked.info.caps = without_hints(0).first().info.caps;
        asked.info.mode = sys::FI_CONTEXT | sys::FI_ASYNC_IOV | sys::FI_RX_CQ_DATA | sys::FI_CONTEXT2;
        asked.tx.op_flags = sys::FI_COMPLETION | sys::FI_DELIVERY_COMPLETE;
        asked.tx.msg_order = offer::MESSAGE_ORDER;
        asked.rx.msg_order = rx_order;
        asked.rx.op_flags = sys::FI_COMPLETION;
        asked.domain.base.threading = sys::FI_THREAD_DOMAIN;
        asked.domain.base.control_progress = sys::FI_PROGRESS_MANUAL;
        asked.domain.base.data_progress = sys::FI_PROGRESS_MANUAL;
        asked.domain.base.resource_mgmt = sys::FI_RM_ENABLED;
        asked.domain.base.av_type = sys::FI_AV_TABLE;
        asked.domain.base.mr_mode = mr_mode;
        asked.domain.base.mode = domain_mode;
        asked.domain.base.cq_data_size = 4;
        asked.ep.base.mem_tag_format = 0xc0_0000_7fff_ffff;
        asked.fabric.prov_name = asked.name("rdgram");
    })
}

fn open_mpi(version: u32, caps: u64, threading: sys::fi_threading) -> Asked {
    Asked::nothing(version).with(|asked| {
        asked.info.caps = caps;
        asked.info.mode = sys::FI_CONTEXT | sys::FI_CONTEXT2;
        asked.tx.op_flags = sys::FI_COMPLETION;
        asked.rx.op_flags = sys::FI_COMPLETION;
        asked.tx.msg_order = sys::FI_ORDER_SAS;
        asked.rx.msg_order = sys::FI_ORDER_SAS;
        asked.ep.base.type_ = sys::FI_EP_RDM;
        asked.domain.base.threading = threading;
        asked.domain.base.resource_mgmt = sys::FI_RM_ENABLED;
        asked.domain.base.av_type = sys::FI_AV_MAP;
        asked.domain.base.cq_data_size = size_of::<core::ffi::c_int>();
    })
}

#[test]
fn without_hints_everything_is_offered() {
    for version in [0, sys::fi_version(1, 0), V1_5, V1_22, V2_5] {
        let answer = without_hints(version);
        assert_eq!(
            answer.places(),
            [
                "10.2.0.0/24 eth1 10.2.0.5:0",
                "10.1.0.0/24 eth0 10.1.0.5:0",
                "2001:db8::/64 eth0 [2001:db8::5]:0"
            ]
        );
        let one = answer.first();
        assert_eq!(one.info.caps, NULL_HINTS_CAPS);
        assert_eq!((one.info.mode, one.domain.mode, one.info.addr_format), (0, 0, sys::FI_SOCKADDR_IN));
        assert_eq!(one.ep.type_, sys::FI_EP_RDM);
        assert_eq!(one.domain.threading, sys::FI_THREAD_SAFE);
        assert_eq!(one.domain.data_progress, sys::FI_PROGRESS_MANUAL);
        assert_eq!(one.domain.av_type, sys::FI_AV_UNSPEC);
        assert_eq!((one.domain.mr_key_size, one.domain.cq_data_size), (8, 8));
        assert_eq!(one.domain.mr_mode, if version < V1_5 { sys::FI_MR_SCALABLE } else { 0 });
        assert_eq!((one.domain.max_ep_tx_ctx, one.domain.max_ep_stx_ctx), (1, 0));
        assert_eq!((one.tx.inject_size, one.tx.size, one.tx.iov_limit), (4096, 4096, 32));
        assert_eq!((one.tx.rma_iov_limit, one.ep.max_order_waw_size), (32, usize::MAX));
        assert_eq!((one.tx.msg_order, one.rx.msg_order), (offer::MESSAGE_ORDER, offer::MESSAGE_ORDER));
        assert_eq!(one.ep.mem_tag_format, sys::FI_TAG_GENERIC);
        assert!(one.ep.max_msg_size >= 1 << 40);
        let kinds = sys::FI_MSG | sys::FI_TAGGED | sys::FI_RMA | sys::FI_ATOMIC;
        assert_eq!(one.tx.caps, kinds | sys::FI_READ | sys::FI_WRITE | sys::FI_SEND | sys::FI_FENCE);
        let messages = sys::FI_RECV | sys::FI_DIRECTED_RECV | sys::FI_MULTI_RECV | sys::FI_SOURCE;
        let one_sided = sys::FI_REMOTE_READ | sys::FI_REMOTE_WRITE | sys::FI_RMA_EVENT;
        assert_eq!(one.rx.caps, kinds | messages | one_sided);
        assert_eq!(one.domain.caps, sys::FI_LOCAL_COMM | sys::FI_REMOTE_COMM);
    }
}

#[test]
fn the_queries_of_mpi_libraries_match() {
    let endpoint = sys::FI_MR_ENDPOINT;
    let basic = sys::FI_MR_VIRT_ADDR | sys::FI_MR_ALLOCATED | sys::FI_MR_PROV_KEY;
    let tagged = sys::FI_TAGGED | sys::FI_LOCAL_COMM | sys::FI_REMOTE_COMM | sys::FI_DIRECTED_RECV;
    let sas = sys::FI_ORDER_SAS;
    let old_mode = 1 << 53;
    let intel = mpich(V1_5, 0, basic, old_mode).with(|asked| {
        asked.domain.base.av_type = sys::FI_AV_MAP;
        asked.info.addr_format = sys::FI_SOCKADDR_IN;
        asked.fabric.prov_name = core::ptr::null_mut();
    });
    let table = [
        ("MPICH 4.0.3", mpich(V1_22, 0, 0, old_mode)),
        ("MPICH 4.1.3", mpich(V1_22, 0, endpoint, old_mode)),
        ("MPICH 4.2.3, 4.3.2", mpich(V1_22, sas, endpoint, old_mode)),
        ("MPICH 5.0.2", mpich(V2_5, sas, endpoint, 0)),
        ("Intel MPI 2021", intel),
        ("Open MPI 4.1", open_mpi(V1_5, tagged, sys::FI_THREAD_DOMAIN)),
        ("Open MPI 5.0", open_mpi(sys::fi_version(1, 18), tagged | sys::FI_MSG, sys::FI_THREAD_SAFE)),
    ];
    for (name, asked) in &table {
        let answer = asked.answer().unwrap_or_else(|errno| panic!("{name}: {errno:?}"));
        let one = answer.first();
        assert_eq!(asked.info.caps & !one.info.caps, 0, "{name}: caps");
        assert_eq!(one.info.mode, 0, "{name}: mode");
        assert_eq!(one.domain.threading, asked.domain.base.threading, "{name}: threading");
        assert_eq!(one.domain.av_type, asked.domain.base.av_type, "{name}: av_type");
        assert_eq!(one.domain.data_progress, sys::FI_PROGRESS_MANUAL, "{name}: progress");
        assert_eq!(one.tx.op_flags, asked.tx.op_flags, "{name}: op_flags");
        assert_eq!(asked.tx.msg_order & !one.tx.msg_order, 0, "{name}: msg_order");
        assert_eq!(one.domain.mr_mode, 0, "{name}: mr_mode");
    }
}

/// A change to hints that otherwise match.
type Change = fn(&mut Asked);

#[test]
fn what_is_not_offered_does_not_match() {
    let table: &[(&str, Change)] = &[
        ("EP_MSG", |asked| asked.ep.base.type_ = sys::FI_EP_MSG),
        ("EP_DGRAM", |asked| asked.ep.base.type_ = sys::FI_EP_DGRAM),
        ("TRIGGER", |asked| asked.info.caps |= sys::FI_TRIGGER),
        ("RMA_PMEM", |asked| asked.info.caps |= sys::FI_RMA_PMEM),
        ("HMEM", |asked| asked.info.caps |= sys::FI_HMEM),
        ("NAMED_RX_CTX", |asked| asked.info.caps |= sys::FI_NAMED_RX_CTX),
        ("an unknown capability", |asked| asked.info.caps |= 1 << 63),
        ("TAGGED_MULTI_RECV of 2.0", |asked| asked.info.caps |= 1 << 46),
        ("another kind of address", |asked| asked.info.addr_format = sys::FI_ADDR_STR),
        ("unknown data progress", |asked| asked.domain.base.data_progress = 4),
        ("unknown control progress", |asked| asked.domain.base.control_progress = 4),
        ("unknown threading", |asked| asked.domain.base.threading = 6),
        ("unknown av_type", |asked| asked.domain.base.av_type = 3),
        ("cq_data_size", |asked| asked.domain.base.cq_data_size = 9),
        ("BASIC with bits", |asked| asked.domain.base.mr_mode = sys::FI_MR_BASIC | sys::FI_MR_LOCAL),
        ("cntr_cnt", |asked| asked.domain.base.cntr_cnt = usize::MAX),
        ("mr_iov_limit", |asked| asked.domain.base.mr_iov_limit = 33),
        ("FI_SHARED_AV", |asked| asked.domain.base.caps = sys::FI_SHARED_AV),
        ("auth_key", |asked| asked.domain.base.auth_key_size = 8),
        ("max_ep_auth_key", |asked| asked.domain.max_ep_auth_key = 1),
        ("another protocol", |asked| asked.ep.base.protocol = sys::FI_PROTO_RXD),
        ("a later protocol", |asked| asked.ep.base.protocol_version = 2),
        ("max_msg_size", |asked| asked.ep.base.max_msg_size = usize::MAX),
        ("scalable endpoints", |asked| asked.ep.base.tx_ctx_cnt = 2),
        ("shared contexts", |asked| asked.ep.base.rx_ctx_cnt = sys::FI_SHARED_CONTEXT),
        ("tx caps", |asked| asked.tx.caps = sys::FI_HMEM),
        ("tx op_flags", |asked| asked.tx.op_flags = sys::FI_COMMIT_COMPLETE),
        ("tx order", |asked| asked.tx.msg_order = sys::FI_ORDER_DATA),
        ("tx comp_order", |asked| asked.tx.comp_order = sys::FI_ORDER_STRICT),
        ("inject_size", |asked| asked.tx.inject_size = 4097),
        ("tx size", |asked| asked.tx.size = 4097),
        ("iov_limit", |asked| asked.tx.iov_limit = 33),
        ("rma_iov_limit", |asked| asked.tx.rma_iov_limit = 33),
        ("rx caps", |asked| asked.rx.caps = sys::FI_VARIABLE_MSG),
        ("rx op_flags", |asked| asked.rx.op_flags = sys::FI_INJECT),
        ("rx order", |asked| asked.rx.msg_order = sys::FI_ORDER_DATA),
        ("rx buffered", |asked| asked.rx.total_buffered_recv = 1),
        ("rx size", |asked| asked.rx.size = 4097),
        ("a later provider", |asked| asked.fabric.prov_version = sys::fi_version(9, 0)),
        ("layering", |asked| asked.flags = sys::OFI_CORE_PROV_ONLY),
        ("layering over another", |asked| {
            asked.flags = sys::OFI_CORE_PROV_ONLY;
            asked.fabric.prov_name = asked.name("udp");
        }),
        ("another fabric", |asked| asked.fabric.name = asked.name("10.9.0.0/24")),
        ("another domain", |asked| asked.domain.base.name = asked.name("eth9")),
        ("a domain of another fabric", |asked| {
            asked.fabric.name = asked.name("10.1.0.0/24");
            asked.domain.base.name = asked.name("eth1");
        }),
        ("no such name", |asked| asked.node = Some(c"name.invalid")),
        ("a name where a number is asked", |asked| {
            asked.node = Some(c"localhost");
            asked.flags = sys::FI_NUMERICHOST;
        }),
        ("a foreign source", |asked| {
            asked.node = Some(c"10.7.7.7");
            asked.flags = sys::FI_SOURCE;
        }),
        ("no route", |asked| asked.node = Some(c"203.0.113.9")),
    ];
    assert!(Asked::nothing(V1_22).answer().is_ok(), "hints that ask for nothing match");
    for (name, change) in table {
        let outcome = Asked::nothing(V1_22).with(change).answer();
        assert_eq!(outcome.map(|answer| answer.infos.len()), Err(Errno::NODATA), "{name}");
    }
}

#[test]
fn progress_is_as_asked_and_manual_unasked() {
    let (manual, automatic) = (sys::FI_PROGRESS_MANUAL, sys::FI_PROGRESS_AUTO);
    let unified = sys::FI_PROGRESS_CONTROL_UNIFIED;
    let table = [
        ((0, 0), (manual, manual)),
        ((0, automatic), (manual, automatic)),
        ((automatic, automatic), (automatic, automatic)),
        ((automatic, manual), (automatic, manual)),
        ((unified, 0), (unified, manual)),
    ];
    for ((control, data), expected) in table {
        let asked = Asked::nothing(V1_22).with(|asked| {
            asked.domain.base.control_progress = control;
            asked.domain.base.data_progress = data;
        });
        let answer = asked.answer().unwrap_or_else(|errno| panic!("({control}, {data}): {errno:?}"));
        let domain = answer.first().domain;
        assert_eq!((domain.control_progress, domain.data_progress), expected, "({control}, {data})");
    }
}

#[test]
fn old_versions_are_asked_less() {
    let table: &[(&str, u32, Change, bool)] = &[
        ("counters before 1.5", sys::fi_version(1, 4), |asked| asked.domain.base.cntr_cnt = usize::MAX, true),
        ("mode bits before 1.5", sys::fi_version(1, 4), |asked| asked.domain.base.mr_mode = 4, false),
        ("BASIC before 1.5", 0, |asked| asked.domain.base.mr_mode = sys::FI_MR_BASIC, true),
        ("field of 1.20 in 1.17", sys::fi_version(1, 17), |asked| asked.domain.max_ep_auth_key = 1, true),
        (
            "layered by name",
            V1_22,
            |asked| {
                asked.flags = sys::OFI_CORE_PROV_ONLY;
                asked.fabric.prov_name = asked.name("rdgram;ofi_rxd");
            },
            true,
        ),
        ("unknown flags", V1_22, |asked| asked.flags = sys::FI_RESCAN | 1 << 58 | 1 << 60, true),
        (
            "unified progress",
            V1_22,
            |asked| {
                asked.domain.base.control_progress = sys::FI_PROGRESS_CONTROL_UNIFIED;
            },
            true,
        ),
    ];
    for (name, version, change, matches) in table {
        assert_eq!(Asked::nothing(*version).with(change).answer().is_ok(), *matches, "{name}");
    }
    let basic = Asked::nothing(0).with(|asked| asked.domain.base.mr_mode = sys::FI_MR_BASIC);
    assert_eq!(basic.answer().map(|answer| answer.first().domain.mr_mode), Ok(sys::FI_MR_BASIC));
}

#[test]
fn capabilities_follow_the_request() {
    let local = sys::FI_LOCAL_COMM | sys::FI_REMOTE_COMM;
    let unasked = sys::FI_FENCE | sys::FI_MULTI_RECV | sys::FI_RMA_EVENT | local;
    let msg = sys::FI_MSG | sys::FI_SEND | sys::FI_RECV | unasked;
    let table = [
        ("nothing", 0, NULL_HINTS_CAPS),
        ("MSG", sys::FI_MSG, msg),
        ("MSG to send", sys::FI_MSG | sys::FI_SEND, msg & !sys::FI_RECV),
        (
            "TAGGED with sources",
            sys::FI_TAGGED | sys::FI_SOURCE,
            msg ^ sys::FI_MSG ^ sys::FI_TAGGED | sys::FI_SOURCE,
        ),
        ("RMA", sys::FI_RMA, sys::FI_RMA | ONE_SIDED | unasked),
        ("RMA to read", sys::FI_RMA | sys::FI_READ, sys::FI_RMA | sys::FI_READ | unasked),
    ];
    for (name, caps, expected) in table {
        let answer = Asked::nothing(V1_22).with(|asked| asked.info.caps = caps).answer();
        let one =
            answer.map(|answer| (answer.first().info.caps, answer.first().tx.caps | answer.first().rx.caps));
        assert_eq!(one, Ok((expected, expected & !local)), "{name}");
    }
}

#[test]
fn smaller_sizes_are_echoed() {
    let asked = Asked::nothing(V1_22).with(|asked| {
        asked.tx.inject_size = 16;
        asked.tx.size = 64;
        asked.rx.size = 128;
        asked.tx.iov_limit = 1;
        asked.domain.base.threading = sys::FI_THREAD_COMPLETION;
    });
    let answer = asked.answer().expect("smaller sizes match");
    let one = answer.first();
    assert_eq!((one.tx.inject_size, one.tx.size, one.tx.iov_limit), (16, 64, 1));
    assert_eq!((one.rx.size, one.rx.iov_limit), (128, 32));
    assert_eq!(one.domain.threading, sys::FI_THREAD_COMPLETION);
}

#[test]
fn places() {
    let source = sys::FI_SOURCE;
    let plain = || Asked::nothing(V1_22);
    let all =
        ["10.2.0.0/24 eth1 10.2.0.5:0", "10.1.0.0/24 eth0 10.1.0.5:0", "2001:db8::/64 eth0 [2001:db8::5]:0"];
    let table: Vec<(&str, Asked, Vec<&str>)> = vec![
        ("all", plain(), all.to_vec()),
        ("IPv6", plain().with(|asked| asked.info.addr_format = sys::FI_SOCKADDR_IN6), vec![all[2]]),
        ("a domain", plain().domain_name("eth0"), all[1..].to_vec()),
        ("a fabric", plain().fabric_name("10.1.0.0/24"), vec![all[1]]),
        (
            "loopback by name",
            plain().domain_name("lo"),
            vec!["127.0.0.0/8 lo 127.0.0.1:0", "::1/128 lo [::1]:0"],
        ),
        ("a bridge by name", plain().domain_name("docker0"), vec!["172.17.0.0/16 docker0 172.17.0.1:0"]),
        (
            "to eth1",
            plain().at(c"10.2.0.9", 0).with(|asked| asked.service = Some(c"700")),
            vec!["10.2.0.0/24 eth1 10.2.0.5:0 > 10.2.0.9:700"],
        ),
        ("through a gateway", plain().at(c"192.0.2.1", 0), vec!["10.1.0.0/24 eth0 10.1.0.5:0 > 192.0.2.1:0"]),
        ("to this host", plain().at(c"127.0.0.1", 0), vec!["127.0.0.0/8 lo 127.0.0.1:0 > 127.0.0.1:0"]),
        (
            "to an IPv6 host",
            plain().at(c"2001:db8:1::1", 0),
            vec!["2001:db8::/64 eth0 [2001:db8::5]:0 > [2001:db8:1::1]:0"],
        ),
        (
            "from an address",
            plain().at(c"10.1.0.6", source).with(|asked| asked.service = Some(c"71")),
            vec!["10.1.0.0/24 eth0 10.1.0.6:71"],
        ),
        ("from Debian's own name", plain().at(c"127.0.1.1", source), vec!["127.0.0.0/8 lo 127.0.1.1:0"]),
        (
            "from a port",
            plain().with(|asked| (asked.service, asked.flags) = (Some(c"71"), source)),
            vec![
                "10.2.0.0/24 eth1 10.2.0.5:71",
                "10.1.0.0/24 eth0 10.1.0.5:71",
                "2001:db8::/64 eth0 [2001:db8::5]:71",
            ],
        ),
        ("from hints", plain().source("10.1.0.6:9"), vec!["10.1.0.0/24 eth0 10.1.0.6:9"]),
        (
            "from hints to a node",
            plain().source("10.1.0.6:9").at(c"10.2.0.9", 0),
            vec!["10.1.0.0/24 eth0 10.1.0.6:9 > 10.2.0.9:0"],
        ),
    ];
    for (name, asked, expected) in table {
        let answer = asked.answer().unwrap_or_else(|errno| panic!("{name}: {errno:?}"));
        assert_eq!(answer.places(), expected, "{name}");
    }
}

#[test]
fn a_forced_interface_is_the_only_one() {
    let host = TestHost::usual();
    let table: &[(&str, &str, Asked, Result<&str, Errno>)] = &[
        ("by name", "eth0", Asked::nothing(V1_22), Ok("10.1.0.0/24 eth0 10.1.0.5:0")),
        ("by address", "10.1.0.6", Asked::nothing(V1_22), Ok("10.1.0.0/24 eth0 10.1.0.6:0")),
        ("loopback", "lo", Asked::nothing(V1_22), Ok("127.0.0.0/8 lo 127.0.0.1:0")),
        ("a bridge", "docker0", Asked::nothing(V1_22), Ok("172.17.0.0/16 docker0 172.17.0.1:0")),
        ("absent", "eth7", Asked::nothing(V1_22), Err(Errno::NODATA)),
        (
            "against the route",
            "eth0",
            Asked::nothing(V1_22).at(c"10.2.0.9", 0),
            Ok("10.1.0.0/24 eth0 10.1.0.5:0 > 10.2.0.9:0"),
        ),
        ("another domain", "eth0", Asked::nothing(V1_22).domain_name("eth1"), Err(Errno::NODATA)),
    ];
    for (name, forced, asked, expected) in table {
        let answer = asked.on(&host, Some(forced)).map(|answer| answer.first().place.clone());
        assert_eq!(answer.as_deref(), expected.as_deref(), "{name}");
    }
}

#[test]
fn a_host_with_nothing_but_loopback_talks_to_itself() {
    let host = TestHost::loopback_only();
    let answer = Asked::nothing(V1_22).on(&host, None).expect("loopback is something");
    assert_eq!(answer.places(), ["127.0.0.0/8 lo 127.0.0.1:0"]);
    let one = answer.first();
    assert_eq!(one.info.caps & (sys::FI_LOCAL_COMM | sys::FI_REMOTE_COMM), sys::FI_LOCAL_COMM);
    assert_eq!(one.domain.caps, sys::FI_LOCAL_COMM);

    // Open MPI asks for both: what was asked for is granted.
    let both = Asked::nothing(V1_22).with(|asked| asked.info.caps = sys::FI_TAGGED | sys::FI_REMOTE_COMM);
    let caps = both.on(&host, None).map(|answer| answer.first().info.caps & sys::FI_REMOTE_COMM);
    assert_eq!(caps, Ok(sys::FI_REMOTE_COMM));
}

#[test]
fn a_source_without_a_name_is_a_mistake() {
    let outcome = Asked::nothing(V1_22).with(|asked| asked.flags = sys::FI_SOURCE).answer();
    assert_eq!(outcome.map(|answer| answer.infos.len()), Err(Errno::INVAL));
}

#[test]
fn every_piece_is_as_large_as_the_core_may_copy_and_of_its_own_allocator() {
    let answer = without_hints(V2_5);
    // SAFETY: asks the C library about one of its own allocations.
    let room = |pointer: *mut core::ffi::c_void| unsafe { libc::malloc_usable_size(pointer) };
    for one in &answer.infos {
        assert!(room(one.info.domain_attr.cast()) >= 232);
        assert!(room(one.info.ep_attr.cast()) >= 104);
        assert!(room(one.info.tx_attr.cast()) >= size_of::<sys::fi_tx_attr>());
        assert!(room(one.info.rx_attr.cast()) >= size_of::<sys::fi_rx_attr>());
        assert!(room(one.info.fabric_attr.cast()) >= size_of::<sys::fi_fabric_attr>());
        assert!(room(one.info.src_addr) >= one.info.src_addrlen);
    }
}

#[test]
fn this_host_answers_through_the_entry_point() {
    let mut list = core::ptr::null_mut();
    // SAFETY: no strings, no hints, a place for the list.
    let outcome = unsafe {
        super::getinfo(V1_22, core::ptr::null(), core::ptr::null(), 0, core::ptr::null(), &mut list)
    };
    assert_eq!(outcome, 0, "a host has at least loopback");
    assert!(!list.is_null());
    // SAFETY: the list just returned, freed once.
    unsafe { super::list::free(list) };
}

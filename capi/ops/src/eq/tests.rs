//! Event queues through their entry points.

use super::*;

/// A queue on nothing, opened through the entry point and closed by `close`.
fn opened(wait_obj: sys::fi_wait_obj, api_version: u32) -> *mut sys::fid_eq {
    let mut attr = sys::fi_eq_attr {
        size: 32,
        flags: sys::FI_WRITE,
        wait_obj,
        signaling_vector: 0,
        wait_set: core::ptr::null_mut(),
    };
    let mut queue = core::ptr::null_mut();
    // SAFETY: valid attributes and a place for the result.
    let outcome = unsafe { open(Arc::new(()), api_version, &mut attr, &mut queue, core::ptr::null_mut()) };
    assert_eq!(outcome, 0);
    queue
}

const NEW: u32 = sys::fi_version(2, 5);

fn put(queue: *mut sys::fid_eq, number: u32, bytes: &[u8]) -> isize {
    // SAFETY: an open queue and a valid buffer.
    unsafe { write(queue, number, bytes.as_ptr().cast(), bytes.len(), 0) }
}

/// The event's number and bytes, or the error.
fn get(queue: *mut sys::fid_eq, room: usize, flags: u64) -> core::result::Result<(u32, Vec<u8>), isize> {
    let mut buffer = vec![0_u8; room];
    let mut number = 0;
    // SAFETY: an open queue and valid places.
    let length = unsafe { read(queue, &mut number, buffer.as_mut_ptr().cast(), room, flags) };
    let length = usize::try_from(length).map_err(|_| length)?;
    buffer.truncate(length);
    Ok((number, buffer))
}

fn wait(queue: *mut sys::fid_eq, timeout_ms: c_int) -> isize {
    let mut buffer = [0_u8; 64];
    let mut number = 0;
    // SAFETY: an open queue and valid places.
    unsafe { sread(queue, &mut number, buffer.as_mut_ptr().cast(), buffer.len(), timeout_ms, 0) }
}

fn is_readable(queue: *mut sys::fid_eq) -> bool {
    let mut fd: c_int = -1;
    // SAFETY: an open queue whose wait object is a descriptor.
    let outcome = unsafe { control(queue.cast(), 5, (&raw mut fd).cast()) };
    assert_eq!(outcome, 0);
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd, no waiting.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

fn finish(queue: *mut sys::fid_eq) {
    // SAFETY: an open queue that nobody uses any more.
    assert_eq!(unsafe { close(queue.cast()) }, 0);
}

const EMPTY: isize = -11;

#[test]
fn events_come_out_as_they_went_in_and_beyond_the_size_given() {
    let queue = opened(sys::FI_WAIT_NONE, NEW);
    assert_eq!(get(queue, 8, 0), Err(EMPTY));
    for index in 0..200_u8 {
        assert_eq!(
            put(queue, u32::from(index), &vec![index; usize::from(index % 7)]),
            isize::from(index % 7)
        );
    }
    for index in 0..200_u8 {
        let expected = Ok((u32::from(index), vec![index; usize::from(index % 7)]));
        assert_eq!(get(queue, 8, sys::FI_PEEK), expected);
        assert_eq!(get(queue, 8, 0), expected);
    }
    assert_eq!(get(queue, 8, 0), Err(EMPTY));
    finish(queue);
}

#[test]
fn a_buffer_too_small_loses_nothing() {
    let queue = opened(sys::FI_WAIT_NONE, NEW);
    put(queue, 3, b"12345678");
    assert_eq!(get(queue, 7, 0), Err(-257));
    assert_eq!(get(queue, 8, 0), Ok((3, b"12345678".to_vec())));
    finish(queue);
}

#[test]
fn flags_and_pointers_are_checked() {
    let queue = opened(sys::FI_WAIT_NONE, NEW);
    put(queue, 3, b"x");
    assert_eq!(get(queue, 8, sys::FI_MORE), Err(-260));
    // SAFETY: a null buffer with a length is refused before it is read.
    assert_eq!(unsafe { write(queue, 0, core::ptr::null(), 8, 0) }, -22);
    let large = vec![0_u8; EVENT_MAX + 1];
    // SAFETY: as many bytes as said.
    assert_eq!(unsafe { write(queue, 0, large.as_ptr().cast(), large.len(), 0) }, -22);
    let null = core::ptr::null_mut();
    // SAFETY: no queue is made without attributes.
    assert_eq!(unsafe { open(Arc::new(()), NEW, null, core::ptr::null_mut(), core::ptr::null_mut()) }, -22);
    finish(queue);
}

#[test]
fn an_error_blocks_reads_until_it_is_read() {
    let queue = opened(sys::FI_WAIT_FD, NEW);
    let av = core::ptr::dangling_mut::<sys::fid>();
    let context = core::ptr::without_provenance_mut::<c_void>(0x77);
    // SAFETY: an open queue.
    let sink = unsafe { sink(queue.cast()) }.expect("an event queue");
    sink.av_error(av, context, 5, Errno::INVAL);
    sink.av_complete(av, context, 4);
    assert_eq!(get(queue, 64, 0), Err(-259));
    assert_eq!(wait(queue, 0), -259);

    // SAFETY: all zeroes is a value of this plain struct.
    let mut entry: sys::fi_eq_err_entry = unsafe { core::mem::zeroed() };
    let room = core::ptr::dangling_mut::<c_void>();
    for flags in [sys::FI_PEEK, 0] {
        (entry.err_data, entry.err_data_size) = (room, 8);
        // SAFETY: an open queue and a place for the entry.
        assert_eq!(unsafe { readerr(queue, &mut entry, flags) }, 48);
        assert_eq!((entry.fid, entry.context, entry.data, entry.err), (av, context, 5, 22));
        assert_eq!(
            (entry.err_data, entry.err_data_size),
            (room, 0),
            "the application's buffer, without data in it"
        );
    }
    // SAFETY: as above.
    assert_eq!(unsafe { readerr(queue, &mut entry, 0) }, EMPTY);

    let (number, bytes) = get(queue, 64, 0).expect("the completion behind it");
    assert_eq!((number, bytes.len()), (sys::FI_AV_COMPLETE, size_of::<sys::fi_eq_entry>()));
    assert_eq!(bytes[16..24], 4_u64.to_ne_bytes());

    // SAFETY: an open queue.
    assert_eq!(unsafe { close(queue.cast()) }, -16, "bound to an object");
    drop(sink);
    finish(queue);
}

#[test]
fn old_applications_get_the_short_error_entry() {
    let queue = opened(sys::FI_WAIT_NONE, sys::fi_version(1, 4));
    // SAFETY: an open queue.
    let sink = unsafe { sink(queue.cast()) }.expect("an event queue");
    sink.av_error(core::ptr::null_mut(), core::ptr::null_mut(), 1, Errno::NOMEM);
    drop(sink);
    let mut memory = [0xee_u8; 48];
    // SAFETY: an open queue and enough memory.
    assert_eq!(unsafe { readerr(queue, memory.as_mut_ptr().cast(), 0) }, 40);
    assert_eq!(memory[40..], [0xee; 8], "the application's struct ends before");
    finish(queue);
}

#[test]
fn the_descriptor_is_readable_while_something_is_queued() {
    let queue = opened(sys::FI_WAIT_UNSPEC, NEW);
    assert!(!is_readable(queue));
    // SAFETY: an open queue.
    assert_eq!(unsafe { trywait(queue.cast()) }, Ok(()));
    put(queue, 1, b"a");
    put(queue, 2, b"b");
    assert!(is_readable(queue));
    assert_eq!(get(queue, 8, 0).map(|event| event.0), Ok(1));
    assert!(is_readable(queue), "one is left");
    // SAFETY: an open queue.
    assert_eq!(unsafe { trywait(queue.cast()) }, Err(Errno::AGAIN));
    assert_eq!(get(queue, 8, 0).map(|event| event.0), Ok(2));
    assert!(!is_readable(queue));
    finish(queue);
}

#[test]
fn waiting_ends_by_an_event_or_by_time() {
    let queue = opened(sys::FI_WAIT_FD, NEW);
    assert_eq!(wait(queue, 1), EMPTY);
    let address = queue.expose_provenance();
    let writer = std::thread::spawn(move || put(core::ptr::with_exposed_provenance_mut(address), 9, b"late"));
    assert_eq!(wait(queue, -1), 4, "however late the writer is");
    assert_eq!(writer.join().ok(), Some(4));
    finish(queue);

    let queue = opened(sys::FI_WAIT_NONE, NEW);
    assert_eq!(wait(queue, 0), -38, "nothing to wait on");
    finish(queue);
}

#[test]
fn wait_objects() {
    let mut object: sys::fi_wait_obj = 99;
    for (asked, given) in [(sys::FI_WAIT_NONE, 0), (sys::FI_WAIT_UNSPEC, 3), (sys::FI_WAIT_POLLFD, 6)] {
        let queue = opened(asked, NEW);
        // SAFETY: an open queue and a place for the answer.
        assert_eq!(unsafe { control(queue.cast(), 16, (&raw mut object).cast()) }, 0);
        assert_eq!(object, given);
        // SAFETY: the command is refused before its argument is looked at.
        assert_eq!(unsafe { control(queue.cast(), 4711, core::ptr::null_mut()) }, -38);
        finish(queue);
    }
}

#[test]
fn error_numbers_have_words() {
    for number in [sys::FI_EAVAIL, sys::FI_EINVAL, sys::FI_EOTHER] {
        let mut buffer = [1; 80];
        // SAFETY: no queue is needed; a valid buffer.
        let words = unsafe {
            strerror(core::ptr::null_mut(), number, core::ptr::null(), buffer.as_mut_ptr(), buffer.len())
        };
        assert_eq!(words, buffer.as_ptr());
        // SAFETY: the text just written, which is terminated.
        assert!(unsafe { CStr::from_ptr(words) }.to_bytes().len() > 4);
        // SAFETY: without a buffer the text itself is returned.
        let words =
            unsafe { strerror(core::ptr::null_mut(), number, core::ptr::null(), core::ptr::null_mut(), 0) };
        assert!(!words.is_null());
    }
}

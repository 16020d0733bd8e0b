//! Messages: libfabric's own log for the curious, one line on stderr for what a user must know.
//!
//! Responsible for finding the functions of the libfabric that loaded us (`fi_log`, `fi_param_get`, ...), which no provider may link to, and for the user-facing
//! warnings. libfabric's log is silent unless FI_LOG_LEVEL is set, hence the second channel. Must never write to stdout: it belongs to the application.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::fmt;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::Write as _;
use std::mem::ManuallyDrop;
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};

use rdgram_sys as sys;

use crate::provider;

/// How important a message to libfabric's log is (`enum fi_log_level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Something failed.
    Warn,
    /// What was decided, and why.
    Info,
}

impl Level {
    fn number(self) -> sys::fi_log_level {
        match self {
            Self::Warn => sys::FI_LOG_WARN,
            Self::Info => sys::FI_LOG_INFO,
        }
    }
}

/// What a message is about (`enum fi_log_subsys`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subsystem {
    /// Discovery, parameters, attributes.
    Core,
    /// Event queues.
    Eq,
}

impl Subsystem {
    fn number(self) -> sys::fi_log_subsys {
        match self {
            Self::Core => sys::FI_LOG_CORE,
            Self::Eq => sys::FI_LOG_EQ,
        }
    }
}

type LogEnabled =
    unsafe extern "C" fn(*const sys::fi_provider, sys::fi_log_level, sys::fi_log_subsys) -> c_int;
type Log = unsafe extern "C" fn(
    *const sys::fi_provider,
    sys::fi_log_level,
    sys::fi_log_subsys,
    *const c_char,
    c_int,
    *const c_char,
    ...
);
type ParamDefine = unsafe extern "C" fn(
    *const sys::fi_provider,
    *const c_char,
    sys::fi_param_type,
    *const c_char,
    ...
) -> c_int;
type ParamGet = unsafe extern "C" fn(*mut sys::fi_provider, *const c_char, *mut c_void) -> c_int;

/// The functions of libfabric that a provider uses. Each may be missing: then we manage without.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Core {
    log_enabled: Option<LogEnabled>,
    log: Option<Log>,
    pub(crate) param_define: Option<ParamDefine>,
    pub(crate) param_get: Option<ParamGet>,
}

static CORE: OnceLock<Core> = OnceLock::new();

/// The functions of the libfabric that uses us. The first call must come from inside of `fi_prov_ini`, for the case that libfabric was opened with RTLD_LOCAL:
/// then it is recognised by its return address on the stack.
pub(crate) fn core() -> &'static Core {
    CORE.get_or_init(|| {
        let global = Core::from_handle(libc::RTLD_DEFAULT);
        if global.log.is_some() {
            return global;
        }
        caller_object().map_or_else(Core::default, Core::from_handle)
    })
}

impl Core {
    fn from_handle(handle: *mut c_void) -> Self {
        // SAFETY: libfabric has exported the function of this name with this signature since 1.0.
        let log_enabled = unsafe { function::<LogEnabled>(handle, c"fi_log_enabled") };
        // SAFETY: as above.
        let log = unsafe { function::<Log>(handle, c"fi_log") };
        // SAFETY: as above.
        let param_define = unsafe { function::<ParamDefine>(handle, c"fi_param_define") };
        // SAFETY: as above.
        let param_get = unsafe { function::<ParamGet>(handle, c"fi_param_get") };
        Self { log_enabled, log, param_define, param_get }
    }
}

/// Looks a function up.
///
/// # Safety
/// `F` is a function pointer type with the signature of what is exported under `name`.
unsafe fn function<F: Copy>(handle: *mut c_void, name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: a handle of dlopen's or RTLD_DEFAULT, and a C string.
    let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
    if symbol.is_null() {
        return None;
    }
    // SAFETY: not null; the caller of this function promises the type, and the assertion above its size.
    Some(unsafe { core::mem::transmute_copy::<*mut c_void, F>(&symbol) })
}

/// A handle of the shared object that called into this one: the nearest frame on the stack that is not ours. Its symbols may be invisible to the rest of the
/// process, so only its path finds it; it is already loaded and nothing is loaded here.
fn caller_object() -> Option<*mut c_void> {
    const DEPTH: usize = 64;
    let ours = object_of(core::ptr::from_ref(&CORE).cast())?.dli_fbase;
    let mut frames = [core::ptr::null_mut::<c_void>(); DEPTH];
    // SAFETY: the array has room for as many frames as announced.
    let count = unsafe { libc::backtrace(frames.as_mut_ptr(), c_int::try_from(DEPTH).unwrap_or(0)) };
    let count = usize::try_from(count).unwrap_or(0).min(DEPTH);
    let object = frames[..count]
        .iter()
        .filter_map(|&frame| object_of(frame))
        .find(|object| object.dli_fbase != ours)?;
    if object.dli_fname.is_null() {
        return None;
    }
    // SAFETY: a C string of the dynamic linker's, which lives as long as the object is loaded.
    let handle = unsafe { libc::dlopen(object.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    (!handle.is_null()).then_some(handle)
}

/// The shared object that an address belongs to.
fn object_of(address: *const c_void) -> Option<libc::Dl_info> {
    let mut found = libc::Dl_info {
        dli_fname: core::ptr::null(),
        dli_fbase: core::ptr::null_mut(),
        dli_sname: core::ptr::null(),
        dli_saddr: core::ptr::null_mut(),
    };
    // SAFETY: any address may be asked for, and the result is ours.
    let known = unsafe { libc::dladdr(address, &mut found) };
    (known != 0).then_some(found)
}

/// Whether libfabric's log takes such a message. Ask before building a text.
pub(crate) fn enabled(level: Level, subsystem: Subsystem) -> bool {
    let Some(log_enabled) = core().log_enabled else { return false };
    // SAFETY: libfabric's function, with our provider and values of its enumerations.
    unsafe { log_enabled(provider::pointer(), level.number(), subsystem.number()) != 0 }
}

/// Writes to libfabric's log. The text is built only when somebody reads it.
pub(crate) fn log(level: Level, subsystem: Subsystem, function: &CStr, text: fmt::Arguments<'_>) {
    if !enabled(level, subsystem) {
        return;
    }
    let Some(log) = core().log else { return };
    let Ok(text) = CString::new(text.to_string().replace('\0', " ")) else { return };
    // SAFETY: libfabric's function; the format takes exactly the one string that follows, and all strings outlive the call.
    unsafe {
        log(
            provider::pointer(),
            level.number(),
            subsystem.number(),
            function.as_ptr(),
            0,
            c"%s\n".as_ptr(),
            text.as_ptr(),
        );
    }
}

/// Keys of the warnings given; bounded, since a key may name a peer.
static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
/// More different warnings than this are not told apart: the user has seen enough.
const WARNINGS_MAX: usize = 256;

/// Tells the user once per `key`, in one line on stderr: what is wrong, and what to do about it.
pub(crate) fn warn_once(key: &str, text: &str) {
    warn_few("", WARNINGS_MAX, key, text);
}

/// As [`warn_once`], but of one `cause` not more than `most` lines, since each may be about another peer of thousands.
pub(crate) fn warn_few(cause: &str, most: usize, key: &str, text: &str) {
    let fresh = {
        let Some(mut warned) = warned() else { return };
        let given = warned.iter().filter(|warning| warning.starts_with(cause)).count();
        given < most && warned.len() < WARNINGS_MAX && warned.insert(format!("{cause}{key}"))
    };
    if !fresh {
        return;
    }
    log(Level::Warn, Subsystem::Core, c"warn", format_args!("{text}"));
    let line = format!("rdgram: {}\n", text.replace('\n', " "));
    // A closed stderr is the user's choice; there is nobody left to tell.
    let _ = unlocked_stderr().write_all(line.as_bytes());
}

/// The warnings given; `None` when they are locked for good, in a process that was forked while a thread of its parent warned.
fn warned() -> Option<MutexGuard<'static, BTreeSet<String>>> {
    const TRIES: u32 = 10_000;
    (0..TRIES).find_map(|_| match WARNED.try_lock() {
        Ok(warned) => Some(warned),
        Err(TryLockError::Poisoned(warned)) => Some(warned.into_inner()),
        Err(TryLockError::WouldBlock) => {
            std::thread::yield_now();
            None
        }
    })
}

/// The descriptor itself, without the standard library's lock, which a forked child may find locked for ever.
pub(crate) fn unlocked_stderr() -> ManuallyDrop<std::fs::File> {
    use std::os::fd::FromRawFd as _;
    // SAFETY: never closed; where the application closed it, writing fails or goes where it opened another.
    ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(libc::STDERR_FILENO) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_binary_has_no_libfabric_and_logging_does_nothing() {
        assert!(core().log.is_none());
        assert!(!enabled(Level::Warn, Subsystem::Core));
        log(Level::Warn, Subsystem::Eq, c"test", format_args!("nobody reads this"));
    }

    #[test]
    fn functions_are_found_by_name_and_type() {
        type Getpid = unsafe extern "C" fn() -> c_int;
        // SAFETY: the C library exports getpid with this signature.
        let getpid = unsafe { function::<Getpid>(libc::RTLD_DEFAULT, c"getpid") };
        // SAFETY: getpid has no preconditions.
        let pid = getpid.map(|getpid| unsafe { getpid() });
        assert_eq!(pid.and_then(|pid| u32::try_from(pid).ok()), Some(std::process::id()));
        // SAFETY: nothing is exported under this name.
        assert!(unsafe { function::<Getpid>(libc::RTLD_DEFAULT, c"fi_no_such_function") }.is_none());
    }

    #[test]
    fn a_warning_is_given_once_per_key() {
        warn_once("test key", "a test's warning");
        warn_once("test key", "a test's warning");
        let warned = warned().expect("nobody keeps it");
        assert_eq!(warned.iter().filter(|key| key.as_str() == "test key").count(), 1);
    }

    #[test]
    fn warnings_of_one_cause_are_few() {
        for key in ["one", "one", "two", "three", "four"] {
            warn_few("test cause ", 3, key, "a test's warning about one of many");
        }
        warn_once("test key of another cause", "a test's warning");
        let warned = warned().expect("nobody keeps it");
        let given: Vec<_> = warned.iter().filter(|key| key.starts_with("test cause ")).collect();
        assert_eq!(given, ["test cause one", "test cause three", "test cause two"]);
        assert!(warned.contains("test key of another cause"));
    }
}

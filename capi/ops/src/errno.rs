//! Errors: the one mapping from the engine's causes to libfabric's numbers, and their words.
//!
//! Responsible for every number that is returned or written to an error entry. Must never decide whether something is an error.

use core::ffi::{CStr, c_int};

use rdgram_engine::{Cause, SubmitError};
use rdgram_sys as sys;

/// A libfabric error number, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Errno(c_int);

/// What control operations return inside of this crate.
pub(crate) type Result<T = ()> = core::result::Result<T, Errno>;

macro_rules! errnos {
    ($($name:ident = $constant:ident;)*) => {
        #[allow(clippy::cast_possible_wrap, clippy::unnecessary_cast, reason = "small positive constants of different generated types")]
        impl Errno {
            $(pub(crate) const $name: Self = Self(sys::$constant as c_int);)*
        }
    };
}

errnos! {
    ACCES = FI_EACCES;
    ADDRNOTAVAIL = FI_EADDRNOTAVAIL;
    AGAIN = FI_EAGAIN;
    AVAIL = FI_EAVAIL;
    BADFLAGS = FI_EBADFLAGS;
    BUSY = FI_EBUSY;
    CANCELED = FI_ECANCELED;
    CONNREFUSED = FI_ECONNREFUSED;
    CONNRESET = FI_ECONNRESET;
    DOMAIN = FI_EDOMAIN;
    HOSTUNREACH = FI_EHOSTUNREACH;
    IO = FI_EIO;
    INVAL = FI_EINVAL;
    MSGSIZE = FI_EMSGSIZE;
    NOAV = FI_ENOAV;
    NOCQ = FI_ENOCQ;
    NODATA = FI_ENODATA;
    NOENT = FI_ENOENT;
    NOEQ = FI_ENOEQ;
    NOKEY = FI_ENOKEY;
    NOMEM = FI_ENOMEM;
    NOMSG = FI_ENOMSG;
    NOPROTOOPT = FI_ENOPROTOOPT;
    NOSYS = FI_ENOSYS;
    OPBADSTATE = FI_EOPBADSTATE;
    OPNOTSUPP = FI_EOPNOTSUPP;
    OTHER = FI_EOTHER;
    SHUTDOWN = FI_ESHUTDOWN;
    TIMEDOUT = FI_ETIMEDOUT;
    TOOSMALL = FI_ETOOSMALL;
    TRUNC = FI_ETRUNC;
}

impl Errno {
    /// FI_EPROTONOSUPPORT, which libfabric has no name for: the Linux number.
    pub(crate) const PROTONOSUPPORT: Self = Self(libc::EPROTONOSUPPORT);

    /// The number of a failed system call. Zero cannot be one.
    pub(crate) fn from_os(error: &std::io::Error) -> Self {
        Self(error.raw_os_error().filter(|&number| number > 0).unwrap_or(Self::OTHER.0))
    }

    /// Positive, as in an error entry.
    pub(crate) fn number(self) -> c_int {
        self.0
    }

    /// Negative, as returned.
    pub(crate) fn negative(self) -> c_int {
        -self.0
    }
}

impl From<SubmitError> for Errno {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Again => Self::AGAIN,
            SubmitError::BadAddress => Self::INVAL,
            SubmitError::TooLong => Self::MSGSIZE,
            SubmitError::BadState => Self::OPBADSTATE,
            SubmitError::NoMemory => Self::NOMEM,
            SubmitError::NotFound => Self::NOENT,
            SubmitError::NotBound => Self::NOCQ,
        }
    }
}

impl From<Cause> for Errno {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Truncated => Self::TRUNC,
            Cause::Canceled | Cause::EndpointClosed => Self::CANCELED,
            Cause::NoMessage => Self::NOMSG,
            Cause::Refused => Self::CONNREFUSED,
            Cause::Unreachable => Self::HOSTUNREACH,
            Cause::Closed => Self::SHUTDOWN,
            Cause::Restarted => Self::CONNRESET,
            Cause::TimedOut => Self::TIMEDOUT,
            Cause::Version => Self::PROTONOSUPPORT,
            Cause::NoMemory => Self::NOMEM,
            Cause::NoAddress => Self::ADDRNOTAVAIL,
            Cause::BadKey => Self::NOKEY,
            Cause::AccessDenied | Cause::OutOfRange => Self::ACCES,
            Cause::NotSupported => Self::OPNOTSUPP,
            Cause::Corrupt => Self::IO,
        }
    }
}

/// The provider's own number of a cause: what `fi_cq_err_entry.prov_errno` carries and [`cause_text`] explains. 0 is no cause.
pub(crate) fn provider_number(cause: Cause) -> c_int {
    match cause {
        Cause::Truncated => 1,
        Cause::Canceled => 2,
        Cause::NoMessage => 3,
        Cause::Refused => 4,
        Cause::Unreachable => 5,
        Cause::Closed => 6,
        Cause::Restarted => 7,
        Cause::TimedOut => 8,
        Cause::Version => 9,
        Cause::EndpointClosed => 10,
        Cause::NoMemory => 11,
        Cause::NoAddress => 12,
        Cause::BadKey => 13,
        Cause::AccessDenied => 14,
        Cause::OutOfRange => 15,
        Cause::NotSupported => 16,
        Cause::Corrupt => 17,
    }
}

/// What went wrong and what to do, for the number that [`provider_number`] gave.
pub(crate) fn cause_text(number: c_int) -> &'static CStr {
    match number {
        0 => c"success",
        1 => c"the message was longer than the receive buffer",
        2 => c"the operation was cancelled",
        3 => c"no message matches",
        4 => c"nobody is bound to the peer's UDP port: the peer process ended or its address is stale",
        5 => c"the peer's host cannot be reached: check the route, the interface (FI_RDGRAM_IFACE) and the firewall",
        6 => c"the peer closed its endpoint",
        7 => c"the peer was restarted: another process has its address now",
        8 => c"the peer did not answer for longer than FI_RDGRAM_PEER_TIMEOUT",
        9 => c"the peer speaks another version of the rdgram protocol: use the same release on all hosts",
        10 => c"the endpoint was closed first",
        11 => c"the memory ceiling of the endpoint was reached: post receives earlier or raise FI_RDGRAM_MEMORY_CEILING",
        12 => c"the sender is not in the address vector",
        13 => c"the target has no memory region of this key: it was never registered, or it is closed",
        14 => c"the target's memory region does not permit this access",
        15 => c"the access is outside of the target's memory region",
        16 => c"the target does not support this operation",
        17 => c"the peer put into shared memory what no peer of this version does: it is broken or hostile; FI_RDGRAM_LOCAL=off avoids shared memory",
        _ => c"unknown provider error",
    }
}

/// `0` or the negative number.
pub(crate) fn to_c(result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(errno) => errno.negative(),
    }
}

/// `0`, a count, or the negative number.
pub(crate) fn to_c_size(result: Result<usize>) -> isize {
    match result {
        Ok(count) => isize::try_from(count).unwrap_or(isize::MAX),
        Err(errno) => errno.negative() as isize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAUSES: [Cause; 16] = [
        Cause::Truncated,
        Cause::Canceled,
        Cause::NoMessage,
        Cause::Refused,
        Cause::Unreachable,
        Cause::Closed,
        Cause::Restarted,
        Cause::TimedOut,
        Cause::Version,
        Cause::EndpointClosed,
        Cause::NoMemory,
        Cause::NoAddress,
        Cause::BadKey,
        Cause::AccessDenied,
        Cause::OutOfRange,
        Cause::NotSupported,
    ];

    #[test]
    fn every_cause_has_its_own_number_and_words() {
        let mut numbers: Vec<_> = CAUSES.iter().map(|&cause| provider_number(cause)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), CAUSES.len());
        for number in numbers {
            assert_ne!(cause_text(number), cause_text(-1), "number {number} has no text");
        }
    }

    #[test]
    fn numbers_are_the_documented_ones() {
        assert_eq!(Errno::from(Cause::Truncated).number(), 265);
        assert_eq!(Errno::from(Cause::Canceled).number(), 125);
        assert_eq!(Errno::from(Cause::NoMessage).number(), 42);
        assert_eq!(Errno::from(Cause::BadKey).number(), 266);
        assert_eq!(Errno::from(Cause::AccessDenied).number(), 13);
        assert_eq!(Errno::from(Cause::OutOfRange).number(), 13);
        assert_eq!(Errno::from(Cause::NotSupported).number(), 95);
        assert_eq!(Errno::from(SubmitError::Again).negative(), -11);
        assert_eq!(Errno::from(SubmitError::BadState).negative(), -258);
        assert_eq!(to_c_size(Err(Errno::AVAIL)), -259);
    }
}

"""Runs mpi4py's own test suite and records how each of its tests went, one file per rank.

    mpi4py_record.py SUITE RECORDS [ARGUMENT...]

SUITE is the directory of the suite's main.py, RECORDS an existing directory. Tests named in RECORDS/done
have been run already. Those in RECORDS/left-out, which may also be whole classes or modules, are not run and
recorded as skipped. RECORDS/rank-N gets a line when a test begins, one when it ends, and `complete` after the last: what
a rank hung or crashed in is the test that began and did not end.
"""

import os
import pathlib
import sys
import unittest


class Record:
    """The file of this rank; made with the first line, because MPI is not initialized before the tests are
    loaded."""

    def __init__(self, directory):
        self.directory = directory
        self.file = None

    def write(self, word, name=""):
        if self.file is None:
            from mpi4py import MPI

            path = self.directory / f"rank-{MPI.COMM_WORLD.Get_rank()}"
            self.file = path.open("w", encoding="utf-8", buffering=1)
        self.file.write(f"{word} {' '.join(name.split())}\n")


def recording(record):
    """A result class that also writes to `record`."""

    class Result(unittest.TextTestResult):
        def startTest(self, test):
            record.write("begin", test.id())
            super().startTest(test)

        def addSuccess(self, test):
            record.write("passed", test.id())
            super().addSuccess(test)

        def addFailure(self, test, err):
            record.write("failed", test.id())
            super().addFailure(test, err)

        def addError(self, test, err):
            record.write("failed", test.id())
            super().addError(test, err)

        def addSubTest(self, test, subtest, err):
            if err is not None:
                record.write("failed", test.id())
            super().addSubTest(test, subtest, err)

        def addSkip(self, test, reason):
            record.write("skipped", test.id())
            super().addSkip(test, reason)

        def addExpectedFailure(self, test, err):
            record.write("passed", test.id())
            super().addExpectedFailure(test, err)

        def addUnexpectedSuccess(self, test):
            record.write("failed", test.id())
            super().addUnexpectedSuccess(test)

    return Result


def without(suite, done, left_out, record):
    """The tests of `suite` that are to be run."""
    if isinstance(suite, unittest.TestSuite):
        kept = (without(one, done, left_out, record) for one in suite)
        return suite.__class__([one for one in kept if one is not None])
    if suite.id() in done:
        return None
    if any(f"{suite.id()}.".startswith(f"{name}.") for name in left_out):
        record.write("skipped", suite.id())
        return None
    return suite


def run(suite, records):
    sys.path.insert(0, os.fspath(suite))
    import main

    record = Record(records)
    done = set((records / "done").read_text(encoding="utf-8").splitlines())
    left_out = (records / "left-out").read_text(encoding="utf-8").splitlines()
    result = recording(record)

    class Runner(unittest.TextTestRunner):
        def __init__(self, **options):
            super().__init__(resultclass=result, **options)

        def run(self, test):
            result = super().run(without(test, done, left_out, record))
            record.write("complete")
            return result

    main.main(module=None, testRunner=Runner)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    suite, records = map(pathlib.Path, sys.argv[1:3])
    del sys.argv[1:3]
    run(suite, records)

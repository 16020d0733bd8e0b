"""One HDF5 file written by all ranks together, by MPI-IO, and read by all in other parts.

    parallel_hdf5.py FILE

Every value is a mix of its place, so each rank knows what it has to read of what others wrote. After the file is closed
rank 0 reads it alone and prints a digest of each dataset, and at last how long writing and reading together took.
"""

import hashlib
import os
import sys
import time

import h5py
import numpy
from mpi4py import MPI

COMM = MPI.COMM_WORLD
RANK, SIZE = COMM.Get_rank(), COMM.Get_size()
# No multiple of usual numbers of ranks: parts differ in size.
ROWS, COLUMNS = 1531, 1021
SMALL = 40


def mixed(rows, columns):
    """What belongs at these places."""
    place = rows.astype(numpy.uint64)[:, None] * numpy.uint64(COLUMNS) + columns.astype(numpy.uint64)
    place = (place + numpy.uint64(1)) * numpy.uint64(0x9E3779B97F4A7C15)
    place ^= place >> numpy.uint64(29)
    place *= numpy.uint64(0xBF58476D1CE4E5B9)
    return place ^ (place >> numpy.uint64(32))


def part(length):
    """Where this rank's part of so many begins and ends."""
    return length * RANK // SIZE, length * (RANK + 1) // SIZE


def all_rows():
    return numpy.arange(ROWS)


def all_columns():
    return numpy.arange(COLUMNS)


def write(file):
    shape = (ROWS, COLUMNS)
    begin, end = part(ROWS)
    # One piece of the file for each rank.
    rows = file.create_dataset("rows", shape, dtype="u8")
    with rows.collective:
        rows[begin:end] = mixed(numpy.arange(begin, end), all_columns())
    # Every SIZEth row: as many pieces as rows, which ranks exchange so that few write.
    dealt = file.create_dataset("dealt", shape, dtype="u8", chunks=(64, 96))
    with dealt.collective:
        dealt[RANK::SIZE] = mixed(all_rows()[RANK::SIZE], all_columns())
    # Chunks that several ranks write parts of are packed by one of them.
    packed = file.create_dataset("packed", shape, dtype="u8", chunks=(100, 200), compression="gzip")
    with packed.collective:
        packed[begin:end] = mixed(numpy.arange(begin, end), all_columns()) >> numpy.uint64(48)
    # Structure is made by all, values are written by one at a time.
    for number in range(SMALL):
        group = file.create_group(f"small/{number}")
        group.attrs["number"] = number
        small = group.create_dataset("values", (7,), dtype="f8")
        if number % SIZE == RANK:
            small[:] = number + numpy.arange(7) / 7


def check(name, seen, wanted):
    if not numpy.array_equal(seen, wanted):
        wrong = int((seen != wanted).sum())
        print(f"rank {RANK} read {wrong} wrong values of {wanted.size} in {name}", flush=True)
        COMM.Abort(1)


def read(file):
    begin, end = part(COLUMNS)
    columns = numpy.arange(begin, end)
    wanted = mixed(all_rows(), columns)
    for name in ("rows", "dealt", "packed"):
        data = file[name]
        with data.collective:
            seen = data[:, begin:end]
        check(name, seen, wanted >> numpy.uint64(48) if name == "packed" else wanted)
    # The other way round, and each for itself.
    begin, end = part(ROWS)
    check("dealt", file["dealt"][begin:end], mixed(numpy.arange(begin, end), all_columns()))
    for number in range(SMALL):
        check(f"small {number}", file[f"small/{number}/values"][:], number + numpy.arange(7) / 7)


def digests(path):
    with h5py.File(path, "r") as file:
        for name in ("rows", "dealt", "packed"):
            print(f"answer: {name} {hashlib.sha256(file[name][:].tobytes()).hexdigest()}")
        small = hashlib.sha256()
        for number in range(SMALL):
            small.update(bytes([file[f"small/{number}"].attrs["number"]]))
            small.update(file[f"small/{number}/values"][:].tobytes())
        print(f"answer: small {small.hexdigest()}")


def main(path):
    COMM.Barrier()
    begin = time.monotonic()
    with h5py.File(path, "w", driver="mpio", comm=COMM) as file:
        write(file)
    with h5py.File(path, "r", driver="mpio", comm=COMM) as file:
        read(file)
    COMM.Barrier()
    seconds = time.monotonic() - begin
    if RANK == 0:
        digests(path)
        print(f"seconds: {seconds:.3f}")
        os.remove(path)


if __name__ == "__main__":
    main(sys.argv[1])

/*
 * The kinds of windows: made of given memory, allocated, shared, and dynamic; uneven, empty, overlapping, and
 * of other communicators than the world.
 */
#include "area.h"

/* Puts to the right and gets from the left of `comm`, between two fences each. */
static void exchange(MPI_Comm comm, MPI_Win win, uint8_t *base, size_t length, int unit, uint64_t number)
{
    int me, members;
    MPI(MPI_Comm_rank(comm, &me));
    MPI(MPI_Comm_size(comm, &members));
    int right = (me + 1) % members, left = (me + members - 1) % members;
    uint8_t *out = allocate(length), *in = allocate(length);
    fill(out, length, (struct stream){me, right, number});
    memset(base, UNTOUCHED, GUARD + length + GUARD);
    MPI(MPI_Win_fence(MPI_MODE_NOPRECEDE, win));
    MPI(MPI_Put(out, (int)length, MPI_BYTE, right, (MPI_Aint)GUARD / unit, (int)length, MPI_BYTE, win));
    MPI(MPI_Win_fence(0, win));
    check_bytes(base + GUARD, length, (struct stream){left, me, number});
    check_untouched(base, GUARD, "before what was put");
    check_untouched(base + GUARD + length, GUARD, "after what was put");
    MPI(MPI_Get(in, (int)length, MPI_BYTE, right, (MPI_Aint)GUARD / unit, (int)length, MPI_BYTE, win));
    MPI(MPI_Win_fence(MPI_MODE_NOSUCCEED, win));
    check_bytes(in, length, (struct stream){me, right, number});
    free(out);
    free(in);
}

static void check_attributes(MPI_Win win, const void *base, size_t size, int unit, int flavor)
{
    void *value;
    int found;
    MPI(MPI_Win_get_attr(win, MPI_WIN_BASE, &value, &found));
    check_value(found && value == base, 1, "base of a window");
    MPI(MPI_Win_get_attr(win, MPI_WIN_SIZE, &value, &found));
    check_value(found ? *(MPI_Aint *)value : -1, (int64_t)size, "size of a window");
    MPI(MPI_Win_get_attr(win, MPI_WIN_DISP_UNIT, &value, &found));
    check_value(found ? *(int *)value : -1, unit, "unit of a window");
    MPI(MPI_Win_get_attr(win, MPI_WIN_CREATE_FLAVOR, &value, &found));
    check_value(found ? *(int *)value : -1, flavor, "flavor of a window");
}

static void created_and_allocated(void)
{
    static const int units[] = {1, 2, 8, 64};
    static const size_t lengths[] = {1, 1000, 65536, 1 * MIB};
    for (size_t i = 0; i < 4; i++) {
        size_t size = GUARD + lengths[i] + GUARD;
        uint8_t *base = allocate(size), *allocated;
        MPI_Win win;
        MPI(MPI_Win_create(base, (MPI_Aint)size, units[i], MPI_INFO_NULL, MPI_COMM_WORLD, &win));
        check_attributes(win, base, size, units[i], MPI_WIN_FLAVOR_CREATE);
        exchange(MPI_COMM_WORLD, win, base, lengths[i], units[i], 4000 + i);
        MPI(MPI_Win_free(&win));
        free(base);
        MPI(MPI_Win_allocate((MPI_Aint)size, units[i], MPI_INFO_NULL, MPI_COMM_WORLD, &allocated, &win));
        check_attributes(win, allocated, size, units[i], MPI_WIN_FLAVOR_ALLOCATE);
        exchange(MPI_COMM_WORLD, win, allocated, lengths[i], units[i], 4010 + i);
        MPI(MPI_Win_free(&win));
    }
}

/* Each rank gives another amount of memory in other units, rank 0 none. */
static void uneven(void)
{
    enum { UNIT = 16 };
    size_t size = (size_t)rank * 5000 * (size_t)(1 + rank);
    uint8_t *base = allocate(size), *out = allocate(UNIT);
    MPI_Win win;
    memset(base, UNTOUCHED, size);
    fill(out, UNIT, (struct stream){rank, -1, 4100});
    MPI(MPI_Win_create(rank == 0 ? NULL : base, (MPI_Aint)size, 1 + rank, MPI_INFO_NULL, MPI_COMM_WORLD, &win));
    MPI(MPI_Win_fence(MPI_MODE_NOPRECEDE, win));
    /* Into the last bytes of each rank that has some, and nothing into those that have none. */
    for (int target = 0; target < ranks; target++) {
        MPI_Aint units = (MPI_Aint)target * 5000;
        if (target > 0)
            MPI(MPI_Put(out, target + 1, MPI_BYTE, target, units - 1 - rank, target + 1, MPI_BYTE, win));
        else
            MPI(MPI_Put(out, 0, MPI_BYTE, target, 0, 0, MPI_BYTE, win));
        MPI(MPI_Put(out, UNIT, MPI_BYTE, MPI_PROC_NULL, 0, UNIT, MPI_BYTE, win));
    }
    MPI(MPI_Win_fence(MPI_MODE_NOSUCCEED, win));
    size_t unit = (size_t)rank + 1;
    for (int source = 0; rank > 0 && source < ranks; source++)
        check_bytes(base + size - (size_t)(source + 1) * unit, unit < UNIT ? unit : UNIT,
                    (struct stream){source, -1, 4100});
    if (rank > 0)
        check_untouched(base, size - (size_t)ranks * unit, "before the last units");
    MPI(MPI_Win_free(&win));
    free(base);
    free(out);
}

/* Two windows over the same memory, and a third that begins in the middle of it. */
static void overlapping(void)
{
    enum { LENGTH = 30000, MIDDLE = 4096 };
    size_t size = GUARD + LENGTH + GUARD;
    uint8_t *base = allocate(size + MIDDLE);
    MPI_Win wins[3];
    for (int i = 0; i < 3; i++)
        MPI(MPI_Win_create(base + (i == 2 ? MIDDLE : 0), (MPI_Aint)size, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &wins[i]));
    for (int i = 0; i < 6; i++)
        exchange(MPI_COMM_WORLD, wins[i % 3], base + (i % 3 == 2 ? MIDDLE : 0), LENGTH, 1, 4200 + (uint64_t)i);
    MPI(MPI_Win_free(&wins[1]));
    exchange(MPI_COMM_WORLD, wins[0], base, LENGTH, 1, 4210);
    MPI(MPI_Win_free(&wins[0]));
    exchange(MPI_COMM_WORLD, wins[2], base + MIDDLE, LENGTH, 1, 4211);
    MPI(MPI_Win_free(&wins[2]));
    free(base);
}

/* A communicator with the ranks backwards, and one of the even and one of the odd ranks. */
static void communicators(void)
{
    enum { LENGTH = 5000 };
    size_t size = GUARD + LENGTH + GUARD;
    for (int split = 1; split <= 2; split++) {
        MPI_Comm comm;
        MPI_Win win;
        uint8_t *base;
        MPI(MPI_Comm_split(MPI_COMM_WORLD, rank % split, ranks - rank, &comm));
        MPI(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN));
        MPI(MPI_Win_allocate((MPI_Aint)size, 1, MPI_INFO_NULL, comm, &base, &win));
        exchange(comm, win, base, LENGTH, 1, 4300 + (uint64_t)split);
        MPI(MPI_Win_free(&win));
        MPI(MPI_Comm_free(&comm));
    }
}

/* Ranks that share memory see each other's stores; with one rank per group it is only itself. */
static void shared(void)
{
    enum { LENGTH = 9000 };
    MPI_Comm comm;
    MPI_Win win;
    uint8_t *base;
    int me, members, unit;
    MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &comm));
    MPI(MPI_Comm_rank(comm, &me));
    MPI(MPI_Comm_size(comm, &members));
    MPI(MPI_Win_allocate_shared(LENGTH, 1, MPI_INFO_NULL, comm, &base, &win));
    MPI(MPI_Win_lock_all(0, win));
    fill(base, LENGTH, (struct stream){me, -1, 4400});
    MPI(MPI_Win_sync(win));
    MPI(MPI_Barrier(comm));
    MPI(MPI_Win_sync(win));
    for (int member = 0; member < members; member++) {
        MPI_Aint size;
        uint8_t *theirs, in[LENGTH];
        MPI(MPI_Win_shared_query(win, member, &size, &unit, &theirs));
        check_value(size, LENGTH, "size of a shared part");
        check_bytes(theirs, LENGTH, (struct stream){member, -1, 4400});
        MPI(MPI_Get(in, LENGTH, MPI_BYTE, member, 0, LENGTH, MPI_BYTE, win));
        MPI(MPI_Win_flush(member, win));
        check_bytes(in, LENGTH, (struct stream){member, -1, 4400});
    }
    MPI(MPI_Barrier(comm));
    uint8_t out[LENGTH];
    fill(out, LENGTH, (struct stream){me, -1, 4401});
    MPI(MPI_Put(out, LENGTH, MPI_BYTE, (me + 1) % members, 0, LENGTH, MPI_BYTE, win));
    MPI(MPI_Win_unlock_all(win));
    MPI(MPI_Barrier(comm));
    check_bytes(base, LENGTH, (struct stream){(me + members - 1) % members, -1, 4401});
    MPI(MPI_Win_free(&win));
    MPI(MPI_Comm_free(&comm));
}

/* Regions come and go in a window that has none of its own; addresses are told by messages. */
static void dynamic(void)
{
    enum { ROUNDS = 4, REGIONS = 3 };
    static const size_t lengths[REGIONS] = {64, 5000, 300000};
    MPI_Win win;
    MPI_Aint *places = allocate((size_t)ranks * REGIONS * sizeof(MPI_Aint)), own[REGIONS];
    uint8_t *regions[REGIONS], *out = allocate(lengths[2]), *in = allocate(lengths[2]);
    int right = (rank + 1) % ranks, left = (rank + ranks - 1) % ranks;
    MPI(MPI_Win_create_dynamic(MPI_INFO_NULL, MPI_COMM_WORLD, &win));
    MPI(MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN));
    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < REGIONS; i++) {
            regions[i] = allocate(lengths[i] + 2 * GUARD);
            memset(regions[i], UNTOUCHED, lengths[i] + 2 * GUARD);
            MPI(MPI_Win_attach(win, regions[i], (MPI_Aint)(lengths[i] + 2 * GUARD)));
            MPI(MPI_Get_address(regions[i] + GUARD, &own[i]));
        }
        MPI(MPI_Allgather(own, REGIONS, MPI_AINT, places, REGIONS, MPI_AINT, MPI_COMM_WORLD));
        for (int i = 0; i < REGIONS; i++) {
            int length = (int)lengths[i];
            MPI_Aint there = places[right * REGIONS + i];
            uint64_t number = 4500 + round * REGIONS + (uint64_t)i;
            fill(out, lengths[i], (struct stream){rank, right, number});
            MPI(MPI_Win_lock(round % 2 ? MPI_LOCK_SHARED : MPI_LOCK_EXCLUSIVE, right, 0, win));
            MPI(MPI_Put(out, length, MPI_BYTE, right, there, length, MPI_BYTE, win));
            MPI(MPI_Win_flush(right, win));
            memset(in, UNTOUCHED, lengths[i]);
            MPI(MPI_Get(in, length, MPI_BYTE, right, there, length, MPI_BYTE, win));
            MPI(MPI_Win_unlock(right, win));
            check_bytes(in, lengths[i], (struct stream){rank, right, number});
        }
        int64_t one = 1, before = -1;
        MPI(MPI_Barrier(MPI_COMM_WORLD));
        MPI(MPI_Win_lock(MPI_LOCK_SHARED, rank, 0, win));
        MPI(MPI_Win_sync(win));
        MPI(MPI_Win_unlock(rank, win));
        for (int i = 0; i < REGIONS; i++) {
            uint64_t number = 4500 + round * REGIONS + (uint64_t)i;
            check_bytes(regions[i] + GUARD, lengths[i], (struct stream){left, rank, number});
            check_untouched(regions[i], GUARD, "before an attached region");
            check_untouched(regions[i] + GUARD + lengths[i], GUARD, "after an attached region");
        }
        /* All ranks count in the first region of rank 0. */
        memset(regions[0] + GUARD, 0, sizeof one);
        MPI(MPI_Win_lock_all(0, win));
        MPI(MPI_Win_sync(win));
        MPI(MPI_Barrier(MPI_COMM_WORLD));
        MPI(MPI_Fetch_and_op(&one, &before, MPI_INT64_T, 0, places[0], MPI_SUM, win));
        MPI(MPI_Win_unlock_all(win));
        check_value(before >= 0 && before < ranks, 1, "a count in an attached region");
        MPI(MPI_Barrier(MPI_COMM_WORLD));
        memcpy(&before, regions[0] + GUARD, sizeof before);
        check_value(before, rank == 0 ? ranks : 0, "the count in an attached region");
        for (int i = 0; i < REGIONS; i++) {
            MPI(MPI_Win_detach(win, regions[i]));
            free(regions[i]);
        }
        MPI(MPI_Barrier(MPI_COMM_WORLD));
    }
    MPI(MPI_Win_free(&win));
    free(places);
    free(out);
    free(in);
}

const struct test window_tests[] = {
    {"windows", created_and_allocated},
    {"uneven-windows", uneven},
    {"overlapping-windows", overlapping},
    {"windows-of-communicators", communicators},
    {"shared-windows", shared},
    {"dynamic-windows", dynamic},
    {NULL, NULL},
};

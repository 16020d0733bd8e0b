/*
 * The synchronization of one-sided communication: each kind with seeded sizes, groups that differ from rank
 * to rank, locks that exclude, and the flushes that say which side is done.
 */
#include "area.h"

enum { SLOT = 128 * 1024 };

/* Everybody to everybody in random order and size, with each kind in turn. */
static void kinds(void)
{
    struct area area = area_new(SLOT, ranks, MPI_INFO_NULL);
    uint8_t *out = allocate(SLOT * (size_t)ranks), *in = allocate(SLOT * (size_t)ranks);
    size_t *length = allocate((size_t)(ranks * ranks) * sizeof(size_t));
    int *order = allocate((size_t)ranks * sizeof(int));
    struct random random = random_of(3000), own = random_of(3001 + (uint64_t)rank);
    for (int i = 0; i < ranks; i++)
        order[i] = i;
    for (uint64_t round = 0; round < 8 * EPOCHS; round++) {
        enum epoch kind = (enum epoch)(round % EPOCHS);
        if (!wanted(round / EPOCHS))
            continue;
        for (int i = 0; i < ranks * ranks; i++)
            length[i] = random_size(&random, SLOT);
        random_shuffle(&own, order, (size_t)ranks);
        epoch_open(&area, kind);
        for (int i = 0; i < ranks; i++) {
            int target = order[i], size = (int)length[rank * ranks + target];
            uint8_t *mine = out + (size_t)target * SLOT;
            fill(mine, (size_t)size, (struct stream){rank, target, 3000 + round});
            target_open(&area, kind, target);
            MPI(MPI_Put(mine, size, MPI_BYTE, target, place_of(&area, rank), size, MPI_BYTE, area.win));
            target_close(&area, kind, target);
        }
        epoch_close(&area, kind);
        for (int source = 0; source < ranks; source++) {
            size_t size = length[source * ranks + rank];
            check_bytes(slot_of(&area, source), size, (struct stream){source, rank, 3000 + round});
            check_untouched(slot_of(&area, source) + size, SLOT - size, "rest of a slot");
        }
        check_guards(&area);
        int owner = (int)(round % (uint64_t)ranks);
        epoch_open(&area, kind);
        for (int i = 0; i < ranks; i++) {
            int target = order[i], size = (int)length[owner * ranks + target];
            target_open(&area, kind, target);
            MPI(MPI_Get(in + (size_t)target * SLOT, size, MPI_BYTE, target, place_of(&area, owner), size, MPI_BYTE,
                        area.win));
            target_close(&area, kind, target);
        }
        epoch_close(&area, kind);
        for (int target = 0; target < ranks; target++)
            check_bytes(in + (size_t)target * SLOT, length[owner * ranks + target],
                        (struct stream){owner, target, 3000 + round});
        area_wipe(&area);
    }
    free(out);
    free(in);
    free(length);
    free(order);
    area_free(&area);
}

/* Fences one after the other without a gap: what was written before one is read after it. */
static void fences(void)
{
    enum { ROUNDS = 60, LENGTH = 3000 };
    struct area area = area_new(LENGTH, 2, MPI_INFO_NULL);
    uint8_t out[LENGTH], in[LENGTH];
    int right = (rank + 1) % ranks, left = (rank + ranks - 1) % ranks, opposite = (rank + ranks / 2) % ranks;
    MPI(MPI_Win_fence(MPI_MODE_NOPRECEDE, area.win));
    for (uint64_t round = 0; round < ROUNDS; round++) {
        /* Slots take turns: one is written while the other is read. */
        int written = (int)(round % 2), source = (opposite + ranks - 1) % ranks;
        fill(out, LENGTH, (struct stream){rank, right, 3100 + round});
        MPI(MPI_Put(out, LENGTH, MPI_BYTE, right, place_of(&area, written), LENGTH, MPI_BYTE, area.win));
        if (round > 0)
            MPI(MPI_Get(in, LENGTH, MPI_BYTE, opposite, place_of(&area, 1 - written), LENGTH, MPI_BYTE, area.win));
        MPI(MPI_Win_fence(round == ROUNDS - 1 ? MPI_MODE_NOSUCCEED : 0, area.win));
        if (round > 0)
            check_bytes(in, LENGTH, (struct stream){source, opposite, 3100 + round - 1});
        check_bytes(slot_of(&area, written), LENGTH, (struct stream){left, rank, 3100 + round});
        /* A look at local memory is over before the next round writes the other slot. */
    }
    check_guards(&area);
    area_free(&area);
}

static MPI_Group group_of(int members, const int *of)
{
    MPI_Group world, group;
    MPI(MPI_Comm_group(MPI_COMM_WORLD, &world));
    MPI(MPI_Group_incl(world, members, of, &group));
    MPI(MPI_Group_free(&world));
    return group;
}

/* Post to the left, start to the right; the exposure is waited for or tested. */
static void post_start(void)
{
    enum { ROUNDS = 40 };
    struct area area = area_new(SLOT, 1, MPI_INFO_NULL);
    uint8_t *out = allocate(SLOT);
    struct random random = random_of(3200);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        int step = (int)(round % (uint64_t)ranks); /* in every ranks-th round to oneself */
        int target = (rank + step) % ranks, source = (rank + ranks - step) % ranks;
        size_t size = random_size(&random, SLOT);
        MPI_Group exposed = group_of(1, &source), accessed = group_of(1, &target);
        if (round % 3 == 1) {
            MPI(MPI_Win_post(exposed, MPI_MODE_NOCHECK, area.win));
            MPI(MPI_Barrier(MPI_COMM_WORLD));
            MPI(MPI_Win_start(accessed, MPI_MODE_NOCHECK, area.win));
        } else {
            MPI(MPI_Win_post(exposed, 0, area.win));
            MPI(MPI_Win_start(accessed, 0, area.win));
        }
        fill(out, size, (struct stream){rank, target, 3200 + round});
        size_t half = size / 2;
        MPI(MPI_Put(out, (int)half, MPI_BYTE, target, place_of(&area, 0), (int)half, MPI_BYTE, area.win));
        MPI(MPI_Put(out + half, (int)(size - half), MPI_BYTE, target, place_of(&area, 0) + (MPI_Aint)half,
                    (int)(size - half), MPI_BYTE, area.win));
        MPI(MPI_Win_complete(area.win));
        int done = round % 2 == 0;
        if (done)
            MPI(MPI_Win_wait(area.win));
        while (!done)
            MPI(MPI_Win_test(area.win, &done));
        check_bytes(slot_of(&area, 0), size, (struct stream){source, rank, 3200 + round});
        MPI(MPI_Group_free(&exposed));
        MPI(MPI_Group_free(&accessed));
        /* MPICH counts posts without asking whose: one for the next round must not come during this one. */
        MPI(MPI_Barrier(MPI_COMM_WORLD));
    }
    check_guards(&area);
    free(out);
    area_free(&area);
}

/* One rank exposes to all others, which only access; then all expose to one. */
static void one_and_many(void)
{
    enum { LENGTH = 20000 };
    struct area area = area_new(LENGTH, ranks, MPI_INFO_NULL);
    uint8_t *out = allocate(LENGTH * (size_t)ranks);
    int *others = allocate((size_t)ranks * sizeof(int));
    for (int one = 0; one < ranks; one++) {
        int count = 0;
        for (int i = 0; i < ranks; i++)
            if (i != one)
                others[count++] = i;
        MPI_Group many = group_of(count, others), single = group_of(1, &one);
        uint64_t number = 3300 + (uint64_t)one;
        if (rank == one) {
            MPI(MPI_Win_post(many, 0, area.win));
            MPI(MPI_Win_wait(area.win));
            for (int source = 0; source < ranks; source++)
                if (source != one)
                    check_bytes(slot_of(&area, source), LENGTH, (struct stream){source, one, number});
            MPI(MPI_Win_start(many, 0, area.win));
            for (int i = 0; i < count; i++) {
                uint8_t *mine = out + (size_t)i * LENGTH;
                fill(mine, LENGTH, (struct stream){one, others[i], number});
                MPI(MPI_Put(mine, LENGTH, MPI_BYTE, others[i], place_of(&area, one), LENGTH, MPI_BYTE, area.win));
            }
            MPI(MPI_Win_complete(area.win));
        } else {
            fill(out, LENGTH, (struct stream){rank, one, number});
            MPI(MPI_Win_start(single, 0, area.win));
            MPI(MPI_Put(out, LENGTH, MPI_BYTE, one, place_of(&area, rank), LENGTH, MPI_BYTE, area.win));
            MPI(MPI_Win_complete(area.win));
            MPI(MPI_Win_post(single, 0, area.win));
            MPI(MPI_Win_wait(area.win));
            check_bytes(slot_of(&area, one), LENGTH, (struct stream){one, rank, number});
        }
        MPI(MPI_Group_free(&many));
        MPI(MPI_Group_free(&single));
        MPI(MPI_Barrier(MPI_COMM_WORLD)); /* as above */
    }
    check_guards(&area);
    free(others);
    free(out);
    area_free(&area);
}

/* Under an exclusive lock a read, a change and a write are one step, however many do it. */
static void exclusive(void)
{
    enum { TURNS = 8, WORDS = 40 };
    struct area area = area_new(WORDS * sizeof(int64_t), 1, MPI_INFO_NULL);
    MPI(MPI_Win_lock(MPI_LOCK_EXCLUSIVE, rank, 0, area.win));
    memset(slot_of(&area, 0), 0, area.slot);
    MPI(MPI_Win_unlock(rank, area.win));
    MPI(MPI_Barrier(MPI_COMM_WORLD));
    for (int turn = 0; turn < TURNS; turn++)
        for (int step = 0; step < ranks; step++) {
            int target = (rank + step) % ranks;
            int64_t words[WORDS];
            MPI(MPI_Win_lock(MPI_LOCK_EXCLUSIVE, target, 0, area.win));
            MPI(MPI_Get(words, WORDS, MPI_INT64_T, target, place_of(&area, 0), WORDS, MPI_INT64_T, area.win));
            MPI(MPI_Win_flush(target, area.win));
            for (int i = 0; i < WORDS; i++)
                check_value(words[i], words[0] * (i + 1), "words that change together");
            for (int i = 0; i < WORDS; i++)
                words[i] += i + 1;
            MPI(MPI_Put(words, WORDS, MPI_INT64_T, target, place_of(&area, 0), WORDS, MPI_INT64_T, area.win));
            MPI(MPI_Win_unlock(target, area.win));
        }
    area_settle(&area);
    for (int i = 0; i < WORDS; i++) {
        int64_t word;
        memcpy(&word, slot_of(&area, 0) + (size_t)i * sizeof word, sizeof word);
        check_value(word, (int64_t)TURNS * ranks * (i + 1), "count kept under an exclusive lock");
    }
    check_guards(&area);
    area_free(&area);
}

/*
 * After a local flush the memory here is free again, after a flush what was written can be read there, by
 * whoever is told so.
 */
static void flushes(void)
{
    enum { ROUNDS = 30, LENGTH = 40000 };
    struct area area = area_new(LENGTH, ranks, MPI_INFO_NULL);
    uint8_t *out = allocate(LENGTH), *in = allocate(LENGTH);
    int right = (rank + 1) % ranks, left = (rank + ranks - 1) % ranks;
    MPI(MPI_Win_lock_all(0, area.win));
    for (uint64_t round = 0; round < ROUNDS; round++) {
        int length = (int)(round % 4 == 3 ? LENGTH : round % 4 * 700 + 1), target = (int)((round + (uint64_t)rank) % (uint64_t)ranks);
        /* The bytes of the first put are overwritten as soon as that is allowed. */
        for (uint64_t part = 0; part < 3; part++) {
            fill(out, (size_t)length, (struct stream){rank, target, 3400 + round * 3 + part});
            MPI(MPI_Put(out, length, MPI_BYTE, target, place_of(&area, rank), length, MPI_BYTE, area.win));
            if (part == 0) {
                MPI(MPI_Win_flush_local(target, area.win));
                memset(out, 0, (size_t)length);
                MPI(MPI_Win_flush(target, area.win));
            } else if (part == 1) {
                MPI(MPI_Win_flush_local_all(area.win));
                memset(out, 0, (size_t)length);
                MPI(MPI_Win_flush_all(area.win));
            }
        }
        if (round % 2 == 0)
            MPI(MPI_Win_flush(target, area.win));
        else
            MPI(MPI_Win_flush_all(area.win));
        /* Tell the right neighbour, who reads what this rank wrote. */
        char token = 0;
        MPI(MPI_Sendrecv(&token, 1, MPI_CHAR, right, 0, &token, 1, MPI_CHAR, left, 0, MPI_COMM_WORLD,
                         MPI_STATUS_IGNORE));
        int theirs = (int)((round + (uint64_t)left) % (uint64_t)ranks);
        MPI(MPI_Get(in, length, MPI_BYTE, theirs, place_of(&area, left), length, MPI_BYTE, area.win));
        MPI(MPI_Win_flush_local(theirs, area.win));
        check_bytes(in, (size_t)length, (struct stream){left, theirs, 3400 + round * 3 + 2});
        MPI(MPI_Barrier(MPI_COMM_WORLD));
    }
    MPI(MPI_Win_unlock_all(area.win));
    area_settle(&area);
    check_guards(&area);
    free(out);
    free(in);
    area_free(&area);
}

const struct test epoch_tests[] = {
    {"epochs", kinds},          {"fences", fences},   {"post-and-start", post_start}, {"one-and-many", one_and_many},
    {"exclusive-locks", exclusive}, {"flushes", flushes}, {NULL, NULL},
};

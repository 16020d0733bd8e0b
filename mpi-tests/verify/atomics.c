/*
 * Fetch-and-op and compare-and-swap by all ranks at once: counters whose every value is seen exactly once,
 * tokens that change hands without getting lost, and what MPI is told about the operations beforehand.
 */
#include "area.h"

static int compare(const void *one, const void *other)
{
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

/* Collective: of `count` values of each rank for each target, those of this target, sorted. */
static int64_t *brought_together(const int64_t *values, size_t count)
{
    int64_t *all = allocate((size_t)ranks * count * sizeof(int64_t));
    MPI(MPI_Alltoall(values, (int)count, MPI_INT64_T, all, (int)count, MPI_INT64_T, MPI_COMM_WORLD));
    qsort(all, (size_t)ranks * count, sizeof(int64_t), compare);
    return all;
}

static void start(struct area *area, int64_t value)
{
    MPI(MPI_Win_lock(MPI_LOCK_EXCLUSIVE, rank, 0, area->win));
    memcpy(slot_of(area, 0), &value, sizeof value);
    MPI(MPI_Win_unlock(rank, area->win));
    MPI(MPI_Barrier(MPI_COMM_WORLD));
    MPI(MPI_Win_lock_all(0, area->win));
}

static int64_t end(struct area *area)
{
    int64_t value;
    MPI(MPI_Win_unlock_all(area->win));
    area_settle(area);
    memcpy(&value, slot_of(area, 0), sizeof value);
    check_guards(area);
    return value;
}

enum { TIMES = 60 };

/* A counter at every rank; every rank counts at all of them. */
static void count_up(struct area *area)
{
    int64_t *found = allocate((size_t)ranks * TIMES * sizeof(int64_t)), one = 1;
    start(area, 0);
    for (int i = 0; i < TIMES; i++) {
        for (int target = 0; target < ranks; target++)
            MPI(MPI_Fetch_and_op(&one, &found[target * TIMES + i], MPI_INT64_T, target, place_of(area, 0), MPI_SUM,
                                 area->win));
        if (i % 8 == 7)
            MPI(MPI_Win_flush_all(area->win));
    }
    check_value(end(area), (int64_t)ranks * TIMES, "a counter after all have counted");
    for (int target = 0; target < ranks; target++)
        for (int i = 1; i < TIMES; i++)
            check_value(found[target * TIMES + i] > found[target * TIMES + i - 1], 1, "a counter only grows");
    int64_t *all = brought_together(found, TIMES);
    for (int i = 0; i < ranks * TIMES; i++)
        check_value(all[i], i, "what a counter gave out, sorted");
    free(found);
    free(all);
}

/* The same by reading, adding and trying to swap, until nobody came in between. */
static void count_by_swapping(struct area *area)
{
    enum { FEWER = 12 };
    int64_t *found = allocate((size_t)ranks * FEWER * sizeof(int64_t));
    start(area, 0);
    for (int step = 0; step < ranks; step++) {
        int target = (rank + step) % ranks;
        int64_t expected = 0;
        for (int i = 0; i < FEWER; i++)
            for (bool swapped = false; !swapped;) {
                int64_t next = expected + 1, actual = -1;
                MPI(MPI_Compare_and_swap(&next, &expected, &actual, MPI_INT64_T, target, place_of(area, 0), area->win));
                MPI(MPI_Win_flush(target, area->win));
                check_value(actual >= expected, 1, "a counter only grows");
                swapped = actual == expected;
                if (swapped)
                    found[target * FEWER + i] = actual;
                expected = swapped ? next : actual;
            }
    }
    check_value(end(area), (int64_t)ranks * FEWER, "a counter after all have swapped");
    int64_t *all = brought_together(found, FEWER);
    for (int i = 0; i < ranks * FEWER; i++)
        check_value(all[i], i, "what was swapped, sorted");
    free(found);
    free(all);
}

/* Every token put in is found by exactly one other, but for the last, which stays. */
static void pass_tokens(struct area *area)
{
    int64_t *found = allocate((size_t)ranks * (TIMES + 1) * sizeof(int64_t));
    int64_t *tokens = allocate((size_t)ranks * TIMES * sizeof(int64_t));
    start(area, 0);
    for (int i = 0; i < TIMES; i++)
        for (int target = 0; target < ranks; target++) {
            int at = target * TIMES + i;
            tokens[at] = 1 + rank * TIMES + i;
            MPI(MPI_Fetch_and_op(&tokens[at], &found[target * (TIMES + 1) + i], MPI_INT64_T, target, place_of(area, 0),
                                 MPI_REPLACE, area->win));
        }
    int64_t last = end(area);
    for (int target = 0; target < ranks; target++)
        found[target * (TIMES + 1) + TIMES] = -1;
    /* One of the ranks hands in the one that stayed. */
    found[rank * (TIMES + 1) + TIMES] = last;
    int64_t *all = brought_together(found, TIMES + 1);
    for (int i = 0; i < ranks - 1; i++)
        check_value(all[i], -1, "places without a token");
    for (int i = 0; i <= ranks * TIMES; i++)
        check_value(all[ranks - 1 + i], i, "tokens, sorted");
    free(tokens);
    free(found);
    free(all);
}

static void counters(void)
{
    struct area area = area_new(sizeof(int64_t), 1, MPI_INFO_NULL);
    count_up(&area);
    count_by_swapping(&area);
    pass_tokens(&area);
    area_free(&area);
}

/* MPI may choose another way when it knows which operations come. */
static void announced(void)
{
    static const char *const keys[][2] = {{"accumulate_ops", "same_op_no_op"},
                                          {"which_accumulate_ops", "sum,no_op"},
                                          {"accumulate_max_bytes", "8"},
                                          {"accumulate_noncontig_dtype", "false"},
                                          {"disable_shm_accumulate", "true"},
                                          {"same_size", "true"},
                                          {"same_disp_unit", "true"}};
    MPI_Info info;
    MPI(MPI_Info_create(&info));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        MPI(MPI_Info_set(info, keys[i][0], keys[i][1]));
    struct area sums = area_new(sizeof(int64_t), 1, info);
    count_up(&sums);
    area_free(&sums);
    MPI(MPI_Info_set(info, "which_accumulate_ops", "replace,no_op"));
    struct area tokens = area_new(sizeof(int64_t), 1, info);
    pass_tokens(&tokens);
    area_free(&tokens);
    MPI(MPI_Info_set(info, "which_accumulate_ops", "cswap"));
    struct area swaps = area_new(sizeof(int64_t), 1, info);
    count_by_swapping(&swaps);
    area_free(&swaps);
    MPI(MPI_Info_free(&info));
}

/* One element of each size, and the ones beside it stay what they are. */
static void widths(void)
{
    MPI_Datatype types[] = {MPI_INT8_T,  MPI_UINT8_T,  MPI_INT16_T, MPI_UINT16_T,
                            MPI_INT32_T, MPI_UINT32_T, MPI_INT64_T, MPI_UINT64_T};
    enum { ELEMENTS = 5 };
    struct area area = area_new(ELEMENTS * sizeof(int64_t), ranks, MPI_INFO_NULL);
    int target = (rank + 1) % ranks, source = (rank + ranks - 1) % ranks;
    for (size_t type = 0; type < 8; type++) {
        size_t size = (size_t)1 << type / 2;
        MPI_Aint middle = place_of(&area, rank) + (MPI_Aint)(2 * size);
        int64_t first = 0, second = 0, third = 0, found[4] = {0}, sum = 0;
        fill(&first, size, (struct stream){rank, target, 5000 + type});
        fill(&second, size, (struct stream){rank, target, 5010 + type});
        area_wipe(&area);
        memset(found, UNTOUCHED, sizeof found);
        MPI(MPI_Win_lock(MPI_LOCK_SHARED, target, 0, area.win));
        MPI(MPI_Fetch_and_op(&first, &found[0], types[type], target, middle, MPI_REPLACE, area.win));
        MPI(MPI_Win_flush(target, area.win));
        /* One that has to fail, unless both are equal by chance, and one that has to succeed. */
        third = ~first;
        MPI(MPI_Compare_and_swap(&second, &third, &found[1], types[type], target, middle, area.win));
        MPI(MPI_Win_flush(target, area.win));
        MPI(MPI_Compare_and_swap(&second, &first, &found[2], types[type], target, middle, area.win));
        MPI(MPI_Win_flush(target, area.win));
        MPI(MPI_Fetch_and_op(NULL, &found[3], types[type], target, middle, MPI_NO_OP, area.win));
        MPI(MPI_Win_unlock(target, area.win));
        check_untouched(&found[0], sizeof(int64_t), "what was there before");
        check_same(&found[1], &first, size, "what a swap that fails finds");
        check_same(&found[2], &first, size, "what a swap that succeeds finds");
        check_same(&found[3], &second, size, "what the swap has left");
        for (int i = 1; i < 4; i++)
            check_untouched((uint8_t *)&found[i] + size, sizeof(int64_t) - size, "beside what was fetched");
        area_settle(&area);
        fill(&sum, size, (struct stream){source, rank, 5010 + type});
        check_same(slot_of(&area, source) + 2 * size, &sum, size, "a swapped element");
        check_untouched(slot_of(&area, source), 2 * size, "before a swapped element");
        check_untouched(slot_of(&area, source) + 3 * size, area.slot - 3 * size, "after a swapped element");
        check_guards(&area);
    }
    area_free(&area);
}

/* Floating-point counts: as many as possible are in flight. */
static void floating(void)
{
    enum { MANY = 200 };
    struct area area = area_new(sizeof(double), 1, MPI_INFO_NULL);
    double one = 0.5, found[MANY], last;
    int64_t *twice = allocate((size_t)ranks * MANY * sizeof(int64_t));
    memset(twice, 0, (size_t)ranks * MANY * sizeof(int64_t));
    start(&area, 0); /* all bits clear is 0.0 */
    for (int i = 0; i < MANY; i++)
        MPI(MPI_Fetch_and_op(&one, &found[i], MPI_DOUBLE, 0, place_of(&area, 0), MPI_SUM, area.win));
    end(&area);
    memcpy(&last, slot_of(&area, 0), sizeof last);
    check_value((int64_t)(last * 2), rank == 0 ? (int64_t)ranks * MANY : 0, "a counter of halves");
    for (int i = 0; i < MANY; i++)
        twice[i] = (int64_t)(found[i] * 2);
    int64_t *all = brought_together(twice, MANY);
    for (int i = 0; rank == 0 && i < ranks * MANY; i++)
        check_value(all[i], i, "what a counter of halves gave out, sorted");
    free(twice);
    free(all);
    area_free(&area);
}

const struct test atomic_tests[] = {
    {"counters", counters}, {"announced-counters", announced}, {"atomic-widths", widths},
    {"floating-counters", floating}, {NULL, NULL},
};

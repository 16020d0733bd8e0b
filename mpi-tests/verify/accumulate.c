/*
 * Accumulates: every operation with every type that it is defined for, fetching and not, alone and all ranks
 * at once, contiguous and scattered. Values are small enough that every result is exact in every type.
 */
#include "area.h"

enum kind { SIGNED, UNSIGNED, FLOATING };

struct type {
    const char *name;
    MPI_Datatype type;
    size_t size;
    enum kind kind;
};

/* Not constant: a handle of MPI need not be. */
static struct type types[] = {
    {.name = "int8", .size = 1, .kind = SIGNED},     {.name = "int16", .size = 2, .kind = SIGNED},
    {.name = "int32", .size = 4, .kind = SIGNED},    {.name = "int64", .size = 8, .kind = SIGNED},
    {.name = "uint8", .size = 1, .kind = UNSIGNED},  {.name = "uint16", .size = 2, .kind = UNSIGNED},
    {.name = "uint32", .size = 4, .kind = UNSIGNED}, {.name = "uint64", .size = 8, .kind = UNSIGNED},
    {.name = "float", .size = 4, .kind = FLOATING},  {.name = "double", .size = 8, .kind = FLOATING},
};
enum { TYPES = sizeof types / sizeof *types };

enum op { SUM, PROD, MAX, MIN, BAND, BOR, BXOR, LAND, LOR, LXOR, REPLACE, NO_OP, OPS };
static const char *const names[] = {"SUM",  "PROD", "MAX", "MIN",  "BAND",    "BOR",
                                    "BXOR", "LAND", "LOR", "LXOR", "REPLACE", "NO_OP"};

static void prepare(void)
{
    MPI_Datatype handles[] = {MPI_INT8_T,  MPI_INT16_T,  MPI_INT32_T,  MPI_INT64_T, MPI_UINT8_T,
                              MPI_UINT16_T, MPI_UINT32_T, MPI_UINT64_T, MPI_FLOAT,   MPI_DOUBLE};
    for (int i = 0; i < TYPES; i++)
        types[i].type = handles[i];
}

static MPI_Op op_of(enum op op)
{
    MPI_Op ops[] = {MPI_SUM,  MPI_PROD, MPI_MAX, MPI_MIN,  MPI_BAND,    MPI_BOR,
                    MPI_BXOR, MPI_LAND, MPI_LOR, MPI_LXOR, MPI_REPLACE, MPI_NO_OP};
    return ops[op];
}

static bool defined(enum op op, const struct type *type)
{
#ifdef OPEN_MPI
    /* Open MPI's btl/ofi asks libfabric for FI_UINT32 or FI_UINT64 whatever the type, and so compares unsigned. */
    if (type->kind == SIGNED && type->size >= 4 && (op == MAX || op == MIN))
        return false;
#endif
    return type->kind != FLOATING || op < BAND || op > LXOR;
}

/* A value as the type would keep it. */
static int64_t cut(int64_t value, const struct type *type)
{
    if (type->kind == FLOATING || type->size == 8)
        return value;
    int bits = (int)type->size * 8;
    uint64_t low = (uint64_t)value & (((uint64_t)1 << bits) - 1);
    if (type->kind == SIGNED && low >> (bits - 1))
        low |= ~(uint64_t)0 << bits;
    return (int64_t)low;
}

static void store(uint8_t *at, int64_t value, const struct type *type)
{
    float single = (float)value;
    double twice = (double)value;
    if (type->kind == FLOATING)
        memcpy(at, type->size == 4 ? (void *)&single : (void *)&twice, type->size);
    else
        memcpy(at, &value, type->size); /* little-endian, as everything that this runs on */
}

static int64_t load(const uint8_t *at, const struct type *type)
{
    float single;
    double twice;
    uint64_t bits = 0;
    if (type->kind != FLOATING) {
        memcpy(&bits, at, type->size);
        return cut((int64_t)bits, type);
    }
    if (type->size == 4) {
        memcpy(&single, at, sizeof single);
        return (int64_t)single;
    }
    memcpy(&twice, at, sizeof twice);
    return (int64_t)twice;
}

/* An operand that makes the operation's result depend on it. */
static int64_t operand(enum op op, const struct type *type, struct stream stream, size_t index)
{
    int64_t value = value_of(stream, index);
    switch (op) {
    case SUM:
        value %= 100;
#ifdef OPEN_MPI
        /*
         * Where it has vector instructions, Open MPI adds integers of 8 and 16 bits with saturation, but not those
         * left over at the end (op/avx; open-mpi/ompi#8045, "wontfix"). So no sum may leave the type.
         */
        if (type->size <= 2)
            value = type->kind == UNSIGNED && value < 0 ? -value % 20 : value % 20;
#endif
        break;
    case PROD:
        value = value % 3 == 0 ? -1 : 1 + value % 2 * (value % 2);
        break;
    case LAND:
    case LOR:
    case LXOR:
        value = value % 3 == 0 ? 0 : value % 16;
        break;
    case BAND:
        value |= (int64_t)0x5555555555555555;
        break;
    default:
        break;
    }
    if (type->kind == UNSIGNED && op == PROD)
        value = value < 0 ? 3 : value;
    return cut(value, type);
}

static int64_t combine(enum op op, const struct type *type, int64_t target, int64_t origin)
{
    bool less = type->kind == UNSIGNED ? (uint64_t)target < (uint64_t)origin : target < origin;
    int64_t results[] = {
        [SUM] = (int64_t)((uint64_t)target + (uint64_t)origin),
        [PROD] = (int64_t)((uint64_t)target * (uint64_t)origin),
        [MAX] = less ? origin : target,
        [MIN] = less ? target : origin,
        [BAND] = target & origin,
        [BOR] = target | origin,
        [BXOR] = target ^ origin,
        [LAND] = target && origin,
        [LOR] = target || origin,
        [LXOR] = !target != !origin,
        [REPLACE] = origin,
        [NO_OP] = target,
    };
    return cut(results[op], type);
}

static void put_operands(uint8_t *at, size_t count, enum op op, const struct type *type, struct stream stream)
{
    for (size_t i = 0; i < count; i++)
        store(at + i * type->size, operand(op, type, stream, i), type);
}

static void check_element(const uint8_t *at, int64_t expected, enum op op, const struct type *type, size_t index,
                          const char *what)
{
    int64_t actual = load(at, type);
    char text[120] = "";
    if (actual != expected) /* the explanation costs more than the check */
        snprintf(text, sizeof text, "%s: %s of %s, element %zu", what, names[op], type->name, index);
    check_value(actual, expected, text);
}

/* The first content of a window of rank `owner`. */
static struct stream initial(int owner)
{
    return (struct stream){-1, owner, 2000};
}

/* Collective, between epochs. */
static void reset(struct area *area, size_t count, enum op op, const struct type *type)
{
    area_wipe(area);
    MPI(MPI_Win_lock(MPI_LOCK_EXCLUSIVE, rank, 0, area->win));
    for (int index = 0; index < area->slots; index++)
        put_operands(slot_of(area, index), count, op, type, initial(rank));
    MPI(MPI_Win_unlock(rank, area->win));
    MPI(MPI_Barrier(MPI_COMM_WORLD));
}

/* All ranks into slot 0 of all ranks at once, as far as order does not matter, and alone into their own. */
static void every_op(size_t count, enum op op, const struct type *type, enum epoch kind)
{
    struct area area = area_new(count * type->size, ranks + 1, MPI_INFO_NULL);
    uint8_t *out = allocate(count * type->size * (size_t)ranks);
    bool together = op != REPLACE;
    reset(&area, count, op, type);
    epoch_open(&area, kind);
    for (int target = 0; target < ranks; target++) {
        uint8_t *mine = out + (size_t)target * count * type->size;
        put_operands(mine, count, op, type, (struct stream){rank, target, 2001});
        target_open(&area, kind, target);
        for (int slot = together ? 0 : rank + 1; slot <= rank + 1; slot += rank + 1)
            MPI(MPI_Accumulate(mine, (int)count, type->type, target, place_of(&area, slot), (int)count, type->type,
                               op_of(op), area.win));
        target_close(&area, kind, target);
    }
    epoch_close(&area, kind);
    for (size_t i = 0; i < count; i++) {
        int64_t first = operand(op, type, initial(rank), i), all = first;
        for (int source = 0; source < ranks; source++) {
            int64_t theirs = operand(op, type, (struct stream){source, rank, 2001}, i);
            all = combine(op, type, all, theirs);
            check_element(slot_of(&area, source + 1) + i * type->size, combine(op, type, first, theirs), op, type, i,
                          "accumulate of one");
        }
        check_element(slot_of(&area, 0) + i * type->size, together ? all : first, op, type, i, "accumulate of all");
    }
    check_guards(&area);
    free(out);
    area_free(&area);
}

static void operations(void)
{
    static const size_t counts[] = {1, 7, 150, 1, 900};
    prepare();
    int turn = 0;
    for (int op = 0; op < NO_OP; op++) /* which is only for the fetching ones */
        for (int type = 0; type < TYPES; type++)
            if (defined((enum op)op, &types[type]) && wanted((uint64_t)turn++))
                every_op(counts[turn / 5 % 5], (enum op)op, &types[type], (enum epoch)(turn / 3 % EPOCHS));
    every_op(70000, SUM, &types[3], FENCE);
    every_op(300000, SUM, &types[8], LOCK_ALL);
    every_op(70001, MAX, &types[1], SHARED);
    every_op(200000, REPLACE, &types[7], POST_START);
}

/* What a fetching accumulate finds: one after the other into the same elements, of one origin. */
static void fetch_chain(struct area *area, size_t count, enum op op, const struct type *type, enum epoch kind)
{
    enum { LINKS = 3 };
    size_t size = count * type->size;
    uint8_t *out = allocate(size * LINKS), *found = allocate((size + GUARD) * LINKS);
    int target = (rank + 1) % ranks;
    reset(area, count, op, type);
    memset(found, UNTOUCHED, (size + GUARD) * LINKS);
    epoch_open(area, kind);
    target_open(area, kind, target);
    for (uint64_t link = 0; link < LINKS; link++) {
        put_operands(out + link * size, count, op, type, (struct stream){rank, target, 2100 + link});
        MPI(MPI_Get_accumulate(out + link * size, (int)count, type->type, found + link * (size + GUARD), (int)count,
                               type->type, target, place_of(area, rank), (int)count, type->type, op_of(op), area->win));
    }
    target_close(area, kind, target);
    epoch_close(area, kind);
    int source = (rank + ranks - 1) % ranks;
    for (size_t i = 0; i < count; i++) {
        int64_t there = operand(op, type, initial(target), i), here = operand(op, type, initial(rank), i);
        for (uint64_t link = 0; link < LINKS; link++) {
            check_element(found + link * (size + GUARD) + i * type->size, there, op, type, i, "what was fetched");
            there = combine(op, type, there, operand(op, type, (struct stream){rank, target, 2100 + link}, i));
            here = combine(op, type, here, operand(op, type, (struct stream){source, rank, 2100 + link}, i));
        }
        check_element(slot_of(area, source) + i * type->size, here, op, type, i, "get_accumulate");
    }
    for (size_t link = 0; link < LINKS; link++)
        check_untouched(found + link * (size + GUARD) + size, GUARD, "after what was fetched");
    check_guards(area);
    free(out);
    free(found);
}

static void fetching(void)
{
    static const size_t counts[] = {1, 30, 1100};
    prepare();
    int turn = 0;
    for (int type = 0; type < TYPES; type++)
        for (size_t size = 0; size < 3; size++) {
            struct area area = area_new(counts[size] * types[type].size, ranks, MPI_INFO_NULL);
            for (int op = 0; op < OPS; op++)
                if (defined((enum op)op, &types[type]) && (size == 0 || (op + type) % 4 == (int)size) &&
                    wanted((uint64_t)turn++))
                    fetch_chain(&area, counts[size], (enum op)op, &types[type], (enum epoch)(turn / 3 % EPOCHS));
            area_free(&area);
        }
    struct area large = area_new(50000 * 8, ranks, MPI_INFO_NULL);
    fetch_chain(&large, 50000, SUM, &types[3], LOCK_ALL);
    fetch_chain(&large, 50000, REPLACE, &types[9], FENCE);
    area_free(&large);
}

/*
 * Everyone sets its bit in the same elements: what everyone found must be a chain, in which each is what the one
 * before it found, with one bit more. An update that is lost, doubled or torn breaks it.
 */
static void chains(void)
{
    static const size_t counts[] = {1, 64, 3000};
    if (ranks > 62)
        return;
    for (size_t turn = 0; turn < 3; turn++) {
        size_t count = counts[turn];
        struct area area = area_new(count * sizeof(int64_t), 1, MPI_INFO_NULL);
        int64_t *bits = allocate(count * sizeof(int64_t));
        int64_t *found = allocate((size_t)ranks * count * sizeof(int64_t));
        int64_t *theirs = allocate((size_t)ranks * count * sizeof(int64_t));
        for (size_t i = 0; i < count; i++)
            bits[i] = (int64_t)1 << rank;
        MPI(MPI_Win_lock_all(0, area.win));
        memset(slot_of(&area, 0), 0, area.slot);
        MPI(MPI_Win_sync(area.win));
        MPI(MPI_Barrier(MPI_COMM_WORLD));
        for (int target = 0; target < ranks; target++)
            MPI(MPI_Get_accumulate(bits, (int)count, MPI_INT64_T, found + (size_t)target * count, (int)count,
                                   MPI_INT64_T, target, place_of(&area, 0), (int)count, MPI_INT64_T, MPI_SUM, area.win));
        MPI(MPI_Win_unlock_all(area.win));
        area_settle(&area);
        /* Of this rank's elements, what each rank found. */
        MPI(MPI_Alltoall(found, (int)count, MPI_INT64_T, theirs, (int)count, MPI_INT64_T, MPI_COMM_WORLD));
        for (size_t i = 0; i < count; i++) {
            int64_t state = 0, end;
            for (int step = 0; step < ranks; step++) {
                int next = 0;
                while (next < ranks && (theirs[(size_t)next * count + i] != state || state >> next & 1))
                    next++;
                if (next == ranks)
                    fail("element %zu of %zu: nobody found 0x%llx, which somebody left", i, count,
                         (unsigned long long)state);
                state |= (int64_t)1 << next;
            }
            memcpy(&end, slot_of(&area, 0) + i * sizeof end, sizeof end);
            check_value(end, state, "the end of a chain");
        }
        check_guards(&area);
        free(bits);
        free(found);
        free(theirs);
        area_free(&area);
    }
}

/* Sums from every second element here into every third there, fetching into every fifth. */
static void scattered(void)
{
    static const int counts[] = {1, 20, 500, 8000};
    prepare();
    for (int turn = 0; turn < 4 * 3; turn++) {
        const struct type *type = &types[turn % 3 == 0 ? 2 : turn % 3 == 1 ? 9 : 5];
        int count = counts[turn / 3];
        size_t size = type->size, many = (size_t)count;
        MPI_Datatype second, third, fifth;
        MPI(MPI_Type_vector(count, 1, 2, type->type, &second));
        MPI(MPI_Type_vector(count, 1, 3, type->type, &third));
        MPI(MPI_Type_vector(count, 1, 5, type->type, &fifth));
        MPI(MPI_Type_commit(&second));
        MPI(MPI_Type_commit(&third));
        MPI(MPI_Type_commit(&fifth));
        struct area area = area_new(3 * many * size, 2, MPI_INFO_NULL);
        uint8_t *out = allocate(2 * many * size), *found = allocate(5 * many * size);
        MPI_Request request;
        int target = (rank + turn) % ranks, source = (rank + ranks - turn % ranks) % ranks;
        reset(&area, 3 * many, SUM, type);
        memset(found, UNTOUCHED, 5 * many * size);
        put_operands(out, 2 * many, SUM, type, (struct stream){rank, -1, 2300});
        MPI(MPI_Win_lock_all(0, area.win));
        for (int other = 0; other < ranks; other++) {
            MPI(MPI_Raccumulate(out, 1, second, other, place_of(&area, 0), 1, third, MPI_SUM, area.win, &request));
            MPI(MPI_Wait(&request, MPI_STATUS_IGNORE));
        }
        MPI(MPI_Rget_accumulate(out, 1, second, found, 1, fifth, target, place_of(&area, 1), 1, third, MPI_SUM, area.win,
                                &request));
        MPI(MPI_Wait(&request, MPI_STATUS_IGNORE));
        for (size_t i = 0; i < many; i++) {
            check_element(found + 5 * i * size, operand(SUM, type, initial(target), 3 * i), SUM, type, i,
                          "fetched scattered");
            if (i + 1 < many)
                check_untouched(found + (5 * i + 1) * size, 4 * size, "between elements fetched");
        }
        MPI(MPI_Win_unlock_all(area.win));
        area_settle(&area);
        for (size_t i = 0; i < 3 * many; i++) {
            int64_t all = operand(SUM, type, initial(rank), i), one = all;
            for (int other = 0; other < ranks && i % 3 == 0; other++)
                all = combine(SUM, type, all, operand(SUM, type, (struct stream){other, -1, 2300}, i / 3 * 2));
            if (i % 3 == 0)
                one = combine(SUM, type, one, operand(SUM, type, (struct stream){source, -1, 2300}, i / 3 * 2));
            check_element(slot_of(&area, 0) + i * size, all, SUM, type, i, "scattered sums of all");
            check_element(slot_of(&area, 1) + i * size, one, SUM, type, i, "scattered sums of one");
        }
        check_guards(&area);
        MPI(MPI_Type_free(&second));
        MPI(MPI_Type_free(&third));
        MPI(MPI_Type_free(&fifth));
        free(out);
        free(found);
        area_free(&area);
    }
}

/* Without any synchronization between them, accumulates of one origin to one place take effect in order. */
static void ordered(void)
{
    static const int counts[] = {1, 50, 2500, 20000};
    enum { STEPS = 12 };
    struct area area = area_new(20000 * sizeof(int64_t), ranks, MPI_INFO_NULL);
    int64_t *out = allocate(STEPS * area.slot), *found = allocate(STEPS * area.slot);
    int target = (rank + 1) % ranks;
    for (int turn = 0; turn < 4; turn++) {
        size_t count = (size_t)counts[turn];
        MPI(MPI_Win_lock(MPI_LOCK_SHARED, target, 0, area.win));
        for (size_t step = 0; step < STEPS; step++) {
            for (size_t i = 0; i < count; i++)
                out[step * count + i] = value_of((struct stream){rank, target, 2400 + step}, i);
            MPI(MPI_Accumulate(out + step * count, (int)count, MPI_INT64_T, target, place_of(&area, rank), (int)count,
                               MPI_INT64_T, MPI_REPLACE, area.win));
            MPI(MPI_Get_accumulate(NULL, 0, MPI_INT64_T, found + step * count, (int)count, MPI_INT64_T, target,
                                   place_of(&area, rank), (int)count, MPI_INT64_T, MPI_NO_OP, area.win));
        }
        MPI(MPI_Win_unlock(target, area.win));
        for (size_t step = 0; step < STEPS; step++)
            check_same(found + step * count, out + step * count, count * sizeof(int64_t),
                       "what was read after it was replaced");
    }
    MPI(MPI_Barrier(MPI_COMM_WORLD));
    free(out);
    free(found);
    area_free(&area);
}

const struct test accumulate_tests[] = {
    {"accumulate", operations},         {"get-accumulate", fetching}, {"accumulate-chains", chains},
    {"accumulate-scattered", scattered}, {"accumulate-order", ordered}, {NULL, NULL},
};

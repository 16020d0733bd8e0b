/*
 * Puts and gets: of all sizes, with derived datatypes on either side, with requests, and as a long seeded
 * mixture against a model of what has to be there.
 */
#include "area.h"

static const size_t sizes[] = {0,    1,    3,     8,     63,    64,    65,    1000,   1399,      1472,    4096,
                               8191, 8192, 16383, 16384, 16385, 65536, 65537, 262145, 1 * MIB - 1, 4 * MIB};

/* Everyone writes into its slot of everyone's window, and reads the slot of the next rank. */
static void put_get(void)
{
    struct area area = area_new(4 * MIB, ranks, MPI_INFO_NULL);
    uint8_t *out = allocate(4 * MIB * (size_t)ranks), *in = allocate((4 * MIB + GUARD) * (size_t)ranks);
    int owner = (rank + 1) % ranks;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i];
        if (!wanted(i) && size < 4 * MIB)
            continue;
        enum epoch kind = (enum epoch)((i + i / 5) % EPOCHS);
        epoch_open(&area, kind);
        for (int target = 0; target < ranks; target++) {
            uint8_t *mine = out + (size_t)target * size;
            fill(mine, size, (struct stream){rank, target, 1000 + i});
            target_open(&area, kind, target);
            MPI(MPI_Put(mine, (int)size, MPI_BYTE, target, place_of(&area, rank), (int)size, MPI_BYTE, area.win));
            target_close(&area, kind, target);
        }
        epoch_close(&area, kind);
        for (int source = 0; source < ranks; source++) {
            check_bytes(slot_of(&area, source), size, (struct stream){source, rank, 1000 + i});
            check_untouched(slot_of(&area, source) + size, area.slot - size, "rest of a slot");
        }
        check_guards(&area);

        memset(in, UNTOUCHED, (size + GUARD) * (size_t)ranks);
        epoch_open(&area, kind);
        for (int target = 0; target < ranks; target++) {
            uint8_t *theirs = in + (size_t)target * (size + GUARD);
            target_open(&area, kind, target);
            MPI(MPI_Get(theirs, (int)size, MPI_BYTE, target, place_of(&area, owner), (int)size, MPI_BYTE, area.win));
            target_close(&area, kind, target);
            if (kind == EXCLUSIVE || kind == SHARED)
                check_bytes(theirs, size, (struct stream){owner, target, 1000 + i});
        }
        epoch_close(&area, kind);
        for (int target = 0; target < ranks; target++) {
            uint8_t *theirs = in + (size_t)target * (size + GUARD);
            check_bytes(theirs, size, (struct stream){owner, target, 1000 + i});
            check_untouched(theirs + size, GUARD, "after what a get brought");
        }
        area_wipe(&area);
    }
    free(out);
    free(in);
    area_free(&area);
}

/* What a datatype selects out of `extent` bytes, as places and lengths. */
struct layout {
    MPI_Datatype type;
    int *places, *lengths, blocks;
    size_t packed, extent;
};

static struct layout layout_new(struct random *random, int blocks, size_t longest, size_t widest)
{
    struct layout layout = {.blocks = blocks};
    layout.places = allocate((size_t)blocks * sizeof(int));
    layout.lengths = allocate((size_t)blocks * sizeof(int));
    for (int i = 0; i < blocks; i++) {
        layout.lengths[i] = (int)random_below(random, longest + 1);
        layout.extent += random_below(random, widest + 1);
        layout.places[i] = (int)layout.extent;
        layout.extent += (size_t)layout.lengths[i];
        layout.packed += (size_t)layout.lengths[i];
    }
    MPI(MPI_Type_indexed(blocks, layout.lengths, layout.places, MPI_BYTE, &layout.type));
    MPI(MPI_Type_commit(&layout.type));
    return layout;
}

/* As many bytes in blocks of equal length; the last may be shorter. */
static struct layout layout_vector(size_t packed, int block, int stride)
{
    int blocks = (int)packed / block, rest = (int)packed % block;
    struct layout layout = {.blocks = blocks + 1, .packed = packed};
    layout.places = allocate((size_t)(blocks + 1) * sizeof(int));
    layout.lengths = allocate((size_t)(blocks + 1) * sizeof(int));
    for (int i = 0; i <= blocks; i++) {
        layout.places[i] = i * stride;
        layout.lengths[i] = i < blocks ? block : rest;
    }
    layout.extent = (size_t)blocks * (size_t)stride + (size_t)rest;
    MPI_Datatype vector;
    MPI(MPI_Type_vector(blocks, block, stride, MPI_BYTE, &vector));
    int lengths[] = {1, rest};
    MPI_Aint places[] = {0, (MPI_Aint)blocks * stride};
    MPI_Datatype types[] = {vector, MPI_BYTE};
    MPI(MPI_Type_create_struct(2, lengths, places, types, &layout.type));
    MPI(MPI_Type_commit(&layout.type));
    MPI(MPI_Type_free(&vector));
    return layout;
}

static struct layout layout_plain(size_t packed)
{
    struct layout layout = {.blocks = 1, .packed = packed, .extent = packed};
    layout.places = allocate(sizeof(int));
    layout.lengths = allocate(sizeof(int));
    layout.places[0] = 0;
    layout.lengths[0] = (int)packed;
    MPI(MPI_Type_contiguous((int)packed, MPI_BYTE, &layout.type));
    MPI(MPI_Type_commit(&layout.type));
    return layout;
}

static void layout_free(struct layout *layout)
{
    MPI(MPI_Type_free(&layout->type));
    free(layout->places);
    free(layout->lengths);
}

static void scatter(uint8_t *spread, const struct layout *layout, struct stream stream)
{
    uint8_t *packed = allocate(layout->packed);
    size_t at = 0;
    fill(packed, layout->packed, stream);
    memset(spread, UNTOUCHED, layout->extent);
    for (int i = 0; i < layout->blocks; i++) {
        memcpy(spread + layout->places[i], packed + at, (size_t)layout->lengths[i]);
        at += (size_t)layout->lengths[i];
    }
    free(packed);
}

static void check_scattered(const uint8_t *spread, const struct layout *layout, struct stream stream)
{
    uint8_t *packed = allocate(layout->packed);
    size_t at = 0;
    int end = 0;
    for (int i = 0; i < layout->blocks; i++) {
        check_untouched(spread + end, (size_t)(layout->places[i] - end), "between blocks");
        memcpy(packed + at, spread + layout->places[i], (size_t)layout->lengths[i]);
        at += (size_t)layout->lengths[i];
        end = layout->places[i] + layout->lengths[i];
    }
    check_bytes(packed, layout->packed, stream);
    free(packed);
}

/* A put from `near` here to `far` there, and a get back. */
static void through(struct area *area, const struct layout *near, const struct layout *far, enum epoch kind,
                    uint64_t number)
{
    uint8_t *out = allocate(near->extent * (size_t)ranks), *in = allocate(near->extent * (size_t)ranks);
    if (far->extent > area->slot)
        fail("a layout of %zu bytes is larger than a slot", far->extent);
    memset(in, UNTOUCHED, near->extent * (size_t)ranks);
    epoch_open(area, kind);
    for (int target = 0; target < ranks; target++) {
        uint8_t *mine = out + (size_t)target * near->extent;
        scatter(mine, near, (struct stream){rank, target, number});
        target_open(area, kind, target);
        MPI(MPI_Put(mine, 1, near->type, target, place_of(area, rank), 1, far->type, area->win));
        target_close(area, kind, target);
    }
    epoch_close(area, kind);
    for (int source = 0; source < ranks; source++) {
        check_scattered(slot_of(area, source), far, (struct stream){source, rank, number});
        check_untouched(slot_of(area, source) + far->extent, area->slot - far->extent, "rest of a slot");
    }
    check_guards(area);
    epoch_open(area, kind);
    for (int target = 0; target < ranks; target++) {
        target_open(area, kind, target);
        MPI(MPI_Get(in + (size_t)target * near->extent, 1, near->type, target, place_of(area, rank), 1, far->type,
                    area->win));
        target_close(area, kind, target);
    }
    epoch_close(area, kind);
    for (int target = 0; target < ranks; target++)
        check_scattered(in + (size_t)target * near->extent, near, (struct stream){rank, target, number});
    free(out);
    free(in);
    area_wipe(area);
}

static void put_get_types(void)
{
    /* With more blocks MPICH crashes where it does one-sided communication by messages. */
    static const struct {
        int blocks;
        size_t longest, widest;
    } shapes[] = {{1, 100, 10}, {4, 20, 30}, {40, 200, 30}, {600, 12, 20}, {50, 9000, 100}, {700, 1000, 200}};
    struct area area = area_new(1 * MIB, ranks, MPI_INFO_NULL);
    struct random random = random_of(1100);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct layout forms[3];
        forms[0] = layout_new(&random, shapes[i].blocks, shapes[i].longest, shapes[i].widest);
        forms[1] = layout_vector(forms[0].packed, 24, 40);
        forms[2] = layout_plain(forms[0].packed);
        for (size_t pair = 0; pair < 8; pair++) /* the ninth is plain to plain */
            if (wanted(i * 8 + pair))
                through(&area, &forms[pair / 3], &forms[pair % 3], (enum epoch)((i + pair / 2) % EPOCHS),
                        1100 + 10 * i + pair);
        for (int form = 0; form < 3; form++)
            layout_free(&forms[form]);
    }
    area_free(&area);
}

/* Many requests at once, completed in whatever order. */
static void requests(void)
{
    enum { MANY = 24 };
    static const size_t lengths[] = {0, 1, 8, 100, 1400, 4000, 16385, 70000};
    const size_t room = 70000 + GUARD;
    struct area area = area_new(room * MANY, ranks, MPI_INFO_NULL);
    uint8_t *out = allocate(room * MANY), *in = allocate(room * MANY);
    MPI_Request pending[MANY];
    MPI(MPI_Win_lock_all(0, area.win));
    for (int step = 0; step < ranks; step++) {
        int target = (rank + step) % ranks;
        for (size_t i = 0; i < MANY; i++) {
            size_t length = lengths[i % 8];
            fill(out + i * room, length, (struct stream){rank, target, 1200 + i});
            MPI(MPI_Rput(out + i * room, (int)length, MPI_BYTE, target, place_of(&area, rank) + (MPI_Aint)(i * room),
                         (int)length, MPI_BYTE, area.win, &pending[i]));
        }
        for (int i = 0, index; i < MANY; i++)
            MPI(MPI_Waitany(MANY, pending, &index, MPI_STATUS_IGNORE));
        /* Complete here: the memory is ours again. */
        memset(out, 0, room * MANY);
        MPI(MPI_Win_flush(target, area.win));
        memset(in, UNTOUCHED, room * MANY);
        for (size_t i = 0; i < MANY; i++)
            MPI(MPI_Rget(in + i * room, (int)lengths[i % 8], MPI_BYTE, target,
                         place_of(&area, rank) + (MPI_Aint)(i * room), (int)lengths[i % 8], MPI_BYTE, area.win,
                         &pending[i]));
        for (int left = MANY; left > 0; left--) {
            int index;
            MPI(MPI_Waitany(MANY, pending, &index, MPI_STATUS_IGNORE));
            size_t i = (size_t)index, length = lengths[i % 8];
            check_bytes(in + i * room, length, (struct stream){rank, target, 1200 + i});
            check_untouched(in + i * room + length, room - length, "after what a get brought");
        }
    }
    MPI(MPI_Win_unlock_all(area.win));
    area_settle(&area);
    for (int source = 0; source < ranks; source++)
        for (size_t i = 0; i < MANY; i++) {
            uint8_t *here = slot_of(&area, source) + i * room;
            check_bytes(here, lengths[i % 8], (struct stream){source, rank, 1200 + i});
            check_untouched(here + lengths[i % 8], room - lengths[i % 8], "after what a put brought");
        }
    check_guards(&area);
    free(out);
    free(in);
    area_free(&area);
}

/* Of the mixture: a stretch of a slot that an operation has not finished with. */
struct stretch {
    size_t at, length;
    bool get;
};

struct mixture {
    struct area area;
    uint8_t *model, *landing; /* of this rank's slot at each target */
    struct stretch *open;
    int *opened;
    struct random random;
};

enum { MOST_OPEN = 16, MIXTURE_SLOT = 96 * 1024, MIXTURE_STEPS = 1200 };

static void mixture_flush(struct mixture *mixture, int target)
{
    size_t base = (size_t)target * MIXTURE_SLOT;
    MPI(MPI_Win_flush(target, mixture->area.win));
    for (int i = 0; i < mixture->opened[target]; i++) {
        struct stretch *one = &mixture->open[target * MOST_OPEN + i];
        if (one->get)
            check_same(mixture->landing + base + one->at, mixture->model + base + one->at, one->length,
                       "what a get of the mixture brought");
    }
    mixture->opened[target] = 0;
}

/* Waits when an operation that was not flushed touches the same bytes; then they are this one's. */
static void mixture_claim(struct mixture *mixture, int target, struct stretch wanted)
{
    bool clash = mixture->opened[target] == MOST_OPEN;
    for (int i = 0; i < mixture->opened[target]; i++) {
        struct stretch *other = &mixture->open[target * MOST_OPEN + i];
        clash = clash || (wanted.at < other->at + other->length && other->at < wanted.at + wanted.length);
    }
    if (clash)
        mixture_flush(mixture, target);
    mixture->open[target * MOST_OPEN + mixture->opened[target]++] = wanted;
}

static void mixture_step(struct mixture *mixture, uint64_t step)
{
    MPI_Win win = mixture->area.win;
    MPI_Request request;
    int target = (int)random_below(&mixture->random, (size_t)ranks);
    size_t kind = random_below(&mixture->random, 6);
    struct stretch one = {.length = random_size(&mixture->random, MIXTURE_SLOT), .get = kind < 3};
    one.at = random_below(&mixture->random, MIXTURE_SLOT - one.length + 1);
    mixture_claim(mixture, target, one);
    int length = (int)one.length;
    uint8_t *model = mixture->model + (size_t)target * MIXTURE_SLOT + one.at;
    uint8_t *landing = mixture->landing + (size_t)target * MIXTURE_SLOT + one.at;
    MPI_Aint there = place_of(&mixture->area, rank) + (MPI_Aint)one.at;
    if (!one.get)
        fill(model, one.length, (struct stream){rank, target, 10000 + step});
    else
        memset(landing, UNTOUCHED, one.length);
    switch (kind) {
    case 0:
        MPI(MPI_Get(landing, length, MPI_BYTE, target, there, length, MPI_BYTE, win));
        break;
    case 1:
        MPI(MPI_Rget(landing, length, MPI_BYTE, target, there, length, MPI_BYTE, win, &request));
        MPI(MPI_Wait(&request, MPI_STATUS_IGNORE));
        break;
    case 2:
        MPI(MPI_Get_accumulate(NULL, 0, MPI_BYTE, landing, length, MPI_BYTE, target, there, length, MPI_BYTE,
                               MPI_NO_OP, win));
        break;
    case 3:
        MPI(MPI_Accumulate(model, length, MPI_BYTE, target, there, length, MPI_BYTE, MPI_REPLACE, win));
        break;
    default:
        MPI(MPI_Put(model, length, MPI_BYTE, target, there, length, MPI_BYTE, win));
    }
}

/* Each rank works alone on its slots at all targets, so it knows what has to be in them. */
static void mixture_run(void)
{
    size_t all = (size_t)ranks * MIXTURE_SLOT;
    struct mixture mixture = {.area = area_new(MIXTURE_SLOT, ranks, MPI_INFO_NULL),
                              .model = allocate(all),
                              .landing = allocate(all),
                              .open = allocate((size_t)ranks * MOST_OPEN * sizeof(struct stretch)),
                              .opened = allocate((size_t)ranks * sizeof(int)),
                              .random = random_of(1300 + (uint64_t)rank)};
    memset(mixture.model, UNTOUCHED, all);
    memset(mixture.opened, 0, (size_t)ranks * sizeof(int));
    MPI(MPI_Win_lock_all(0, mixture.area.win));
    for (uint64_t step = 0; step < MIXTURE_STEPS; step++)
        mixture_step(&mixture, step);
    for (int target = 0; target < ranks; target++)
        mixture_flush(&mixture, target);
    MPI(MPI_Win_unlock_all(mixture.area.win));
    area_settle(&mixture.area);
    MPI(MPI_Alltoall(mixture.model, MIXTURE_SLOT, MPI_BYTE, mixture.landing, MIXTURE_SLOT, MPI_BYTE, MPI_COMM_WORLD));
    for (int source = 0; source < ranks; source++)
        check_same(slot_of(&mixture.area, source), mixture.landing + (size_t)source * MIXTURE_SLOT, MIXTURE_SLOT,
                   "a slot after the mixture");
    check_guards(&mixture.area);
    free(mixture.model);
    free(mixture.landing);
    free(mixture.open);
    free(mixture.opened);
    area_free(&mixture.area);
}

const struct test onesided_tests[] = {
    {"put-and-get", put_get},
    {"put-and-get-types", put_get_types},
    {"one-sided-requests", requests},
    {"one-sided-mixture", mixture_run},
    {NULL, NULL},
};

/*
 * The windows of the one-sided tests.
 */
#include "area.h"

static size_t size_of(const struct area *area)
{
    return GUARD + (size_t)area->slots * (area->slot + GUARD);
}

struct area area_new(size_t slot, int slots, MPI_Info info)
{
    struct area area = {.slot = slot, .slots = slots};
    area.base = allocate(size_of(&area));
    memset(area.base, UNTOUCHED, size_of(&area));
    MPI(MPI_Win_create(area.base, (MPI_Aint)size_of(&area), 1, info, MPI_COMM_WORLD, &area.win));
    MPI(MPI_Win_set_errhandler(area.win, MPI_ERRORS_RETURN));
    return area;
}

void area_free(struct area *area)
{
    MPI(MPI_Win_free(&area->win));
    free(area->base);
}

MPI_Aint place_of(const struct area *area, int index)
{
    return (MPI_Aint)(GUARD + (size_t)index * (area->slot + GUARD));
}

uint8_t *slot_of(const struct area *area, int index)
{
    return area->base + place_of(area, index);
}

void check_guards(const struct area *area)
{
    for (int index = 0; index <= area->slots; index++)
        check_untouched(slot_of(area, index) - GUARD, GUARD, "guard zone of a window");
}

void area_wipe(struct area *area)
{
    MPI(MPI_Win_lock(MPI_LOCK_EXCLUSIVE, rank, 0, area->win));
    memset(area->base, UNTOUCHED, size_of(area));
    MPI(MPI_Win_unlock(rank, area->win));
    MPI(MPI_Barrier(MPI_COMM_WORLD));
}

void area_settle(struct area *area)
{
    MPI(MPI_Barrier(MPI_COMM_WORLD));
    MPI(MPI_Win_lock(MPI_LOCK_SHARED, rank, 0, area->win));
    MPI(MPI_Win_sync(area->win));
    MPI(MPI_Win_unlock(rank, area->win));
}

bool wanted(uint64_t combination)
{
    return ranks <= 2 || (combination + seed) % 5 == 0;
}

void epoch_open(struct area *area, enum epoch kind)
{
    MPI_Group everyone;
    switch (kind) {
    case FENCE:
        MPI(MPI_Win_fence(MPI_MODE_NOPRECEDE, area->win));
        break;
    case POST_START:
        MPI(MPI_Comm_group(MPI_COMM_WORLD, &everyone));
        MPI(MPI_Win_post(everyone, 0, area->win));
        MPI(MPI_Win_start(everyone, 0, area->win));
        MPI(MPI_Group_free(&everyone));
        break;
    case LOCK_ALL:
        MPI(MPI_Win_lock_all(0, area->win));
        break;
    default:
        break;
    }
}

void epoch_close(struct area *area, enum epoch kind)
{
    switch (kind) {
    case FENCE:
        MPI(MPI_Win_fence(MPI_MODE_NOSUCCEED, area->win));
        break;
    case POST_START:
        MPI(MPI_Win_complete(area->win));
        MPI(MPI_Win_wait(area->win));
        break;
    case LOCK_ALL:
        MPI(MPI_Win_unlock_all(area->win));
        area_settle(area);
        break;
    default:
        area_settle(area);
    }
}

void target_open(struct area *area, enum epoch kind, int target)
{
    if (kind == EXCLUSIVE || kind == SHARED)
        MPI(MPI_Win_lock(kind == SHARED ? MPI_LOCK_SHARED : MPI_LOCK_EXCLUSIVE, target, 0, area->win));
}

void target_close(struct area *area, enum epoch kind, int target)
{
    if (kind == EXCLUSIVE || kind == SHARED)
        MPI(MPI_Win_unlock(target, area->win));
}

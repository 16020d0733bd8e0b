/*
 * Memory that other ranks reach: a window of slots between guard zones, and the ways to reach it.
 */
#ifndef RDGRAM_VERIFY_AREA_H
#define RDGRAM_VERIFY_AREA_H

#include "verify.h"

/* Bytes before, between and after the slots that nobody may write. */
#define GUARD ((size_t)64)

struct area {
    MPI_Win win;
    uint8_t *base;
    size_t slot; /* bytes of one */
    int slots;
};

/* Collective over MPI_COMM_WORLD: every rank gives `slots` slots, all bytes UNTOUCHED. */
struct area area_new(size_t slot, int slots, MPI_Info info);
void area_free(struct area *area);
/* A slot of this rank, and where it is in the window of any rank. */
uint8_t *slot_of(const struct area *area, int index);
MPI_Aint place_of(const struct area *area, int index);
/* Nobody wrote between the slots. */
void check_guards(const struct area *area);
/* Collective, between epochs: every byte UNTOUCHED again. */
void area_wipe(struct area *area);
/* Collective, between epochs: every access that was completed at its target can be seen by local loads. */
void area_settle(struct area *area);

/*
 * Of many combinations, whether this one is to be tried: with two ranks all are, with more, which take far
 * longer on a machine with fewer cores, a fifth that the seed chooses.
 */
bool wanted(uint64_t combination);

/* The ways to synchronize. An epoch is opened and closed by all ranks; inside it each target is turned to. */
enum epoch { FENCE, POST_START, EXCLUSIVE, SHARED, LOCK_ALL, EPOCHS };
void epoch_open(struct area *area, enum epoch kind);
void epoch_close(struct area *area, enum epoch kind);
void target_open(struct area *area, enum epoch kind, int target);
void target_close(struct area *area, enum epoch kind, int target);

#endif

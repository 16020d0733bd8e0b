/*
 * The end of a region, and of the process that has it, while it is being read and written: operations end,
 * in success or in an error that says why; nothing touches memory that is gone, and nothing hangs.
 */
#include <sys/mman.h>

#include "harness.h"

enum { REGION = 32 << 20, PIECE = 1 << 20, ROUNDS = 6, OUTSTANDING = 16, SECONDS = 20 };

static struct node node;
static struct peer peer;

/* Every operation of a round ends; returns how many failed, each for one of two reasons. */
static unsigned wait_for_all(int one, int other)
{
    double limit = now_seconds() + SECONDS;
    unsigned errors = 0;
    for (unsigned ended = 0; ended < OUTSTANDING;) {
        struct fi_cq_tagged_entry entry;
        ssize_t result = fi_cq_read(node.cq, &entry, 1);
        if (result == 1) {
            ended++;
        } else if (result == -FI_EAVAIL) {
            struct fi_cq_err_entry error = {0};
            RETURNS(1, fi_cq_readerr(node.cq, &error, 0));
            CHECK(error.err == one || error.err == other, "%s", fi_strerror(error.err));
            ended++;
            errors++;
        } else {
            RETURNS(-FI_EAGAIN, result);
        }
        CHECK(now_seconds() < limit, "%u operations have not ended after %d s", OUTSTANDING - ended, SECONDS);
    }
    return errors;
}

static void start_round(uint8_t *local, uint64_t key)
{
    static struct fi_context2 contexts[OUTSTANDING];
    for (unsigned i = 0; i < OUTSTANDING; i++) {
        uint64_t offset = (uint64_t)i * PIECE;
        if (i % 2)
            RETRY(&node, fi_read(node.ep, local + offset, PIECE, NULL, peer.address, offset, key, &contexts[i]));
        else
            RETRY(&node, fi_write(node.ep, local + offset, PIECE, NULL, peer.address, offset, key, &contexts[i]));
    }
}

static void first(void)
{
    uint8_t *local = calloc(1, REGION);
    unsigned errors = 0;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        meet(&peer, &node);
        start_round(local, round);
        errors += wait_for_all(FI_ENOKEY, 0);
        meet(&peer, &node);
    }
    CHECK(errors > 0, "no region ended early enough: the test tests nothing");
    /* And now the process with it. */
    meet(&peer, &node);
    start_round(local, ROUNDS);
    usleep(2000);
    CHECK(kill(peer.pid, SIGKILL) == 0, "%s", strerror(errno));
    CHECK(waitpid(peer.pid, NULL, 0) == peer.pid, "%s", strerror(errno));
    wait_for_all(FI_ECONNREFUSED, FI_ECONNRESET);
    free(local);
}

static void second(void)
{
    struct fid_mr *region;
    for (uint64_t round = 0;; round++) {
        uint8_t *memory = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(memory != MAP_FAILED, "%s", strerror(errno));
        OK(fi_mr_reg(node.domain, memory, REGION, FI_REMOTE_READ | FI_REMOTE_WRITE, 0, round, 0, &region, NULL));
        meet(&peer, &node);
        if (round == ROUNDS)
            for (;;)
                progress(&node);
        for (uint64_t i = 0; i < 4 + 8 * round; i++)
            progress(&node);
        OK(fi_close(&region->fid));
        /* Whoever touches it now is ended by a signal. */
        CHECK(munmap(memory, REGION) == 0, "%s", strerror(errno));
        meet(&peer, &node);
    }
}

int main(void)
{
    bool child = start_peer(&peer);
    open_node(&node, &(struct wish){.caps = FI_MSG | FI_RMA});
    if (!provider_is_ours())
        skip("regions end differently elsewhere");
    introduce(&peer, &node);
    if (child)
        second();
    first();
    close_node(&node);
    return 0;
}

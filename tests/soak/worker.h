/*
 * The life of a worker: it meets whoever is there, talks to them, notices who ends and who comes, and leaves in good order
 * when it is told to: then all that was sent to it has come, and nothing is pending anywhere.
 */
#ifndef RDGRAM_SOAK_WORKER_H
#define RDGRAM_SOAK_WORKER_H

#include "traffic.h"

enum { LEAVE_SECONDS = 90 };

static double leaving_since;

/* ---- when something hangs ---- */

static void describe_all(void)
{
    fprintf(stderr, "worker %u.%u, %s:\n", me.slot, me.incarnation, me.leaving ? "leaving" : "up");
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        const struct peer_of *peer = &me.peers[slot];
        uint64_t status = atomic_load(&me.board->status[slot]);
        fprintf(stderr, "  worker %u.%u is %s; %s with its %u for %.1f s, address %" PRIu64 ", %u pending, %u receives from it\n", slot,
                status_incarnation(status), life_names[status_life(status)], stage_names[peer->stage], peer->incarnation,
                now_seconds() - peer->since, peer->address, peer->pending, peer->directed);
        for (unsigned generation = 0; generation < GENERATIONS; generation++) {
            const struct streams *streams = &me.streams[slot][generation];
            if (streams->incarnation == 0)
                continue;
            fprintf(stderr, "    received from %u:", streams->incarnation);
            for (unsigned stream = 0; stream < STREAMS; stream++)
                fprintf(stderr, " %" PRIu64 "/%" PRIu64, streams->received[stream],
                        atomic_load(&me.board->sent[slot][generation][me.slot][stream]));
            fprintf(stderr, "\n");
        }
    }
    for (unsigned i = 0; i < me.op_count; i++)
        if (me.ops[i].busy)
            describe(&me.ops[i]);
}

/* Closing prints the provider's counters, if it can still do that. */
static void end_in_failure(void) __attribute__((noreturn));
static void end_in_failure(void)
{
    describe_all();
    alarm(5);
    fi_close(&me.node.ep->fid);
    _exit(1);
}

static void check_pending(double now)
{
    for (unsigned i = 0; i < me.op_count; i++) {
        const struct op *op = &me.ops[i];
        bool may_wait = op->kind == RECEIVE || op->kind == MULTI_RECEIVE;
        if (op->busy && !may_wait && now - op->begun > HANG_SECONDS) {
            fprintf(stderr, "worker %u.%u: an operation has not ended:\n", me.slot, me.incarnation);
            describe(op);
            end_in_failure();
        }
    }
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        const struct peer_of *peer = &me.peers[slot];
        if ((peer->stage == GREETING || (peer->stage == PARTING && peer->departed)) && now - peer->since > HANG_SECONDS) {
            fprintf(stderr, "worker %u.%u: %s with worker %u does not end\n", me.slot, me.incarnation, stage_names[peer->stage], slot);
            end_in_failure();
        }
    }
    if (me.leaving && now - leaving_since > LEAVE_SECONDS) {
        fprintf(stderr, "worker %u.%u: leaving does not end\n", me.slot, me.incarnation);
        end_in_failure();
    }
}

/* ---- the others ---- */

/* All that this incarnation sent has come, if it has said how much that is. */
static bool all_came(unsigned slot, unsigned incarnation)
{
    struct streams *streams = &me.streams[slot][incarnation % GENERATIONS];
    _Atomic uint64_t *sent = me.board->sent[slot][incarnation % GENERATIONS][me.slot];
    bool heard = streams->incarnation == incarnation;
    for (unsigned stream = LANE_HELLO + 1; stream < STREAMS; stream++) {
        uint64_t received = heard ? streams->received[stream] : 0, all = atomic_load(&sent[stream]);
        CHECK(received <= all, "%s: %" PRIu64 " of %" PRIu64 " messages received", stream_name(slot, incarnation, stream), received, all);
        if (received < all)
            return false;
    }
    for (unsigned lane = LANE_HELLO + 1; heard && lane < LANES; lane++) {
        order_settle(&streams->orders[lane], UINT64_MAX, stream_name(slot, incarnation, lane));
        CHECK(streams->orders[lane].next == atomic_load(&sent[lane]), "%s: the last message is missing",
              stream_name(slot, incarnation, lane));
    }
    return true;
}

static bool has_settled(unsigned from, unsigned incarnation, unsigned to, unsigned other)
{
    return atomic_load(&me.board->settled[from][incarnation % GENERATIONS][to]) == pair_of(incarnation, other);
}

/* Nothing more goes to that incarnation: says how much it was. */
static void settle(unsigned slot, unsigned incarnation)
{
    unsigned generation = me.incarnation % GENERATIONS;
    const struct peer_of *peer = &me.peers[slot];
    if (has_settled(me.slot, me.incarnation, slot, incarnation))
        return;
    for (unsigned stream = 0; stream < STREAMS; stream++)
        atomic_store(&me.board->sent[me.slot][generation][slot][stream], peer->incarnation == incarnation ? peer->next[stream] : 0);
    atomic_store(&me.board->settled[me.slot][generation][slot], pair_of(me.incarnation, incarnation));
}

static void meet_peer(unsigned slot, unsigned incarnation, double now)
{
    struct peer_of *peer = &me.peers[slot];
    struct entrance *entrance = &me.board->entrances[slot][incarnation % GENERATIONS];
    *peer = (struct peer_of){.stage = GREETING, .incarnation = incarnation, .since = now, .entrance = *entrance};
    peer->address = insert(&me.node, entrance->name);
    greet(slot);
}

/*
 * Receives from one that was killed end with it. Some are cancelled instead; and so are those from one that left, those
 * that a tag binds to it, and those that a successor under the same name may serve: they have no reason to end.
 */
static void give_up_receives(unsigned slot, bool stay)
{
    for (unsigned i = 0; i < me.op_count; i++) {
        struct op *op = &me.ops[i];
        bool bound = op->busy && op->kind == RECEIVE && op->slot == slot && !op->cancelled;
        if (bound && (!op->by_address || stay || (op->place >> 24) % 2 == 0)) {
            op->cancelled = true;
            ssize_t result = fi_cancel(&me.node.ep->fid, &op->context);
            CHECK(result == 0 || result == -FI_ENOENT, "fi_cancel: %zd", result);
        }
    }
}

static void part(unsigned slot, uint64_t status, double now)
{
    struct peer_of *peer = &me.peers[slot];
    unsigned incarnation = peer->incarnation;
    bool same = status_incarnation(status) == incarnation;
    if (same && status_life(status) <= LEAVING) {
        if (peer->pending == 0)
            settle(slot, incarnation);
        return;
    }
    if (!peer->departed)
        peer->departed = true, peer->since = now;
    const uint8_t *name = me.board->entrances[slot][status_incarnation(status) % GENERATIONS].name;
    bool killed = was_killed(slot, incarnation), replaced = !same && memcmp(name, peer->entrance.name, NAME_BYTES) == 0;
    give_up_receives(slot, !killed || (replaced && status_life(status) == UP));
    bool waits = has_settled(slot, incarnation, me.slot, me.incarnation) && !killed && !all_came(slot, incarnation);
    if (peer->pending > 0 || peer->directed > 0 || waits)
        return;
    OK(fi_av_remove(me.node.av, &peer->address, 1, 0));
    peer->stage = UNMET;
}

static void attend(unsigned slot, double now)
{
    struct peer_of *peer = &me.peers[slot];
    uint64_t status = atomic_load(&me.board->status[slot]);
    enum life life = status_life(status);
    bool stays = life == UP && status_incarnation(status) == peer->incarnation && !me.leaving;
    switch (peer->stage) {
    case UNMET:
        if (life == UP && !me.leaving)
            meet_peer(slot, status_incarnation(status), now);
        else if (life == UP || life == LEAVING)
            settle(slot, status_incarnation(status));
        break;
    case GREETING:
        if (!stays)
            peer->stage = PARTING, peer->since = now;
        else if (peer->greeted)
            peer->stage = TALKING, count(me.board, MET, 1);
        else if (peer->pending == 0)
            greet(slot);
        break;
    case TALKING:
        if (!stays)
            peer->stage = PARTING, peer->since = now;
        break;
    case PARTING:
        part(slot, status, now);
        break;
    }
}

/* One that leaves has nothing left to do with this worker. */
static bool is_done_with(unsigned slot)
{
    uint64_t status = atomic_load(&me.board->status[slot]);
    unsigned incarnation = status_incarnation(status);
    bool settled = has_settled(slot, incarnation, me.slot, me.incarnation);
    switch (status_life(status)) {
    case ABSENT:
    case DYING:
        return me.peers[slot].pending == 0;
    case GONE:
        return me.peers[slot].pending == 0 && (!settled || all_came(slot, incarnation));
    default:
        return settled && has_settled(me.slot, me.incarnation, slot, incarnation) && all_came(slot, incarnation);
    }
}

/* ---- beginning and end ---- */

static void open_worker(void)
{
    static const char *const addresses[HOSTS] = {"RDGRAM_NET_ADDRESS_A", "RDGRAM_NET_ADDRESS_B"};
    char service[16];
    unsigned port = atomic_load(&me.board->port[me.slot]);
    snprintf(service, sizeof service, "%u", port);
    struct wish wish = {
        .caps = FI_MSG | FI_TAGGED | FI_RMA | FI_ATOMIC | FI_DIRECTED_RECV | FI_SOURCE | FI_MULTI_RECV,
        .node = getenv(addresses[me.slot % HOSTS]),
        .service = port != 0 ? service : NULL,
        .addr_format = FI_SOCKADDR_IN,
    };
    CHECK(wish.node != NULL, "tests/net/hosts.sh has to make the hosts");
    me.sleeps = draw(3) == 0;
    if (me.sleeps)
        wish.wait = FI_WAIT_FD;
    if (draw(3) == 0)
        wish.threading = FI_THREAD_SAFE, wish.data_progress = FI_PROGRESS_AUTO;
    open_node(&me.node, &wish);
    if (me.sleeps)
        OK(fi_control(&me.node.cq->fid, FI_GETWAIT, &me.wait_fd));
    size_t least = MULTI_LEAST;
    OK(fi_setopt(&me.node.ep->fid, FI_OPT_ENDPOINT, FI_OPT_MIN_MULTI_RECV, &least, sizeof least));
    me.region = calloc(1, REGION);
    CHECK(me.region != NULL, "no memory");
    /* Its pages are there from the beginning. */
    memset(me.region, 1, COUNTERS);
    OK(fi_mr_reg(me.node.domain, me.region, REGION, FI_REMOTE_READ | FI_REMOTE_WRITE, 0, random_next(&me.random), 0, &me.mr, NULL));
    atomic_store(&me.board->port[me.slot], ntohs(((struct sockaddr_in *)me.node.name)->sin_port));
}

/* Publishes how it is reached. */
static void come_up(void)
{
    unsigned generation = me.incarnation % GENERATIONS;
    struct entrance *entrance = &me.board->entrances[me.slot][generation];
    bool virtual = me.node.info->domain_attr->mr_mode & (FI_MR_VIRT_ADDR | FI_MR_BASIC);
    *entrance = (struct entrance){.base = virtual ? (uintptr_t)me.region : 0, .key = fi_mr_key(me.mr)};
    memcpy(entrance->name, me.node.name, sizeof entrance->name);
    atomic_store(&me.board->adds_begun[me.slot][generation], 0);
    atomic_store(&me.board->adds_ended[me.slot][generation], 0);
    for (unsigned slot = 0; slot < SLOTS; slot++)
        atomic_store(&me.board->settled[me.slot][generation][slot], 0);
    uint64_t starting = status_of(me.incarnation, STARTING);
    /* It may have been killed already, as far as the others know. */
    atomic_compare_exchange_strong(&me.board->status[me.slot], &starting, status_of(me.incarnation, UP));
}

static void prepare(struct soak_board *board, unsigned slot, unsigned incarnation)
{
    static char role[32];
    snprintf(role, sizeof role, "worker %u.%u", slot, incarnation);
    begin(role);
    want_counters();
    me.board = board, me.slot = slot, me.incarnation = incarnation;
    me.random = word_at(board->seed, slot * 8191u + incarnation) | 1;
    me.short_sends = make_ops(SHORT_SENDS, SHORT_MAX, false);
    me.long_sends = make_ops(LONG_SENDS, LONG_MAX, false);
    me.short_receives = make_ops(SHORT_RECEIVES, SHORT_MAX, false);
    me.long_receives = make_ops(LONG_RECEIVES, LONG_MAX, false);
    me.multi_receives = make_ops(MULTI_RECEIVES, MULTI_ROOM, false);
    me.adds = make_ops(ADDS, 8, false);
    for (unsigned other = 0; other < SLOTS; other++) {
        me.cells[other] = make_ops(CELLS, CELL, true);
        for (unsigned generation = 0; generation < GENERATIONS; generation++)
            streams_begin(&me.streams[other][generation], 0);
    }
}

static void begin_something(void)
{
    static const unsigned lanes[] = {LANE_SHORT, LANE_OTHER, LANE_UNTAGGED};
    unsigned slot = draw(SLOTS), dice = draw(100);
    if (me.peers[slot].stage != TALKING)
        return;
    if (dice < 45)
        begin_burst(slot, lanes[draw(3)]);
    else if (dice < 48)
        begin_burst(slot, LANE_LONG);
    else if (dice < 68)
        begin_cell(slot);
    else if (dice < 83)
        begin_add(slot, dice < 75);
    else if (dice < 86)
        begin_peek(draw(2) == 0 ? LANE_SHORT : LANE_OTHER);
    else if (dice < 87)
        begin_cancel();
    else if (draw(60) == 0)
        /* It computes, and makes no progress. */
        usleep(draw(20000));
}

static void idle(void)
{
    struct fid *fids[] = {&me.node.cq->fid};
    struct pollfd wait = {.fd = me.wait_fd, .events = POLLIN};
    if (me.sleeps && fi_trywait(me.node.fabric, fids, 1) == 0)
        poll(&wait, 1, 1 + (int)draw(3));
    else if (draw(3) == 0)
        usleep(draw(200));
}

static void live(void)
{
    double next = 0, next_look = 0;
    for (bool done = false; !done;) {
        double now = now_seconds();
        if (now >= next) {
            next = now + 0.01;
            if (!me.leaving && status_life(atomic_load(&me.board->status[me.slot])) == LEAVING)
                me.leaving = true, leaving_since = now;
            done = me.leaving;
            for (unsigned slot = 0; slot < SLOTS; slot++) {
                attend(slot, now);
                done = done && is_done_with(slot);
            }
            if (atomic_load(&me.board->failed))
                end_in_failure();
        }
        if (now >= next_look) {
            next_look = now + 1;
            alarm(PROGRAM_SECONDS);
            check_pending(now);
        }
        post_receives(now);
        if (!me.leaving)
            begin_something();
        bool took = false;
        for (unsigned i = 0; i < 8 && take_completions(); i++)
            took = true;
        if (!took)
            idle();
    }
}

/* Nobody adds any more, and whoever was killed has added or has not. */
static void check_shared_counter(void)
{
    unsigned generation = me.incarnation % GENERATIONS;
    uint64_t ended = atomic_load(&me.board->adds_ended[me.slot][generation]);
    uint64_t begun = atomic_load(&me.board->adds_begun[me.slot][generation]), value;
    memcpy(&value, me.region + SHARED_COUNTER, sizeof value);
    CHECK(ended <= value && value <= begun, "the counter is %" PRIu64 ", and %" PRIu64 " to %" PRIu64 " were added", value, ended, begun);
}

/* Receives that nothing came for are cancelled; all others end. */
static void withdraw(void)
{
    double limit = now_seconds() + HANG_SECONDS;
    for (;;) {
        unsigned busy = 0;
        for (unsigned i = 0; i < me.op_count; i++) {
            struct op *op = &me.ops[i];
            busy += op->busy;
            if (op->busy && !op->cancelled && (op->kind == RECEIVE || op->kind == MULTI_RECEIVE)) {
                op->cancelled = true;
                fi_cancel(&me.node.ep->fid, &op->context);
            }
        }
        if (busy == 0)
            return;
        take_completions();
        if (now_seconds() > limit)
            end_in_failure();
    }
}

static void leave(void) __attribute__((noreturn));
static void leave(void)
{
    check_shared_counter();
    withdraw();
    OK(fi_close(&me.mr->fid));
    const char *counters = close_and_count(&me.node);
    count(me.board, DATAGRAMS, counter_in(counters, "tx_datagrams"));
    count(me.board, RETRANSMITTED, counter_in(counters, "tx_retransmitted"));
    count(me.board, LINKS, counter_in(counters, "links"));
    count(me.board, LINK_ITEMS, counter_in(counters, "local_put"));
    exit(0);
}

static void worker(struct soak_board *board, unsigned slot, unsigned incarnation) __attribute__((noreturn));
static void worker(struct soak_board *board, unsigned slot, unsigned incarnation)
{
    prepare(board, slot, incarnation);
    open_worker();
    come_up();
    live();
    leave();
}

#endif

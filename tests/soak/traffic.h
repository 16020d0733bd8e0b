/*
 * The operations of a worker: beginning a random one, judging how each has ended. Every byte that arrives is compared,
 * and an operation may fail only if the process it depended on was ended.
 */
#ifndef RDGRAM_SOAK_TRAFFIC_H
#define RDGRAM_SOAK_TRAFFIC_H

#include "state.h"

/* The buffer in one to four pieces. */
static unsigned cut(uint8_t *buffer, size_t length, struct iovec *pieces)
{
    unsigned many = draw(4) == 0 ? 1 + draw(PIECES) : 1;
    size_t done = 0;
    for (unsigned i = 0; i < many; i++) {
        size_t rest = length - done, next = i + 1 == many || rest == 0 ? rest : draw((unsigned)rest + 1);
        pieces[i] = (struct iovec){buffer + done, next};
        done += next;
    }
    return many;
}

/* Has that incarnation of a worker not ended in good order? */
static bool was_killed(unsigned slot, unsigned incarnation)
{
    return atomic_load(&me.board->killed[slot][incarnation % GENERATIONS]) == incarnation;
}

/* ---- messages ---- */

static uint64_t next_label(unsigned slot, unsigned stream)
{
    struct peer_of *peer = &me.peers[slot];
    return label_of(stream, me.slot, me.incarnation, peer->incarnation, peer->next[stream]);
}

static bool inject(unsigned slot, uint64_t label, size_t length)
{
    static uint8_t payload[SHORT_MAX];
    fi_addr_t address = me.peers[slot].address;
    words_fill(payload, length, me.board->seed ^ label);
    ssize_t result = label_lane(label) == LANE_UNTAGGED ? fi_injectdata(me.node.ep, payload, length, label, address)
                                                        : fi_tinject(me.node.ep, payload, length, address, label);
    CHECK(result == 0 || result == -FI_EAGAIN, "inject: %zd", result);
    if (result == 0)
        count(me.board, INJECTED, 1);
    /* It may be changed at once. */
    memset(payload, 0xee, length < 64 ? length : 64);
    return result == 0;
}

static bool send_labelled(struct op *op, unsigned slot, uint64_t label, size_t length, uint64_t flags)
{
    struct iovec pieces[PIECES];
    fi_addr_t address = me.peers[slot].address;
    op->label = label, op->length = length, op->flags = flags;
    words_fill(op->buffer, length, me.board->seed ^ label);
    op_begin(op, SEND, slot, label_lane(label));
    unsigned many = cut(op->buffer, length, pieces);
    struct fi_msg_tagged tagged = {.msg_iov = pieces, .iov_count = many, .addr = address, .tag = label, .context = op};
    struct fi_msg plain = {.msg_iov = pieces, .iov_count = many, .addr = address, .data = label, .context = op};
    bool untagged = label_lane(label) == LANE_UNTAGGED, called = flags == 0;
    ssize_t result;
    if (untagged)
        result = called ? fi_senddata(me.node.ep, op->buffer, length, NULL, label, address, op)
                        : fi_sendmsg(me.node.ep, &plain, flags | FI_COMPLETION | FI_REMOTE_CQ_DATA);
    else
        result = called ? fi_tsend(me.node.ep, op->buffer, length, NULL, address, label, op)
                        : fi_tsendmsg(me.node.ep, &tagged, flags | FI_COMPLETION);
    return op_began(op, result, "send");
}

static bool begin_send(unsigned slot, unsigned lane, bool more)
{
    static const uint64_t levels[] = {0, 0, FI_TRANSMIT_COMPLETE, FI_DELIVERY_COMPLETE, FI_MATCH_COMPLETE, FI_INJECT};
    uint64_t label = next_label(slot, lane), flags = levels[draw(6)] | (more ? FI_MORE : 0);
    size_t length = label_length(label, me.board->seed), least = me.node.info->tx_attr->inject_size;
    struct op *op = lane == LANE_LONG ? free_op(me.long_sends, LONG_SENDS) : free_op(me.short_sends, SHORT_SENDS);
    bool began;
    if (length > least)
        flags &= ~FI_INJECT;
    if (length <= least && !more && draw(3) == 0)
        began = inject(slot, label, length);
    else
        began = op != NULL && send_labelled(op, slot, label, length, flags);
    if (!began)
        return false;
    me.peers[slot].next[lane]++;
    count(me.board, SENT, 1);
    return true;
}

static void begin_burst(unsigned slot, unsigned lane)
{
    unsigned many = lane == LANE_LONG ? 1 : draw(3) == 0 ? 1 + draw(BURST) : 1;
    bool more = draw(2) == 0;
    for (unsigned i = 0; i < many; i++)
        if (!begin_send(slot, lane, more && i + 1 < many))
            return;
}

/* Says who we are until it is known that the peer took it: it may be a new process under an old name. */
static void greet(unsigned slot)
{
    struct op *op = free_op(me.short_sends, SHORT_SENDS);
    if (op != NULL)
        send_labelled(op, slot, label_of(LANE_HELLO, me.slot, me.incarnation, me.peers[slot].incarnation, 0), HELLO_LENGTH,
                      FI_DELIVERY_COMPLETE);
}

/* ---- receives ---- */

/* Half of a lane's receives take from anybody: nobody's messages wait for another's. */
static unsigned receive_from(unsigned lane, bool *by_address)
{
    unsigned slot = draw(SLOTS), special = 0;
    *by_address = lane == LANE_UNTAGGED || draw(2) == 0;
    for (unsigned i = 0; i < SLOTS; i++)
        special += me.peers[i].directed;
    bool few = special < 6 && (lane == LANE_SHORT || lane == LANE_OTHER || lane == LANE_UNTAGGED);
    return few && draw(3) == 0 && me.peers[slot].stage == TALKING ? slot : SLOTS;
}

static bool post_receive(unsigned lane)
{
    struct iovec pieces[PIECES];
    bool by_address;
    struct op *op = lane == LANE_LONG ? free_op(me.long_receives, LONG_RECEIVES)
                                      : free_op(me.short_receives, SHORT_RECEIVES);
    if (op == NULL)
        return false;
    unsigned slot = receive_from(lane, &by_address);
    uint64_t tag = (uint64_t)lane << 60, ignore = ANY_SENDER;
    fi_addr_t from = slot < SLOTS && by_address ? me.peers[slot].address : FI_ADDR_UNSPEC;
    if (slot < SLOTS && !by_address)
        tag |= (uint64_t)slot << 56, ignore = ANY_NUMBER;
    op_begin(op, RECEIVE, slot, lane);
    op->place = me.posted++ << 24, op->by_address = by_address;
    unsigned many = cut(op->buffer, op->room, pieces);
    struct fi_msg_tagged tagged = {.msg_iov = pieces, .iov_count = many, .addr = from, .tag = tag, .ignore = ignore, .context = op};
    struct fi_msg plain = {.msg_iov = pieces, .iov_count = many, .addr = from, .context = op};
    ssize_t result = lane == LANE_UNTAGGED ? fi_recvmsg(me.node.ep, &plain, FI_COMPLETION)
                                           : fi_trecvmsg(me.node.ep, &tagged, FI_COMPLETION);
    return op_began(op, result, "receive");
}

static bool post_multi(void)
{
    struct op *op = free_op(me.multi_receives, MULTI_RECEIVES);
    if (op == NULL)
        return false;
    struct iovec piece = {op->buffer, op->room};
    struct fi_msg msg = {.msg_iov = &piece, .iov_count = 1, .addr = FI_ADDR_UNSPEC, .context = op};
    op_begin(op, MULTI_RECEIVE, SLOTS, LANE_UNTAGGED);
    op->place = me.posted++ << 24, op->taken = 0;
    return op_began(op, fi_recvmsg(me.node.ep, &msg, FI_MULTI_RECV | FI_COMPLETION), "multi-receive");
}

/* Now and then a lane gets no receives for a while, and what comes is unexpected. */
static void post_receives(double now)
{
    for (unsigned lane = 0; lane < LANES; lane++) {
        if (now < me.paused_until[lane])
            continue;
        bool multi = lane == LANE_UNTAGGED && me.multi;
        while (me.posted_in[lane] < (multi ? MULTI_RECEIVES : posted_most[lane]) && (multi ? post_multi() : post_receive(lane)))
            ;
        if (lane != LANE_HELLO && draw(2000) == 0)
            me.paused_until[lane] = now + draw(50) / 1e3;
        if (lane == LANE_UNTAGGED && draw(3000) == 0)
            me.multi = !me.multi;
    }
}

/* Looks for a message that no receive matched; it is taken if there is one. */
static void begin_peek(unsigned lane)
{
    struct op *op = free_op(me.short_receives, SHORT_RECEIVES);
    if (op == NULL)
        return;
    struct fi_msg_tagged msg = {.addr = FI_ADDR_UNSPEC, .tag = (uint64_t)lane << 60, .ignore = ANY_SENDER, .context = op};
    op_begin(op, PEEK, SLOTS, lane);
    op->place = me.posted++ << 24;
    if (op_began(op, fi_trecvmsg(me.node.ep, &msg, FI_PEEK | FI_CLAIM | FI_COMPLETION), "peek"))
        count(me.board, PEEKED, 1);
}

static void claim(struct op *op, uint64_t tag)
{
    struct iovec piece = {op->buffer, op->room};
    struct fi_msg_tagged msg = {.msg_iov = &piece, .iov_count = 1, .addr = FI_ADDR_UNSPEC, .tag = (uint64_t)op->lane << 60,
                                .ignore = ANY_SENDER, .context = op};
    op_begin(op, CLAIM, SLOTS, op->lane);
    ssize_t result = fi_trecvmsg(me.node.ep, &msg, FI_CLAIM | FI_COMPLETION);
    /* Its sender may have been killed, before all of it had come. */
    if (result == -FI_ENOMSG && was_killed(label_slot(tag), label_incarnation(tag)))
        op_end(op);
    else if (op_began(op, result, "claim"))
        count(me.board, CLAIMED, 1);
}

static void begin_cancel(void)
{
    struct op *op = &me.short_receives[draw(SHORT_RECEIVES + LONG_RECEIVES + MULTI_RECEIVES)];
    if (!op->busy || op->kind == PEEK || op->kind == CLAIM || op->cancelled)
        return;
    op->cancelled = true;
    ssize_t result = fi_cancel(&me.node.ep->fid, &op->context);
    CHECK(result == 0 || result == -FI_ENOENT, "fi_cancel: %zd", result);
}

/* Nothing before this place can still take a message of that sender in that lane. */
static uint64_t settled_place(unsigned slot, unsigned lane)
{
    uint64_t place = me.posted << 24;
    for (struct op *op = me.short_receives; op < me.multi_receives + MULTI_RECEIVES; op++)
        if (op->busy && op->lane == lane && (op->slot == SLOTS || op->slot == slot) && op->place + op->taken < place)
            place = op->place + op->taken;
    return place;
}

static const char *stream_name(unsigned slot, unsigned incarnation, unsigned lane)
{
    static char text[64];
    snprintf(text, sizeof text, "from worker %u.%u, lane %u", slot, incarnation, lane);
    return text;
}

static void streams_begin(struct streams *streams, unsigned incarnation)
{
    streams->incarnation = incarnation;
    memset(streams->received, 0, sizeof streams->received);
    for (unsigned i = 0; i < LANES; i++)
        order_begin(&streams->orders[i]);
}

/* NULL for one of long ago: its message lay here unexpected while its successors came and went, and its order is forgotten. */
static struct streams *streams_of(unsigned slot, unsigned incarnation)
{
    struct streams *streams = &me.streams[slot][incarnation % GENERATIONS];
    if (streams->incarnation > incarnation)
        return NULL;
    if (streams->incarnation != incarnation)
        streams_begin(streams, incarnation);
    return streams;
}

static void note_order(const struct op *op, uint64_t place, uint64_t label)
{
    unsigned slot = label_slot(label), lane = label_lane(label), incarnation = label_incarnation(label);
    if (label_receiver(label) != me.incarnation) {
        count(me.board, STRAYS, 1);
        return;
    }
    struct streams *streams = streams_of(slot, incarnation);
    if (streams == NULL)
        return;
    streams->received[lane]++;
    if (lane == LANE_HELLO || op->lane == LANE_HELLO)
        return;
    struct order *order = &streams->orders[lane];
    const char *what = stream_name(slot, incarnation, lane);
    order->gaps = was_killed(slot, incarnation);
    order_add(order, place, label_number(label), what);
    if (order_is_full(order)) {
        order_settle(order, settled_place(slot, lane), what);
        if (order->count > order->room / 2)
            order_grow(order, what);
    }
}

/* What a receive got, whoever sent it. */
static void check_message(struct op *op, const struct fi_cq_tagged_entry *entry, fi_addr_t source, uint64_t place)
{
    bool untagged = op->lane == LANE_UNTAGGED;
    uint64_t label = untagged ? entry->data : entry->tag;
    unsigned slot = label_slot(label);
    const uint8_t *payload = op->kind == MULTI_RECEIVE ? entry->buf : op->buffer;
    CHECK(!untagged || entry->flags & FI_REMOTE_CQ_DATA, "flags 0x%" PRIx64, entry->flags);
    CHECK(label_lane(label) == op->lane && slot < SLOTS, "a message 0x%" PRIx64 " in lane %u", label, op->lane);
    CHECK(op->slot == SLOTS || op->slot == slot, "a message 0x%" PRIx64 " for a receive from worker %u", label, op->slot);
    const struct peer_of *peer = &me.peers[slot];
    if (source != FI_ADDR_NOTAVAIL && peer->stage != UNMET && peer->incarnation == label_incarnation(label))
        CHECK(source == peer->address, "message 0x%" PRIx64 ": source %" PRIu64 " instead of %" PRIu64, label, source, peer->address);
    CHECK(entry->len == label_length(label, me.board->seed), "message 0x%" PRIx64 " has %zu bytes instead of %zu", label,
          entry->len, label_length(label, me.board->seed));
    CHECK(words_match(payload, entry->len, me.board->seed ^ label), "message 0x%" PRIx64 " of %zu bytes has wrong bytes", label,
          entry->len);
    note_order(op, place, label);
    count(me.board, RECEIVED, 1);
    count(me.board, RECEIVED_BYTES, entry->len);
}

/* ---- one-sided operations ---- */

static size_t cell_offset(unsigned cell)
{
    return (size_t)(me.slot * GENERATIONS + me.incarnation % GENERATIONS) * AREA + (size_t)cell * CELL;
}

static void begin_cell(unsigned slot)
{
    unsigned cell = draw(CELLS);
    struct op *op = &me.cells[slot][cell];
    struct peer_of *peer = &me.peers[slot];
    struct iovec pieces[PIECES];
    if (op->busy)
        return;
    /* What an earlier process left there is unknown: all of it is written first. */
    bool whole = op->incarnation != peer->incarnation || !op->known, writes = whole || draw(2) == 0;
    size_t most = draw(3) == 0 ? CELL : 2048;
    op->offset = whole ? 0 : draw(CELL - (unsigned)most + 1);
    op->length = whole ? CELL : draw((unsigned)most + 1);
    op->label = next_label(slot, NOTICES), op->flags = writes && draw(4) == 0 ? FI_REMOTE_CQ_DATA : 0;
    struct fi_rma_iov place = {peer->entrance.base + cell_offset(cell) + op->offset, op->length, peer->entrance.key};
    if (writes) {
        words_fill(op->buffer, op->length, random_next(&me.random));
        memcpy(op->shadow + op->offset, op->buffer, op->length);
    }
    op_begin(op, writes ? WRITE : READ_BACK, slot, NOTICES);
    struct fi_msg_rma msg = {.msg_iov = pieces, .iov_count = cut(op->buffer, op->length, pieces), .addr = peer->address,
                             .rma_iov = &place, .rma_iov_count = 1, .context = op, .data = op->label};
    ssize_t result = writes ? fi_writemsg(me.node.ep, &msg, op->flags | FI_DELIVERY_COMPLETE | FI_COMPLETION)
                            : fi_readmsg(me.node.ep, &msg, FI_COMPLETION);
    if (!op_began(op, result, "one-sided"))
        op->known = false;
    else if (op->flags != 0)
        peer->next[NOTICES]++;
}

static void begin_add(unsigned slot, bool fetches)
{
    struct op *op = free_op(me.adds, ADDS);
    struct peer_of *peer = &me.peers[slot];
    unsigned generation = peer->incarnation % GENERATIONS;
    if (op == NULL)
        return;
    op->shared = peer->asked && (draw(2) == 0 || !peer->known);
    fetches |= !peer->asked;
    op->operand = op->shared ? 1 : 1 + draw(1000);
    op->before = peer->added;
    uint64_t own = COUNTERS + (me.slot * GENERATIONS + me.incarnation % GENERATIONS) * LINE;
    uint64_t place = peer->entrance.base + (op->shared ? SHARED_COUNTER : own);
    op_begin(op, fetches ? FETCH : ADD, slot, NOTICES);
    if (op->shared)
        atomic_fetch_add(&me.board->adds_begun[slot][generation], 1);
    ssize_t result =
        fetches ? fi_fetch_atomic(me.node.ep, &op->operand, 1, NULL, &op->fetched, NULL, peer->address, place,
                                  peer->entrance.key, FI_UINT64, FI_SUM, op)
                : fi_atomic(me.node.ep, &op->operand, 1, NULL, peer->address, place, peer->entrance.key, FI_UINT64, FI_SUM, op);
    if (op_began(op, result, "atomic")) {
        peer->asked = true;
        peer->added += op->shared ? 0 : op->operand;
    } else if (op->shared)
        atomic_fetch_sub(&me.board->adds_begun[slot][generation], 1);
}

static void check_one_sided(struct op *op)
{
    if (op->kind == READ_BACK)
        CHECK(memcmp(op->buffer, op->shadow + op->offset, op->length) == 0, "read %zu bytes at %zu of worker %u: wrong bytes",
              op->length, op->offset, op->slot);
    struct peer_of *peer = &me.peers[op->slot];
    if (op->kind == FETCH && !op->shared && !peer->known)
        peer->known = true, peer->added = op->fetched + op->operand;
    else if (op->kind == FETCH && !op->shared)
        CHECK(op->fetched == op->before, "the counter at worker %u was %" PRIu64 " instead of %" PRIu64, op->slot, op->fetched,
              op->before);
    if (op->kind == WRITE && op->length == CELL)
        op->known = true;
    if ((op->kind == ADD || op->kind == FETCH) && op->shared)
        atomic_fetch_add(&me.board->adds_ended[op->slot][op->incarnation % GENERATIONS], 1);
    count(me.board, op->kind == WRITE ? WRITTEN : op->kind == READ_BACK ? READ : ADDED, 1);
    if (op->kind == WRITE || op->kind == READ_BACK)
        count(me.board, MOVED_BYTES, op->length);
}

/* ---- how operations end ---- */

/* Was the process that the operation depended on ended since? */
static bool may_fail(const struct op *op, const struct fi_cq_err_entry *error)
{
    /* A tag names a worker, not which of its incarnations: what an earlier one began to send is as good. */
    if (op->slot == SLOTS || (op->kind == RECEIVE && !op->by_address)) {
        /* The entry names the message that the receive got, all of which will never come. */
        uint64_t label = op->lane == LANE_UNTAGGED ? error->data : error->tag;
        unsigned slot = label_slot(label), incarnation = label_incarnation(label);
        return slot < SLOTS && incarnation != 0 && (op->slot == SLOTS || op->slot == slot) && was_killed(slot, incarnation);
    }
    uint64_t status = atomic_load(&me.board->status[op->slot]);
    bool lives = status_incarnation(status) == op->incarnation && status_life(status) <= LEAVING;
    /* One that leaves is told before by all that nothing is under way to it; receives from it are not among that. */
    return !lives || (op->kind == RECEIVE && status_life(status) == LEAVING);
}

/* What the end of a process may be called: nobody is there, or another, which does not know the region of the first. */
static bool names_an_end(const struct op *op, int error)
{
    bool one_sided = op->kind == WRITE || op->kind == READ_BACK || op->kind == ADD || op->kind == FETCH;
    return error == FI_ECONNREFUSED || error == FI_ECONNRESET || error == FI_ESHUTDOWN || (error == FI_ENOKEY && one_sided);
}

static void describe(const struct op *op)
{
    fprintf(stderr, "  %s, lane %u, worker %u.%u, 0x%" PRIx64 ", %zu bytes at %zu, flags 0x%" PRIx64 ", for %.1f s\n",
            kind_names[op->kind], op->lane, op->slot, op->incarnation, op->label, op->length, op->offset, op->flags,
            now_seconds() - op->begun);
}

static void take_failure(void)
{
    struct fi_cq_err_entry error = {0};
    RETURNS(1, fi_cq_readerr(me.node.cq, &error, 0));
    struct op *op = error.op_context;
    CHECK(op != NULL && op->busy, "an error entry of no operation: %s", fi_strerror(error.err));
    /* A multi-receive buffer goes on without the message that failed. */
    if (op->kind != MULTI_RECEIVE || error.flags & FI_MULTI_RECV)
        op_end(op);
    if (error.err == FI_ECANCELED && op->cancelled) {
        count(me.board, CANCELLED, 1);
        return;
    }
    if (error.err == FI_ENOMSG && op->kind == PEEK)
        return;
    bool greets = op->kind == SEND && op->lane == LANE_HELLO;
    if (!names_an_end(op, error.err) || (!greets && !may_fail(op, &error))) {
        describe(op);
        FAIL("failed, and not by the end of a process that it depends on: %s (%s), tag 0x%" PRIx64 " data 0x%" PRIx64, fi_strerror(error.err),
             fi_cq_strerror(me.node.cq, error.prov_errno, error.err_data, NULL, 0), error.tag, error.data);
    }
    count(me.board, greets ? HELLO_FAILED : FAILED, 1);
    if (op->kind == WRITE)
        op->known = false;
}

static void take_notice(const struct fi_cq_tagged_entry *entry)
{
    unsigned slot = label_slot(entry->data), incarnation = label_incarnation(entry->data);
    CHECK(entry->flags & FI_REMOTE_WRITE && label_lane(entry->data) == NOTICES && slot < SLOTS, "flags 0x%" PRIx64 " data 0x%" PRIx64,
          entry->flags, entry->data);
    struct streams *streams = label_receiver(entry->data) == me.incarnation ? streams_of(slot, incarnation) : NULL;
    if (streams != NULL)
        streams->received[NOTICES]++;
}

static void take(struct fi_cq_tagged_entry *entry, fi_addr_t source)
{
    struct op *op = entry->op_context;
    if (op == NULL) {
        take_notice(entry);
        return;
    }
    CHECK(op->busy, "a %s ended twice", kind_names[op->kind]);
    switch (op->kind) {
    case MULTI_RECEIVE:
        if (entry->flags & ~FI_MULTI_RECV) {
            check_message(op, entry, source, op->place + op->taken++);
            count(me.board, MULTI, 1);
        }
        if (entry->flags & FI_MULTI_RECV)
            op_end(op);
        break;
    case PEEK:
        op_end(op);
        claim(op, entry->tag);
        break;
    case RECEIVE:
    case CLAIM:
        check_message(op, entry, source, op->place);
        op_end(op);
        break;
    case SEND:
        if (op->lane == LANE_HELLO && me.peers[op->slot].incarnation == op->incarnation)
            me.peers[op->slot].greeted = true;
        op_end(op);
        break;
    default:
        check_one_sided(op);
        op_end(op);
        break;
    }
}

/* False when there is nothing to take. */
static bool take_completions(void)
{
    struct fi_cq_tagged_entry entries[16];
    fi_addr_t sources[16];
    ssize_t result = fi_cq_readfrom(me.node.cq, entries, 16, sources);
    if (result == -FI_EAVAIL) {
        take_failure();
        return true;
    }
    if (result == -FI_EAGAIN)
        return false;
    CHECK(result > 0, "fi_cq_readfrom: %zd (%s)", result, fi_strerror((int)-result));
    for (ssize_t i = 0; i < result; i++)
        take(&entries[i], sources[i]);
    return true;
}

#endif
